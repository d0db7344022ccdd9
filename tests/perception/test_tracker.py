"""Objects keep their identity through motion, gaps and turns of the vehicle, and no identity is used twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.geometry.boxes import transform_boxes
from bevstack.geometry.transforms import from_xy_yaw, rigid_inverse
from bevstack.perception.tracking.association import (
    NearestInSum,
    OverlapInSum,
    VelocityGreedy,
    greedy,
    optimal,
)
from bevstack.perception.tracking.tracker import Tracker, TrackLife
from bevstack.types import Boxes3D, BoxIndex, Detections, Tracks

CAR, PEDESTRIAN = DETECTION_CLASSES.index("car"), DETECTION_CLASSES.index("pedestrian")
HALF_SECOND_US = 500_000
ASSOCIATIONS = [VelocityGreedy(), NearestInSum(), OverlapInSum()]
by_all = pytest.mark.parametrize("association", ASSOCIATIONS, ids=lambda way: type(way).__name__)


def box(x: float, y: float, vx: float = 0.0, vy: float = 0.0) -> list[float]:
    return [x, y, 0.0, 4.5, 2.0, 1.6, 0.0, vx, vy]


def detections(*rows: list[float], classes: list[int] | None = None, scores: list[float] | None = None) -> Detections:
    count = len(rows)
    return Detections(
        boxes=Boxes3D(
            rows=np.array(rows, np.float32).reshape(count, 9), class_index=np.array(classes or [CAR] * count, np.int64)
        ),
        scores=np.array(scores or np.linspace(0.9, 0.5, count), np.float32),
        attribute_index=np.full(count, 6, np.int64),
    )


def drive(tracker: Tracker, frames: list[Detections], poses: list[np.ndarray] | None = None) -> list[Tracks]:
    poses = poses or [np.eye(4)] * len(frames)
    return [
        tracker.update(frame, pose, k * HALF_SECOND_US)
        for k, (frame, pose) in enumerate(zip(frames, poses, strict=True))
    ]


def identity_at(tracks: Tracks, x: float, y: float) -> int:
    apart = np.hypot(*(tracks.boxes.centers[:, :2] - (x, y)).T)
    assert apart.min() < 0.5
    return int(tracks.identity[apart.argmin()])


@by_all
def test_cars_that_pass_each_other_keep_their_identity(association) -> None:
    frames = [
        detections(box(-10 + 4 * k, 1.5, 8.0), box(10 - 4 * k, -1.5, -8.0), scores=[0.9, 0.6] if k % 2 else [0.5, 0.8])
        for k in range(6)
    ]
    found = drive(Tracker(association=association), frames)
    assert {identity_at(tracks, -10 + 4 * k, 1.5) for k, tracks in enumerate(found)} == {
        identity_at(found[0], -10, 1.5)
    }
    assert {identity_at(tracks, 10 - 4 * k, -1.5) for k, tracks in enumerate(found)} == {
        identity_at(found[0], 10, -1.5)
    }


@by_all
def test_a_car_hidden_for_a_second_is_found_again(association) -> None:
    frames = [detections(box(4 * k, 0.0, 8.0)) for k in range(6)]
    frames[3] = detections()
    found = drive(Tracker(association=association), frames)
    assert [len(tracks) for tracks in found] == [1, 1, 1, 0, 1, 1]
    assert len({int(tracks.identity[0]) for tracks in found if len(tracks)}) == 1


def test_a_track_unseen_for_too_long_is_forgotten() -> None:
    frames = [detections(box(0.0, 0.0)), *[detections()] * 4, detections(box(0.0, 0.0))]
    found = drive(Tracker(), frames)
    assert found[0].identity[0] != found[-1].identity[0]


@by_all
def test_the_vehicles_own_motion_changes_nothing(association) -> None:
    over_ground = [[box(20 + 3 * k, 5.0, 6.0), box(30.0, -4.0)] for k in range(5)]
    poses = [from_xy_yaw(6.0 * k, 0.5 * k, 0.2 * k) for k in range(5)]
    still = drive(Tracker(association=association), [detections(*rows) for rows in over_ground])
    seen = [
        detections(*transform_boxes(rigid_inverse(pose), np.array(rows)).tolist())
        for pose, rows in zip(poses, over_ground, strict=True)
    ]
    moving = drive(Tracker(association=association), seen, poses)
    for a, b, given_now in zip(still, moving, seen, strict=True):
        assert a.identity.tolist() == b.identity.tolist()
        np.testing.assert_allclose(b.boxes.rows, given_now.boxes.rows, atol=1e-4)


def test_tracks_come_back_as_they_were_detected() -> None:
    frame = detections(box(1, 2, 3, 4), box(9, 9), classes=[CAR, PEDESTRIAN])
    (tracks,) = drive(Tracker(), [frame])
    np.testing.assert_allclose(tracks.boxes.rows, frame.boxes.rows, atol=1e-6)
    assert tracks.boxes.class_index.tolist() == [CAR, PEDESTRIAN] and tracks.attribute_index.tolist() == [6, 6]
    assert tracks.num_hits.tolist() == [1, 1] and not tracks.unseen_s.any()


@by_all
def test_another_class_never_continues_a_track(association) -> None:
    frames = [detections(box(5, 5)), detections(box(5, 5), classes=[PEDESTRIAN])]
    first, second = drive(Tracker(association=association), frames)
    assert first.identity[0] != second.identity[0]


@by_all
def test_an_unknown_velocity_counts_as_none(association) -> None:
    frames = [detections(box(5, 5, np.nan, np.nan)), detections(box(5.3, 5, np.nan, np.nan))]
    first, second = drive(Tracker(association=association), frames)
    assert first.identity[0] == second.identity[0]


@by_all
def test_frames_without_objects_are_no_trouble(association) -> None:
    found = drive(Tracker(association=association), [detections(), detections(box(0, 0)), detections(), detections()])
    assert [len(tracks) for tracks in found] == [0, 1, 0, 0]


def test_a_track_is_reported_once_it_is_confirmed() -> None:
    life = TrackLife(min_hits=3)
    found = drive(Tracker(life=life), [detections(box(0, 0))] * 4)
    assert [len(tracks) for tracks in found] == [0, 0, 1, 1]


def test_a_weak_detection_continues_a_track_but_begins_none() -> None:
    life = TrackLife(birth_score=0.5)
    weak = detections(box(0, 0), box(30, 0), scores=[0.3, 0.3])
    found = drive(Tracker(life=life), [detections(box(0, 0), scores=[0.8]), weak])
    assert found[0].identity.tolist() == found[1].identity.tolist()


def test_unseen_tracks_move_on_where_they_are_asked_for() -> None:
    life = TrackLife(reports_unseen=True)
    found = drive(Tracker(life=life), [detections(box(0, 0, 6.0)), detections(box(3, 0, 6.0)), detections()])
    assert found[2].boxes.centers[0, 0] == pytest.approx(6.0, abs=0.05)
    assert found[2].unseen_s[0] == pytest.approx(0.5) and found[2].scores[0] == pytest.approx(0.9 * 0.5**0.5)


def test_the_filtered_velocity_follows_from_places_alone() -> None:
    tracker = Tracker(smooths_velocity=True)
    found = drive(tracker, [detections(box(2.0 * k, 0, np.nan, np.nan)) for k in range(12)])
    assert found[-1].boxes.velocities[0] == pytest.approx((4.0, 0.0), abs=0.2)


def test_a_reset_forgets_the_tracks_but_not_which_identities_are_taken() -> None:
    tracker = Tracker()
    (before,) = drive(tracker, [detections(box(0, 0))])
    tracker.reset()
    (after,) = drive(tracker, [detections(box(0, 0))])
    assert after.identity[0] > before.identity[0]


def test_time_that_runs_backwards_is_refused() -> None:
    tracker = Tracker()
    tracker.update(detections(), np.eye(4), 2)
    with pytest.raises(ValueError, match="timestamp_us=1 is before"):
        tracker.update(detections(), np.eye(4), 1)


def test_greedy_takes_the_best_detections_first_and_optimal_the_least_sum() -> None:
    cost = np.array([[1.0, 2.0], [1.5, 9.0]])
    assert [pair.tolist() for pair in greedy(cost)] == [[0, 1], [0, 1]]
    assert sorted(zip(*(pair.tolist() for pair in optimal(cost)), strict=True)) == [(0, 1), (1, 0)]


def test_optimal_gives_up_no_pair_for_a_cheaper_one() -> None:
    cost = np.array([[0.1, 5.0], [6.0, np.inf]])
    assert sorted(zip(*(pair.tolist() for pair in optimal(cost)), strict=True)) == [(0, 1), (1, 0)]
    assert [len(pair) for pair in optimal(np.full((2, 3), np.inf))] == [0, 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(ASSOCIATIONS))
def test_identities_are_unique_in_a_frame_and_every_new_one_is_larger(seed: int, association) -> None:
    rng = np.random.default_rng(seed)
    tracker, taken = Tracker(association=association), -1
    for k in range(5):
        count = int(rng.integers(0, 8))
        rows = [box(*rng.uniform(-8, 8, 2), *rng.uniform(-3, 3, 2)) for _ in range(count)]
        tracks = tracker.update(detections(*rows, scores=[0.9] * count), np.eye(4), k * HALF_SECOND_US)
        assert len(tracks) == count and len(set(tracks.identity.tolist())) == count
        fresh = [identity for identity in tracks.identity.tolist() if identity > taken]
        taken = max([taken, *fresh])
        assert set(fresh) == set(range(taken - len(fresh) + 1, taken + 1)) or not fresh
        assert np.isfinite(tracks.boxes.rows[:, : BoxIndex.VX]).all()


@pytest.mark.parametrize("wrong", [{"min_hits": 0}, {"max_unseen_s": -1.0}, {"birth_score": 2.0}])
def test_settings_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        TrackLife(**wrong)
