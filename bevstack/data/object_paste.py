"""Ground-truth paste: objects of other frames come into a training frame, in every kind of data at once.

Introduced for LiDAR by SECOND (Yan et al., Sensors 2018, section 3.2.3), with image patches by PointAugmenting (Wang et
al., CVPR 2021); numbers per class and the pasting of occupancy labels are those of M3Net (Chen et al., AAAI 2025). An
object keeps the place that it had relative to its own vehicle: its points are as dense there as they would be, and a
camera sees it from where it did. What lies behind a pasted object stays, as in the published recipe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.object_database import DatabaseObject, ObjectDatabase
from bevstack.data.object_images import best_patch, paste_patches, rectangles_in_camera
from bevstack.data.object_occupancy import paste_voxels
from bevstack.geometry.boxes import bev_iou, box_of_points, box_pose
from bevstack.geometry.transforms import transform_points
from bevstack.types.boxes import Boxes3D
from bevstack.types.errors import did_you_mean
from bevstack.types.frame import Annotations, CameraImage, Frame, LidarSweep, PointIndex

PER_CLASS: Mapping[str, int] = {
    "car": 2,
    "truck": 3,
    "construction_vehicle": 7,
    "bus": 4,
    "trailer": 6,
    "barrier": 2,
    "motorcycle": 6,
    "bicycle": 6,
    "pedestrian": 2,
    "traffic_cone": 2,
}
"""Objects of each class that a frame is filled up to: M3Net's numbers."""

_AGE_TOLERANCE_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPaste:
    """Fills frames up with objects from a database. An `Augmentation`; belongs before those that move anything.

    Args:
        database: folder that `bevstack data objects` made, or the open database.
        per_class: for each class, the number of objects that a frame is filled up to.
        min_points: accumulated LiDAR points that an object must have.
        mix_up: weight of a pasted patch against what was in the picture.
        last_epoch: first epoch, counted from 0, without paste: a detector learns the true frequencies of objects last.
            None pastes to the end.

    Raises:
        DatasetError: there is no database there, or it is damaged.
        ValueError: no database is given, a class is unknown or a number is out of its range.
    """

    database: str | Path | ObjectDatabase | None
    per_class: Mapping[str, int] = field(default_factory=lambda: dict(PER_CLASS))
    min_points: int = 5
    mix_up: float = 0.7
    last_epoch: int | None = None
    _objects: ObjectDatabase = field(init=False, repr=False)
    _rows: dict[int, np.ndarray] = field(init=False, repr=False)
    """For each class index the rows to draw from."""

    def __post_init__(self) -> None:
        if self.database is None:
            raise ValueError(
                "paste needs an object database: make one with `bevstack data objects ROOT --split train`, "
                "then set augment.paste.database=FOLDER (or augment.paste=null for none)"
            )
        for name, count in self.per_class.items():
            if name not in DETECTION_CLASSES:
                raise ValueError(f"per_class has '{name}'{did_you_mean(name, DETECTION_CLASSES)}")
            if count < 0:
                raise ValueError(f"per_class.{name}={count} must be at least 0")
        if not 0.0 <= self.mix_up <= 1.0:
            raise ValueError(f"mix_up={self.mix_up} must be in [0, 1]")
        if self.min_points < 1 or (self.last_epoch is not None and self.last_epoch < 0):
            raise ValueError(f"min_points={self.min_points} must be >= 1 and last_epoch={self.last_epoch} >= 0 or null")
        objects = self.database if isinstance(self.database, ObjectDatabase) else ObjectDatabase(self.database)
        indices = {name: DETECTION_CLASSES.index(name) for name in self.per_class}
        rows = {index: objects.rows_of_class(index, self.min_points) for index in indices.values()}
        object.__setattr__(self, "_objects", objects)
        object.__setattr__(self, "_rows", rows)

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """The frame with objects pasted; the same frame where there is nothing to paste or no annotations."""
        annotations = frame.annotations
        if annotations is None or (frame.lidar is None and not frame.cameras):
            return frame
        pasted = [self._objects[row] for row in self._draw(annotations.boxes, rng)]
        if frame.lidar is None:  # an object that no sensor sees would be a wrong label
            pasted = [item for item in pasted if _is_seen(item, frame.cameras)]
        if not pasted:
            return frame
        present = annotations.boxes.rows
        return replace(
            frame,
            cameras=tuple(paste_patches(camera, present, pasted, self.mix_up) for camera in frame.cameras),
            lidar=None if frame.lidar is None else _paste_points(frame.lidar, pasted),
            annotations=_paste_annotations(annotations, pasted),
        )

    def _draw(self, boxes: Boxes3D, rng: np.random.Generator) -> list[int]:
        """Rows of objects that fit into the frame: not on what is there, not on one another."""
        taken, rows = boxes.rows, []
        for name, wanted in self.per_class.items():
            class_index = DETECTION_CLASSES.index(name)
            pool = self._rows[class_index]
            count = min(max(0, wanted - int((boxes.class_index == class_index).sum())), len(pool))
            for row in rng.choice(pool, count, replace=False).tolist() if count else ():
                box = self._objects.box(row)[None]
                if not (bev_iou(box, taken) > 0).any():
                    taken = np.concatenate((taken, box))
                    rows.append(row)
        return rows


def _is_seen(item: DatabaseObject, cameras: Sequence[CameraImage]) -> bool:
    return any(
        rectangles_in_camera(camera, item.box[None]) and best_patch(item, camera) is not None for camera in cameras
    )


def _paste_points(lidar: LidarSweep, pasted: Sequence[DatabaseObject]) -> LidarSweep:
    """Points in the pasted boxes go, those of the objects come, as far back in time as the frame itself reaches."""
    points = lidar.points_ego
    boxes = np.stack([item.box for item in pasted])
    oldest_s = float(points[:, PointIndex.AGE_S].max(initial=0.0)) + _AGE_TOLERANCE_S
    stays = box_of_points(points, boxes) < 0
    added = np.concatenate([_points_in_ego(item, oldest_s) for item in pasted])
    num_staying = int(stays.sum())
    out = np.empty((num_staying + len(added), points.shape[1]), np.float32)
    np.compress(stays, points, axis=0, out=out[:num_staying])
    out[num_staying:] = added
    return replace(lidar, points_ego=out)


def _points_in_ego(item: DatabaseObject, oldest_s: float) -> Float32[np.ndarray, "M 5"]:
    points = item.points_box[item.points_box[:, PointIndex.AGE_S] <= oldest_s]
    xyz = slice(PointIndex.X, PointIndex.Z + 1)
    points[:, xyz] = transform_points(box_pose(item.box), points[:, xyz].astype(np.float64))
    return points


def _paste_annotations(annotations: Annotations, pasted: Sequence[DatabaseObject]) -> Annotations:
    occupancy, futures = annotations.occupancy, annotations.agent_futures_ego
    if futures is not None:
        unknown = np.full((len(pasted), *futures.shape[1:]), np.nan)
        futures = np.concatenate((futures, unknown))

    def appended(values: np.ndarray, name: str) -> np.ndarray:
        return np.concatenate((values, np.array([getattr(item, name) for item in pasted], np.int64)))

    tokens = tuple(f"pasted-{item.row}" for item in pasted)
    boxes = Boxes3D(
        rows=np.concatenate((annotations.boxes.rows, np.stack([item.box for item in pasted]))),
        class_index=appended(annotations.boxes.class_index, "class_index"),
    )
    return replace(
        annotations,
        boxes=boxes,
        attribute_index=appended(annotations.attribute_index, "attribute_index"),
        tokens=annotations.tokens + tokens,
        instance_tokens=annotations.instance_tokens + tokens,
        num_lidar_points=appended(annotations.num_lidar_points, "num_lidar_points"),
        num_radar_points=appended(annotations.num_radar_points, "num_radar_points"),
        visibility=appended(annotations.visibility, "visibility"),
        occupancy=None if occupancy is None else paste_voxels(occupancy, pasted),
        agent_futures_ego=futures,
    )
