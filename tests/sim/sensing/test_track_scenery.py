"""What test roads look like."""

import numpy as np
import pytest
import shapely

from bevstack.sim.scenario.road_specs import CrossingRoads, CurvedRoad, StraightRoad, TownRoads
from bevstack.sim.sensing.track_scenery import static_world_of
from bevstack.sim.world.mesh import Material

ROADS = (
    StraightRoad(length_m=120, lanes_ahead=2), CurvedRoad(radius_m=-40.0, before_m=40, after_m=40),
    CrossingRoads(arm_m=60, has_zebras=True),
)  # fmt: skip


@pytest.fixture(scope="module", params=ROADS, ids=lambda road: road.KIND)
def world(request):
    return static_world_of(request.param)


def area_of(mesh, material):
    corners = mesh.vertices[mesh.faces[mesh.material == material]].astype(np.float64)
    return 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()


def test_the_asphalt_is_the_drivable_surface_and_flat(world):
    assert area_of(world.mesh, Material.ASPHALT) == pytest.approx(world.roads.drivable.area, rel=1e-3)
    asphalt = world.mesh.vertices[world.mesh.faces[world.mesh.material == Material.ASPHALT]]
    assert np.abs(asphalt[..., 2]).max() == 0.0


def test_nothing_stands_on_the_road_or_within_three_metres_of_it(world):
    high = world.mesh.vertices[(world.mesh.vertices[:, 2] > 0.3) & (world.mesh.vertices[:, 2] < 4.0)]
    assert len(high) > 500
    gaps = shapely.distance(world.roads.drivable, shapely.points(high[:, :2]))
    assert gaps.min() > 3.0


def test_paint_lies_on_the_asphalt_and_is_there_on_every_road(world):
    paint = world.mesh.vertices[world.mesh.faces[world.mesh.material == Material.LANE_PAINT]].reshape(-1, 3)
    assert area_of(world.mesh, Material.LANE_PAINT) > 10.0
    assert shapely.distance(world.roads.drivable, shapely.points(paint[:, :2])).max() < 0.2


def test_zebras_cover_about_half_of_their_crossings():
    with_zebras, without = (static_world_of(CrossingRoads(arm_m=60, has_zebras=has)) for has in (True, False))
    painted = area_of(with_zebras.mesh, Material.LANE_PAINT) - area_of(without.mesh, Material.LANE_PAINT)
    assert painted / sum(crossing.area for crossing in with_zebras.roads.crossings) == pytest.approx(0.5, abs=0.06)


def test_faces_of_the_ground_look_up(world):
    flat = np.isin(world.mesh.material, (Material.ASPHALT, Material.LANE_PAINT, Material.GRASS))
    a, b, c = (world.mesh.vertices[world.mesh.faces[flat][:, k]].astype(np.float64) for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()


def test_lamps_hang_over_the_verge_on_both_sides(world):
    assert len(world.street_lamps) >= 6
    assert (world.street_lamps[:, 2] > 5.0).all()


def test_the_same_road_and_seed_give_the_same_bytes_and_another_seed_other_scenery():
    one, same, other = (static_world_of(StraightRoad(length_m=60), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.mesh.vertices, same.mesh.vertices)
    assert len(one.mesh.vertices) != len(other.mesh.vertices)


def test_a_town_has_its_own_lanes_and_houses():
    town = static_world_of(TownRoads(town="straight", seed=3))
    assert len(town.mesh.faces) > 10_000
    assert len(town.roads.carparks) > 0
