"""What flows through the stack. Imports numpy, torch and jaxtyping only."""

from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import OCC3D_GRID, OPENOCCUPANCY_GRID, ActiveVoxels, BevFeatures, BevGrid, VoxelGrid
from bevstack.types.boxes import BOX_COLUMNS, Boxes3D, BoxIndex
from bevstack.types.context import Agents, MapBelief, SceneContext
from bevstack.types.cue import Cue
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
from bevstack.types.interfaces import BehaviourHead, BevFuser, FrameSource, Head, HeadOutput, Planner, SensorEncoder
from bevstack.types.scene import (
    CueAttention,
    Detections,
    MapSegmentation,
    MotionForecasts,
    Occupancy,
    PlanProposals,
    SceneEstimate,
    ScenePart,
    Tracks,
)
from bevstack.types.trajectory import COMMANDS, FUTURE_STEP_S, ROUTE_STEP_M, Plan, Route, RouteCommand, Trajectory

__all__ = [
    "BOX_COLUMNS",
    "COMMANDS",
    "FUTURE_STEP_S",
    "OCC3D_GRID",
    "OPENOCCUPANCY_GRID",
    "POINT_COLUMNS",
    "ROUTE_STEP_M",
    "ActiveVoxels",
    "Agents",
    "Annotations",
    "Batch",
    "BehaviourHead",
    "BevFeatures",
    "BevFuser",
    "BevGrid",
    "BoxIndex",
    "Boxes3D",
    "CameraImage",
    "Cue",
    "CueAttention",
    "Detections",
    "EgoState",
    "Frame",
    "FrameSource",
    "Head",
    "HeadOutput",
    "Labels",
    "LidarSweep",
    "MapBelief",
    "MapMasks",
    "MapSegmentation",
    "MotionForecasts",
    "Occupancy",
    "OccupancyGrid",
    "Plan",
    "PlanProposals",
    "Planner",
    "PointIndex",
    "Route",
    "RouteCommand",
    "SceneContext",
    "SceneEstimate",
    "ScenePart",
    "SensorEncoder",
    "Tracks",
    "Trajectory",
    "VoxelGrid",
]
