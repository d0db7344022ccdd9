"""The one stateful engine: frames in, the stack's belief out. Evaluation, simulation and ROS 2 are shells around it."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from bevstack.data.class_names import CAMERA_NAMES
from bevstack.data.collate import collate
from bevstack.data.images import ImageSize
from bevstack.model import DrivingModel
from bevstack.perception.language.live_cues import LiveCues
from bevstack.perception.tracking.forecast import Forecaster
from bevstack.perception.tracking.tracker import Tracker
from bevstack.planning.fallback import fallback_stop
from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.types.cue import Cue
from bevstack.types.errors import CalibrationError, PlanningError, StaleSensorError
from bevstack.types.frame import CameraImage, Frame
from bevstack.types.interfaces import Planner
from bevstack.types.scene import SceneEstimate
from bevstack.types.trajectory import Plan, Route, RouteCommand

_LOG = logging.getLogger(__name__)
_RIGID_TOLERANCE = 1e-3

CueSource = Literal["cached", "none"] | LiveCues
"""Where a model that reads text has it from, see `Session`."""

NO_ROUTE = Route(command=RouteCommand.STRAIGHT, waypoints_ego=np.zeros((0, 2)), speed_limit_mps=float("nan"))
"""What planners are given with frames that have no route: straight along the road, as far as it is known."""


class Session:
    """Runs one model on a stream of frames, one at a time, and keeps what has to survive between them.

    A new scene name, or time running backwards, starts afresh: nothing of the old drive leaks into the new one. A frame
    of the same time as the last one is taken for that frame again: the model sees the same past as at the first time.

    Args:
        model: A `DrivingModel`; it is moved to `device` and put into evaluation mode.
        device: Where it runs.
        camera_names: The rig that the model was trained for. Frames may lack cameras, but not bring unknown ones.
        image_size: Size of the pictures; needed only where a frame may come without any camera.
        max_sensor_age_s: Refuse cameras and LiDAR further than this from the frame's reference time; None accepts all.
        tracker: Gives detections an identity; None for no tracks.
        forecaster: Says where detections go next where the model itself does not; None for no forecasts then.
        cues: Where a model that reads text has it from: "cached" takes each frame's own cue as it comes, `LiveCues` the
            newest one that a captioner has finished, "none" gives no text. The model is told the age.
        max_cue_age_s: Cues older than this are not used; None leaves it to the model what an old cue is worth.
        planner: Decides where to drive, after everything else is known; None for no plans.
        ego_status: Whether the model may see the vehicle's own speed, acceleration and yaw rate, if it was made to.
    """

    def __init__(
        self,
        model: DrivingModel,
        *,
        device: torch.device | str = "cpu",
        camera_names: Sequence[str] = CAMERA_NAMES,
        image_size: ImageSize | None = None,
        max_sensor_age_s: float | None = None,
        tracker: Tracker | None = None,
        forecaster: Forecaster | None = None,
        cues: CueSource = "cached",
        max_cue_age_s: float | None = None,
        planner: Planner | None = None,
        ego_status: bool = True,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.camera_names = tuple(camera_names)
        self.image_size = image_size
        self.max_sensor_age_s = max_sensor_age_s
        self.tracker = tracker
        self.forecaster = forecaster
        self.cues = cues
        self.max_cue_age_s = max_cue_age_s
        self.planner = planner
        self.ego_status = ego_status
        self.refused_cues: Counter[str] = Counter()
        """Cues that were not used, by reason."""
        self.reset()

    def reset(self) -> None:
        """Forget the current scene."""
        self._scene_name: str | None = None
        self._timestamp_us: int | None = None
        self._num_steps = 0
        self._memory: Any = None
        self._memory_before: Any = None
        if isinstance(self.cues, LiveCues):
            self.cues.reset()
        if self.tracker is not None:
            self.tracker.reset()
        if self.forecaster is not None:
            self.forecaster.reset()

    @property
    def num_steps(self) -> int:
        """Frames seen since the scene began."""
        return self._num_steps

    @property
    def num_past(self) -> int:
        """Frames before one that the model must have seen to give its best; 0 without a memory."""
        return 0 if self.model.memory is None else self.model.memory.num_past

    @torch.inference_mode()
    def step(self, frame: Frame) -> SceneEstimate:
        """What the model believes about one frame, in `ego` at the frame's reference time.

        Ground truth that the frame may carry is removed before the model runs.

        Raises:
            CalibrationError: a camera is unknown or twice there, or a matrix or pose is not finite or not rigid.
            StaleSensorError: a reading is older than `max_sensor_age_s`.
            ValueError: the frame has neither a camera nor LiDAR.
        """
        self._check(frame)
        if frame.scene_name != self._scene_name or self._goes_back(frame):
            self.reset()
            self._scene_name = frame.scene_name
        frame = replace(frame, annotations=None, cue=self._cue_of(frame))
        batch, _ = collate([frame], self.camera_names, self.image_size)
        batch = batch.to(self.device) if self.ego_status else replace(batch.to(self.device), ego_status=None)
        if frame.timestamp_us != self._timestamp_us:
            self._memory_before = self._memory
        outputs, self._memory = self.model.step(batch, self._memory_before)
        estimate = replace(self.model.decode(outputs, batch)[0], cue=frame.cue)
        if self.tracker is not None and estimate.detections is not None:
            tracks = self.tracker.update(estimate.detections, frame.ego.T_global_ego, frame.timestamp_us)
            estimate = replace(estimate, tracks=tracks)
        if self.forecaster is not None and estimate.detections is not None and estimate.motion is None:
            ways = self.forecaster(estimate.detections, estimate.tracks, frame.ego.T_global_ego, frame.timestamp_us)
            estimate = replace(estimate, motion=ways)
        if self.planner is not None:
            estimate = replace(estimate, plan=self._plan(self.planner, estimate, frame))
        if isinstance(self.cues, LiveCues) and self.model.language is not None:
            self.cues.offer(frame, estimate)
        self._timestamp_us = frame.timestamp_us
        self._num_steps += 1
        return estimate

    def run(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, SceneEstimate]]:
        """`step` over a stream of frames, lazily: no frame is kept."""
        for frame in frames:
            yield frame, self.step(frame)

    def _cue_of(self, frame: Frame) -> Cue | None:
        """The cue that the model is given with a frame; one that cannot be used is named and counted."""
        if self.model.language is None or self.cues == "none":
            return None
        cue = self.cues.newest() if isinstance(self.cues, LiveCues) else frame.cue
        if cue is None:
            return None
        age_s = (frame.timestamp_us - cue.timestamp_us) * 1e-6
        is_old = self.max_cue_age_s is not None and age_s > self.max_cue_age_s
        reason = "from the future" if age_s < 0 else "too old" if is_old else None
        if reason is None:
            return cue
        self.refused_cues[reason] += 1
        _LOG.info("frame %s goes without its cue, which is %s: %.3f s", frame.token, reason, age_s)
        return None

    @staticmethod
    def _plan(planner: Planner, estimate: SceneEstimate, frame: Frame) -> Plan:
        """The planner's plan; a stop where it cannot plan at all."""
        try:
            plan = planner.plan(estimate, frame.ego, frame.route or NO_ROUTE)
        except PlanningError as error:
            plan = fallback_stop(frame.ego, NUSCENES_VEHICLE, (str(error),))
        if plan.source == "fallback_stop":
            _LOG.info("frame %s: fallback_stop: %s", frame.token, "; ".join(plan.reasons))
        return plan

    def _goes_back(self, frame: Frame) -> bool:
        if self._timestamp_us is None or frame.timestamp_us >= self._timestamp_us:
            return False
        _LOG.info("%s: time runs backwards at frame %s, the session starts afresh", frame.scene_name, frame.token)
        return True

    def _check(self, frame: Frame) -> None:
        if not frame.cameras and frame.lidar is None:
            raise ValueError(f"frame {frame.token} has neither a camera nor LiDAR: there is nothing to perceive with")
        names = [camera.name for camera in frame.cameras]
        for name in names:
            if name not in self.camera_names:
                raise CalibrationError(
                    f"frame {frame.token}: camera '{name}' is not in the model's rig {self.camera_names}"
                )
            if names.count(name) > 1:
                raise CalibrationError(f"frame {frame.token}: camera '{name}' is there {names.count(name)} times")
        if not np.isfinite(frame.ego.T_global_ego).all():
            raise CalibrationError(f"frame {frame.token}: the ego pose is not finite")
        for camera in frame.cameras:
            _check_camera(frame.token, camera)
        self._check_age(frame)

    def _check_age(self, frame: Frame) -> None:
        if self.max_sensor_age_s is None:
            return
        readings = [(camera.name, camera.timestamp_us) for camera in frame.cameras]
        if frame.lidar is not None:
            readings.append(("LiDAR", frame.lidar.timestamp_us))
        for name, timestamp_us in readings:
            age_s = abs(frame.timestamp_us - timestamp_us) * 1e-6
            if age_s > self.max_sensor_age_s:
                raise StaleSensorError(
                    f"frame {frame.token}: {name} is {age_s:.3f} s from the reference time, "
                    f"the limit is {self.max_sensor_age_s} s"
                )


def _check_camera(token: str, camera: CameraImage) -> None:
    """Refuse a camera whose matrices cannot be true."""
    K_cam, T_ego_cam = camera.K_cam, camera.T_ego_cam
    if not (np.isfinite(K_cam).all() and np.isfinite(T_ego_cam).all()):
        raise CalibrationError(f"frame {token}: {camera.name} has a calibration that is not finite")
    if abs(np.linalg.det(K_cam)) < 1e-6:
        raise CalibrationError(f"frame {token}: {camera.name} has a singular camera matrix {K_cam.tolist()}")
    rotation = T_ego_cam[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=_RIGID_TOLERANCE):
        raise CalibrationError(f"frame {token}: T_ego_cam of {camera.name} is not a rigid transform")
