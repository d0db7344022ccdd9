"""What flows through the stack. Imports numpy, torch and jaxtyping only."""

from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import BevFeatures, BevGrid
from bevstack.types.boxes import BOX_COLUMNS, Boxes3D, BoxIndex
from bevstack.types.frame import (
    POINT_COLUMNS,
    Annotations,
    CameraImage,
    EgoState,
    Frame,
    LidarSweep,
    PointIndex,
)
from bevstack.types.interfaces import BevFuser, FrameSource, Head, HeadOutput, Planner, SensorEncoder
from bevstack.types.scene import Detections, SceneEstimate, ScenePart
from bevstack.types.trajectory import Plan, Route, RouteCommand, Trajectory

__all__ = [
    "BOX_COLUMNS",
    "POINT_COLUMNS",
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
    "Plan",
    "Planner",
    "PointIndex",
    "Route",
    "RouteCommand",
    "SceneEstimate",
    "ScenePart",
    "SensorEncoder",
    "Trajectory",
]
