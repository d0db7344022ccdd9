import numpy as np
import pytest
from fixtures.meshes import CAR_SEMANTIC, ROAD_SEMANTIC, box, car_box
from fixtures.sensors import actor_at, scene_of

from bevstack.geometry.transforms import from_xy_yaw, transform_points
from bevstack.sim.sensors.lidar import NUM_COLUMNS, NUM_RINGS, scan
from bevstack.sim.sensors.rig import T_EGO_LIDAR
from bevstack.sim.world.mesh import Material

HERE = np.eye(4)


def test_a_sweep_is_a_full_grid_in_the_order_of_real_files():
    points = scan(scene_of(), T_global_ego=HERE, actors=[], seed=1).points
    assert points.shape == (34_720, 5)
    assert (points.reshape(-1, NUM_RINGS, 5)[:, :, 4] == np.arange(NUM_RINGS)).all()


def test_columns_turn_clockwise_from_the_left_and_rings_rise():
    result = scan(scene_of(), T_global_ego=HERE, actors=[], seed=1)
    grid = result.points.reshape(NUM_COLUMNS, NUM_RINGS, 5)
    azimuth = np.unwrap(np.arctan2(grid[:, 0, 1], grid[:, 0, 0]))
    assert np.all(np.diff(azimuth) < 0)
    assert np.rad2deg(azimuth[0]) == pytest.approx(-178.7, abs=0.5)
    norms = np.linalg.norm(grid[0, :, :3], axis=1)
    elevation = np.rad2deg(np.arcsin(grid[0, :, 2] / norms))
    assert np.all(np.diff(elevation) > 1.2) and elevation[0] == pytest.approx(-30.67, abs=0.01)


def test_a_car_ahead_is_hit_where_it_stands():
    result = scan(scene_of(), T_global_ego=HERE, actors=[actor_at(12, 3, car_box(), instance=7)], seed=1)
    on_car = transform_points(T_EGO_LIDAR, result.points[result.instance == 7, :3].astype(np.float64))
    assert len(on_car) > 100
    assert np.all(np.abs(on_car[:, 0] - 12) < 2.25 + 0.1) and np.all(np.abs(on_car[:, 1] - 3) < 0.95 + 0.1)
    assert np.all(result.semantic[result.instance == 7] == CAR_SEMANTIC)
    assert result.count_by_instance() == {7: len(on_car)}


def test_the_pose_of_the_car_does_not_change_what_it_sees_of_an_actor_beside_it():
    moved = from_xy_yaw(30.0, -20.0, 0.7)
    actor = actor_at(12, 3, car_box(), instance=7)
    there = type(actor)(instance=7, meshes=actor.meshes, T_global_actor=moved @ actor.T_global_actor)
    first = scan(scene_of(), T_global_ego=HERE, actors=[actor], seed=1)
    second = scan(scene_of(), T_global_ego=moved, actors=[there], seed=1)
    assert second.count_by_instance()[7] == pytest.approx(first.count_by_instance()[7], abs=4)


def test_a_car_behind_a_wall_gets_no_points():
    wall = box(size=(0.3, 12, 4), center=(8, 0, 0))
    result = scan(scene_of(wall), T_global_ego=HERE, actors=[actor_at(14, 0, car_box(), instance=7)], seed=1)
    assert result.count_by_instance() == {}


def test_the_nearer_of_two_cars_takes_the_rays():
    van = box(size=(5, 2.4, 3), material=Material.CAR_PAINT, semantic=CAR_SEMANTIC)
    actors = [actor_at(25, 0, car_box(), instance=2), actor_at(10, 0, van, instance=1)]
    both = scan(scene_of(), T_global_ego=HERE, actors=actors, seed=1).count_by_instance()
    alone = scan(scene_of(), T_global_ego=HERE, actors=actors[:1], seed=1).count_by_instance()
    assert alone[2] > 20 and 2 not in both and both[1] > 100


def test_points_of_a_car_fall_with_distance():
    counts = [
        scan(scene_of(), T_global_ego=HERE, actors=[actor_at(x, 4, car_box())], seed=1).count_by_instance()[0]
        for x in (8, 16, 32, 50)
    ]
    assert counts == sorted(counts, reverse=True) and counts[-1] > 0


def test_ground_returns_lie_on_the_ground_within_the_range_noise():
    result = scan(scene_of(), T_global_ego=HERE, actors=[], seed=1)
    ground = result.points[result.semantic == ROAD_SEMANTIC, :3].astype(np.float64)
    height = transform_points(T_EGO_LIDAR, ground)[:, 2]
    assert len(ground) > 5000 and abs(height.mean()) < 0.005 and 0.001 < height.std() < 0.02


def test_misses_lie_at_the_sensor_and_the_roof_within_a_metre():
    result = scan(scene_of(), T_global_ego=HERE, actors=[], seed=1)
    distance = np.linalg.norm(result.points[:, :3], axis=1)
    assert distance[~result.is_return].max() < 1.05
    assert distance[result.is_return].min() > 1.5
    assert np.all(result.instance[~result.is_return] == -1)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    actors = [actor_at(12, 3, car_box())]
    first, again, other = (scan(scene_of(), T_global_ego=HERE, actors=actors, seed=s).points for s in (5, 5, 6))
    assert first.tobytes() == again.tobytes() and first.tobytes() != other.tobytes()


def test_retro_reflectors_are_bright_and_tyres_dark():
    def brightness(material):
        panel = box(size=(0.2, 3, 3), material=material)
        result = scan(scene_of(panel), T_global_ego=from_xy_yaw(-10.0, 0.0, 0.0), actors=[], seed=1)
        return np.median(result.points[result.semantic == 28, 3])

    assert brightness(Material.RETROREFLECTOR) > 150 > brightness(Material.PLASTER) > brightness(Material.RUBBER)


def test_fog_and_rain_cost_returns_and_add_points_in_the_air():
    far = box(size=(0.3, 60, 12), center=(60, 0, 0), material=Material.RUBBER)
    clear, rain, fog = (
        scan(scene_of(far, weather=kind), T_global_ego=HERE, actors=[], seed=1) for kind in ("day", "rain", "fog")
    )
    assert clear.is_return.sum() > rain.is_return.sum() > fog.is_return.sum()

    def in_air(result):
        distance = np.linalg.norm(result.points[:, :3], axis=1)
        return int(((result.semantic == 0) & (distance > 1.2)).sum())

    assert in_air(clear) == 0 and in_air(rain) > 20 and in_air(fog) > 20
