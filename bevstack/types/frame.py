"""One instant of a drive: what the sensors saw, where the vehicle was, and (offline) what was really there."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8

from bevstack.types.bev import BevGrid, VoxelGrid
from bevstack.types.boxes import Boxes3D
from bevstack.types.cue import Cue
from bevstack.types.trajectory import Route


class PointIndex(IntEnum):
    """Columns of a LiDAR point row."""

    X = 0
    Y = 1
    Z = 2
    INTENSITY = 3
    """Return strength, 0 to 255."""
    AGE_S = 4
    """Seconds between this point's sweep and the frame's reference time; 0 for the key sweep, positive for the past."""


POINT_COLUMNS = len(PointIndex)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraImage:
    """One picture. Pixel (0, 0) is the centre of the top-left pixel; u right, v down."""

    name: str
    rgb: UInt8[np.ndarray, "H W 3"]
    K_cam: Float[np.ndarray, "3 3"]
    """Camera coordinates (x right, y down, z forward, metres) to homogeneous pixels of `rgb` as it is."""
    T_ego_cam: Float[np.ndarray, "4 4"]
    """Camera at its own exposure time -> ego at the frame's reference time. Ego motion between the two is included."""
    timestamp_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LidarSweep:
    """Accumulated LiDAR points in `ego` at reference time; ego motion is compensated, object motion is not."""

    points_ego: Float32[np.ndarray, "M 5"]
    """Columns as in `PointIndex`."""
    timestamp_us: int
    num_sweeps: int
    """How many sweeps were really accumulated (fewer at the start of a scene)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoState:
    """The vehicle at reference time. Origin: rear-axle centre projected to the ground.

    Speed, acceleration and yaw rate are NaN where there is no past to know them from (the first frame of a scene).
    """

    T_global_ego: Float[np.ndarray, "4 4"]
    speed_mps: float
    acceleration_mps2: float
    yaw_rate_radps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MapMasks:
    """What the map says about the ground, one mask a class; classes overlap."""

    masks: Bool[np.ndarray, "K Y X"]
    """In the order of `bevstack.data.maps.MAP_CLASSES`."""
    grid: BevGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancyGrid:
    """What fills space around the vehicle, in `ego` at reference time."""

    semantics: UInt8[np.ndarray, "X Y Z"]
    """`bevstack.data.class_names.OCCUPANCY_CLASSES`; `OCCUPANCY_IGNORE` where it is not known."""
    camera_mask: Bool[np.ndarray, "X Y Z"]
    """Voxels that a camera observed; all True in formats without masks."""
    lidar_mask: Bool[np.ndarray, "X Y Z"]
    """Voxels that the LiDAR observed; all True in formats without masks."""
    grid: VoxelGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """Ground truth of one frame, in `ego` at reference time."""

    boxes: Boxes3D
    attribute_index: Int64[np.ndarray, " N"]
    """Index into `bevstack.data.class_names.ATTRIBUTES`; -1 where the class has none."""
    tokens: tuple[str, ...]
    instance_tokens: tuple[str, ...]
    num_lidar_points: Int64[np.ndarray, " N"]
    num_radar_points: Int64[np.ndarray, " N"]
    visibility: Int64[np.ndarray, " N"]
    """nuScenes bins: 1 (0-40 % visible) to 4 (80-100 %); 0 where unknown."""
    map_masks: MapMasks | None = None
    """None where the map was not asked for, or the location has none."""
    occupancy: OccupancyGrid | None = None
    """None where occupancy was not asked for, or the frame has none."""
    agent_futures_ego: Float64[np.ndarray, "N T 2"] | None = None
    """Where the centre of each box will be, (x, y) in `ego` at reference time, row k at (k + 1) * `FUTURE_STEP_S`;
    NaN where unknown. None where futures were not asked for."""
    ego_future: Float64[np.ndarray, "S 3"] | None = None
    """Where the vehicle will be: x, y of the rear axle and yaw in `ego` at reference time, at the same steps; NaN where
    unknown. None where futures were not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Everything known about one instant. Reference time = LiDAR key frame. All geometry in `ego` at that time."""

    token: str
    scene_name: str
    timestamp_us: int
    cameras: tuple[CameraImage, ...]
    lidar: LidarSweep | None
    ego: EgoState
    location: str
    """Name of the map that the scene lies on."""
    description: str = ""
    """The data set's own words about the scene; empty at run time."""
    route: Route | None = None
    """What the navigation asks for; None where there is none."""
    cue: Cue | None = None
    """What a vision-language model says of these pictures, or of earlier ones."""
    annotations: Annotations | None = None
    """None at run time and on the test split."""
