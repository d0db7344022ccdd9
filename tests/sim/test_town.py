import numpy as np
import pytest
import shapely
from shapely.geometry import LineString

from bevstack.sim.world.mesh import Material, Mesh
from bevstack.sim.world.mesh_builder import FLAT_DRIVEABLE, FLAT_SIDEWALK, FLAT_TERRAIN, MeshBuilder
from bevstack.sim.world.town import KERB_HEIGHT_M, TOWN_KINDS, TOWN_SIZE_M, Town, make_town

SEEDS = (3, 11)


@pytest.fixture(scope="module", params=[(kind, seed) for kind in TOWN_KINDS for seed in SEEDS], ids=str)
def town(request: pytest.FixtureRequest) -> Town:
    kind, seed = request.param
    return make_town(kind, np.random.default_rng(seed))


def face_normals(mesh: Mesh) -> np.ndarray:
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def signed_volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, corner]].astype(np.float64) for corner in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_an_unknown_kind_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="crossroads"):
        make_town("motorway", np.random.default_rng(0))


def test_the_same_seed_gives_the_same_town_and_another_seed_another():
    first, again, other = (make_town("t_junction", np.random.default_rng(seed)) for seed in (5, 5, 6))
    for name in ("vertices", "faces", "albedo", "material", "semantic"):
        assert getattr(first.mesh, name).tobytes() == getattr(again.mesh, name).tobytes()
    assert first.parking_slots.tobytes() == again.parking_slots.tobytes()
    assert first.mesh.vertices.tobytes() != other.mesh.vertices.tobytes()


def test_everything_lies_in_the_square_and_within_the_triangle_budget(town: Town):
    half = TOWN_SIZE_M / 2
    assert len(town.mesh.faces) <= 45_000
    assert np.abs(town.mesh.vertices[:, :2]).max() <= half + 0.05
    assert np.isfinite(town.mesh.vertices).all()
    assert (town.mesh.instance == -1).all()
    for lane in town.roads.lanes:
        assert np.abs(lane.centerline).max() <= half + 1e-6


def test_lanes_join_end_to_start_in_one_direction(town: Town):
    lanes = town.roads.lanes
    assert [lane.index for lane in lanes] == list(range(len(lanes)))
    for lane in lanes:
        assert np.diff(lane.stations_m).max() <= 2.0
        for successor in lane.successors:
            following = lanes[successor]
            assert lane.index in following.predecessors
            np.testing.assert_allclose(lane.centerline[-1], following.centerline[0], atol=1e-6)
            bend = following.yaws_rad[0] - lane.yaws_rad[-1]
            assert abs((bend + np.pi) % (2 * np.pi) - np.pi) < 0.2


def test_every_connector_leads_from_a_lane_to_a_lane(town: Town):
    for lane in town.roads.lanes:
        if lane.is_connector:
            assert lane.successors and lane.predecessors
        else:
            assert lane.successors or np.abs(lane.centerline[-1]).max() > TOWN_SIZE_M / 2 - 3.0


def test_the_ego_can_drive_120_metres_from_every_entry(town: Town):
    lanes = town.roads.lanes

    def reach(index: int, seen: frozenset[int]) -> float:
        onward = [reach(after, seen | {index}) for after in lanes[index].successors if after not in seen]
        return lanes[index].length_m + max(onward, default=0.0)

    entries = [lane for lane in lanes if not lane.predecessors]
    assert entries
    assert min(reach(lane.index, frozenset()) for lane in entries) >= 120.0


def test_lanes_lie_on_the_drivable_surface(town: Town):
    drivable = town.roads.drivable.buffer(0.05)
    for lane in town.roads.lanes:
        outside = lane.polygon.intersection(shapely.box(-128, -128, 128, 128)).difference(drivable)
        assert outside.area < 0.02 * lane.polygon.area, lane.index


def test_turns_are_named_after_the_change_of_heading(town: Town):
    for lane in town.roads.lanes:
        if lane.is_connector and town.kind in ("t_junction", "crossroads"):
            yaws = np.unwrap(lane.yaws_rad)
            change = yaws[-1] - yaws[0]
            assert {"straight": abs(change) < 0.7, "left": change > 0.7, "right": change < -0.7}[lane.turn]


def test_crossing_traffic_conflicts_and_left_turns_yield():
    town = make_town("crossroads", np.random.default_rng(3))
    lanes, conflicts = town.roads.lanes, town.roads.conflicts
    for lane in lanes:
        for other in conflicts[lane.index]:
            assert lane.index in conflicts[other]
        if lane.turn == "left":
            assert lane.must_yield
            assert any(lanes[other].turn == "straight" for other in conflicts[lane.index])
        if not lane.is_connector:
            assert conflicts[lane.index] == ()


def test_traffic_keeps_right_of_the_road_divider():
    town = make_town("straight", np.random.default_rng(3))
    divider = town.roads.road_dividers[0]
    for lane in town.roads.lanes:
        x, y, yaw = lane.pose_at(lane.length_m / 2)
        nearest = divider.interpolate(divider.project(shapely.Point(x, y)))
        left = (nearest.x - x) * -np.sin(yaw) + (nearest.y - y) * np.cos(yaw)
        assert left > 1.0


def test_nothing_stands_on_the_road_or_blocks_a_sidewalk_path(town: Town):
    corners = town.mesh.vertices[town.mesh.faces]
    middles = corners.mean(axis=1)
    solid = (town.mesh.semantic > FLAT_TERRAIN) & (middles[:, 2] < 1.6)
    points = shapely.points(corners[solid][:, :, :2].reshape(-1, 2))
    road = shapely.union_all(town.roads.road_segments).buffer(-0.05)
    shapely.prepare(road)
    islands = shapely.union_all(town.roads.road_segments).difference(town.roads.drivable)
    on_road = shapely.contains(road, points)
    assert (shapely.distance(islands, points[on_road]) < 0.3).all()
    walks = shapely.union_all([LineString(path) for path in town.sidewalk_paths]).buffer(0.35)
    shapely.prepare(walks)
    assert not shapely.intersects(walks, points).any()


def test_flat_faces_look_up_and_lie_at_their_height(town: Town):
    mesh, normals = town.mesh, face_normals(town.mesh)
    heights = mesh.vertices[mesh.faces][:, :, 2]
    flat = np.abs(normals[:, 2]) > 0.9
    asphalt = (mesh.semantic == FLAT_DRIVEABLE) & (mesh.material == Material.ASPHALT)
    assert (normals[asphalt, 2] > 0.99).all()
    assert set(np.unique(heights[asphalt & (heights[:, 0] < 0.1)])) == {0.0}
    walk = (mesh.semantic == FLAT_SIDEWALK) & flat
    np.testing.assert_allclose(heights[walk], KERB_HEIGHT_M, atol=1e-6)
    paint = mesh.material == Material.LANE_PAINT
    assert (normals[paint, 2] > 0.99).all()
    assert heights[paint].min() > 0.0 and heights[paint].max() < 0.02


def test_the_ground_leaves_no_hole(town: Town):
    mesh = town.mesh
    ground = (
        (mesh.semantic >= FLAT_DRIVEABLE) & (mesh.semantic <= FLAT_TERRAIN) & (mesh.material != Material.LANE_PAINT)
    )
    corners = mesh.vertices[mesh.faces[ground]].astype(np.float64)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    total = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2
    aprons = town.roads.drivable.area  # driveways lie on top of the sidewalk, so the sum may only exceed the square
    assert TOWN_SIZE_M**2 - 3.0 < total < TOWN_SIZE_M**2 + 0.05 * aprons


def test_kerbs_face_the_road(town: Town):
    mesh, normals = town.mesh, face_normals(town.mesh)
    walls = (mesh.semantic == FLAT_SIDEWALK) & (np.abs(normals[:, 2]) < 0.1)
    assert walls.sum() > 50
    middles = mesh.vertices[mesh.faces[walls]].mean(axis=1)[:, :2]
    ahead = shapely.points(middles + 0.1 * normals[walls, :2])
    assert shapely.contains(town.roads.drivable.buffer(0.01), ahead).mean() > 0.99


def test_parking_places_are_on_drivable_ground_and_apart_from_lanes(town: Town):
    assert town.parking_slots.shape[1] == 3
    spots = shapely.points(town.parking_slots[:, :2])
    assert shapely.contains(town.roads.drivable, spots).all()
    lanes = shapely.union_all([lane.polygon for lane in town.roads.lanes])
    assert (shapely.distance(lanes, spots) > 0.9).all()


def test_crossing_paths_lead_from_kerb_to_kerb(town: Town):
    assert len(town.crossing_paths) == len(town.roads.crossings)
    outside = shapely.union_all(town.roads.walkways).buffer(0.6)
    for path, crossing in zip(town.crossing_paths, town.roads.crossings, strict=True):
        assert crossing.buffer(0.1).contains(LineString(path))
        assert outside.contains(shapely.Point(path[0])) and outside.contains(shapely.Point(path[-1]))


def test_sidewalk_paths_stay_on_the_walkways(town: Town):
    walks = shapely.union_all(town.roads.walkways).buffer(0.1)
    for path in town.sidewalk_paths:
        line = LineString(path)
        assert line.intersection(walks).length > 0.97 * line.length


def test_street_lamps_hang_above_the_road_side(town: Town):
    assert len(town.street_lamps) > 4
    assert (town.street_lamps[:, 2] > 5.5).all()
    lamp_faces = town.mesh.faces[town.mesh.material == Material.STREETLAMP]
    assert len(lamp_faces) >= 10 * len(town.street_lamps)


@pytest.mark.parametrize("part", ["box", "cone"])
def test_solids_are_wound_outwards(part: str):
    builder = MeshBuilder()
    if part == "box":
        builder.box((4.0, 2.0, 0.7), (2.0, 1.0, 3.0), 0.0, (9, 9, 9), material=Material.METAL, semantic=28)
        expected = 6.0
    else:
        builder.cone((4.0, 2.0, 0.0), (4.0, 2.0, 3.0), (0.5, 0.5), (9, 9, 9), sides=24)
        expected = np.pi * 0.25 * 3.0
    assert signed_volume(builder.build()) == pytest.approx(expected, rel=0.03)


def test_an_empty_builder_gives_an_empty_mesh():
    assert len(MeshBuilder().build().faces) == 0
