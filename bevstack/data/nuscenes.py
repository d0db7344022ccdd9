"""A data set in nuScenes format as a sequence of `Frame`s: the only place where its conventions are converted.

Reference time is the LiDAR key frame, and `ego` is the vehicle at that time. A camera exposes some 10 to 50 ms before
or after it, and a sweep is up to half a second old: the way the vehicle went meanwhile is part of `T_ego_cam` and of
the accumulated points. nuScenes writes boxes as centre, (width, length, height) and a quaternion in the global frame;
here they become `BoxIndex` rows in `ego` with a yaw about its vertical axis (Caesar et al., nuScenes, CVPR 2020).
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from bevstack.data.class_names import (
    ATTRIBUTES,
    CAMERA_NAMES,
    CLASS_OF_CATEGORY,
    DETECTION_CLASSES,
    LIDAR_NAME,
    NO_ATTRIBUTE,
)
from bevstack.data.futures import agent_futures_ego, ego_future
from bevstack.data.images import ImageSize, read_image
from bevstack.data.index import DatasetIndex, SceneRecord, open_index
from bevstack.data.lidar import accumulate_sweeps
from bevstack.data.nuscenes_boxes import boxes_in_ego
from bevstack.data.occupancy import OCCUPANCY_FORMATS, OccupancyFormat, occupancy_path, read_occupancy
from bevstack.data.routes import SceneRoutes
from bevstack.geometry.transforms import rigid_inverse, wrap_angle, yaw_of
from bevstack.types.boxes import Boxes3D
from bevstack.types.errors import CalibrationError, DatasetError
from bevstack.types.frame import Annotations, CameraImage, EgoState, Frame, LidarSweep, OccupancyGrid

logger = logging.getLogger(__name__)

MICROSECOND_S = 1e-6
MOTION_WINDOW_S = 0.55
"""Past over which speed, acceleration and yaw rate are estimated: ten sweeps at 20 Hz, or one key frame at 2 Hz."""
MIN_DISTANCE_M = 1.0
"""Half side of the square around the LiDAR in which returns are dropped: they come from the vehicle's own roof (the
devkit's `remove_close`, used by all published nuScenes models)."""


class NuScenesFrames:
    """The frames of one split, in order of scene and time. Implements `FrameSource`.

    Args:
        root: Folder with `samples/`, `sweeps/` and the version folder.
        split: An official split of the version, or one from its `splits.json`.
        image_size: Size of the camera pictures: resized by the width ratio, cropped at the top.
        version: Version folder; may be left out where there is only one.
        num_sweeps: LiDAR sweeps to accumulate, the key sweep included; 0 reads no LiDAR.
        cameras: Cameras to read, in this order; none for LiDAR only.
        with_annotations: Read ground truth where the data set has it.
        occupancy: Format of the occupancy labels to read with it; None reads none.
        futures: Add where every object and the vehicle go next.
        missing: What to do about a sensor or label file that is not there. "error" names it; "mask" leaves the camera,
            sweep or label out, and says so in the log.
        index_dir: Folder of the index, where the default (`index_folder`) does not fit.

    Raises:
        DatasetError: root, version or split do not exist, or a table is damaged.
        ValueError: an option is out of range.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        image_size: ImageSize,
        version: str | None = None,
        num_sweeps: int = 10,
        cameras: Sequence[str] = CAMERA_NAMES,
        with_annotations: bool = True,
        occupancy: OccupancyFormat | None = None,
        futures: bool = False,
        missing: Literal["error", "mask"] = "error",
        index_dir: str | Path | None = None,
    ) -> None:
        if num_sweeps < 0:
            raise ValueError(f"num_sweeps={num_sweeps} must be 0 (no LiDAR) or more")
        if missing not in ("error", "mask"):
            raise ValueError(f"missing='{missing}' must be 'error' or 'mask'")
        if occupancy is not None and occupancy not in OCCUPANCY_FORMATS:
            raise ValueError(f"occupancy='{occupancy}' must be one of {', '.join(OCCUPANCY_FORMATS)}, or null for none")
        self.index = open_index(root, version, out=index_dir)
        self.split, self.image_size, self.num_sweeps = split, image_size, num_sweeps
        self.cameras, self.missing, self.occupancy = tuple(cameras), missing, occupancy
        self.with_annotations = with_annotations and self.index.num_annotations > 0
        self.futures, self.routes = futures, SceneRoutes(self.index.root)
        for channel in (*self.cameras, LIDAR_NAME):
            self.index.channel_index(channel)
        self.sample_rows = self.index.samples_of_split(split)
        self.num_missing: Counter[str] = Counter()
        """Files left out so far, by sensor (of this process: workers count for themselves)."""
        self._class_of_instance = _class_of_instance(self.index)
        names = {name: row for row, name in enumerate(ATTRIBUTES)}
        self._attribute_index = np.array(
            [*(names.get(name, NO_ATTRIBUTE) for name in self.index.attributes), NO_ATTRIBUTE], np.int64
        )  # the last entry answers -1, "no attribute"

    def __len__(self) -> int:
        return len(self.sample_rows)

    def __getitem__(self, index: int) -> Frame:
        """Frame `index`.

        Raises:
            IndexError: there is no such frame.
            DatasetError: a sensor or label file is missing or damaged, or no sensor at all is left.
            CalibrationError: a pose or camera matrix is not usable.
        """
        frame = self.inputs(index)
        if not self.with_annotations:
            return frame
        annotations = self.annotations(index)
        if self.occupancy is not None:
            sample = self._sample(index)
            occupancy = self._occupancy(sample, self.reference_row(sample), self.occupancy)
            annotations = replace(annotations, occupancy=occupancy)
        return replace(frame, annotations=annotations)

    def inputs(self, index: int) -> Frame:
        """Frame `index` without ground truth.

        Raises:
            IndexError, DatasetError, CalibrationError: as for the whole frame; a damaged route file too.
        """
        sample = self._sample(index)
        scene = self.index.scene_of_sample(sample)
        reference = self.reference_row(sample)
        ego = self.ego(index)
        T_ego_global = rigid_inverse(ego.T_global_ego)
        cameras = self._camera_images(sample, T_ego_global)
        lidar = self._lidar(sample, T_ego_global) if self.num_sweeps else None
        if lidar is None and not cameras and (self.cameras or self.num_sweeps):
            raise DatasetError(
                f"sample {self.index.sample_tokens[sample]} has neither a camera picture nor LiDAR left: fetch its "
                f"files (`bevstack data check {self.index.root}` names them) or leave {scene.name} out of the split"
            )
        return Frame(
            token=self.index.sample_tokens[sample],
            scene_name=scene.name,
            timestamp_us=int(self.index["data_timestamp_us"][reference]),
            cameras=cameras,
            lidar=lidar,
            ego=ego,
            location=scene.location,
            description=scene.description,
            route=self.routes.route(scene.name, ego.T_global_ego),
        )

    @property
    def root(self) -> Path:
        """Folder of the data set."""
        return self.index.root

    @property
    def scenes(self) -> tuple[SceneRecord, ...]:
        """The scenes of the split."""
        return tuple(self.index.scenes[row] for row in self.index.scenes_of_split(self.split))

    def token(self, index: int) -> str:
        """Sample token of frame `index`."""
        return self.index.sample_tokens[self._sample(index)]

    def index_of(self, token: str) -> int:
        """Position of a sample token in this split.

        Raises:
            DatasetError: the split does not have it.
        """
        sample = self.index.sample_row(token)
        position = int(np.searchsorted(self.sample_rows, sample))
        if position == len(self) or self.sample_rows[position] != sample:
            raise DatasetError(
                f"sample {token} is in {self.index.scene_of_sample(sample).name}, not in split '{self.split}'"
            )
        return position

    def frames_of_scene(self, name: str) -> range:
        """Positions of the frames of a scene, in time order; empty where the split does not have it."""
        for scene in self.scenes:
            if scene.name == name:
                first = int(np.searchsorted(self.sample_rows, scene.first_sample))
                return range(first, first + scene.num_samples)
        return range(0)

    def reference_row(self, sample: int) -> int:
        """`sample_data` row of the LiDAR key frame, which defines reference time and `ego`.

        Raises:
            DatasetError: the sample has no LiDAR key frame.
        """
        row = self.index.key_data_row(sample, LIDAR_NAME)
        if row < 0:
            raise DatasetError(
                f"sample {self.index.sample_tokens[sample]} has no {LIDAR_NAME} key frame in "
                f"{self.index.folder / 'sample_data.json'}; leave its scene out of the split"
            )
        return row

    # -- ego motion ---------------------------------------------------------------------------------------------------
    def ego(self, index: int) -> EgoState:
        """Pose and motion at reference time, from this pose and earlier ones only.

        Speed and acceleration (along the heading) and yaw rate come from a parabola through the poses of the last
        `MOTION_WINDOW_S`. At the first frame of a scene there is no past and they are NaN; with two poses the
        acceleration is 0.
        """
        sample = self._sample(index)
        reference = self.reference_row(sample)
        poses, ages_s = self._past_poses(sample, reference)
        speed, acceleration, yaw_rate = motion_from_past(poses, ages_s)
        return EgoState(T_global_ego=poses[0], speed_mps=speed, acceleration_mps2=acceleration, yaw_rate_radps=yaw_rate)

    def _past_poses(self, sample: int, reference: int) -> tuple[np.ndarray, np.ndarray]:
        """Poses (N, 4, 4) and ages of the LiDAR readings of the last moments, newest first."""
        times, previous = self.index["data_timestamp_us"], self.index["data_previous"]
        first = self.index.scene_of_sample(sample).first_sample
        rows, row = [reference], int(previous[reference])
        while row >= 0 and (times[reference] - times[row]) * MICROSECOND_S <= MOTION_WINDOW_S:
            rows.append(row)
            row = int(previous[row])
        if len(rows) == 1 and sample > first:  # tables without sweeps: the key frame before
            row = self.index.key_data_row(sample - 1, LIDAR_NAME)
            if row >= 0 and (times[reference] - times[row]) * MICROSECOND_S <= 2 * MOTION_WINDOW_S:
                rows.append(row)
        return self.index.T_global_ego(rows), (times[reference] - times[rows]) * MICROSECOND_S

    # -- sensors ------------------------------------------------------------------------------------------------------
    def _camera_images(self, sample: int, T_ego_global: np.ndarray) -> tuple[CameraImage, ...]:
        present = []
        for name in self.cameras:
            row = self.index.key_data_row(sample, name)
            if row >= 0 and (self.index.root / self.index.data_paths[row]).is_file():
                present.append((name, row))
            else:
                self._report_missing(sample, name, self.index.data_paths[row] if row >= 0 else None)
        if not present:
            return ()
        rows = [row for _, row in present]
        T_ego_cam = T_ego_global @ self.index.T_global_ego(rows) @ self.index.T_ego_sensor(rows)
        return tuple(self._camera_image(name, row, T) for (name, row), T in zip(present, T_ego_cam))

    def _camera_image(self, name: str, row: int, T_ego_cam: np.ndarray) -> CameraImage:
        path = self.index.root / self.index.data_paths[row]
        rgb, A_img = read_image(path, self.image_size)
        width_px = int(self.index["data_size"][row, 0])
        if width_px and not np.isclose(A_img[0, 0] * width_px, self.image_size.width):
            raise CalibrationError(
                f"{path} is {self.image_size.width / A_img[0, 0]:.0f} pixels wide, but {self.index.data_tokens[row]} "
                f"in sample_data.json and its camera matrix are for {width_px}; put the original picture back"
            )
        return CameraImage(
            name=name,
            rgb=rgb,
            K_cam=A_img @ self.index.K_sensor(row),
            T_ego_cam=T_ego_cam,
            timestamp_us=int(self.index["data_timestamp_us"][row]),
        )

    def _lidar(self, sample: int, T_ego_global: np.ndarray) -> LidarSweep | None:
        rows = self.index.sweep_rows(sample, self.num_sweeps)
        paths = [self.index.root / self.index.data_paths[row] for row in rows]
        absent = [not path.is_file() or path.stat().st_size == 0 for path in paths]
        for path, gone in zip(paths, absent):
            if gone:
                self._report_missing(sample, LIDAR_NAME, str(path.relative_to(self.index.root)))
        if absent[0]:
            return None  # old sweeps alone would pass for the present
        rows = [row for row, gone in zip(rows, absent) if not gone]
        paths = [path for path, gone in zip(paths, absent) if not gone]
        times = self.index["data_timestamp_us"]
        T_ego_lidar = T_ego_global @ self.index.T_global_ego(rows) @ self.index.T_ego_sensor(rows)
        ages_s = (times[rows[0]] - times[rows]) * MICROSECOND_S
        points = accumulate_sweeps(paths, T_ego_lidar, ages_s, MIN_DISTANCE_M)
        return LidarSweep(points_ego=points, timestamp_us=int(times[rows[0]]), num_sweeps=len(rows))

    def _report_missing(self, sample: int, channel: str, path: str | None) -> None:
        token = self.index.sample_tokens[sample]
        what = "there is no key frame in sample_data.json"
        if path:
            what = f"{self.index.root / path} is {'empty' if (self.index.root / path).is_file() else 'missing'}"
        if self.missing == "error":
            raise DatasetError(
                f"{channel} of sample {token}: {what}; `bevstack data check {self.index.root}` says what to fetch, "
                "and missing='mask' goes on without it"
            )
        self.num_missing[channel] += 1
        count = self.num_missing[channel]
        if count & (count - 1) == 0:  # 1, 2, 4, 8, ...: enough to notice, not enough to drown in
            logger.warning("%s of sample %s left out (%s): %d so far", channel, token, what, count)

    # -- ground truth -------------------------------------------------------------------------------------------------
    def annotations(self, index: int) -> Annotations:
        """Ground truth of frame `index` in `ego`: the objects of the ten detection classes, in table order.

        Categories outside of `CLASS_OF_CATEGORY` are left out; boxes without a single LiDAR or radar point stay. The
        labels that have files of their own (occupancy) are read with the whole frame only.

        Raises:
            DatasetError: a box has a size or place that cannot be true.
        """
        sample = self._sample(index)
        T_ego_global = rigid_inverse(self.index.T_global_ego([self.reference_row(sample)])[0])
        every = np.asarray(self.index.annotation_rows(sample), np.int64)
        annotations, rows = self._objects(every, T_ego_global) if len(every) else (_no_annotations(), every)
        if not self.futures:
            return annotations
        return replace(
            annotations,
            agent_futures_ego=agent_futures_ego(self.index, rows, T_ego_global),
            ego_future=ego_future(self.index, sample, T_ego_global),
        )

    def _objects(self, every: np.ndarray, T_ego_global: np.ndarray) -> tuple[Annotations, np.ndarray]:
        """The objects among some annotation rows, and which rows they are."""
        instance = self.index["annotation_instance"][every]
        class_index = self._class_of_instance[instance]
        rows = every[class_index >= 0]
        boxes = Boxes3D(
            rows=boxes_in_ego(self.index, rows, T_ego_global),
            class_index=class_index[class_index >= 0],
        )
        tokens, instances = self.index.annotation_tokens, self.index.instance_tokens
        annotations = Annotations(
            boxes=boxes,
            attribute_index=self._attribute_index[self.index["annotation_attribute"][rows]],
            tokens=tuple(tokens[int(row)] for row in rows),
            instance_tokens=tuple(instances[int(row)] for row in instance[class_index >= 0]),
            num_lidar_points=self.index["annotation_num_lidar_points"][rows].astype(np.int64),
            num_radar_points=self.index["annotation_num_radar_points"][rows].astype(np.int64),
            visibility=self.index["annotation_visibility"][rows].astype(np.int64),
        )
        return annotations, rows

    def _occupancy(self, sample: int, reference: int, layout: OccupancyFormat) -> OccupancyGrid | None:
        scene, token = self.index.scene_of_sample(sample), self.index.sample_tokens[sample]
        path = occupancy_path(
            layout,
            scene_name=scene.name,
            scene_token=scene.token,
            sample_token=token,
            lidar_token=self.index.data_tokens[reference],
        )
        if not (self.index.root / path).is_file():
            self._report_missing(sample, f"{layout} label", path)
            return None
        T_ego_lidar = self.index.T_ego_sensor([reference])[0]
        return read_occupancy(self.index.root / path, layout, sample_token=token, T_ego_lidar=T_ego_lidar)

    def _sample(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)} in split '{self.split}'")
        return int(self.sample_rows[index])


def motion_from_past(
    T_global_ego: Float64[np.ndarray, "N 4 4"], ages_s: Float64[np.ndarray, " N"]
) -> tuple[float, float, float]:
    """(speed in m/s, acceleration in m/s^2, yaw rate in rad/s) at the newest of some poses, newest first.

    Way driven (negative backwards) and yaw are fitted by a parabola in time that passes through the present; with two
    poses by a line (acceleration 0); with one, all three are NaN: the future is not looked at.
    """
    if len(ages_s) < 2:
        return float("nan"), float("nan"), float("nan")
    time_s = -ages_s[1:]
    forward = T_global_ego[1:, :3, 0] + T_global_ego[:-1, :3, 0]
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    steps_m = np.einsum("ij,ij->i", np.diff(T_global_ego[:, :3, 3], axis=0), forward)
    way_m = np.cumsum(steps_m)  # of each pose, seen from the present: negative where the vehicle drove forward
    yaw = wrap_angle(yaw_of(T_global_ego[1:]) - yaw_of(T_global_ego[:1]))
    terms = np.stack((time_s, 0.5 * time_s**2), axis=1)[:, : min(2, len(time_s))]
    fit = np.linalg.lstsq(terms, np.stack((way_m, yaw), axis=1), rcond=None)[0]
    acceleration = float(fit[1, 0]) if len(fit) > 1 else 0.0
    return float(fit[0, 0]), acceleration, float(fit[0, 1])


def _class_of_instance(index: DatasetIndex) -> np.ndarray:
    """Detection class of each instance row, -1 for categories outside of the benchmark."""
    of_category = [CLASS_OF_CATEGORY.get(name) for name in index.categories]
    classes = np.array([DETECTION_CLASSES.index(name) if name else -1 for name in of_category], np.int64)
    return classes[index["instance_category"]] if len(index["instance_category"]) else np.zeros(0, np.int64)


def _no_annotations() -> Annotations:
    nothing = np.zeros(0, np.int64)
    return Annotations(
        boxes=Boxes3D.empty(),
        attribute_index=nothing,
        tokens=(),
        instance_tokens=(),
        num_lidar_points=nothing,
        num_radar_points=nothing,
        visibility=nothing,
    )
