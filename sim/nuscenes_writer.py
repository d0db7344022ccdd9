"""One scene of a world: played, seen by the sensors, written as nuScenes files and table rows.

A keyframe comes every 0.5 s, a LiDAR sweep every 0.05 s. As in nuScenes a sweep between keyframes belongs to the next
sample, every reading has its own ego pose, and each camera exposes when the LiDAR beam passes it; actors stand where
they are at that moment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import simplejpeg

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.occupancy import OccupancyFormat, occupancy_path
from bevstack.geometry.transforms import from_xy_yaw, to_quaternion
from bevstack.sim.can_bus import write_can_bus
from bevstack.sim.nuscenes_occupancy import write_occ3d, write_openoccupancy
from bevstack.sim.nuscenes_tables import LOCATIONS, SCENE_TABLES, VERSION, Row, token, visibility_token
from bevstack.sim.sensors.cameras import CameraRender, render_camera
from bevstack.sim.sensors.lidar import LidarScan, scan
from bevstack.sim.sensors.rig import NUSCENES_CAMERAS, T_EGO_LIDAR, CameraSpec, camera_matrix
from bevstack.sim.sensors.scene import ActorPose, SensorScene
from bevstack.sim.sensors.weather import Weather, make_weather
from bevstack.sim.world.presets import WorldPreset
from bevstack.sim.world.town import TOWN_SIZE_M, Town, make_town
from bevstack.sim.world.traffic import TRACK_STEP_S, ActorTrack, Traffic, simulate_traffic

KEYFRAME_STEPS = 10
FIRST_SCENE_NUMBER = 9000
TOWNS_PER_ROW = 8
MIN_VISIBLE_PX = 10
"""An object without LiDAR points is annotated when at least this many of its pixels are seen at 704x256."""
ANNOTATION_RANGE_M = 90.0
_EPOCH_US = 1_600_000_000_000_000
_SCENE_SPACING_US = 120_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRequest:
    """All that decides the bytes of one scene."""

    index: int
    seed: int
    keyframes: int
    preset: WorldPreset
    occupancy: tuple[OccupancyFormat, ...] = ()
    """Formats of the occupancy labels to write."""

    @property
    def name(self) -> str:
        """`scene-9000` and so on."""
        return f"scene-{FIRST_SCENE_NUMBER + self.index:04d}"

    @property
    def location(self) -> str:
        """NuScenes location on whose map the town lies."""
        return LOCATIONS[self.index % len(LOCATIONS)]

    @property
    def offset(self) -> tuple[float, float]:
        """Centre of the town on that map, metres."""
        place = self.index // len(LOCATIONS)
        column, row = place % TOWNS_PER_ROW, place // TOWNS_PER_ROW
        return (column + 0.5) * TOWN_SIZE_M, (row + 0.5) * TOWN_SIZE_M

    def generator(self, stream: int) -> np.random.Generator:
        """Independent random numbers for one purpose."""
        return np.random.default_rng([self.seed, self.index, stream])

    def town(self) -> Town:
        """The scene's town."""
        kinds = self.preset.town_kinds
        return make_town(kinds[self.index % len(kinds)], self.generator(1))

    def weather(self) -> Weather:
        """The scene's light and weather."""
        kinds = self.preset.weather_kinds
        return make_weather(kinds[self.index % len(kinds)], self.generator(2))


def canvas_edge(num_scenes: int, location_index: int) -> tuple[float, float]:
    """Width and height in metres of a location's map for some number of scenes; one town at least."""
    places = max(1, len(range(location_index, num_scenes, len(LOCATIONS))))
    return min(places, TOWNS_PER_ROW) * TOWN_SIZE_M, -(-places // TOWNS_PER_ROW) * TOWN_SIZE_M


@dataclass(slots=True, kw_only=True)
class _Readings:
    """What the sensors saw at one keyframe."""

    sweep: LidarScan
    cameras: dict[str, CameraRender] = field(default_factory=dict)

    def pixels(self, instance: int) -> tuple[int, int]:
        """Visible and silhouette pixels of an actor over all cameras."""
        renders = self.cameras.values()
        return sum(r.visible_px.get(instance, 0) for r in renders), sum(
            r.silhouette_px.get(instance, 0) for r in renders
        )


class SceneWriter:
    """Writes the files of one scene below a root and collects its table rows."""

    def __init__(self, root: Path, request: SceneRequest) -> None:
        """Plays the scene; nothing is written yet."""
        self.root, self.request = root, request
        self.town = request.town()
        duration_s = 0.5 * request.keyframes
        self.traffic: Traffic = simulate_traffic(
            self.town,
            seed=int(request.generator(3).integers(1 << 31)),
            duration_s=duration_s,
            preset=request.preset,
            event=request.preset.event_of(request.index),
        )
        self.scene = SensorScene(static=self.town.mesh, street_lamps=self.town.street_lamps, weather=request.weather())
        self.rows: dict[str, list[Row]] = {name: [] for name in SCENE_TABLES}
        self.start_us = _EPOCH_US + request.index * _SCENE_SPACING_US
        self.log_name = f"world-{request.seed}-{request.name[-4:]}"
        self._annotations: dict[int, list[Row]] = {}
        self._last_data: dict[str, Row] = {}
        self.intrinsics: dict[str, np.ndarray] = {spec.name: self._camera_matrix(spec) for spec in NUSCENES_CAMERAS}

    def write(self, on_keyframe: Callable[[], None] = lambda: None) -> dict[str, list[Row]]:
        """Write every file and return the rows of all scene tables.

        Args:
            on_keyframe: called after each keyframe; may raise to stop.

        Raises:
            OSError: a file could not be written.
        """
        self._make_folders()
        self._log_and_sensors()
        count = self.request.keyframes
        sample_tokens = [self._token("sample", k) for k in range(count)]
        for k, sample_token in enumerate(sample_tokens):
            step = (k + 1) * KEYFRAME_STEPS
            for earlier in range(step - self.request.preset.sweeps_per_keyframe + 1, step):
                self._write_lidar(self._sweep(earlier), earlier, sample_token, is_key=False)
            readings = self._read_keyframe(step, sample_token)
            self._annotate(readings, step, sample_token)
            for layout in self.request.occupancy:
                self._write_occupancy(layout, readings, step, sample_token)
            self.rows["sample"].append(
                {
                    "token": sample_token,
                    "timestamp": self._time_us(step),
                    "prev": sample_tokens[k - 1] if k else "",
                    "next": sample_tokens[k + 1] if k + 1 < count else "",
                    "scene_token": self._token("scene"),
                }
            )
            on_keyframe()
        self._link_instances()
        self._scene_row(sample_tokens)
        write_can_bus(self.root / "can_bus", self.request.name, self.traffic.ego, self.request.offset, self.start_us)
        return self.rows

    def _token(self, *content: object) -> str:
        return token(self.request.seed, self.request.preset.name, self.request.name, *content)

    def _time_us(self, step: int) -> int:
        return self.start_us + step * round(TRACK_STEP_S * 1e6)

    def _camera_matrix(self, spec: CameraSpec) -> np.ndarray:
        return camera_matrix(spec, _Size(self.request.preset.image_height_px, self.request.preset.image_width_px))

    def _make_folders(self) -> None:
        channels = [spec.name for spec in NUSCENES_CAMERAS]
        for folder in (*(f"samples/{name}" for name in channels), f"samples/{LIDAR_NAME}", f"sweeps/{LIDAR_NAME}",
                       f"lidarseg/{VERSION}"):  # fmt: skip
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def _log_and_sensors(self) -> None:
        log_token = self._token("log")
        self.rows["log"].append(
            {
                "token": log_token,
                "logfile": self.log_name,
                "vehicle": "world",
                "date_captured": "2020-09-13",
                "location": self.request.location,
            }
        )
        mounts = [(spec.name, spec.T_ego_cam, self.intrinsics[spec.name].tolist()) for spec in NUSCENES_CAMERAS]
        for name, T_ego_sensor, K_rows in [*mounts, (LIDAR_NAME, T_EGO_LIDAR, [])]:
            self.rows["calibrated_sensor"].append(
                {
                    "token": self._token("calibrated_sensor", name),
                    "sensor_token": token("sensor", name),
                    "translation": T_ego_sensor[:3, 3].tolist(),
                    "rotation": to_quaternion(T_ego_sensor).tolist(),
                    "camera_intrinsic": K_rows,
                }
            )

    def actor_poses(self, time_s: float) -> list[ActorPose]:
        """All actors in town at a time, in town coordinates; `instance` is the index in `traffic.actors`."""
        poses = []
        for index, track in enumerate(self.traffic.actors):
            step = track.step_at(time_s)
            if step < 0:
                continue
            x, y, z, yaw = track.pose_at(time_s)
            poses.append(
                ActorPose(
                    instance=index,
                    meshes=track.model.meshes,
                    T_global_actor=from_xy_yaw(x, y, yaw, z),
                    phase=int(track.phase_index[step]),
                )
            )
        return poses

    def ego_pose(self, time_s: float) -> np.ndarray:
        """T_town_ego (4, 4) at a time."""
        x, y, z, yaw = self.traffic.ego.pose_at(time_s)
        return from_xy_yaw(x, y, yaw, z)

    def _sweep(self, step: int) -> LidarScan:
        time_s = step * TRACK_STEP_S
        seed = int(self.request.generator(1000 + step).integers(1 << 31))
        return scan(self.scene, T_global_ego=self.ego_pose(time_s), actors=self.actor_poses(time_s), seed=seed)

    def _write_lidar(self, sweep: LidarScan, step: int, sample_token: str, *, is_key: bool) -> str:
        folder = "samples" if is_key else "sweeps"
        time_us = self._time_us(step)
        name = f"{folder}/{LIDAR_NAME}/{self.log_name}__{LIDAR_NAME}__{time_us}.pcd.bin"
        (self.root / name).write_bytes(sweep.points.tobytes())
        return self._data_row(LIDAR_NAME, name, time_us, step * TRACK_STEP_S, sample_token, is_key, (0, 0))

    def _data_row(
        self, channel: str, name: str, time_us: int, time_s: float, sample_token: str, is_key: bool,
        size_hw: tuple[int, int],
    ) -> str:  # fmt: skip
        data_token = self._token("sample_data", channel, time_us)
        T_town_ego = self.ego_pose(time_s)
        offset = np.array((*self.request.offset, 0.0))
        pose_token = self._token("ego_pose", channel, time_us)
        self.rows["ego_pose"].append(
            {
                "token": pose_token,
                "timestamp": time_us,
                "rotation": to_quaternion(T_town_ego).tolist(),
                "translation": (T_town_ego[:3, 3] + offset).tolist(),
            }
        )
        previous = self._last_data.get(channel)
        row: Row = {
            "token": data_token,
            "sample_token": sample_token,
            "ego_pose_token": pose_token,
            "calibrated_sensor_token": self._token("calibrated_sensor", channel),
            "timestamp": time_us,
            "fileformat": "pcd" if channel == LIDAR_NAME else "jpg",
            "is_key_frame": is_key,
            "height": size_hw[0],
            "width": size_hw[1],
            "filename": name,
            "prev": previous["token"] if previous else "",
            "next": "",
        }
        if previous is not None:
            previous["next"] = data_token
        self._last_data[channel] = row
        self.rows["sample_data"].append(row)
        return data_token

    def _read_keyframe(self, step: int, sample_token: str) -> _Readings:
        readings = _Readings(sweep=self._sweep(step))
        data_token = self._write_lidar(readings.sweep, step, sample_token, is_key=True)
        label_name = f"lidarseg/{VERSION}/{data_token}_lidarseg.bin"
        (self.root / label_name).write_bytes(readings.sweep.semantic.tobytes())
        self.rows["lidarseg"].append({"token": data_token, "sample_data_token": data_token, "filename": label_name})
        for number, spec in enumerate(NUSCENES_CAMERAS):
            readings.cameras[spec.name] = self._write_picture(spec, number, step, sample_token)
        return readings

    def _write_picture(self, spec: CameraSpec, number: int, step: int, sample_token: str) -> CameraRender:
        preset = self.request.preset
        time_s = step * TRACK_STEP_S + spec.exposure_offset_s
        T_town_ego = self.ego_pose(time_s)
        render = render_camera(
            self.scene,
            K_cam=self.intrinsics[spec.name],
            T_global_cam=T_town_ego @ spec.T_ego_cam,
            height_px=preset.image_height_px,
            width_px=preset.image_width_px,
            actors=self.actor_poses(time_s),
            seed=int(self.request.generator(100_000 + step * 16 + number).integers(1 << 31)),
            T_global_ego=T_town_ego,
        )
        time_us = self.start_us + round(time_s * 1e6)
        name = f"samples/{spec.name}/{self.log_name}__{spec.name}__{time_us}.jpg"
        rgb = np.ascontiguousarray(render.rgb)
        (self.root / name).write_bytes(
            simplejpeg.encode_jpeg(rgb, quality=preset.jpeg_quality, colorspace="RGB", colorsubsampling="420")
        )
        size = (preset.image_height_px, preset.image_width_px)
        self._data_row(spec.name, name, time_us, time_s, sample_token, True, size)
        return render

    def _annotate(self, readings: _Readings, step: int, sample_token: str) -> None:
        time_s = step * TRACK_STEP_S
        counts = readings.sweep.count_by_instance()
        ego_xy = self.traffic.ego.pose_at(time_s)[:2]
        preset = self.request.preset
        pixel_share = preset.image_width_px * preset.image_height_px / (704 * 256)
        for index, track in enumerate(self.traffic.actors):
            at = track.step_at(time_s)
            if at < 0:
                continue
            pose = track.pose_at(time_s)
            visible, silhouette = readings.pixels(index)
            is_seen = visible >= MIN_VISIBLE_PX * pixel_share and np.hypot(*(pose[:2] - ego_xy)) < ANNOTATION_RANGE_M
            if counts.get(index, 0) == 0 and not is_seen:
                continue
            self._annotations.setdefault(index, []).append(
                {
                    "token": self._token("annotation", index, step),
                    "sample_token": sample_token,
                    "instance_token": self._token("instance", index),
                    "visibility_token": visibility_token(visible, silhouette),
                    "attribute_tokens": _attribute_tokens(track, at),
                    **_box(track, pose, self.request.offset),
                    "prev": "",
                    "next": "",
                    "num_lidar_pts": counts.get(index, 0),
                    "num_radar_pts": 0,
                }
            )

    def _write_occupancy(self, layout: OccupancyFormat, readings: _Readings, step: int, sample_token: str) -> None:
        time_s = step * TRACK_STEP_S
        path = self.root / occupancy_path(
            layout,
            scene_name=self.request.name,
            scene_token=self._token("scene"),
            sample_token=sample_token,
            lidar_token=self._token("sample_data", LIDAR_NAME, self._time_us(step)),
        )
        T_global_ego, actors = self.ego_pose(time_s), self.actor_poses(time_s)
        if layout == "openoccupancy":
            write_openoccupancy(path, self.scene, T_global_ego=T_global_ego, actors=actors)
            return
        size = (self.request.preset.image_height_px, self.request.preset.image_width_px)
        cameras = [(self.intrinsics[spec.name], spec.T_ego_cam, *size) for spec in NUSCENES_CAMERAS]
        write_occ3d(path, self.scene, T_global_ego=T_global_ego, actors=actors, sweep=readings.sweep, cameras=cameras)

    def _link_instances(self) -> None:
        for index, rows in sorted(self._annotations.items()):
            for earlier, later in zip(rows, rows[1:]):
                earlier["next"], later["prev"] = later["token"], earlier["token"]
            self.rows["instance"].append(
                {
                    "token": self._token("instance", index),
                    "category_token": token("category", self.traffic.actors[index].model.category),
                    "nbr_annotations": len(rows),
                    "first_annotation_token": rows[0]["token"],
                    "last_annotation_token": rows[-1]["token"],
                }
            )
            self.rows["sample_annotation"].extend(rows)

    def _scene_row(self, sample_tokens: list[str]) -> None:
        self.rows["scene"].append(
            {
                "token": self._token("scene"),
                "log_token": self._token("log"),
                "nbr_samples": len(sample_tokens),
                "first_sample_token": sample_tokens[0],
                "last_sample_token": sample_tokens[-1],
                "name": self.request.name,
                "description": describe(self.town, self.scene.weather, self.traffic),
            }
        )


@dataclass(frozen=True, slots=True)
class _Size:
    height: int
    width: int


def _attribute_tokens(track: ActorTrack, step: int) -> list[str]:
    name = track.attributes[step]
    return [token("attribute", name)] if name else []


def _box(track: ActorTrack, pose: np.ndarray, offset: tuple[float, float]) -> Row:
    """Translation of the box centre, size in nuScenes order (width, length, height) and rotation."""
    length, width, height = track.model.size_lwh
    x, y, z, yaw = pose
    return {
        "translation": [float(x + offset[0]), float(y + offset[1]), float(z + height / 2)],
        "size": [width, length, height],
        "rotation": to_quaternion(from_xy_yaw(0.0, 0.0, float(yaw))).tolist(),
    }


def describe(town: Town, weather: Weather, traffic: Traffic) -> str:
    """A line of text about a scene, in the manner of nuScenes; begins with its main event if it has one."""
    ego = traffic.ego
    turn = float(np.unwrap(ego.poses[:, 3])[-1] - ego.poses[0, 3])
    kind = town.kind.replace("_", "-")
    words = [kind.capitalize(), weather.kind] if traffic.event is None else [traffic.event, kind, weather.kind]
    if ego.speeds_mps.max() < 0.5:
        words.append("ego waits")
    elif abs(turn) > 0.5:
        words.append(f"turn {'left' if turn > 0 else 'right'}")
    elif ego.speeds_mps.min() < 0.5:
        words.append("stop and go")
    names = {track.model.class_name for track in traffic.actors}
    if "construction_vehicle" in names:
        words.append("road works")
    for class_name, text in (("bus", "bus"), ("trailer", "trailer"), ("bicycle", "cyclists")):
        if class_name in names:
            words.append(text)
    walking = sum(track.attributes[0] == "pedestrian.moving" for track in traffic.actors)
    if walking:
        words.append("many pedestrians" if walking > 10 else "pedestrians")
    if any(track.attributes[0] == "vehicle.parked" for track in traffic.actors):
        words.append("parked vehicles")
    return ", ".join(words)
