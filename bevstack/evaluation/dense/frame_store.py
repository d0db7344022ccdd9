"""Frames kept beside the metrics so that a report can show them without the data set.

One folder for each frame: `frame.json` with calibrations, boxes in `ego`, a thinned LiDAR cloud, map, occupancy and the
attention of a cue from above, forecasts, tracks, plans, the route and where the vehicle itself went; and one JPEG for
each camera, in the size that the model saw.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import simplejpeg

from bevstack.evaluation.dense.frame_counts import SCORE_DECIMALS, FrameCount
from bevstack.evaluation.dense.tasks import Rasters
from bevstack.evaluation.predictions.submission import write_json
from bevstack.geometry.transforms import rigid_inverse
from bevstack.types.frame import Frame, PointIndex
from bevstack.types.scene import Detections
from bevstack.types.trajectory import Route

FRAME_FILE = "frame.json"
MAX_POINTS = 12_000
POINT_RANGE_M = 60.0
POINT_UNIT_M = 0.01
TRUTH = "truth"
"""Key of what the labels say, beside the names of modalities."""
JPEG_QUALITY = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBoxes:
    """Boxes of one kind in one frame, and which of them take part in the score."""

    detections: Detections
    counted: np.ndarray
    """bool (N,)."""

    def rows(self, with_score: bool) -> list[list[float | None]]:
        """x, y, z, length, width, height, yaw, vx, vy, class index, counted (0 or 1), and the score."""
        boxes = np.round(self.detections.boxes.rows.astype(np.float64), 3)
        rows: list[list[float | None]] = []
        for index in range(len(self.detections)):
            row: list[float | None] = [None if np.isnan(value) else value for value in boxes[index].tolist()]
            row += [int(self.detections.boxes.class_index[index]), int(self.counted[index])]
            if with_score:
                row.append(round(float(self.detections.scores[index]), SCORE_DECIMALS))
            rows.append(row)
        return rows


def save_frame(
    folder: Path,
    frame: Frame,
    *,
    rank: int,
    count: FrameCount,
    truth: ShownBoxes,
    predictions: Mapping[str, ShownBoxes],
    rasters: Mapping[str, Rasters] | None = None,
    layers: Mapping[str, Mapping[str, Any]] | None = None,
    driven: list[list[float]] | None = None,
) -> Path:
    """Write one frame into its own folder below `folder`.

    Args:
        folder: Parent of the frame folders.
        frame: Pictures, points and pose.
        rank: Place among all frames, 1 = most mistakes.
        count: Matched, missed and false boxes at the operating point.
        truth: Annotated boxes.
        predictions: Modality -> what the model found.
        rasters: `TRUTH` or modality -> map, occupancy and attention from above.
        layers: Name of a further layer -> modality -> what it shows, ready for JSON; see `shown_frames.LAYERS`.
        driven: Where the vehicle itself went, see `bevstack.evaluation.planning.shown`.

    Raises:
        OSError: the folder cannot be written.
    """
    place = folder / f"{rank:05d}-{frame.token}"
    place.mkdir(parents=True, exist_ok=True)
    cameras = []
    for camera in frame.cameras:
        name = f"{camera.name}.jpg"
        picture = simplejpeg.encode_jpeg(np.ascontiguousarray(camera.rgb), JPEG_QUALITY, colorsubsampling="420")
        (place / name).write_bytes(picture)
        cameras.append(
            {
                "name": camera.name,
                "file": name,
                "width": camera.rgb.shape[1],
                "height": camera.rgb.shape[0],
                "K_cam": np.asarray(camera.K_cam, np.float64).reshape(-1).tolist(),
                "T_cam_ego": rigid_inverse(np.asarray(camera.T_ego_cam, np.float64)).reshape(-1).tolist(),
            }
        )
    content = {
        "token": frame.token,
        "scene_name": frame.scene_name,
        "timestamp_us": frame.timestamp_us,
        "location": frame.location,
        "description": frame.description,
        "rank": rank,
        "matched": count.matched,
        "missed": count.missed,
        "false": count.false,
        "cameras": cameras,
        "points": _packed_points(frame),
        "point_unit_m": POINT_UNIT_M,
        "ground_truth": truth.rows(with_score=False),
        "predictions": {name: boxes.rows(with_score=True) for name, boxes in predictions.items()},
        "rasters": _packed_rasters(rasters or {}),
        "route": _packed_route(frame.route),
        "driven": driven or [],
        **{name: dict(of_rows) for name, of_rows in (layers or {}).items()},
    }
    return write_json(place / FRAME_FILE, content)


def read_frames(folder: Path) -> list[dict[str, Any]]:
    """Contents of all stored frames, worst first, each with its folder under the key `folder`."""
    frames = []
    for path in sorted(folder.glob(f"*/{FRAME_FILE}")):
        frames.append({**orjson.loads(path.read_bytes()), "folder": path.parent})
    return frames


def _packed_rasters(rasters: Mapping[str, Rasters]) -> dict[str, dict[str, dict[str, Any]]]:
    """Task -> whose -> PNG as base64, with the area that it shows."""
    packed: dict[str, dict[str, dict[str, Any]]] = {}
    for name, of_tasks in rasters.items():
        for task, raster in of_tasks.items():
            packed.setdefault(task, {})[name] = {
                "png": base64.b64encode(raster.png).decode(),
                "x_range_m": raster.x_range_m,
                "y_range_m": raster.y_range_m,
                "caption": raster.caption,
            }
    return packed


def _packed_route(route: Route | None) -> dict[str, Any] | None:
    """What the navigation asks for; a speed limit that is not known is null."""
    if route is None:
        return None
    limit = float(route.speed_limit_mps)
    return {
        "command": route.command.value,
        "waypoints": np.round(route.waypoints_ego, 2).tolist(),
        "speed_limit_mps": round(limit, 2) if np.isfinite(limit) else None,
    }


def _packed_points(frame: Frame) -> str:
    """Key-sweep points as base64 of little-endian int16 x, y, z in centimetres; at most `MAX_POINTS` of them."""
    if frame.lidar is None:
        return ""
    points = frame.lidar.points_ego
    near = (points[:, PointIndex.AGE_S] < 1e-3) & (np.abs(points[:, : PointIndex.Z + 1]).max(axis=1) < POINT_RANGE_M)
    chosen = points[near, : PointIndex.Z + 1]
    if len(chosen) > MAX_POINTS:
        chosen = chosen[np.random.default_rng(0).choice(len(chosen), MAX_POINTS, replace=False)]
    return base64.b64encode(np.round(chosen / POINT_UNIT_M).astype("<i2").tobytes()).decode()
