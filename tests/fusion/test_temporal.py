"""Temporal fusion: past features land where the vehicle's motion takes them, and nothing else gets in."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch
from torch import Tensor

from bevstack.fusion.temporal import BevMemory, TemporalFusion, warp_to_present
from bevstack.types import Batch, BevFeatures, BevGrid

CHANNELS = 4
CELL_M = SMALL_GRID.cell_m


def pose(x: float = 0.0, y: float = 0.0, yaw: float = 0.0, *, base: float = 1.0e6) -> Tensor:
    """T_global_ego far from the origin, as on a real map."""
    c, s = math.cos(yaw), math.sin(yaw)
    rows = [[c, -s, 0, base + x], [s, c, 0, base / 2 + y], [0, 0, 1, 0], [0, 0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


def at(seconds: list[float], poses: list[Tensor] | None = None, scenes: list[str] | None = None) -> Batch:
    """One frame of each drive, without any sensor data."""
    size = len(seconds)
    batch = make_batch([np.zeros((0, 5))] * size, num_cameras=1, image_size=(2, 2))
    return replace(
        batch,
        timestamps_us=torch.tensor([round(1e6 * (1000 + s)) for s in seconds]),
        T_global_ego=torch.stack(poses or [pose()] * size),
        scene_names=tuple(scenes or ["scene"] * size),
    )


def bev(size: int = 1, *, grid: BevGrid = SMALL_GRID) -> BevFeatures:
    rows, columns = grid.shape_yx
    return BevFeatures(
        data=torch.randn(size, CHANNELS, rows, columns),
        valid=torch.ones((size, 1, rows, columns), dtype=torch.bool),
        grid=grid,
    )


def trained_memory(**settings: object) -> TemporalFusion:
    """With random weights everywhere, as after training."""
    memory = TemporalFusion(in_channels=CHANNELS, hidden_channels=6, **settings).eval()
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return memory


def run(memory: TemporalFusion, frames: list[tuple[BevFeatures, Batch]]) -> tuple[list[Tensor], BevMemory]:
    state, outputs = None, []
    for features, batch in frames:
        fused, state = memory(features, batch, state)
        outputs.append(fused.data)
    assert state is not None
    return outputs, state


def row(features: BevFeatures, index: int) -> BevFeatures:
    cut = slice(index, index + 1)
    return replace(features, data=features.data[cut], valid=features.valid[cut])


# ---------------------------------------------------------------- where the past lands


def blob(x_m: float, y_m: float) -> Tensor:
    """One bright cell."""
    column, line = SMALL_GRID.to_cells(torch.tensor([x_m, y_m])).long().tolist()
    data = torch.zeros(1, 1, *SMALL_GRID.shape_yx)
    data[0, 0, line, column] = 1.0
    return data


def warped(data: Tensor, T_past_now: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    everywhere = torch.ones_like(data[:, 0], dtype=torch.bool)
    return warp_to_present(data, everywhere if valid is None else valid, T_past_now[None], SMALL_GRID)


def test_what_stood_ahead_is_nearer_after_driving_towards_it() -> None:
    before, now = pose(), pose(x=4 * CELL_M)
    moved, seen = warped(blob(6.0, 2.0), torch.linalg.inv(before) @ now)
    torch.testing.assert_close(moved, blob(6.0 - 4 * CELL_M, 2.0), atol=1e-4, rtol=0)
    assert not seen[..., -4:].any() and seen[..., :-4].all()


def test_after_a_left_turn_of_a_quarter_what_was_ahead_is_on_the_right() -> None:
    before, now = pose(yaw=0.3), pose(yaw=0.3 + math.pi / 2)
    moved, seen = warped(blob(6.0, 2.0), torch.linalg.inv(before) @ now)
    torch.testing.assert_close(moved, blob(2.0, -6.0), atol=1e-4, rtol=0)
    assert seen.all()


def test_a_mirrored_world_is_followed_as_well() -> None:
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    before, now = pose() @ mirror, pose(x=2 * CELL_M, y=CELL_M) @ mirror
    moved, _ = warped(blob(6.0, 2.0), torch.linalg.inv(before) @ now)
    torch.testing.assert_close(moved, blob(6.0 - 2 * CELL_M, 2.0 + CELL_M), atol=1e-4, rtol=0)


def test_half_a_cell_splits_evenly_and_cells_beside_unseen_ones_are_not_seen() -> None:
    valid = torch.ones((1, *SMALL_GRID.shape_yx), dtype=torch.bool)
    valid[0, 10, 20] = False
    moved, seen = warped(blob(6.0, 2.0), torch.linalg.inv(pose()) @ pose(y=CELL_M / 2), valid)
    assert moved.max() == pytest.approx(0.5, abs=1e-4) and moved.sum() == pytest.approx(1.0, abs=1e-4)
    assert not seen[0, 9:11, 20].any() and not seen[0, -1].any()
    assert int((~seen).sum()) == 2 + 32


def test_half_precision_does_not_move_what_was_seen() -> None:
    T_past_now = torch.linalg.inv(pose()) @ pose(x=3 * CELL_M)
    with torch.autocast("cpu", torch.bfloat16):
        moved, _ = warped(blob(6.0, 2.0).bfloat16(), T_past_now)
    assert moved.dtype == torch.bfloat16
    torch.testing.assert_close(moved.float(), blob(6.0 - 3 * CELL_M, 2.0), atol=1e-3, rtol=0)
    memory = trained_memory()
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = run(memory, [(bev(), at([0.5 * k], [pose(x=k)])) for k in range(3)])
    assert all(out.isfinite().all() for out in outputs)


def test_unseen_features_do_not_leak_even_if_they_are_nan() -> None:
    memory, features = trained_memory(), [bev(), bev()]
    features[0].valid[..., :16, :] = False
    frames = [(features[0], at([0.0])), (features[1], at([0.5]))]
    expected = run(memory, frames)[0][1]
    features[0].data[..., :16, :] = torch.nan
    assert torch.equal(run(memory, frames)[0][1], expected)
    assert torch.equal(expected[..., :16, :], features[1].data[..., :16, :])


# ---------------------------------------------------------------- what starts afresh


def test_a_new_memory_changes_nothing_and_neither_does_a_trained_one_at_the_first_frame() -> None:
    frames = [(bev(), at([0.5 * k], [pose(x=0.3 * k)])) for k in range(3)]
    fresh, _ = run(TemporalFusion(in_channels=CHANNELS).eval(), frames)
    assert all(torch.equal(out, features.data) for out, (features, _) in zip(fresh, frames, strict=True))
    outputs, _ = run(trained_memory(), frames)
    assert torch.equal(outputs[0], frames[0][0].data)
    assert all(not torch.allclose(out, features.data) for out, (features, _) in list(zip(outputs, frames))[1:])


@pytest.mark.parametrize(
    ("second", "scene"),
    [(0.5, "other"), (-0.5, "scene"), (0.0, "scene"), (2.1, "scene")],
    ids=["another scene", "time backwards", "the same frame again", "a gap"],
)
def test_a_row_starts_afresh_and_goes_on_from_there(second: float, scene: str) -> None:
    memory, first, broken, after = trained_memory(), bev(), bev(), bev()
    later = at([second + 0.5], scenes=[scene])
    outputs, _ = run(memory, [(first, at([0.0])), (broken, at([second], scenes=[scene])), (after, later)])
    alone, _ = run(memory, [(broken, at([second], scenes=[scene])), (after, later)])
    assert torch.equal(outputs[1], broken.data)
    assert torch.equal(outputs[2], alone[1])


def test_a_dropped_frame_within_the_limit_is_bridged() -> None:
    memory, first, second = trained_memory(), bev(), bev()
    outputs, _ = run(memory, [(first, at([0.0])), (second, at([1.5]))])
    assert not torch.allclose(outputs[1], second.data)


def test_two_drives_at_once_equal_each_alone_even_if_one_starts_afresh() -> None:
    memory = trained_memory()
    frames = [
        (bev(2), at([0.5 * k, 0.4 * k], [pose(x=k), pose(y=-k)], ["one", "two" if k < 2 else "three"]))
        for k in range(4)
    ]
    together, _ = run(memory, frames)
    for index in range(2):
        cut = slice(index, index + 1)
        alone, _ = run(
            memory,
            [
                (
                    row(features, index),
                    at(
                        [(batch.timestamps_us[index].item() / 1e6) - 1000],
                        [batch.T_global_ego[index]],
                        [batch.scene_names[index]],
                    ),
                )
                for features, batch in frames
            ],
        )
        for both, single in zip(together, alone, strict=True):
            torch.testing.assert_close(both[cut], single, rtol=1e-4, atol=1e-5)


def test_a_long_stream_gives_what_a_clip_of_the_last_frames_gives() -> None:
    memory = trained_memory(num_past=2)
    frames = [(bev(), at([0.5 * k], [pose(x=0.7 * k, yaw=0.05 * k)])) for k in range(6)]
    outputs, _ = run(memory, frames)
    clip, _ = run(memory, frames[-3:])
    torch.testing.assert_close(outputs[-1], clip[-1])
    state = None
    for features, batch in frames[-3:-1]:
        state = memory.remember(features, batch, state)
    torch.testing.assert_close(memory(*frames[-1], state)[0].data, clip[-1])


def test_at_ten_hertz_the_memory_spans_as_long_as_at_two() -> None:
    memory = trained_memory(num_past=3)
    _, state = run(memory, [(bev(), at([0.1 * k])) for k in range(20)])
    ages_s = (state.last_us[:, None] - state.timestamps_us) / 1e6
    torch.testing.assert_close(ages_s, torch.tensor([[0.3, 0.7, 1.1]]), atol=1e-4, rtol=0)
    assert state.mask.all()


# ---------------------------------------------------------------- weights and gates


def test_age_can_only_lower_the_gate_whatever_is_learned() -> None:
    memory, past, now = trained_memory(num_past=1), bev(), bev()
    inputs: list[Tensor] = []
    memory.past[0].register_forward_hook(lambda _module, given, _out: inputs.append(given[0][:, CHANNELS]))
    for rate in (-3.0, 0.0, 2.0):
        torch.nn.init.constant_(memory.log_age_rate, rate)
        inputs.clear()
        for age_s in (0.5, 1.0, 1.9):
            run(memory, [(past, at([0.0])), (now, at([age_s]))])
        assert (inputs[0] >= inputs[1]).all() and (inputs[1] >= inputs[2]).all()
        assert inputs[0].mean() > inputs[2].mean()


def test_the_gate_starts_at_the_documented_value() -> None:
    memory = TemporalFusion(in_channels=CHANNELS, num_past=1, age_rate=0.5).eval()
    inputs: list[Tensor] = []
    memory.past[0].register_forward_hook(lambda _module, given, _out: inputs.append(given[0][:, CHANNELS]))
    run(memory, [(bev(), at([0.0])), (bev(), at([1.0]))])
    torch.testing.assert_close(inputs[0], torch.full_like(inputs[0], 1.5).sigmoid())


def test_gradients_reach_every_weight_once_the_last_convolution_has_moved() -> None:
    memory = trained_memory(num_past=2).train()
    frames = [(bev(2), at([0.5 * k] * 2, [pose(x=k), pose(y=k)])) for k in range(3)]
    outputs, state = run(memory, frames)
    outputs[-1].square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in memory.parameters())
    assert not state.features.requires_grad


# ---------------------------------------------------------------- what is refused


def test_another_grid_and_another_number_of_drives_are_refused() -> None:
    memory = trained_memory()
    _, state = run(memory, [(bev(), at([0.0]))])
    with pytest.raises(ValueError, match="use one grid"):
        memory(bev(grid=SMALL_GRID.strided(2)), at([0.5]), state)
    with pytest.raises(ValueError, match="of 1 drives but the batch has 2 frames"):
        memory(bev(2), at([0.5, 0.5]), state)


@pytest.mark.parametrize("wrong", [{"num_past": 0}, {"max_gap_s": 0.0}, {"min_spacing_s": -1.0}, {"age_rate": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TemporalFusion(in_channels=CHANNELS, **wrong)


# ---------------------------------------------------------------- what it can learn


def test_it_learns_speeds_that_no_single_frame_shows_while_the_vehicle_drives() -> None:
    """A dot stands still or moves to the left by a cell a frame; the vehicle drives ahead at any speed."""
    size, grid, right = 16, SMALL_GRID.strided(2), []
    memory = TemporalFusion(in_channels=CHANNELS, hidden_channels=8, num_past=1)
    readout = torch.nn.Conv2d(CHANNELS, 1, 1)
    optimizer = torch.optim.Adam([*memory.parameters(), *readout.parameters()], lr=0.02)
    for _ in range(120):
        moves = torch.rand(size) < 0.5
        lines, columns = torch.randint(4, 12, (size,)), torch.randint(6, 12, (size,))
        driven = torch.randint(0, 4, (size,))
        frames = []
        for step in range(2):
            features = bev(size, grid=grid)
            features.data.zero_()
            features.data[torch.arange(size), :, lines + step * moves, columns - step * driven] = 1.0
            frames.append((features, at([0.5 * step] * size, [pose(x=step * grid.cell_m * int(k)) for k in driven])))
        outputs, _ = run(memory, frames)
        found = readout(outputs[1])[torch.arange(size), 0, lines + moves, columns - driven]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(found, moves.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right.append(((found > 0) == moves).float().mean().item())
    assert np.mean(right[-10:]) > 0.95
