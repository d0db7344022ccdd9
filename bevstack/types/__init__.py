"""What flows through the stack. Imports numpy, torch and jaxtyping only."""

from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import OCC3D_GRID, OPENOCCUPANCY_GRID, ActiveVoxels, BevFeatures, BevGrid, VoxelGrid
from bevstack.types.boxes import BOX_COLUMNS, Boxes3D, BoxIndex
from bevstack.types.frame import (
    POINT_COLUMNS,
    Annotations,
    CameraImage,
    EgoState,
    Frame,
    LidarSweep,
    MapMasks,
    OccupancyGrid,
    PointIndex,
)
from bevstack.types.interfaces import BevFuser, FrameSource, Head, HeadOutput, Planner, SensorEncoder
from bevstack.types.scene import Detections, MapSegmentation, Occupancy, SceneEstimate, ScenePart, Tracks
from bevstack.types.trajectory import Plan, Route, RouteCommand, Trajectory

__all__ = [
    "BOX_COLUMNS",
    "OCC3D_GRID",
    "OPENOCCUPANCY_GRID",
    "POINT_COLUMNS",
    "ActiveVoxels",
    "Annotations",
    "Batch",
    "BevFeatures",
    "BevFuser",
    "BevGrid",
    "BoxIndex",
    "Boxes3D",
    "CameraImage",
    "Detections",
    "EgoState",
    "Frame",
    "FrameSource",
    "Head",
    "HeadOutput",
    "Labels",
    "LidarSweep",
    "MapMasks",
    "MapSegmentation",
    "Occupancy",
    "OccupancyGrid",
    "Plan",
    "Planner",
    "PointIndex",
    "Route",
    "RouteCommand",
    "SceneEstimate",
    "ScenePart",
    "SensorEncoder",
    "Tracks",
    "Trajectory",
    "VoxelGrid",
]
