"""The three published conventions: the same plan, different numbers, each as its definition says."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.planned_drives import future_of, left_turn_poses, plans_of, straight_poses

from bevstack.evaluation.planning.ego_future import EgoFuture
from bevstack.evaluation.planning.l2 import PROTOCOLS, STP3, UNIAD, VAD, score_published, sum_published
from bevstack.evaluation.planning.placement import place_expert, place_plan
from bevstack.evaluation.planning.sums import HorizonValues, PlanSums, merge_sums


def sums_of(
    plan: np.ndarray, future: EgoFuture, hits: np.ndarray | None = None, expert_hits: np.ndarray | None = None
) -> PlanSums:
    """Sums of plans (F, 6, 2 or 3) in `ego`, with the same hits under every convention."""
    placed = place_plan(plans_of(plan), future)
    nothing = np.zeros(future.valid.shape, bool)
    return sum_published(
        points=placed.points,
        expert_points=placed.expert_points,
        hits=dict.fromkeys(PROTOCOLS, nothing if hits is None else hits),
        expert_hits=dict.fromkeys(PROTOCOLS, nothing if expert_hits is None else expert_hits),
        future=future,
    )


def seconds(values: HorizonValues) -> list[float | None]:
    return [values.at_1s, values.at_2s, values.at_3s, values.mean]


def linear_error(slope: float, num_frames: int = 1) -> tuple[np.ndarray, EgoFuture]:
    """A plan that is `slope` metres a second too far to the left."""
    truth = straight_poses(5.0, num_frames)
    plan = truth.copy()
    plan[:, :, 1] += slope * 0.5 * np.arange(1, 7)
    return plan, future_of(truth)


def test_an_error_that_grows_linearly_reads_three_times_its_slope_or_one_and_three_quarters() -> None:
    sums = sums_of(*linear_error(0.8))
    assert seconds(score_published(sums, UNIAD).l2_m) == pytest.approx([0.8, 1.6, 2.4, 1.6])
    for protocol in (STP3, VAD):  # means of 0.5, 1, ..., t
        expected = [0.8 * 0.75, 0.8 * 1.25, 0.8 * 1.75, 0.8 * 1.25]
        assert seconds(score_published(sums, protocol).l2_m) == pytest.approx(expected)


@pytest.mark.parametrize("frame", ["ego", "lidar"])
@pytest.mark.parametrize("columns", [2, 3])
def test_the_expert_as_the_plan_has_no_error(frame: str, columns: int) -> None:
    future = future_of(np.concatenate((straight_poses(7.0), left_turn_poses())), num_known=(6, 4))
    poses = future.poses_ego if frame == "ego" else np.concatenate((future.path_lidar, 0 * future.poses_ego), axis=2)
    placed = place_plan(plans_of(poses[..., :columns], frame=frame), future)
    assert np.abs(placed.points - placed.expert_points).max() == 0.0


def test_a_missing_step_is_no_error_for_uniad_beside_the_mean_of_what_exists_and_no_frame_for_the_others() -> None:
    plan = straight_poses(5.0, 2)
    plan[:, :, 1] = 3.0
    future = future_of(straight_poses(5.0, 2), num_known=(6, 3))
    sums = sums_of(plan, future)
    uniad = score_published(sums, UNIAD)
    assert uniad.num_frames == 2
    assert seconds(uniad.l2_m) == pytest.approx([3.0, 1.5, 1.5, 2.0])
    assert seconds(uniad.l2_m_known) == pytest.approx([3.0, 3.0, 3.0, 3.0])
    for protocol in (STP3, VAD):
        scores = score_published(sums, protocol)
        assert scores.num_frames == 1 and seconds(scores.l2_m) == pytest.approx([3.0] * 4)


def test_what_lies_behind_the_end_of_a_scene_does_not_matter() -> None:
    future = future_of(straight_poses(5.0, 1), num_known=(3,))
    plan = straight_poses(5.0)
    far = plan.copy()
    far[:, 3:] += 1000.0
    for name, sums in sums_of(plan, future).items():
        np.testing.assert_array_equal(sums.found, sums_of(far, future)[name].found)


def test_stp3_wants_two_frames_of_the_past() -> None:
    plan, future = linear_error(1.0, num_frames=3)
    future.num_past[:] = (0, 1, 2)
    sums = sums_of(plan, future)
    assert [score_published(sums, protocol).num_frames for protocol in (UNIAD, STP3, VAD)] == [3, 1, 3]


def test_collisions_where_the_expert_collides_are_struck_from_the_hits_only() -> None:
    plan, future = straight_poses(5.0, 4), future_of(straight_poses(5.0, 4))
    hits, expert_hits = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    hits[:2, 1], expert_hits[0, 1] = True, True
    scores = score_published(sums_of(plan, future, hits, expert_hits), UNIAD)
    assert scores.collision.at_1s == pytest.approx(1 / 4) and scores.collision_where_clear.at_1s == pytest.approx(1 / 3)
    vad = score_published(sums_of(plan, future, hits, expert_hits), VAD)
    assert vad.collision.at_1s == pytest.approx(1 / 4 / 2) and vad.collision.at_3s == pytest.approx(1 / 4 / 6)


def test_turning_frames_stand_apart() -> None:
    truth = np.concatenate((straight_poses(5.0, 3), left_turn_poses()))
    plan = truth.copy()
    plan[3, :, 0] += 2.0
    sums = sums_of(plan, future_of(truth))
    assert score_published(sums, VAD).l2_m.at_3s == pytest.approx(0.5)
    turning = score_published(sums, VAD, "turning")
    assert turning.num_frames == 1 and turning.l2_m.at_3s == pytest.approx(2.0)
    assert seconds(score_published(sums_of(plan[:3], future_of(truth[:3])), VAD, "turning").l2_m) == [None] * 4


def test_shards_of_scenes_merge_to_the_bits_of_the_whole_in_any_order() -> None:
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.arange(7), 9)
    truth = straight_poses(5.0, len(scenes))
    plan = truth + rng.normal(0, 1, truth.shape)
    future = future_of(truth, scenes=scenes, num_known=rng.integers(0, 7, len(scenes)))
    whole = sums_of(plan, future)
    parts = []
    for chosen in ((4, 6), (0, 1, 5), (2, 3)):
        part = future.of_scenes(chosen)
        rows = np.flatnonzero(np.isin(scenes, chosen))
        placed = place_plan(replace(plans_of(plan[rows]), sample_tokens=part.sample_tokens), part)
        nothing = dict.fromkeys(PROTOCOLS, np.zeros(part.valid.shape, bool))
        parts.append(
            sum_published(
                points=placed.points,
                expert_points=placed.expert_points,
                hits=nothing,
                expert_hits=nothing,
                future=part,
            )
        )
    for protocol in PROTOCOLS:
        assert score_published(merge_sums(parts), protocol) == score_published(whole, protocol)
    with pytest.raises(ValueError, match="scene-0004 is in two shards"):
        merge_sums([parts[0], *parts])
    with pytest.raises(ValueError, match="cannot be merged"):
        merge_sums([])


def test_a_bootstrap_draw_equals_the_frames_drawn_that_often() -> None:
    scenes = np.array([0, 1])
    truth = straight_poses(5.0, 2)
    plan = truth.copy()
    plan[1, :, 1] += 3.0
    sums = sums_of(plan, future_of(truth, scenes=scenes))
    assert score_published(sums, VAD, weights=np.array([1, 2])).l2_m.at_1s == pytest.approx(2.0)
    assert score_published(sums, VAD, weights=np.array([2, 0])).l2_m.at_1s == 0.0
    assert score_published(sums, VAD, weights=np.array([0, 0])).l2_m.at_1s is None


def test_the_expert_has_the_way_of_its_own_lidar() -> None:
    future = future_of(left_turn_poses())
    expert = place_expert(future)
    plan = place_plan(plans_of(left_turn_poses()), future)
    np.testing.assert_allclose(plan.path_lidar, expert.path_lidar, atol=1e-9)
    by_lidar = place_plan(plans_of(future.path_lidar, frame="lidar"), future)
    np.testing.assert_allclose(by_lidar.path_lidar, expert.path_lidar)
