"""Radars: where they see somebody, how fast, and the files that nuScenes' development kit reads."""

import numpy as np
import pytest
from nuscenes.utils.data_classes import RadarPointCloud

from bevstack.sim.scenario.road_specs import StraightRoad
from bevstack.sim.sensing.radar import FIELDS, MAX_DETECTIONS, NUSCENES_RADARS, ONCOMING, radar_scan, write_pcd
from bevstack.sim.sensing.track_scenery import static_world_of
from bevstack.sim.sensing.world_state import ActorState, WorldState
from bevstack.sim.sensors.scene import SensorScene
from bevstack.sim.sensors.weather import make_weather
from bevstack.sim.world.actors import make_actor
from bevstack.sim.world.mesh import Mesh

FRONT = NUSCENES_RADARS[0]
COLUMN = {name: index for index, name in enumerate(FIELDS)}


@pytest.fixture(scope="module")
def scene():
    world = static_world_of(StraightRoad(length_m=200))
    weather = make_weather("overcast", np.random.default_rng(0))
    return SensorScene(static=world.mesh, street_lamps=world.street_lamps, weather=weather)


@pytest.fixture(scope="module")
def state():
    """Drives 12 m/s; a car comes towards it with 8 m/s, its front 30 m ahead of the radar; one follows behind."""
    car = make_actor("car", np.random.default_rng(1), variant="sedan")
    coming = ActorState(
        name="coming", class_name="car", model=car, x_m=83.41 + car.size_lwh[0] / 2, y_m=0.0, yaw_rad=np.pi,
        vx_mps=-8.0,
    )  # fmt: skip
    behind = ActorState(name="behind", class_name="car", model=car, x_m=40.0, y_m=0.0, yaw_rad=0.0, vx_mps=12.0)
    return WorldState(time_s=0.0, ego_x_m=50.0, ego_y_m=0.0, ego_yaw_rad=0.0, speed_mps=12.0, actors=(coming, behind))


@pytest.fixture(scope="module")
def front(scene, state):
    return radar_scan(scene, FRONT, state, seed=1)


def test_the_car_ahead_is_where_it_is_and_comes_with_the_sum_of_both_speeds(front):
    car = front.rows[front.instance == 0]
    assert len(car)
    assert car[:, COLUMN["x"]].min() == pytest.approx(30.0, abs=0.6)
    assert np.abs(car[:, COLUMN["y"]]).max() < 1.5
    assert np.median(car[:, COLUMN["vx"]]) == pytest.approx(-20.0, abs=0.2)
    assert np.median(car[:, COLUMN["vx_comp"]]) == pytest.approx(-8.0, abs=0.2)
    assert (car[:, COLUMN["dyn_prop"]] == ONCOMING).all()


def test_who_is_behind_is_seen_by_the_radars_at_the_back_only(scene, state, front):
    assert not (front.instance == 1).any()
    behind = [radar_scan(scene, spec, state, seed=2) for spec in NUSCENES_RADARS[3:]]
    assert all((found.instance == 1).any() for found in behind)
    rows = behind[0].rows[behind[0].instance == 1]
    # Same speed: nothing relative, 12 m/s over ground towards the radar.
    assert np.hypot(rows[:, COLUMN["vx"]], rows[:, COLUMN["vy"]]).max() < 0.3
    assert (rows[:, COLUMN["vx_comp"]] < 0).all()
    assert np.median(np.hypot(rows[:, COLUMN["vx_comp"]], rows[:, COLUMN["vy_comp"]])) == pytest.approx(12.0, abs=0.4)


def test_what_stands_has_no_speed_over_ground_and_comes_with_the_vehicles_own(front):
    standing = front.rows[front.instance == -1]
    assert len(standing) > 5
    assert np.hypot(standing[:, COLUMN["vx_comp"]], standing[:, COLUMN["vy_comp"]]).max() < 0.2
    azimuth = np.arctan2(standing[:, COLUMN["y"]], standing[:, COLUMN["x"]])
    radial = standing[:, COLUMN["vx"]] * np.cos(azimuth) + standing[:, COLUMN["vy"]] * np.sin(azimuth)
    np.testing.assert_allclose(radial, -12.0 * np.cos(azimuth), atol=0.2)


def test_no_detection_leaves_the_field_of_view_and_the_list_has_its_limit(front):
    azimuth = np.arctan2(front.rows[:, COLUMN["y"]], front.rows[:, COLUMN["x"]])
    assert np.abs(azimuth).max() < np.deg2rad(62)
    assert len(front.rows) <= MAX_DETECTIONS


def test_a_file_is_read_by_the_development_kit_as_it_was_written(front, tmp_path):
    path = tmp_path / "radar.pcd"
    write_pcd(path, front)
    cloud = RadarPointCloud.from_file(str(path))
    np.testing.assert_allclose(cloud.points.T, front.rows, atol=1e-4)


def test_the_same_seed_gives_the_same_bytes(scene, state, front):
    np.testing.assert_array_equal(radar_scan(scene, FRONT, state, seed=1).rows, front.rows)
    assert radar_scan(scene, FRONT, state, seed=3).rows.tobytes() != front.rows.tobytes()


def test_an_empty_world_gives_an_empty_list(scene):
    nothing = SensorScene(static=Mesh.empty(), street_lamps=np.zeros((0, 3)), weather=scene.weather)
    state = WorldState(time_s=0.0, ego_x_m=0.0, ego_y_m=0.0, ego_yaw_rad=0.0)
    assert radar_scan(nothing, FRONT, state, seed=0).rows.shape == (0, len(FIELDS))
