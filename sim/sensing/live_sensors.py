"""The rig of the ego vehicle in a moving world: frames as `NuScenesFrames` reads them from a written one, at 10 Hz.

Each reading has its own time, pose and random numbers, as in `sim/nuscenes_writer.py`: LiDAR sweeps at 20 Hz, each
camera when the beam passes it, pictures through JPEG. Where states come at 20 Hz (`advance` in between), frames are
those of the written world; where they come at 10 Hz, everybody moves linearly between them.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import simplejpeg
from jaxtyping import Float32, UInt8

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.images import ImageSize, decode_image
from bevstack.data.lidar import accumulate_points
from bevstack.data.nuscenes import MICROSECOND_S, MIN_DISTANCE_M, MOTION_WINDOW_S, motion_from_past
from bevstack.geometry.transforms import from_xy_yaw, rigid_inverse
from bevstack.sim.nuscenes_tables import LOCATIONS, token
from bevstack.sim.scenario.schema import FaultEntry
from bevstack.sim.sensing.exposures import exposed
from bevstack.sim.sensing.faults import FaultSet
from bevstack.sim.sensing.scene_history import SAME_TIME_S, SceneHistory, moved_back
from bevstack.sim.sensing.world_state import StaticWorld, WorldState
from bevstack.sim.sensors.lidar import scan
from bevstack.sim.sensors.rig import NUSCENES_CAMERAS, SWEEP_PERIOD_S, T_EGO_LIDAR, CameraSpec, camera_matrix
from bevstack.sim.sensors.scene import SensorScene
from bevstack.sim.sensors.weather import Weather
from bevstack.sim.world.presets import STANDARD
from bevstack.types.frame import CameraImage, EgoState, Frame, LidarSweep
from bevstack.types.trajectory import Route

WRITTEN_SIZE = ImageSize(STANDARD.image_height_px, STANDARD.image_width_px)
"""Size of the pictures of worlds."""
_KEEP_S = 1.0
_LIDAR_STREAM, _CAMERA_STREAM, _CAMERAS_A_STEP = 1000, 100_000, 16
"""Streams of random numbers of a reading, as in `sim/nuscenes_writer.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveScene:
    """What a data set says about a scene, for one that is not written."""

    name: str = "live"
    index: int = 0
    """With the seed it decides the noise of every reading."""
    location: str = LOCATIONS[0]
    description: str = ""
    start_us: int = 1_600_000_000_000_000
    """Time stamp of time 0."""
    offset_xy: tuple[float, float] = (0.0, 0.0)
    """From the frame of the world to the `global` frame of frames, metres."""


class LiveSensors:
    """Six cameras and a LiDAR on a vehicle that somebody else drives.

    Args:
        world: What stands still.
        weather: Light and weather.
        seed: Of the noise of all readings.
        image_size: Of the frames' pictures; None: as in worlds. Pictures are made in the size of worlds and read at
            this one, as a training on worlds has seen them; made larger only where it asks for more.
        cameras: Whether there are pictures.
        num_sweeps: LiDAR sweeps to accumulate; 0: no LiDAR.
        faults: Of a concrete scenario.
        scene: Names and time stamps.
        warm_up: Before the first state everybody has moved as at its time, so that the first frame has all sweeps and
            knows the vehicle's motion. False: a run begins like the first scene of a drive, with one sweep.
        threads: How many readings are made at a time; None: as many as the process may use. The bytes are the same.
        written_size: Size in which pictures are made; None: `WRITTEN_SIZE`, or `image_size` where that needs more.
        jpeg_quality: Of pictures.
        shutter_s: How long cameras expose; 0 freezes all motion, as in worlds.

    Raises:
        ValueError: an option is out of range, or a fault is not possible.
    """

    def __init__(
        self,
        *,
        world: StaticWorld,
        weather: Weather,
        seed: int,
        image_size: ImageSize | None,
        cameras: bool,
        num_sweeps: int = 10,
        faults: Sequence[FaultEntry] = (),
        scene: LiveScene | None = None,
        warm_up: bool = True,
        threads: int | None = None,
        written_size: ImageSize | None = None,
        jpeg_quality: int = STANDARD.jpeg_quality,
        shutter_s: float = 0.0,
    ) -> None:
        if num_sweeps < 0:
            raise ValueError(f"num_sweeps={num_sweeps} must be 0 (no LiDAR) or more")
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads} must be 1 or more, or None for all that there are")
        if not 0 <= shutter_s <= SWEEP_PERIOD_S:
            raise ValueError(f"shutter_s={shutter_s} must lie in 0 to {SWEEP_PERIOD_S}")
        self.seed, self.scene, self.num_sweeps, self.warm_up = seed, scene or LiveScene(), num_sweeps, warm_up
        self.image_size = image_size or WRITTEN_SIZE
        self.made_size = written_size or _made_size(self.image_size)
        self.jpeg_quality, self.shutter_s = jpeg_quality, shutter_s
        self.threads = threads or len(os.sched_getaffinity(0))
        self.faults = FaultSet(faults)
        self._specs = NUSCENES_CAMERAS if cameras else ()
        self._intrinsics = {spec.name: camera_matrix(spec, self.made_size) for spec in self._specs}
        self._sensor_scene = SensorScene(static=world.mesh, street_lamps=world.street_lamps, weather=weather)
        self._kept_sweeps = num_sweeps + round(self.faults.longest_delay_s / SWEEP_PERIOD_S)
        self._history = SceneHistory(keep_s=_KEEP_S + self.faults.longest_delay_s)
        self._sweeps: dict[int, Float32[np.ndarray, "_ 5"]] = {}
        self._first_step, self._last_step = 0, 0
        if cameras:
            self._prepare()

    def reset(self) -> None:
        """Begin a new run in the same world; it gives the same frames for the same states."""
        self._history.clear()
        self._sweeps = {}
        self.faults.reset()

    def advance(self, state: WorldState) -> None:
        """Take in a state between two frames, so that what moves is known more closely.

        Raises:
            ValueError: it does not come after the last one.
        """
        if self._history.is_empty:
            self._begin(state)
        self._history.add(state)

    def observe(self, state: WorldState, route: Route | None) -> Frame:
        """The frame at a state; to be called in order of time, every 0.1 s by custom.

        Args:
            state: At a multiple of 0.05 s, when the LiDAR ends a turn.
            route: What the navigation asks for, in the true `ego`.

        Raises:
            ValueError: the state does not come after the last one, or not when a sweep ends.
        """
        step = round(state.time_s / SWEEP_PERIOD_S)
        if abs(state.time_s - step * SWEEP_PERIOD_S) > 1e-3:
            raise ValueError(f"time_s={state.time_s} must be a multiple of {SWEEP_PERIOD_S}: a LiDAR sweep ends there")
        self.advance(state)
        tasks: list[Callable[[], CameraImage | None]] = [partial(self._take_sweeps, step)]
        tasks += [partial(self._photograph, spec, number, step) for number, spec in enumerate(self._specs)]
        if self.threads > 1 and len(tasks) > 1:
            with ThreadPoolExecutor(min(self.threads, len(tasks))) as pool:
                images = [job.result() for job in [pool.submit(task) for task in tasks]]
        else:
            images = [task() for task in tasks]
        time_s = step * SWEEP_PERIOD_S
        ego = self._ego(step)
        cameras = self.faults.cameras(tuple(image for image in images if image), ego.T_global_ego, time_s)
        frame = Frame(
            token=token(self.seed, self.scene.name, "sample", step),
            scene_name=self.scene.name,
            timestamp_us=self._time_us(step),
            cameras=cameras,
            lidar=self._lidar(step) if self.num_sweeps else None,
            ego=ego,
            location=self.scene.location,
            description=self.scene.description,
            route=route,
        )
        return self.faults.frame(frame, time_s)

    # -- time and place -----------------------------------------------------------------------------------------------
    def _begin(self, state: WorldState) -> None:
        """The first state, and where warm, what came before it."""
        earlier = max(self.num_sweeps - 1, round(MOTION_WINDOW_S / SWEEP_PERIOD_S)) if self.warm_up else 0
        for steps in range(earlier, 0, -1):
            self._history.add(moved_back(state, steps * SWEEP_PERIOD_S))
        first_s = state.time_s - earlier * SWEEP_PERIOD_S
        self._first_step = int(np.ceil((first_s - SAME_TIME_S) / SWEEP_PERIOD_S))
        self._last_step = self._first_step - 1

    def _time_us(self, step: int) -> int:
        return self.scene.start_us + step * round(SWEEP_PERIOD_S * 1e6)

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.scene.index, stream & 0xFFFFFFFF])

    def _global_pose(self, time_s: float) -> np.ndarray:
        """T_global_ego of frames."""
        T_world_ego = self._history.ego_pose(time_s)
        return from_xy_yaw(*self.scene.offset_xy, 0.0) @ T_world_ego if any(self.scene.offset_xy) else T_world_ego

    def _ego(self, step: int) -> EgoState:
        ages_us = np.arange(0, step - self._first_step + 1) * round(SWEEP_PERIOD_S * 1e6)
        ages_s = ages_us * MICROSECOND_S
        ages_s = ages_s[ages_s <= MOTION_WINDOW_S]
        poses = np.array([self._global_pose((step - k) * SWEEP_PERIOD_S) for k in range(len(ages_s))])
        speed, acceleration, yaw_rate = motion_from_past(poses, ages_s)
        return EgoState(T_global_ego=poses[0], speed_mps=speed, acceleration_mps2=acceleration, yaw_rate_radps=yaw_rate)

    # -- LiDAR --------------------------------------------------------------------------------------------------------
    def _take_sweeps(self, step: int) -> None:
        """Scan what has come since the last frame, as far as it is still of use."""
        for due in range(max(self._last_step + 1, step - self._kept_sweeps + 1), step + 1):
            time_s = due * SWEEP_PERIOD_S
            sweep = scan(
                self._sensor_scene,
                T_global_ego=self._history.ego_pose(time_s),
                actors=self._history.actor_poses(time_s),
                seed=int(self._generator(_LIDAR_STREAM + due).integers(1 << 31)),
            )
            is_near = (np.abs(sweep.points[:, :2]) < MIN_DISTANCE_M).all(axis=1)
            self._sweeps[due] = sweep.points[~is_near]
        self._last_step = step
        for old in [due for due in self._sweeps if due <= step - self._kept_sweeps]:
            del self._sweeps[old]

    def _lidar(self, step: int) -> LidarSweep | None:
        """Accumulated as the vehicle gets it: from the newest sweep that has arrived."""
        now_s = step * SWEEP_PERIOD_S
        newest = step - round(self.faults.sweep_delay_s(now_s) / SWEEP_PERIOD_S)
        stamps = [due for due in range(newest, newest - self.num_sweeps, -1) if due >= self._first_step]
        clouds = [self._sweep_stamped(due, now_s) for due in stamps]
        if not clouds:
            return None
        T_ego_global = rigid_inverse(self._history.ego_pose(now_s))
        T_ego_lidar = [T_ego_global @ self._history.ego_pose(due * SWEEP_PERIOD_S) @ T_EGO_LIDAR for due in stamps]
        ages_s = np.array([self._time_us(step) - self._time_us(due) for due in stamps]) * MICROSECOND_S
        points = accumulate_points(clouds, np.array(T_ego_lidar), ages_s, MIN_DISTANCE_M)
        return LidarSweep(points_ego=points, timestamp_us=self._time_us(stamps[0]), num_sweeps=len(stamps))

    def _sweep_stamped(self, due: int, now_s: float) -> Float32[np.ndarray, "_ 5"]:
        """The sweep with the stamp of a step; with a wrong clock it is an older one."""
        stamped_s = due * SWEEP_PERIOD_S
        error_s = (
            self.faults.stamp_error_s(LIDAR_NAME, now_s) if self.faults.stamp_error_s(LIDAR_NAME, stamped_s) else 0
        )
        taken = max(self._first_step, due - round(error_s / SWEEP_PERIOD_S))
        return self.faults.sweep(self._sweeps[taken], taken * SWEEP_PERIOD_S, now_s)

    # -- cameras ------------------------------------------------------------------------------------------------------
    def _photograph(self, spec: CameraSpec, number: int, step: int) -> CameraImage:
        now_s = step * SWEEP_PERIOD_S
        stamped_s = now_s + spec.exposure_offset_s
        rgb = exposed(
            self._sensor_scene,
            self._history,
            time_s=stamped_s - self.faults.stamp_error_s(spec.name, now_s),
            shutter_s=self.shutter_s,
            K_cam=self._intrinsics[spec.name],
            T_ego_cam=spec.T_ego_cam,
            size=self.made_size,
            seed=int(self._generator(_CAMERA_STREAM + step * _CAMERAS_A_STEP + number).integers(1 << 31)),
        )
        picture, A_img = self._through_jpeg(self.faults.picture(spec.name, rgb, now_s))
        T_ego_global = rigid_inverse(self._history.ego_pose(now_s))
        return CameraImage(
            name=spec.name,
            rgb=picture,
            K_cam=A_img @ self._intrinsics[spec.name],
            T_ego_cam=T_ego_global @ self._history.ego_pose(stamped_s) @ spec.T_ego_cam,
            timestamp_us=self.scene.start_us + round(stamped_s * 1e6),
        )

    def _through_jpeg(self, rgb: UInt8[np.ndarray, "H W 3"]) -> tuple[UInt8[np.ndarray, "h w 3"], np.ndarray]:
        data = simplejpeg.encode_jpeg(
            np.ascontiguousarray(rgb), quality=self.jpeg_quality, colorspace="RGB", colorsubsampling="420"
        )
        return decode_image(data, self.image_size)

    def _prepare(self) -> None:
        """What all cameras share is made once, before threads ask for it."""
        _ = self._sensor_scene.shadow_map


def _made_size(image_size: ImageSize) -> ImageSize:
    """The size of worlds, unless pictures of it are too small."""
    rows = round(WRITTEN_SIZE.height * image_size.width / WRITTEN_SIZE.width)
    is_enough = image_size.width <= WRITTEN_SIZE.width and image_size.height <= rows
    return WRITTEN_SIZE if is_enough else image_size
