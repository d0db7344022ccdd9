"""The truth in the words of perception: what a perfect model would believe, futures and map included."""

import math

import numpy as np
import shapely

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.maps import MAP_CLASSES
from bevstack.geometry.raster import polygons_mask
from bevstack.geometry.transforms import wrap_angle
from bevstack.sim.closed_loop.agents.protocol import DriveState
from bevstack.sim.closed_loop.world import FORESIGHT_STEP_S, FORESIGHT_STEPS
from bevstack.sim.world.roads import RoadNetwork
from bevstack.types.bev import BevGrid
from bevstack.types.boxes import Boxes3D
from bevstack.types.scene import Detections, MapSegmentation, MotionForecasts, SceneEstimate

REACH_M = 200.0
"""Nobody further away is looked at."""
AS_IF = {"building": "barrier", "debris": "barrier", "animal": "pedestrian"}
"""What is no detection class -> what a planner shall take it for."""
MAP_GRID = BevGrid(x_range_m=(-20.0, 80.0), y_range_m=(-30.0, 30.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
_CELL_M = 0.25
"""Of the map that is drawn once for a run."""


class TrueScene:
    """Estimates of one run, from its truth.

    Args:
        roads: The road network.
    """

    def __init__(self, roads: RoadNetwork) -> None:
        self._mask, self._low = _drawn(roads)
        self._cells = MAP_GRID.centers_m().numpy().astype(np.float64)

    def at(self, state: DriveState) -> SceneEstimate:
        """What is true at a step, in `ego`."""
        world = state.truth.world
        x, y, yaw = _pose(state)
        here = [
            (row, who, now)
            for row, (who, now) in enumerate(zip(world.participants, world.now(), strict=True))
            if now is not None and math.hypot(now.pose[0] - x, now.pose[1] - y) < REACH_M
        ]
        rows, classes = np.zeros((len(here), 9), np.float32), np.zeros(len(here), np.int64)
        foreseen = world.foreseen() if here else np.zeros((0, FORESIGHT_STEPS, 2))
        ways = np.zeros((len(here), 1, FORESIGHT_STEPS, 2), np.float32)
        times = FORESIGHT_STEP_S * np.arange(1, FORESIGHT_STEPS + 1)
        for k, (row, who, now) in enumerate(here):
            velocity = np.array(now.velocity)
            rows[k, :2] = _turned(np.array(now.pose[:2]) - (x, y), yaw)
            rows[k, 2:6] = (now.ground_m + who.size_lwh[2] / 2, *who.size_lwh)
            rows[k, 6], rows[k, 7:] = wrap_angle(now.pose[2] - yaw), _turned(velocity, yaw)
            classes[k] = DETECTION_CLASSES.index(AS_IF.get(who.class_name, who.class_name))
            straight = np.array(now.pose[:2]) + times[:, None] * velocity
            way = np.where(np.isnan(foreseen[row]), straight, foreseen[row])
            ways[k, 0] = _turned(way - (x, y), yaw)
        ones = np.ones(len(here), np.float32)
        nothing = np.full(len(here), -1, np.int64)
        return SceneEstimate(
            token=f"{state.step}",
            timestamp_us=round(state.time_s * 1e6),
            detections=Detections(boxes=Boxes3D(rows=rows, class_index=classes), scores=ones, attribute_index=nothing),
            motion=MotionForecasts(trajectories_ego=ways, probabilities=ones[:, None], dt_s=FORESIGHT_STEP_S),
            map=self._map(x, y, yaw),
        )

    def _map(self, x: float, y: float, yaw: float) -> MapSegmentation:
        """The drawn road, looked up at the cells of a grid around the vehicle."""
        c, s = np.cos(yaw), np.sin(yaw)
        at_x = x + c * self._cells[..., 0] - s * self._cells[..., 1]
        at_y = y + s * self._cells[..., 0] + c * self._cells[..., 1]
        column = np.floor((at_x - self._low[0]) / _CELL_M).astype(np.int64)
        row = np.floor((at_y - self._low[1]) / _CELL_M).astype(np.int64)
        rows, columns = self._mask.shape
        is_known = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        road = self._mask[row.clip(0, rows - 1), column.clip(0, columns - 1)] & is_known
        probabilities = np.zeros((len(MAP_CLASSES), *MAP_GRID.shape_yx), np.float32)
        probabilities[list(MAP_CLASSES).index("drivable_area")] = road
        return MapSegmentation(probabilities=probabilities, grid=MAP_GRID)


def _drawn(roads: RoadNetwork) -> tuple[np.ndarray, tuple[float, float]]:
    """The drivable area as cells of the town's frame, and the corner where they begin."""
    if roads.drivable.is_empty:
        return np.ones((1, 1), bool), (0.0, 0.0)
    x0, y0, x1, y1 = roads.drivable.bounds
    size = [float(math.ceil((high - low) / _CELL_M) * _CELL_M) for low, high in ((x0, x1), (y0, y1))]
    grid = BevGrid(x_range_m=(0.0, size[0]), y_range_m=(0.0, size[1]), z_range_m=(-5.0, 3.0), cell_m=_CELL_M)
    low = np.array((x0, y0))
    parts = [part for part in shapely.get_parts(roads.drivable) if part.geom_type == "Polygon"]
    rings = [[np.array(ring.coords)[:, :2] - low for ring in (part.exterior, *part.interiors)] for part in parts]
    return polygons_mask(grid, rings), (float(x0), float(y0))


def _pose(state: DriveState) -> tuple[float, float, float]:
    T_global_ego = state.ego.T_global_ego
    yaw = math.atan2(T_global_ego[1, 0], T_global_ego[0, 0])
    return float(T_global_ego[0, 3]), float(T_global_ego[1, 3]), yaw


def _turned(points: np.ndarray, yaw: float) -> np.ndarray:
    """Town directions as ego directions."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.stack((c * points[..., 0] + s * points[..., 1], c * points[..., 1] - s * points[..., 0]), axis=-1)
