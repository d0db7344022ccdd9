"""Annotated vehicles as rasters of identities from above, now and two seconds ahead: the truth of `instance/vpq`.

As in FIERY: every `vehicle.*` category (bicycles and motorcycles too), without vehicles of which less than 40 % can be
seen; 200 x 200 cells of 0.5 m, all frames in the level frame of the vehicle now. A cell belongs to a vehicle if its
centre lies in the box, and to the later annotation where two overlap. (The published code draws each frame around its
own pose with outlines rounded to cells, half a cell shifted, and then moves the picture: its rims are a cell wider, and
what leaves the picture of a later frame is lost.)
"""

import numpy as np
from jaxtyping import Float64, Int32, Int64

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.index import DatasetIndex
from bevstack.data.nuscenes_boxes import boxes_in_ego
from bevstack.evaluation.motion.agent_future import STEP_S, past_velocity
from bevstack.evaluation.motion.baselines import CONSTANT_VELOCITY, COPY_LAST
from bevstack.geometry.boxes import footprints
from bevstack.geometry.raster import fill_polygon
from bevstack.geometry.transforms import from_xy_yaw, rigid_inverse, yaw_of
from bevstack.types.bev import BevGrid
from bevstack.types.boxes import BoxIndex
from bevstack.types.errors import DatasetError

GRID = BevGrid(x_range_m=(-50.0, 50.0), y_range_m=(-50.0, 50.0), z_range_m=(-10.0, 10.0), cell_m=0.5)
NUM_PAST, NUM_FUTURE = 2, 4
"""Key frames before (which FIERY's model looks at) and after the present one."""
_HARDLY_VISIBLE = 1


def present_samples(index: DatasetIndex, split: str) -> Int64[np.ndarray, " N"]:
    """Samples of a split with enough key frames of their scene before and after them.

    Raises:
        DatasetError: there is no such split.
    """
    chosen = [
        sample
        for sample in index.samples_of_split(split).tolist()
        if NUM_PAST <= sample - (scene := index.scene_of_sample(sample)).first_sample < scene.num_samples - NUM_FUTURE
    ]
    return np.array(chosen, np.int64)


def true_instances(index: DatasetIndex, sample: int, *, grid: BevGrid = GRID) -> Int32[np.ndarray, "T Y X"]:
    """Identities of vehicles (from 1; 0 is none) in the present key frame and the four that follow.

    Raises:
        DatasetError: the scene ends before, a key frame has no LiDAR reading, or a box is damaged.
    """
    scene = index.scene_of_sample(sample)
    if sample + NUM_FUTURE >= scene.first_sample + scene.num_samples:
        raise DatasetError(
            f"scene {scene.name} ends before {NUM_FUTURE} key frames after sample {index.sample_tokens[sample]}: "
            "present_samples() gives those that can be scored"
        )
    T_ego_global = _level_ego(index, sample)
    identity: dict[int, int] = {}
    out = np.zeros((NUM_FUTURE + 1, *grid.shape_yx), np.int32)
    for step in range(NUM_FUTURE + 1):
        rows = vehicle_rows(index, sample + step)
        names = [identity.setdefault(name, len(identity) + 1) for name in index["annotation_instance"][rows].tolist()]
        _draw(out[step], grid, boxes_in_ego(index, rows, T_ego_global), names)
    return out


def annotated_baselines(
    index: DatasetIndex, sample: int, *, grid: BevGrid = GRID
) -> dict[str, Int32[np.ndarray, "T Y X"]]:
    """What comes of the present annotations when they move on at their past velocity, and when they stay.

    Both know what is there now without error: they say what prediction adds, not what a system without a model reaches.

    Raises:
        DatasetError: as `true_instances`.
    """
    rows = vehicle_rows(index, sample)
    T_ego_global = _level_ego(index, sample)
    boxes = boxes_in_ego(index, rows, T_ego_global)
    velocity = np.nan_to_num(past_velocity(index, rows), nan=0.0) @ T_ego_global[:2, :2].T
    names = list(range(1, len(rows) + 1))
    out = {name: np.zeros((NUM_FUTURE + 1, *grid.shape_yx), np.int32) for name in (CONSTANT_VELOCITY, COPY_LAST)}
    for step in range(NUM_FUTURE + 1):
        moved = boxes.copy()
        moved[:, : BoxIndex.Z] += velocity.astype(np.float32) * np.float32(step * STEP_S)
        _draw(out[CONSTANT_VELOCITY][step], grid, moved, names)
        _draw(out[COPY_LAST][step], grid, boxes, names)
    return out


def vehicle_rows(index: DatasetIndex, sample: int) -> Int64[np.ndarray, " N"]:
    """Annotations of a sample that are drawn, in file order."""
    rows = np.array(index.annotation_rows(sample), np.int64)
    if not len(rows):
        return rows
    is_vehicle = np.array([name.startswith("vehicle.") for name in index.categories])
    drawn = is_vehicle[index["instance_category"][index["annotation_instance"][rows]]]
    return rows[drawn & (index["annotation_visibility"][rows] != _HARDLY_VISIBLE)]


def _draw(raster: np.ndarray, grid: BevGrid, boxes: np.ndarray, names: list[int]) -> None:
    for name, corners in zip(names, footprints(boxes), strict=True):
        mask = np.zeros(grid.shape_yx, np.uint8)
        fill_polygon(mask, grid, [corners])
        raster[mask > 0] = name


def _level_ego(index: DatasetIndex, sample: int) -> Float64[np.ndarray, "4 4"]:
    """T_ego_global into the level frame of the vehicle at a sample's LiDAR key frame."""
    row = index.key_data_row(sample, LIDAR_NAME)
    if row < 0:
        raise DatasetError(f"sample {index.sample_tokens[sample]} in {index.folder} has no {LIDAR_NAME} key frame")
    T_global_ego = index.T_global_ego([row])[0]
    x, y, z = T_global_ego[:3, 3].tolist()
    return rigid_inverse(from_xy_yaw(x, y, float(yaw_of(T_global_ego)), z_m=z))
