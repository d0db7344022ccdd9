"""A data set of one scene in nuScenes format in which every number is known: what a reader makes of it shows its rules.

Pictures: one colour channel says which camera it is, one rises from the top row to the bottom row, one from the left
column to the right column. LiDAR: the intensity of a point says what it is for. Boxes: one of each class; the height
of a box says which class it should be. The vehicle drives a curve, so that ego motion shows in every sweep and camera.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from bevstack.data.class_names import CAMERA_NAMES, CLASS_OF_CATEGORY, DETECTION_CLASSES, LIDAR_NAME
from bevstack.geometry.transforms import from_quaternion, from_xy_yaw, rigid_inverse, to_quaternion, transform_points
from bevstack.types.errors import DatasetError

VERSION = "v1.0-probe"
SPLIT = "probe"
SCENE = "scene-probe"
PICTURE_HEIGHT, PICTURE_WIDTH = 900, 1600
REFERENCE_US = 1_600_000_002_000_000
SWEEP_US, NUM_SWEEPS = 50_000, 41
"""The reference key frame and forty readings before it."""
CAMERA_LEAD_US = 30_000
SPEED_MPS, YAW_RATE_RADPS = 10.0, 0.3

CAMERA_CODE = {name: 30 + 40 * number for number, name in enumerate(CAMERA_NAMES)}
"""Value of the red channel."""
RAMP = (20.0, 235.0)
"""Green from the top row to the bottom row, blue from the left column to the right column."""

MARKERS_EGO = np.array([[20.0, 0.0, 1.0], [2.0, 15.0, 1.0], [3.0, 2.0, 6.0], [-8.0, -5.0, 0.5], [6.0, -12.0, 2.0]])
MARKER_INTENSITY = (10, 20, 30, 40, 50)
ROOF_INTENSITY, RANGE_INTENSITY, LANDMARK_INTENSITY = 60, 255, 100
"""Of the vehicle's own return, of the returns along the axes, of the landmark in the newest sweep (one more each)."""
LANDMARK_EGO = np.array([15.0, 5.0, 1.0])
FARTHEST_M = 120.0

BOX_HEIGHT_M = {name: 1.0 + 0.2 * k for k, name in enumerate(DETECTION_CLASSES)}
BOX_LENGTH_M, BOX_WIDTH_M = 4.0, 1.5
T_EGO_LIDAR = from_xy_yaw(0.9, 0.0, -np.pi / 2, z_m=1.84)
CAMERA_YAW = dict(zip(CAMERA_NAMES, np.radians([0.0, -55.0, -110.0, 180.0, 110.0, 55.0]), strict=True))
K_CAM = np.array([[1266.0, 0.0, 799.5], [0.0, 1266.0, 449.5], [0.0, 0.0, 1.0]])


def T_global_ego_at(age_s: float) -> np.ndarray:
    """Pose of the vehicle so long before the reference time."""
    yaw = 0.5 - YAW_RATE_RADPS * age_s
    way = SPEED_MPS * age_s
    return from_xy_yaw(600.0 - way * np.cos(0.5), 1600.0 - way * np.sin(0.5), yaw)


def T_ego_mounted(name: str) -> np.ndarray:
    """Mounting of a camera on the vehicle."""
    T_level_cam = from_quaternion(np.array([0.5, -0.5, 0.5, -0.5]), np.zeros(3))
    return from_xy_yaw(0.8 * np.cos(CAMERA_YAW[name]), 0.4, float(CAMERA_YAW[name]), z_m=1.5) @ T_level_cam


def T_ego_camera(name: str) -> np.ndarray:
    """What `T_ego_cam` should be at the reference time, ego motion since the exposure included."""
    return rigid_inverse(T_global_ego_at(0.0)) @ T_global_ego_at(CAMERA_LEAD_US * 1e-6) @ T_ego_mounted(name)


def boxes_ego() -> dict[str, np.ndarray]:
    """Class -> (x, y, z centre, length, width, height, yaw) in `ego`; places and headings of no pattern."""
    rng = np.random.default_rng(5)
    rows = {}
    for name, height in BOX_HEIGHT_M.items():
        center = rng.uniform((-20, -20, 0.5), (20, 20, 3.0))
        rows[name] = np.array([*center, BOX_LENGTH_M, BOX_WIDTH_M, height, rng.uniform(-3.0, 3.0)])
    return rows


def write_probe(root: Path) -> Path:
    """Write the data set below `root` and return it.

    Raises:
        DatasetError: the folder cannot be written.
    """
    tables = _tables()
    try:
        (root / VERSION).mkdir(parents=True)
        (root / "maps").mkdir()
        for name, records in tables.items():
            (root / VERSION / f"{name}.json").write_text(json.dumps(records))
        (root / VERSION / "splits.json").write_text(json.dumps({SPLIT: [SCENE]}))
        for record in tables["sample_data"]:
            path = root / record["filename"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_picture(record["filename"]) if record["height"] else _sweep(record["timestamp"]))
    except OSError as error:
        raise DatasetError(f"the probe data set cannot be written below {root}: {error.strerror}") from error
    return root


def _picture(filename: str) -> bytes:
    name = filename.split("/")[1]
    rgb = np.empty((PICTURE_HEIGHT, PICTURE_WIDTH, 3), np.uint8)
    rgb[..., 0] = CAMERA_CODE[name]
    rgb[..., 1] = np.linspace(*RAMP, PICTURE_HEIGHT).round()[:, None]
    rgb[..., 2] = np.linspace(*RAMP, PICTURE_WIDTH).round()[None]
    return simplejpeg.encode_jpeg(rgb, quality=95)


def _sweep(timestamp_us: int) -> bytes:
    age_s = (REFERENCE_US - timestamp_us) * 1e-6
    number = round(age_s * 1e6 / SWEEP_US)
    T_lidar_global = rigid_inverse(T_global_ego_at(age_s) @ T_EGO_LIDAR)
    landmark = transform_points(T_global_ego_at(0.0), LANDMARK_EGO[None])
    rows = [(*transform_points(T_lidar_global, landmark)[0], LANDMARK_INTENSITY + number, 0.0)]
    rows.append((0.3, -0.5, -0.4, ROOF_INTENSITY, 0.0))
    if number == 0:
        T_lidar_ego = rigid_inverse(T_EGO_LIDAR)
        for place, intensity in zip(transform_points(T_lidar_ego, MARKERS_EGO), MARKER_INTENSITY, strict=True):
            rows.append((*place, intensity, 0.0))
        steps = np.concatenate((np.arange(5.0, FARTHEST_M + 1, 5.0), -np.arange(5.0, FARTHEST_M + 1, 5.0)))
        along = np.concatenate((steps[:, None] * [1.0, 0.0, 0.0], steps[:, None] * [0.0, 1.0, 0.0]))
        rows += [(*place, RANGE_INTENSITY, 0.0) for place in transform_points(T_lidar_ego, along)]
    return np.array(rows, np.float32).tobytes()


def _tables() -> dict[str, list[dict[str, Any]]]:
    category_of = {name: category for category, name in CLASS_OF_CATEGORY.items()}
    tables: dict[str, list[dict[str, Any]]] = {
        "log": [{"token": _token(0), "logfile": "", "vehicle": "", "date_captured": "", "location": "probe"}],
        "scene": [
            {
                "token": _token(1),
                "log_token": _token(0),
                "nbr_samples": 2,
                "first_sample_token": _token(2),
                "last_sample_token": _token(3),
                "name": SCENE,
                "description": "",
            }
        ],
        "category": [
            {"token": _token(100 + k), "name": category_of[name], "description": ""}
            for k, name in enumerate(DETECTION_CLASSES)
        ],
        "attribute": [],
        "visibility": [],
        "map": [{"token": _token(4), "log_tokens": [_token(0)], "category": "semantic_prior", "filename": ""}],
        "sample": [
            {
                "token": _token(2 + number),
                "timestamp": REFERENCE_US - (1 - number) * (NUM_SWEEPS - 1) * SWEEP_US,
                "scene_token": _token(1),
                "prev": "" if number == 0 else _token(2),
                "next": _token(3) if number == 0 else "",
            }
            for number in (0, 1)
        ],
    }
    _add_sensors(tables)
    _add_boxes(tables)
    return tables


def _add_sensors(tables: dict[str, list[dict[str, Any]]]) -> None:
    mounts = {name: (T_ego_mounted(name), K_CAM.tolist()) for name in CAMERA_NAMES} | {LIDAR_NAME: (T_EGO_LIDAR, [])}
    tables["sensor"], tables["calibrated_sensor"], tables["sample_data"], tables["ego_pose"] = [], [], [], []
    for k, (name, (T_ego_sensor, K)) in enumerate(mounts.items()):
        is_lidar = name == LIDAR_NAME
        tables["sensor"].append(
            {"token": _token(200 + k), "channel": name, "modality": "lidar" if is_lidar else "camera"}
        )
        tables["calibrated_sensor"].append(
            {"token": _token(300 + k), "sensor_token": _token(200 + k), **_pose(T_ego_sensor), "camera_intrinsic": K}
        )
        ages_us = [number * SWEEP_US for number in range(NUM_SWEEPS)] if is_lidar else [0, (NUM_SWEEPS - 1) * SWEEP_US]
        lead_us = 0 if is_lidar else CAMERA_LEAD_US
        tokens = [_token(1000 * (k + 1) + number) for number in range(len(ages_us))]
        for number, age_us in enumerate(ages_us):
            is_key = age_us in (0, (NUM_SWEEPS - 1) * SWEEP_US)
            suffix = "pcd.bin" if is_lidar else "jpg"
            time_us = REFERENCE_US - age_us - lead_us
            tables["ego_pose"].append(
                {"token": tokens[number], "timestamp": time_us, **_pose(T_global_ego_at((age_us + lead_us) * 1e-6))}
            )
            tables["sample_data"].append(
                {
                    "token": tokens[number],
                    "sample_token": _token(2 if age_us == (NUM_SWEEPS - 1) * SWEEP_US else 3),
                    "ego_pose_token": tokens[number],
                    "calibrated_sensor_token": _token(300 + k),
                    "timestamp": time_us,
                    "fileformat": "pcd" if is_lidar else "jpg",
                    "is_key_frame": is_key,
                    "height": 0 if is_lidar else PICTURE_HEIGHT,
                    "width": 0 if is_lidar else PICTURE_WIDTH,
                    "filename": f"{'samples' if is_key else 'sweeps'}/{name}/{age_us}.{suffix}",
                    "prev": tokens[number + 1] if number + 1 < len(tokens) else "",
                    "next": tokens[number - 1] if number else "",
                }
            )


def _add_boxes(tables: dict[str, list[dict[str, Any]]]) -> None:
    tables["instance"], tables["sample_annotation"] = [], []
    for k, row in enumerate(boxes_ego().values()):
        T_global_box = T_global_ego_at(0.0) @ from_xy_yaw(float(row[0]), float(row[1]), float(row[6]), float(row[2]))
        tables["instance"].append(
            {
                "token": _token(400 + k),
                "category_token": _token(100 + k),
                "nbr_annotations": 1,
                "first_annotation_token": _token(500 + k),
                "last_annotation_token": _token(500 + k),
            }
        )
        tables["sample_annotation"].append(
            {
                "token": _token(500 + k),
                "sample_token": _token(3),
                "instance_token": _token(400 + k),
                "visibility_token": "",
                "attribute_tokens": [],
                **_pose(T_global_box),
                "size": [row[4], row[3], row[5]],
                "prev": "",
                "next": "",
                "num_lidar_pts": 9,
                "num_radar_pts": 0,
            }
        )


def _pose(T_target_source: np.ndarray) -> dict[str, list[float]]:
    return {"translation": T_target_source[:3, 3].tolist(), "rotation": to_quaternion(T_target_source).tolist()}


def _token(number: int) -> str:
    return f"{number:032x}"
