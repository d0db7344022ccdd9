"""Routes, cues, own motion and futures in batches: padding, gaps, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.planned_frames import cue_of, planned_frame
from fixtures.scenes import empty_road, one_car_ahead

from bevstack.data.collate import collate
from bevstack.data.routes import ROUTE_WAYPOINTS
from bevstack.types import COMMANDS, Frame, RouteCommand

BARE = one_car_ahead()


def with_cue(frame: Frame, **options: object) -> Frame:
    return replace(frame, cue=cue_of(frame, **options))


def test_own_motion_is_always_there_and_unknown_numbers_are_nan() -> None:
    first = replace(BARE, ego=replace(BARE.ego, speed_mps=float("nan"), acceleration_mps2=float("nan")))
    batch, _ = collate([BARE, first])
    np.testing.assert_allclose(batch.ego_status.numpy(), [(5.0, 0.3, 0.1), (np.nan, np.nan, 0.1)], rtol=1e-6)
    assert batch.ego_status.dtype == torch.float32


def test_frames_without_routes_cues_and_futures_leave_these_fields_empty() -> None:
    batch, labels = collate([BARE])
    for name in ("route_command", "route_ego", "speed_limit_mps", "cue_embedding", "cue_mask", "cue_age_s"):
        assert getattr(batch, name) is None, name
    assert labels.agent_futures_ego is None and labels.ego_future is None and batch.history == ()


def test_a_short_route_is_padded_with_nan_and_a_frame_without_one_is_all_unknown() -> None:
    batch, _ = collate([planned_frame(), planned_frame(num_waypoints=9), BARE])
    assert batch.route_command.tolist() == [COMMANDS.index(RouteCommand.LEFT)] * 2 + [-1]
    assert batch.route_ego.shape == (3, ROUTE_WAYPOINTS, 2)
    known = batch.route_ego.isfinite().all(dim=2).sum(dim=1)
    assert known.tolist() == [ROUTE_WAYPOINTS, 9, 0]
    expected = planned_frame().route.waypoints_ego.astype(np.float32)
    np.testing.assert_array_equal(batch.route_ego[0].numpy(), expected)
    np.testing.assert_array_equal(batch.route_ego[1, :9].numpy(), expected[:9])
    np.testing.assert_allclose(batch.speed_limit_mps.numpy(), (8.33, 8.33, np.nan), rtol=1e-6)


@pytest.mark.parametrize(("num_waypoints", "width"), [(0, ROUTE_WAYPOINTS), (1, ROUTE_WAYPOINTS), (45, 45)])
def test_networks_may_count_on_a_full_length_of_waypoints(num_waypoints: int, width: int) -> None:
    batch, _ = collate([planned_frame(num_waypoints=num_waypoints)])
    assert batch.route_ego.shape == (1, width, 2)
    assert int(batch.route_ego.isfinite().all(dim=2).sum()) == num_waypoints


def test_cues_are_stacked_with_their_ages() -> None:
    frames = [with_cue(BARE), BARE, with_cue(BARE, age_us=1_500_000)]
    batch, _ = collate(frames)
    assert batch.cue_mask.tolist() == [True, False, True]
    np.testing.assert_array_equal(batch.cue_embedding[0].numpy(), frames[0].cue.embedding)
    assert not batch.cue_embedding[1].any()
    np.testing.assert_allclose(batch.cue_age_s.numpy(), (0.0, 0.0, 1.5))


def test_cues_of_two_text_encoders_are_refused_by_name() -> None:
    other = with_cue(replace(BARE, token="frame-1"), width=5)
    with pytest.raises(ValueError, match=r"8 \(frame frame-0 from describer, none, hashing\), 5 \(frame frame-1"):
        collate([with_cue(BARE), other])


def test_a_cue_from_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match=r"describes frame frame-0, 0\.500 s later"):
        collate([with_cue(BARE, age_us=-500_000)])


def test_futures_keep_their_rows_and_frames_without_them_are_unknown() -> None:
    frame = planned_frame()
    _, labels = collate([frame, BARE, empty_road()])
    assert [tuple(item.shape) for item in labels.agent_futures_ego] == [(2, 12, 2), (1, 12, 2), (0, 12, 2)]
    np.testing.assert_allclose(labels.agent_futures_ego[0].numpy(), frame.annotations.agent_futures_ego, rtol=1e-6)
    assert labels.agent_futures_ego[1].isnan().all() and labels.agent_futures_ego[0].dtype == torch.float32
    assert labels.ego_future.shape == (3, 6, 3) and labels.ego_future[1:].isnan().all()
    np.testing.assert_allclose(labels.ego_future[0].numpy(), frame.annotations.ego_future, rtol=1e-6)


def test_futures_of_different_lengths_are_refused_by_name() -> None:
    frame = planned_frame()
    short = replace(frame.annotations, ego_future=frame.annotations.ego_future[:3])
    with pytest.raises(ValueError, match=r"own futures .* 6 steps \(frame frame-0\), 3 steps \(frame short\)"):
        collate([frame, replace(frame, token="short", annotations=short)])
    short = replace(frame.annotations, agent_futures_ego=frame.annotations.agent_futures_ego[:, :3])
    with pytest.raises(ValueError, match=r"agent futures .* 12 steps \(frame frame-0\), 3 steps \(frame short\)"):
        collate([frame, replace(frame, token="short", annotations=short)])


def test_a_batch_of_two_equals_two_batches_of_one() -> None:
    frames = [planned_frame("a"), planned_frame("b", num_waypoints=12)]
    both, labels = collate(frames)
    for b, frame in enumerate(frames):
        single, single_labels = collate([frame])
        for name in ("ego_status", "route_command", "route_ego", "speed_limit_mps", "cue_embedding", "cue_mask"):
            assert torch.equal(getattr(both, name)[b].nan_to_num(-9), getattr(single, name)[0].nan_to_num(-9)), name
        assert torch.equal(labels.ego_future[b], single_labels.ego_future[0])
        assert torch.equal(
            labels.agent_futures_ego[b].nan_to_num(-9), single_labels.agent_futures_ego[0].nan_to_num(-9)
        )


def test_all_of_it_moves_to_another_device() -> None:
    batch, labels = collate([planned_frame()])
    moved, moved_labels = batch.to("meta"), labels.to("meta")
    tensors = (moved.ego_status, moved.route_ego, moved.cue_embedding, moved_labels.ego_future)
    assert all(tensor.is_meta for tensor in (*tensors, *moved_labels.agent_futures_ego))
