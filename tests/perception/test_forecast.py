import math

import numpy as np
import pytest

from bevstack.perception.tracking.forecast import ConstantTurnForecaster, ConstantVelocityForecaster, Forecaster
from bevstack.perception.tracking.tracker import Tracker
from bevstack.types.boxes import Boxes3D
from bevstack.types.scene import Detections

TIMES_S = 0.5 * np.arange(1, 13)
STILL = np.eye(4)


def found(*objects: tuple[float, float, float, float]) -> Detections:
    """Cars from (x, y, heading, speed along it)."""
    rows = [(x, y, 0.8, 4.5, 1.9, 1.6, yaw, v * math.cos(yaw), v * math.sin(yaw)) for x, y, yaw, v in objects]
    count = len(objects)
    boxes = Boxes3D(rows=np.array(rows, np.float32).reshape(-1, 9), class_index=np.zeros(count, np.int64))
    return Detections(boxes=boxes, scores=np.full(count, 0.9, np.float32), attribute_index=np.full(count, -1, np.int64))


def pose(x: float, yaw: float) -> np.ndarray:
    T_global_ego = np.eye(4)
    T_global_ego[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    T_global_ego[0, 3] = x
    return T_global_ego


def test_both_speak_the_protocol_and_refuse_numbers_out_of_range() -> None:
    for kind in (ConstantVelocityForecaster, ConstantTurnForecaster):
        assert isinstance(kind(), Forecaster)
        with pytest.raises(ValueError, match="steps=0"):
            kind(steps=0)
    with pytest.raises(ValueError, match="max_lateral_mps2=-1"):
        ConstantTurnForecaster(max_lateral_mps2=-1.0)


def test_at_constant_velocity_each_detection_goes_straight_on() -> None:
    forecasts = ConstantVelocityForecaster()(found((1.0, 2.0, math.pi / 2, 4.0), (0.0, 0.0, 0.0, 0.0)))
    assert forecasts.trajectories_ego.shape == (2, 1, 12, 2) and forecasts.dt_s == 0.5
    np.testing.assert_allclose(forecasts.trajectories_ego[0, 0, -1], (1.0, 26.0), atol=1e-5)
    assert not forecasts.trajectories_ego[1].any() and (forecasts.probabilities == 1.0).all()


def test_an_unknown_velocity_stands_still_and_nothing_found_gives_nothing() -> None:
    detections = found((3.0, 4.0, 0.0, 1.0))
    detections.boxes.rows[:, 7:] = np.nan
    np.testing.assert_array_equal(
        ConstantVelocityForecaster()(detections).trajectories_ego[0, 0], np.tile(np.float32((3, 4)), (12, 1))
    )
    for forecaster in (ConstantVelocityForecaster(), ConstantTurnForecaster()):
        assert len(forecaster(Detections.empty(), None, STILL, 0)) == 0


def test_the_velocity_of_a_track_takes_the_place_of_the_detector_s() -> None:
    tracker = Tracker(smooths_velocity=True)
    for frame in range(4):  # stands where it is, whatever the detector says of its velocity
        detections = found((5.0, 5.0, 0.0, 0.0))
        detections.boxes.rows[:, 7] = 3.0 if frame == 3 else 0.0
        tracks = tracker.update(detections, STILL, 500_000 * frame)
    own, of_detector = (ConstantVelocityForecaster()(detections, each).trajectories_ego for each in (tracks, None))
    assert of_detector[0, 0, -1, 0] == pytest.approx(23.0) and own[0, 0, -1, 0] < 20.0


@pytest.mark.parametrize("flips", [False, True])
def test_a_car_on_a_circle_stays_on_it_while_the_vehicle_itself_turns(flips: bool) -> None:
    tracker, forecaster = Tracker(), ConstantTurnForecaster()
    speed, yaw_rate = 4.0, 0.3
    radius = speed / yaw_rate

    def on_circle(times_s: np.ndarray) -> np.ndarray:
        angle = yaw_rate * np.asarray(times_s)
        return np.stack((radius * np.sin(angle), radius * (1 - np.cos(angle))), axis=-1)

    for frame in range(4):
        time_s, own = 0.5 * frame, pose(2.0 * frame, -0.2 * frame)
        to_ego = np.linalg.inv(own)
        x, y = (to_ego @ (*on_circle(np.array(time_s)), 0.0, 1.0))[:2]
        detections = found((x, y, yaw_rate * time_s + 0.2 * frame, speed))
        if flips and frame % 2:
            detections.boxes.rows[:, 6] -= np.pi  # the detector takes the rear for the front
        tracks = tracker.update(detections, own, int(time_s * 1e6))
        forecasts = forecaster(detections, tracks, own, int(time_s * 1e6))
    straight, turning = forecasts.trajectories_ego[0]
    truth = on_circle(time_s + TIMES_S)
    in_global = (own @ np.column_stack((turning, np.zeros(12), np.ones(12))).T).T[:, :2]
    np.testing.assert_allclose(in_global, truth, atol=1e-3)
    np.testing.assert_allclose(straight[1] - straight[0], detections.boxes.velocities[0] * 0.5, atol=1e-4)
    np.testing.assert_allclose(forecasts.probabilities, 0.5)


def test_after_a_reset_or_for_a_new_track_both_ways_are_straight() -> None:
    tracker, forecaster = Tracker(), ConstantTurnForecaster()
    for frame in range(3):
        detections = found((2.0 * frame, 0.0, 0.3 * frame, 4.0))
        tracks = tracker.update(detections, STILL, 500_000 * frame)
        forecasts = forecaster(detections, tracks, STILL, 500_000 * frame)
        is_straight = np.allclose(forecasts.trajectories_ego[0, 0], forecasts.trajectories_ego[0, 1])
        assert is_straight == (frame == 0)
    forecaster.reset()
    again = forecaster(detections, tracks, STILL, 1_500_000).trajectories_ego[0]
    np.testing.assert_array_equal(again[0], again[1])


def test_fast_objects_turn_no_harder_than_tyres_allow() -> None:
    tracker, forecaster = Tracker(), ConstantTurnForecaster()
    for frame in range(2):
        detections = found((10.0 * frame, 0.0, 0.4 * frame, 20.0))
        tracks = tracker.update(detections, STILL, 500_000 * frame)
        arc = forecaster(detections, tracks, STILL, 500_000 * frame).trajectories_ego[0, 1]
    steps = np.diff(arc, axis=0)
    turns = np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))) / 0.5
    np.testing.assert_allclose(turns, 3.0 / 20.0, rtol=1e-2)
