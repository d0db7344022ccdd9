import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.agents import WIDTH, Row, agents_of_rows, boxes_of, frame_of, labels_of_rows, scene_of
from fixtures.batches import make_batch
from torch import Tensor, nn

from bevstack.perception.heads.motion import MotionHead, MotionLayer, MotionOutput
from bevstack.types import Batch
from bevstack.types.context import SceneContext
from bevstack.types.interfaces import BehaviourHead

SCENE: list[Row] = [
    ("car", 6.3, -4.1, 0.4, 5.0),
    ("car", -7.2, 9.9, -3.1, 0.0),
    ("bus", 2.1, 15.7, 1.6, 8.0),
    ("pedestrian", -3.3, -3.3, 2.2, 1.2),
    ("bicycle", -9.0, -9.0, 0.0, 4.0),
    ("traffic_cone", 11.1, 11.4, 1.0, 0.3),
]
TIMES_S = 0.5 * torch.arange(1, 13)
LEFT, RIGHT = 2, 3
SWAPPED = [0, 1, RIGHT, LEFT, 4, 5]


def make_head(*, is_trained: bool = False, **changes: object) -> MotionHead:
    """A fresh head, or one whose last layers are no longer zero, as after training."""
    settings = {"in_channels": WIDTH, "agent_channels": WIDTH, "channels": 16, "heads": 4, "feedforward": 16}
    head = MotionHead(**{**settings, **changes}).eval()
    if is_trained:
        for layer in [head.mode, *(layer.change for layer in head.layers if isinstance(layer, MotionLayer))]:
            nn.init.normal_(layer.weight, std=0.2)
    return head


def batch_of(size: int) -> Batch:
    return make_batch([None] * size, num_cameras=1, image_size=(2, 2))


def say(head: MotionHead, context: SceneContext) -> MotionOutput:
    return head(context, batch_of(len(context.bev.data)))


def onward(rows: list[Row]) -> Tensor:
    """Constant velocity (N, T, 2)."""
    boxes = boxes_of(rows)
    return boxes[:, None, :2] + boxes[:, None, 7:] * TIMES_S[:, None]


def turning(rows: list[Row], yaw_rate: float) -> Tensor:
    """Circles at constant speed (N, T, 2)."""
    boxes = boxes_of(rows)
    speed, yaw = boxes[:, 7:].norm(dim=1)[:, None], boxes[:, 6:7]
    angle = yaw + yaw_rate * TIMES_S
    sides = torch.stack((angle.sin() - yaw.sin(), yaw.cos() - angle.cos()), dim=-1)
    return boxes[:, None, :2] + (speed / yaw_rate)[..., None] * sides


def ade(output: MotionOutput, futures: Tensor) -> float:
    """Of the most probable mode of the first frame, in metres."""
    best = output.logits[0].argmax(-1)
    chosen = output.trajectories_ego[0][torch.arange(len(best)), best]
    return float((chosen[: len(futures)] - futures).norm(dim=-1).mean().detach())


def test_the_head_speaks_the_protocol_and_says_something_of_every_detection() -> None:
    head = make_head(is_trained=True)
    assert isinstance(head, BehaviourHead)
    decoded = head.decode(say(head, scene_of(agents_of_rows([SCENE, SCENE[:2]], padding=2))))
    assert [len(frame) for frame in decoded] == [6, 2]
    for frame in decoded:
        assert frame.trajectories_ego.shape[1:] == (6, 12, 2) and frame.dt_s == 0.5
        np.testing.assert_allclose(frame.probabilities.sum(axis=1), 1.0, rtol=1e-6)
        assert np.isfinite(frame.trajectories_ego).all() and (frame.probabilities >= 0).all()


def test_an_untrained_head_is_constant_velocity() -> None:
    head = make_head()
    (found,) = head.decode(say(head, scene_of(agents_of_rows([SCENE]))))
    best = found.trajectories_ego[np.arange(6), found.probabilities.argmax(axis=1)]
    np.testing.assert_allclose(best[:5], onward(SCENE[:5]).numpy(), atol=1e-4)
    np.testing.assert_allclose(best[5], np.tile([11.1, 11.4], (12, 1)), rtol=1e-6)  # cones stay


def test_cones_stay_whatever_was_learned() -> None:
    found = say(make_head(is_trained=True), scene_of(agents_of_rows([SCENE])))
    assert (found.trajectories_ego[0, 5] == torch.tensor([11.1, 11.4])).all()
    assert (found.trajectories_ego[0, 0] != found.trajectories_ego[0, 0, :, :1]).any()


def test_a_car_that_turns_left_ends_left_of_constant_velocity_in_one_of_the_modes() -> None:
    rows: list[Row] = [("car", 0.0, 0.0, math.pi / 2, 4.5)]  # drives along y: its left is -x
    output = say(make_head(), scene_of(agents_of_rows([rows])))
    truth = turning(rows, 0.35)[0]
    distance = (output.trajectories_ego[0, 0] - truth).norm(dim=-1)
    assert int(distance[:, :8].mean(-1).argmin()) == LEFT and distance[LEFT, :8].max() < 0.05
    assert output.trajectories_ego[0, 0, LEFT, -1, 0] < -10


def test_two_frames_at_once_equal_each_alone() -> None:
    head = make_head(is_trained=True)
    context = scene_of(agents_of_rows([SCENE[:2], SCENE]))
    together = say(head, context)
    for index in range(2):
        alone = say(head, frame_of(context, index))
        mask = alone.agents.mask[0]
        for name in ("trajectories_ego", "logits"):
            joint, single = getattr(together, name)[index][mask], getattr(alone, name)[0][mask]
            torch.testing.assert_close(joint, single, rtol=1e-4, atol=1e-4)


def test_padding_does_not_leak() -> None:
    head = make_head(is_trained=True)
    agents = agents_of_rows([SCENE], padding=3)
    clean = say(head, scene_of(agents))
    rubbish = replace(
        agents,
        features=torch.where(agents.mask[..., None], agents.features, 1e3),
        boxes_ego=torch.where(agents.mask[..., None], agents.boxes_ego, 1.7),
    )
    dirty = say(head, scene_of(rubbish))
    torch.testing.assert_close(dirty.trajectories_ego[:, :6], clean.trajectories_ego[:, :6])
    torch.testing.assert_close(dirty.logits[:, :6], clean.logits[:, :6])


def test_a_world_turned_by_a_quarter_has_its_forecasts_turned() -> None:
    head = make_head(is_trained=True)
    context = scene_of(agents_of_rows([SCENE]))
    turned_rows = [(name, -y, x, yaw + math.pi / 2, speed) for name, x, y, yaw, speed in SCENE]
    turned = scene_of(agents_of_rows([turned_rows]))
    assert turned.map is not None and context.map is not None

    def quarter(maps: Tensor) -> Tensor:
        return maps.mT.flip(-1)

    turned = replace(
        turned,
        bev=replace(turned.bev, data=quarter(context.bev.data)),
        map=replace(turned.map, probabilities=quarter(context.map.probabilities)),
    )
    before, after = say(head, context), say(head, turned)
    x, y = before.trajectories_ego.unbind(-1)
    torch.testing.assert_close(after.trajectories_ego, torch.stack((-y, x), dim=-1), rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-3, atol=1e-3)


def test_a_mirrored_world_has_mirrored_forecasts_with_left_and_right_exchanged() -> None:
    head = make_head()
    mirrored_rows = [(name, x, -y, -yaw, speed) for name, x, y, yaw, speed in SCENE]
    before, after = (say(head, scene_of(agents_of_rows([rows]))) for rows in (SCENE, mirrored_rows))
    mirrored = before.trajectories_ego[:, :, SWAPPED] * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(after.trajectories_ego, mirrored, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(after.logits, before.logits[:, :, SWAPPED])


def test_neighbours_the_map_and_the_features_along_the_way_change_a_forecast() -> None:
    head = make_head(is_trained=True)
    agents = agents_of_rows([SCENE])
    context = scene_of(agents)
    usual = say(head, context).trajectories_ego[0, 0]
    moved = replace(agents, boxes_ego=agents.boxes_ego.clone())
    moved.boxes_ego[0, 3, 0] += 3.0
    assert context.map is not None
    others = {
        "neighbour": replace(context, agents=moved),
        "map": replace(context, map=replace(context.map, probabilities=1 - context.map.probabilities)),
        "no map": replace(context, map=None),
        "features": replace(context, bev=replace(context.bev, data=-context.bev.data)),
    }
    for name, other in others.items():
        assert (say(head, other).trajectories_ego[0, 0] - usual).abs().max() > 1e-3, name
    far = replace(context.bev, data=context.bev.data.clone())
    far.data[..., :8] += 5.0  # 20 m and more behind: no agent goes there, and no offset reaches so far
    elsewhere = say(head, replace(context, bev=far)).trajectories_ego[0, 0]
    torch.testing.assert_close(elsewhere, usual, rtol=1e-4, atol=1e-4)


def test_learning_one_scene_beats_constant_velocity() -> None:
    rows = SCENE[:1] + SCENE[2:5]
    futures = torch.cat((turning(rows[:2], 0.15), onward(rows[2:3]), turning(rows[3:], -0.2)))
    context, labels = scene_of(agents_of_rows([rows])), labels_of_rows([rows], [futures])
    head = make_head().train()
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
    before = ade(say(head, context), futures)
    assert before == pytest.approx(float((onward(rows) - futures).norm(dim=-1).mean()), abs=1e-3)
    first = None
    for _ in range(120):
        terms = head.loss(say(head, context), labels)
        loss = terms["displacement"] + terms["mode"]
        first = float(loss.detach()) if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = ade(say(head.eval(), context), futures)
    assert float(loss.detach()) < first / 3 and after < before / 3


def test_every_parameter_and_the_agents_learn() -> None:
    head = make_head(is_trained=True)
    agents = agents_of_rows([SCENE])
    agents.features.requires_grad_()
    terms = head.loss(say(head, scene_of(agents)), labels_of_rows([SCENE], [onward(SCENE) + 1.0]))
    torch.stack(list(terms.values())).sum().backward()
    assert agents.features.grad is not None and agents.features.grad[0, 0].abs().sum() > 0
    silent = [name for name, parameter in head.named_parameters() if parameter.grad is None]
    assert not silent


def test_half_precision_places_forecasts_as_exactly_as_single() -> None:
    head, context = make_head(is_trained=True), scene_of(agents_of_rows([SCENE]))
    exact = say(head, context)
    with torch.autocast("cpu", torch.bfloat16):
        half = say(head, context)
        terms = head.loss(half, labels_of_rows([SCENE], [onward(SCENE)]))
    assert half.trajectories_ego.dtype == half.logits.dtype == torch.float32
    apart = (half.trajectories_ego - exact.trajectories_ego).abs()
    assert apart.max() < 0.05 * (exact.trajectories_ego - exact.agents.boxes_ego[:, :, None, None, :2]).abs().max()
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("futures", ["none", "unknown"])
def test_frames_without_agents_or_futures_cost_nothing_and_keep_the_graph(futures: str) -> None:
    head = make_head(is_trained=True)
    frames: list[list[Row]] = [[], SCENE]
    unknown = [torch.full((len(rows), 12, 2), torch.nan) for rows in frames]
    output = say(head, scene_of(agents_of_rows(frames)))
    terms = head.loss(output, labels_of_rows(frames, None if futures == "none" else unknown))
    assert all(float(value.detach()) == 0.0 for value in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
    assert len(head.decode(output)[0]) == 0
    (empty,) = head.decode(say(head, scene_of(agents_of_rows([[]]))))
    assert empty.trajectories_ego.shape == (0, 6, 12, 2) and empty.probabilities.shape == (0, 6)


def test_a_head_without_agents_is_refused() -> None:
    with pytest.raises(ValueError, match="hands on agents"):
        make_head(agent_channels=0)
    with pytest.raises(ValueError, match="places=13"):
        make_head(places=13)
    with pytest.raises(ValueError, match="agents in the context"):
        say(make_head(), replace(scene_of(agents_of_rows([SCENE])), agents=None))
