"""What a model receives (`Batch`, only what a car can know) and what a loss receives (`Labels`)."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Sensor data of B frames. Letters: B frames, N cameras, H W pixels, M points of all frames together."""

    images: UInt8[Tensor, "B N 3 H W"]
    """RGB, not normalised: normalisation belongs to the backbone that was trained with it."""
    K_cam: Float[Tensor, "B N 3 3"]
    """Camera coordinates to pixels of `images`; image augmentation is folded in (full 3x3, not upper triangular)."""
    T_ego_cam: Float[Tensor, "B N 4 4"]
    """Camera to `ego` at reference time; world augmentation is folded in."""
    camera_mask: Bool[Tensor, "B N"]
    """False where a camera is missing; its image is then zero and must not be used."""
    points_ego: Float[Tensor, "M 5"]
    """Points of all frames, columns as in `PointIndex`."""
    point_frame_index: Int[Tensor, " M"]
    """Which frame of the batch each point belongs to, ascending."""
    lidar_mask: Bool[Tensor, " B"]
    """False where a frame has no LiDAR at all (as opposed to an empty cloud, which is data)."""
    T_global_ego: Float[Tensor, "B 4 4"]
    """float64: global coordinates are too large for float32."""
    timestamps_us: Int[Tensor, " B"]
    tokens: tuple[str, ...]
    scene_names: tuple[str, ...]
    ego_status: Float[Tensor, "B 3"] | None = None
    """Speed in m/s, acceleration in m/s^2, yaw rate in rad/s, as in `EgoState`; NaN where unknown."""
    route_command: Int[Tensor, " B"] | None = None
    """Index into `COMMANDS`; -1 in frames without a route."""
    route_ego: Float[Tensor, "B P 2"] | None = None
    """Waypoints of the route ahead, (x, y) in metres, `ROUTE_STEP_M` apart, nearest first; NaN beyond its end."""
    speed_limit_mps: Float[Tensor, " B"] | None = None
    """NaN where unknown."""
    cue_embedding: Float[Tensor, "B E"] | None = None
    """Embedding of each frame's cue, zero where it has none; None where no frame has one."""
    cue_mask: Bool[Tensor, " B"] | None = None
    """False in frames without a cue."""
    cue_age_s: Float[Tensor, " B"] | None = None
    """Time between the pictures that the cue describes and the frame; 0 without a cue."""
    history: tuple["Batch", ...] = ()
    """The frames before these, oldest first, for models with a memory: B frames each.

    Row b of every step belongs to the drive of row b here. Where that drive has no frame so far back, the row is a
    *blank*: no camera, no LiDAR, scene name "", time and pose of the frame that follows it. A memory begins anew in
    each row whose scene differs from that of the step before, so a blank leaves nothing behind.
    """

    @property
    def batch_size(self) -> int:
        """Number of frames."""
        return len(self.tokens)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return _changed(self, lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory (what a `DataLoader` with pin_memory calls)."""
        return _changed(self, Tensor.pin_memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Ground truth of the B frames of a batch, after the same augmentation. Ragged fields hold one tensor a frame."""

    boxes_ego: tuple[Float[Tensor, "_ 9"], ...]
    """Columns as in `BoxIndex`; velocity is NaN where unknown."""
    class_index: tuple[Int[Tensor, " _"], ...]
    attribute_index: tuple[Int[Tensor, " _"], ...]
    """-1 where the class has no attribute or the data does not say."""
    num_points: tuple[Int[Tensor, " _"], ...]
    """LiDAR plus radar points inside each box, as annotated."""
    map_masks: Bool[Tensor, "B K Ymap Xmap"] | None = None
    """One mask for each class of `data.maps.MAP_CLASSES`, on a grid of their own; classes overlap. None where no map
    was asked for, or no frame has one."""
    map_valid: Bool[Tensor, " B"] | None = None
    """False where a frame has no map: its masks are then empty and must not be learned from."""
    occupancy: UInt8[Tensor, "B X Y Z"] | None = None
    """Class of each voxel as in `data.class_names.OCCUPANCY_CLASSES`; `OCCUPANCY_IGNORE` where it is not known."""
    occupancy_camera_mask: Bool[Tensor, "B X Y Z"] | None = None
    """Voxels that a camera observed."""
    occupancy_lidar_mask: Bool[Tensor, "B X Y Z"] | None = None
    """Voxels that the LiDAR observed."""
    agent_futures_ego: tuple[Float[Tensor, "_ T 2"], ...] | None = None
    """Where the centre of each box will be, (x, y) in `ego` at reference time, row k at (k + 1) * `FUTURE_STEP_S`;
    NaN where unknown."""
    ego_future: Float[Tensor, "B S 3"] | None = None
    """Where the vehicle will be: x, y of the rear axle and yaw in `ego` at reference time, at the same steps; NaN where
    unknown."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Labels":
        """The same labels on another device."""
        return _changed(self, lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Labels":
        """The same labels in page-locked memory."""
        return _changed(self, Tensor.pin_memory)


_TensorsT = TypeVar("_TensorsT", Batch, Labels)


def _changed(item: _TensorsT, change: Callable[[Tensor], Tensor]) -> _TensorsT:
    """A copy of a dataclass of tensors and tuples of tensors with every tensor changed by a function."""
    changes: dict[str, Any] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = change(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Tensor):
            changes[field.name] = tuple(change(part) for part in value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Batch):
            changes[field.name] = tuple(_changed(part, change) for part in value)
    return replace(item, **changes)
