"""What the stack believes about the world at one instant, in physical units. Every part may be absent."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from bevstack.types.bev import BevGrid, VoxelGrid
from bevstack.types.boxes import Boxes3D
from bevstack.types.cue import Cue
from bevstack.types.trajectory import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """Objects found in one frame, in `ego` at reference time, best score first."""

    boxes: Boxes3D
    scores: Float32[np.ndarray, " N"]
    attribute_index: Int64[np.ndarray, " N"]
    """Index into `bevstack.data.class_names.ATTRIBUTES`; -1 where the class has none."""

    @classmethod
    def empty(cls) -> "Detections":
        """Nothing found."""
        return cls(boxes=Boxes3D.empty(), scores=np.zeros(0, np.float32), attribute_index=np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """Objects with an identity that lasts from frame to frame, in `ego` at reference time, best score first."""

    boxes: Boxes3D
    scores: Float32[np.ndarray, " N"]
    attribute_index: Int64[np.ndarray, " N"]
    """As in `Detections`."""
    identity: Int64[np.ndarray, " N"]
    """Never given to another object of the same tracker."""
    num_hits: Int64[np.ndarray, " N"]
    """Detections that the track rests on."""
    unseen_s: Float32[np.ndarray, " N"]
    """Since the last of them; above 0 the box is where the object should be by now."""
    detection_index: Int64[np.ndarray, " N"]
    """Row of the detection that the track took in this frame; -1 where it took none."""

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSegmentation:
    """How likely each map class is on the ground; classes overlap."""

    probabilities: Float32[np.ndarray, "K Y X"]
    """In the order of `bevstack.data.maps.MAP_CLASSES`, 0 to 1."""
    grid: BevGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """What fills each voxel."""

    semantics: UInt8[np.ndarray, "X Y Z"]
    """`bevstack.data.class_names.OCCUPANCY_CLASSES`."""
    grid: VoxelGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionForecasts:
    """Where each detection may go; row n belongs to row n of `Detections`."""

    trajectories_ego: Float32[np.ndarray, "N K T 2"]
    """Centres (x, y) in `ego` at reference time, step k at (k + 1) * `dt_s`."""
    probabilities: Float32[np.ndarray, "N K"]
    """Of the modes; they add up to 1."""
    dt_s: float

    def __len__(self) -> int:
        return len(self.probabilities)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProposals:
    """What a learned planner would do, most wanted first: nothing here has been checked."""

    poses_ego: Float32[np.ndarray, "S T 3"]
    """x, y of the rear axle in metres and yaw, in `ego` at reference time; row k at (k + 1) * `dt_s`."""
    speeds_mps: Float32[np.ndarray, "S T"]
    scores: Float32[np.ndarray, " S"]
    """Higher is better, comparable within a frame only; descending."""
    dt_s: float
    planner: str
    """Which planner proposes."""

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class CueAttention:
    """Where the cue has lit up the bird's-eye view."""

    weights: Float32[np.ndarray, "Y X"]
    """0 to 1."""
    grid: BevGrid
    cue_weight: float
    """Share of the cue in the fused features of this frame, 0 to 1; 0 without a cue."""


ScenePart = Detections | MapSegmentation | Occupancy | MotionForecasts | PlanProposals | CueAttention
"""What a head may contribute to a `SceneEstimate`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneEstimate:
    """The stack's belief at one instant, in `ego` at reference time."""

    token: str
    timestamp_us: int
    detections: Detections | None = None
    map: MapSegmentation | None = None
    occupancy: Occupancy | None = None
    tracks: Tracks | None = None
    motion: MotionForecasts | None = None
    proposals: PlanProposals | None = None
    attention: CueAttention | None = None
    cue: Cue | None = None
    """The cue that the model was given, if any."""
    plan: Plan | None = None
    """What the vehicle intends to do; None where no planner runs."""
