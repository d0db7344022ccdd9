"""Plans that look at nothing: what a planner must beat before its number means anything.

* `constant_velocity`: straight on at the present speed.
* `constant_turn`: at the present speed and yaw rate, on a circle.
* `copy_last`: stays where it is (the last position, repeated).
* `ego_status_mlp`: a small network on the vehicle's own past (`ego_status`), trained on a training split in seconds;
  it has neither a sensor nor a command (after Zhai et al., AD-MLP, 2023). Its weights are trained anew where they are
  needed.

All but `copy_last` use the ego status and are listed so. Where a frame has no past that its speed could be known from,
they stay where they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from bevstack.evaluation.planning.ego_future import PLAN_STEP_S, PLAN_STEPS, EgoFuture
from bevstack.evaluation.planning.ego_status import EgoStatus
from bevstack.evaluation.planning.file import NO_COMMAND, PlanColumns

_TIMES_S = PLAN_STEP_S * np.arange(1, PLAN_STEPS + 1)
_MIN_TURN_RAD = 1e-9
_HIDDEN, _BATCH, _UPDATES, _LEARNING_RATE = 128, 256, 1000, 2e-3
_YAW_WEIGHT_M = 5.0
"""A heading error in the loss of the network, in metres of position error for a radian."""


def constant_velocity(status: EgoStatus) -> Float64[np.ndarray, "F 6 3"]:
    """Poses in `ego`: straight on."""
    way = np.nan_to_num(status.speed_mps)[:, None] * _TIMES_S
    return np.stack((way, np.zeros_like(way), np.zeros_like(way)), axis=-1)


def constant_turn(status: EgoStatus) -> Float64[np.ndarray, "F 6 3"]:
    """Poses in `ego`: on a circle."""
    way = np.nan_to_num(status.speed_mps)[:, None] * _TIMES_S
    yaw = np.nan_to_num(status.yaw_rate_radps)[:, None] * _TIMES_S
    turn = np.where(np.abs(yaw) < _MIN_TURN_RAD, 1.0, yaw)
    along = np.where(np.abs(yaw) < _MIN_TURN_RAD, 1.0, np.sin(turn) / turn)
    across = np.where(np.abs(yaw) < _MIN_TURN_RAD, yaw / 2, (1 - np.cos(turn)) / turn)
    return np.stack((way * along, way * across, yaw), axis=-1)


def copy_last(num_frames: int) -> Float64[np.ndarray, "F 6 3"]:
    """Poses in `ego`: stays."""
    return np.zeros((num_frames, PLAN_STEPS, 3))


@dataclass(frozen=True, slots=True)
class EgoStatusMlp:
    """A trained network: own past in, plan out."""

    network: nn.Module
    mean: Tensor
    scale: Tensor

    def plan(self, status: EgoStatus) -> Float64[np.ndarray, "F 6 3"]:
        """Poses in `ego`."""
        with torch.no_grad(), _one_thread():
            change = self.network((_features(status) - self.mean) / self.scale)
        return constant_turn(status) + change.double().numpy().reshape(-1, PLAN_STEPS, 3)


def train_ego_status_mlp(status: EgoStatus, future: EgoFuture, seed: int = 0) -> EgoStatusMlp:
    """Train on the frames of a training split: what the constant turn gets wrong, from the vehicle's own past.

    The same frames and seed give the same network on the same machine, however many threads or processes score.

    Args:
        status: Own motion of the frames.
        future: What the vehicle did; steps that do not exist do not count.
        seed: Of the first weights and of the order of the frames.

    Raises:
        ValueError: no frame has a future to learn from.
    """
    if not future.valid.any():
        raise ValueError(f"none of the {len(future)} training frames has a future; give a split with longer scenes")
    features = _features(status)
    mean, scale = features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-3)
    inputs = (features - mean) / scale
    targets = torch.from_numpy(future.poses_ego - constant_turn(status)).float()
    weights = torch.from_numpy(future.valid)[..., None] * torch.tensor((1.0, 1.0, _YAW_WEIGHT_M))
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(inputs.shape[1], _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, PLAN_STEPS * 3),
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _UPDATES)
        for _ in range(_UPDATES):
            chosen = torch.randint(len(inputs), (_BATCH,))
            found = network(inputs[chosen]).reshape(-1, PLAN_STEPS, 3)
            error = nn.functional.smooth_l1_loss(found, targets[chosen], reduction="none") * weights[chosen]
            optimizer.zero_grad()
            error.mean().backward()
            optimizer.step()
            schedule.step()
    return EgoStatusMlp(network.requires_grad_(False), mean, scale)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever else runs: the network is too small to gain from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def baseline_plans(
    sample_tokens: Sequence[str], status: EgoStatus, mlp: EgoStatusMlp | None = None
) -> dict[str, PlanColumns]:
    """The plans of all baselines by name; without a trained network the last is left out."""
    poses = {
        "constant_velocity": constant_velocity(status),
        "constant_turn": constant_turn(status),
        "copy_last": copy_last(len(status)),
    }
    if mlp is not None:
        poses["ego_status_mlp"] = mlp.plan(status)
    return {
        name: PlanColumns(
            sample_tokens=tuple(sample_tokens),
            poses=plan,
            command_index=np.full(len(plan), NO_COMMAND, np.int8),
            uses_ego_status=name != "copy_last",
        )
        for name, plan in poses.items()
    }


def _features(status: EgoStatus) -> Tensor:
    """(F, 24): the past track and status, unknown values as 0 with a flag."""
    rates = np.stack((status.speed_mps, status.acceleration_mps2, status.yaw_rate_radps, status.steering_rad), axis=1)
    columns = (status.history_ego.reshape(len(status), -1), status.history_valid, np.nan_to_num(rates), np.isnan(rates))
    return torch.from_numpy(np.concatenate(columns, axis=1).astype(np.float32))
