"""The session: what it refuses, when it starts afresh, and that the model never sees ground truth."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixtures.scenes import one_car_ahead
from torch import nn

from bevstack.data.images import ImageSize
from bevstack.engine import Session
from bevstack.evaluation.modality import restrict
from bevstack.evaluation.predict import predict, read_ahead
from bevstack.perception.language.live_cues import LiveCues
from bevstack.perception.tracking.forecast import ConstantTurnForecaster, ConstantVelocityForecaster
from bevstack.perception.tracking.tracker import Tracker
from bevstack.planning.fallback import fallback_stop
from bevstack.planning.rule_planner import RulePlanner
from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.types import Boxes3D, Detections, Route, RouteCommand, SceneEstimate
from bevstack.types.cue import Cue
from bevstack.types.errors import CalibrationError, DatasetError, PlanningError, StaleSensorError

IMAGE_SIZE = ImageSize(64, 176)


class Recorder(nn.Module):
    """A model that remembers its batches and finds one car where the ego pose says; its memory is the tokens so far."""

    def __init__(self, *, reads_text: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches, self.memories = [], []
        self.language = nn.Identity() if reads_text else None
        self.memory = None

    def step(self, batch, memory):
        self.batches.append(batch)
        self.memories.append(memory)
        assert torch.is_inference_mode_enabled()
        return {}, (*(memory or ()), *batch.tokens)

    def decode(self, outputs, batch):
        rows = np.array([[10, 0, 1, 4, 2, 1.5, 0, 0, 0]], np.float32)
        car = Detections(
            boxes=Boxes3D(rows=rows, class_index=np.array([0])),
            scores=np.array([0.5], np.float32),
            attribute_index=np.array([-1]),
        )
        return [SceneEstimate(token=t, timestamp_us=0, detections=car) for t in batch.tokens]


class Frames:
    def __init__(self, frames) -> None:
        self.frames, self.reads = frames, []

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index):
        self.reads.append(index)
        if isinstance(self.frames[index], Exception):
            raise self.frames[index]
        return self.frames[index]


def session(*, reads_text: bool = False, **options) -> Session:
    return Session(Recorder(reads_text=reads_text), image_size=IMAGE_SIZE, **options)


def later(frame, seconds: float, scene: str | None = None, **changes):
    timestamp_us = frame.timestamp_us + int(seconds * 1e6)
    return replace(frame, timestamp_us=timestamp_us, scene_name=scene or frame.scene_name, **changes)


def cue_of(frame, text: str = "a pedestrian on the left") -> Cue:
    embedding = np.array([0.6, 0.8], np.float32)
    return Cue(
        text=text,
        embedding=embedding,
        mirrored_embedding=None,
        frame_token=frame.token,
        timestamp_us=frame.timestamp_us,
        source="by hand",
    )


def test_a_step_returns_the_estimate_of_its_frame_and_puts_the_model_in_evaluation_mode() -> None:
    engine = session()
    frame = one_car_ahead()
    estimate = engine.step(frame)
    assert estimate.token == frame.token
    assert not engine.model.training


def test_a_new_scene_or_time_running_backwards_starts_afresh() -> None:
    engine, frame = session(), one_car_ahead()
    engine.step(frame)
    engine.step(later(frame, 0.5))
    assert engine.num_steps == 2
    engine.step(later(frame, 1.0, scene="scene-other"))
    assert engine.num_steps == 1
    engine.step(later(frame, 0.5, scene="scene-other"))
    assert engine.num_steps == 1


def test_sensors_can_be_left_out_and_are_masked() -> None:
    engine, frame = session(), one_car_ahead()
    engine.step(restrict(frame, "lidar"))
    engine.step(restrict(frame, "camera"))
    lidar_only, camera_only = engine.model.batches
    assert not lidar_only.camera_mask.any() and lidar_only.lidar_mask.all()
    assert lidar_only.images.shape[-2:] == (64, 176)
    assert camera_only.camera_mask.all() and not camera_only.lidar_mask.any() and len(camera_only.points_ego) == 0


def test_a_frame_without_any_sensor_is_refused() -> None:
    with pytest.raises(ValueError, match="neither a camera nor LiDAR"):
        session().step(replace(one_car_ahead(), cameras=(), lidar=None))
    with pytest.raises(ValueError, match="has no camera data"):
        restrict(replace(one_car_ahead(), cameras=()), "camera")


def test_an_unknown_camera_a_wrong_matrix_and_a_nan_pose_are_refused() -> None:
    frame = one_car_ahead()
    first = frame.cameras[0]
    wrong_pose = np.full((4, 4), np.nan)
    wrong_mount = np.diag([1.2, 1.0, 1.0, 1.0])
    cases = (
        (replace(frame, cameras=(replace(first, name="CAM_ROOF"),)), "CAM_ROOF"),
        (replace(frame, cameras=(first, first)), "2 times"),
        (replace(frame, cameras=(replace(first, K_cam=np.zeros((3, 3))),)), "singular"),
        (replace(frame, cameras=(replace(first, T_ego_cam=wrong_mount),)), "not a rigid transform"),
        (replace(frame, ego=replace(frame.ego, T_global_ego=wrong_pose)), "ego pose is not finite"),
    )
    for broken, message in cases:
        with pytest.raises(CalibrationError, match=message):
            session().step(broken)


def test_an_old_camera_is_refused_where_a_limit_is_set() -> None:
    frame = one_car_ahead()
    old = replace(frame.cameras[0], timestamp_us=frame.timestamp_us - 400_000)
    stale = replace(frame, cameras=(old, *frame.cameras[1:]))
    session().step(stale)
    with pytest.raises(StaleSensorError, match=r"0\.400 s"):
        session(max_sensor_age_s=0.3).step(stale)


def test_each_frame_is_read_once_for_all_modalities() -> None:
    frames = Frames([replace(later(one_car_ahead(), 0.5 * k), token=f"t{k}") for k in range(5)])
    found = predict({"fusion": session(), "lidar": session()}, frames, [0, 2, 4], progress=False)
    assert frames.reads == [0, 2, 4]
    assert list(found["lidar"].detections) == ["t0", "t2", "t4"]
    records = found["fusion"].records()["t2"]
    assert [record["detection_name"] for record in records] == ["car"]


def test_a_model_with_a_memory_sees_the_frames_before_each_that_is_scored() -> None:
    frames = Frames([replace(later(one_car_ahead(), 0.5 * k), token=f"t{k}") for k in range(10)])
    engine = session()
    engine.model.memory = SimpleNamespace(num_past=2)
    found = predict({"fusion": engine}, frames, [1, 6, 7], progress=False)
    assert frames.reads == [0, 1, 4, 5, 6, 7]
    assert list(found["fusion"].detections) == list(found["fusion"].T_global_ego) == ["t1", "t6", "t7"]


def test_reading_ahead_keeps_the_order_and_hands_on_the_failure() -> None:
    frames = Frames([one_car_ahead(), DatasetError("cut short"), one_car_ahead()])
    stream = read_ahead(frames, [0, 1, 2])
    next(stream)
    with pytest.raises(DatasetError, match="cut short"):
        next(stream)


def test_with_a_tracker_objects_keep_their_identity_until_the_scene_ends() -> None:
    engine, frame = session(tracker=Tracker()), one_car_ahead()
    frames = [frame, later(frame, 0.5), later(frame, 1.0, scene="another")]
    tracks = [engine.step(each).tracks for each in frames]
    assert all(each is not None and len(each) == 1 for each in tracks)
    identities = [int(each.identity[0]) for each in tracks if each is not None]
    assert identities[0] == identities[1] != identities[2]
    assert session().step(frame).tracks is None


def test_detections_are_forecast_without_a_motion_head_but_what_the_model_says_itself_stays() -> None:
    engine, frame = session(tracker=Tracker(), forecaster=ConstantTurnForecaster()), one_car_ahead()
    for each in (frame, later(frame, 0.5)):
        motion = engine.step(each).motion
        assert motion is not None and motion.trajectories_ego.shape == (1, 2, 12, 2)
        np.testing.assert_allclose(motion.trajectories_ego[0], np.broadcast_to((10.0, 0.0), (2, 12, 2)))
    assert session().step(frame).motion is None
    engine, own = session(forecaster=ConstantVelocityForecaster()), replace(motion, dt_s=0.25)
    said = engine.model.decode
    engine.model.decode = lambda *args: [replace(estimate, motion=own) for estimate in said(*args)]
    assert engine.step(frame).motion is own


def test_the_memory_goes_from_step_to_step_and_ends_with_the_scene_or_where_time_runs_backwards() -> None:
    engine, frame = session(), replace(one_car_ahead(), token="a")
    engine.step(frame)
    engine.step(later(frame, 0.5, token="b"))
    engine.step(later(frame, 1.0, token="c", scene="another"))
    engine.step(later(frame, 1.5, token="d", scene="another"))
    engine.step(later(frame, 1.0, token="e", scene="another"))
    assert engine.model.memories == [None, ("a",), None, ("c",), None]


def test_a_frame_that_comes_twice_sees_the_same_past_twice_and_is_remembered_once() -> None:
    engine, frame = session(), replace(one_car_ahead(), token="a")
    for seconds, token in ((0.0, "a"), (0.5, "b"), (0.5, "b"), (1.0, "c")):
        engine.step(later(frame, seconds, token=token))
    assert engine.model.memories == [None, ("a",), ("a",), ("a", "b")]


def test_a_cached_cue_is_used_with_its_age_and_is_in_the_estimate() -> None:
    engine, frame = session(reads_text=True), one_car_ahead()
    cue = cue_of(frame)
    estimate = engine.step(later(frame, 1.5, cue=cue))
    assert estimate.cue is cue
    (batch,) = engine.model.batches
    assert batch.cue_mask.all() and batch.cue_age_s.tolist() == [1.5]


def test_without_text_or_without_a_model_that_reads_it_no_cue_is_used() -> None:
    frame = one_car_ahead()
    frame = replace(frame, cue=cue_of(frame))
    for engine in (session(reads_text=True, cues="none"), session()):
        assert engine.step(frame).cue is None
        assert engine.model.batches[0].cue_embedding is None


def test_a_cue_that_is_too_old_or_from_the_future_is_counted_and_the_model_runs_on_without_it() -> None:
    engine, frame = session(reads_text=True, max_cue_age_s=2.0), one_car_ahead()
    for seconds, age_s in ((1.0, 2.5), (1.5, -0.5), (2.0, 2.0)):
        now = later(frame, seconds)
        used = engine.step(replace(now, cue=cue_of(later(now, -age_s)))).cue
        assert (used is not None) == (age_s == 2.0)
    assert engine.refused_cues == {"too old": 1, "from the future": 1}
    assert session(reads_text=True).step(later(frame, 60.0, cue=cue_of(frame))).cue is not None


def test_live_cues_come_when_they_are_finished_and_never_from_another_drive_or_with_ground_truth() -> None:
    seen = []

    def describe(frame, estimate):
        assert estimate.token == frame.token
        seen.append(frame)
        return cue_of(frame, f"words about {frame.token}")

    frame = replace(one_car_ahead(), token="a")
    with LiveCues(describe) as live:
        engine = session(reads_text=True, cues=live)
        assert engine.step(frame).cue is None
        assert live.wait(10.0)
        estimate = engine.step(later(frame, 0.5, token="b"))
        assert estimate.cue is not None and estimate.cue.text == "words about a"
        assert engine.model.batches[-1].cue_age_s.tolist() == [0.5]
        assert live.wait(10.0)
        assert engine.step(later(frame, 1.0, token="c", scene="another")).cue is None
    assert frame.annotations is not None and all(each.annotations is None for each in seen)


class Driver:
    """A planner that remembers what it was asked, or cannot plan."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.asked = fails, []

    def plan(self, scene, ego, route):
        self.asked.append((scene, ego, route))
        if self.fails:
            raise PlanningError("no way at all")
        return fallback_stop(ego, NUSCENES_VEHICLE, ("as asked",))


def test_a_planner_sees_everything_that_is_known_and_its_plan_is_in_the_estimate() -> None:
    driver, frame = Driver(), one_car_ahead()
    route = Route(command=RouteCommand.LEFT, waypoints_ego=np.ones((3, 2)), speed_limit_mps=8.0)
    engine = session(planner=driver, tracker=Tracker(), forecaster=ConstantVelocityForecaster())
    estimate = engine.step(replace(frame, route=route))
    ((scene, ego, asked),) = driver.asked
    assert asked is route and ego is frame.ego
    assert scene.tracks is not None and scene.motion is not None and scene.plan is None
    assert estimate.plan is not None and estimate.plan.reasons[0] == "as asked"
    assert session().step(frame).plan is None


def test_a_frame_without_a_route_is_planned_straight_on_without_waypoints() -> None:
    driver = Driver()
    session(planner=driver).step(one_car_ahead())
    route = driver.asked[0][2]
    assert route.command is RouteCommand.STRAIGHT and len(route.waypoints_ego) == 0


def test_the_vehicles_own_motion_can_be_kept_from_the_model_and_not_from_the_planner() -> None:
    for told in (True, False):
        driver = Driver()
        engine = session(planner=driver, ego_status=told)
        engine.step(one_car_ahead())
        (batch,) = engine.model.batches
        assert (batch.ego_status is not None) is told
        assert np.isfinite(driver.asked[0][1].speed_mps)


def test_a_planner_that_cannot_plan_makes_the_vehicle_stop_with_its_reason() -> None:
    plan = session(planner=Driver(fails=True)).step(one_car_ahead()).plan
    assert plan is not None and plan.source == "fallback_stop" and plan.reasons[0] == "no way at all"


def test_the_rules_plan_behind_a_car_that_the_model_sees() -> None:
    frame = one_car_ahead()
    x = np.arange(0.0, 60.0, 2.0)
    ahead = Route(
        command=RouteCommand.STRAIGHT, waypoints_ego=np.stack((x, 0 * x), axis=1), speed_limit_mps=float("nan")
    )
    plan = session(planner=RulePlanner(budget_s=30.0)).step(replace(frame, route=ahead)).plan
    assert plan is not None and plan.source == "candidate"
    # the recorder's car stands 8 m ahead of the rear axle with its tail, the nose is 3.3 m ahead
    assert plan.trajectory.poses_ego[-1, 0] < 8.0 - NUSCENES_VEHICLE.front_ahead_m
