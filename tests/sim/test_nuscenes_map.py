import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.utils.map_mask import MapMask

from bevstack.sim.world.nuscenes_map import PlacedTown, write_basemap, write_map_expansion, write_semantic_prior
from bevstack.sim.world.town import make_town

CANVAS_M = (560.0, 290.0)
LOCATION = "boston-seaport"


@pytest.fixture(scope="module")
def placed() -> list[PlacedTown]:
    return [
        (make_town("crossroads", np.random.default_rng(3)), (140.0, 140.0)),
        (make_town("roundabout", np.random.default_rng(4)), (420.0, 145.5)),
    ]


@pytest.fixture(scope="module")
def root(placed: list[PlacedTown], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("worlds")
    write_map_expansion(root / "maps" / "expansion" / f"{LOCATION}.json", placed, CANVAS_M)
    write_semantic_prior(root / "maps" / "prior.png", placed, CANVAS_M)
    write_basemap(root / "maps" / "basemap" / f"{LOCATION}.png", placed, CANVAS_M, pixel_m=0.5)
    return root


@pytest.fixture(scope="module")
def devkit_map(root: Path) -> NuScenesMap:
    return NuScenesMap(str(root), LOCATION)


def moved(area: shapely.Geometry, offset: tuple[float, float]) -> shapely.Geometry:
    return shapely.transform(area, lambda points: points + offset)


def layer_truth(town, layer: str) -> shapely.Geometry:
    roads = town.roads
    areas = {
        "drivable_area": [roads.drivable],
        "road_segment": roads.road_segments,
        "road_block": [block.polygon for block in roads.road_blocks],
        "lane": [lane.polygon for lane in roads.lanes if not lane.is_connector],
        "ped_crossing": roads.crossings,
        "walkway": roads.walkways,
        "stop_line": roads.stop_lines,
        "carpark_area": roads.carparks,
    }[layer]
    return shapely.union_all(list(areas)).intersection(shapely.box(-128, -128, 128, 128))


POLYGON_LAYERS = (
    "drivable_area",
    "road_segment",
    "road_block",
    "lane",
    "ped_crossing",
    "walkway",
    "stop_line",
    "carpark_area",
)


@pytest.mark.parametrize("layer", POLYGON_LAYERS)
def test_the_devkit_mask_of_a_layer_is_the_layer(devkit_map: NuScenesMap, placed: list[PlacedTown], layer: str):
    pixel_m, count = 0.25, 480
    centers = (np.arange(count) + 0.5) * pixel_m - 60.0
    columns, rows = np.meshgrid(centers, centers)
    for town, (x, y) in placed:
        mask = devkit_map.get_map_mask((x, y, 120.0, 120.0), 0.0, [layer], (count, count))[0].astype(bool)
        truth = layer_truth(town, layer)
        shapely.prepare(truth)
        differs = mask != shapely.contains_xy(truth, columns, rows)
        # The devkit rounds corners to whole pixels and fills outlines: up to two pixels on either side of an edge.
        gaps = shapely.distance(truth.boundary, shapely.points(columns[differs], rows[differs]))
        assert gaps.max(initial=0.0) < 2.1 * pixel_m
        if truth.intersection(shapely.box(-60, -60, 60, 60)).area > 1.0:
            assert mask.any()


def test_layers_on_point_name_what_is_there(devkit_map: NuScenesMap, placed: list[PlacedTown]):
    town, offset = placed[0]
    rng = np.random.default_rng(0)
    truths = {layer: layer_truth(town, layer) for layer in ("drivable_area", "lane", "walkway", "ped_crossing")}
    points = [lane.centerline[len(lane.centerline) // 2] for lane in town.roads.lanes[:6]]
    points += [np.asarray(area.centroid.coords[0]) for area in town.roads.crossings]
    points += list(rng.uniform(-60, 60, (12, 2)))
    for point in points:
        if min(truth.boundary.distance(shapely.Point(point)) for truth in truths.values()) < 0.05:
            continue
        found = devkit_map.layers_on_point(*(point + offset), list(truths))
        for layer, truth in truths.items():
            assert bool(found[layer]) == truth.contains(shapely.Point(point)), (layer, point)


def test_the_closest_lane_to_a_centreline_point_is_its_own_or_one_that_overlaps(
    devkit_map: NuScenesMap, placed: list[PlacedTown]
):
    town, offset = placed[1]
    for lane in town.roads.lanes[::5]:
        point = lane.centerline[len(lane.centerline) // 2] + offset
        token = devkit_map.get_closest_lane(*point, radius=2)
        poses = np.array(devkit_map.discretize_lanes([token], 0.5)[token])
        assert np.hypot(*(poses[:, :2] - point).T).min() < 0.3


def test_discretized_lanes_follow_the_centrelines(devkit_map: NuScenesMap, placed: list[PlacedTown]):
    records = iter(devkit_map.lane), iter(devkit_map.lane_connector)
    for town, offset in placed:
        for lane in town.roads.lanes:
            token = next(records[int(lane.is_connector)])["token"]
            poses = np.array(devkit_map.discretize_lanes([token], 1.0)[token])
            line = shapely.LineString(lane.centerline + offset)
            assert shapely.distance(line, shapely.points(poses[:, :2])).max() < 0.06
            np.testing.assert_allclose(poses[[0, -1], :2], line.coords[:: len(line.coords) - 1], atol=0.05)


def test_connectivity_mirrors_the_lane_graph(devkit_map: NuScenesMap, placed: list[PlacedTown]):
    expected = sum(len(lane.successors) for town, _ in placed for lane in town.roads.lanes)
    assert sum(len(links["outgoing"]) for links in devkit_map.connectivity.values()) == expected
    for token, links in devkit_map.connectivity.items():
        for following in links["outgoing"]:
            assert token in devkit_map.get_incoming_lane_ids(following)


def test_every_stop_line_has_its_cue(devkit_map: NuScenesMap):
    kinds = {record["stop_line_type"] for record in devkit_map.stop_line}
    assert kinds <= {"PED_CROSSING", "STOP_SIGN", "YIELD"} and "YIELD" in kinds
    for record in devkit_map.stop_line:
        assert bool(record["cue"]) == (record["stop_line_type"] == "PED_CROSSING")


def test_all_nodes_lie_on_the_canvas(devkit_map: NuScenesMap):
    nodes = np.array([(node["x"], node["y"]) for node in devkit_map.node])
    assert nodes.min() >= 0.0
    assert (nodes <= CANVAS_M).all()
    assert devkit_map.canvas_edge == list(CANVAS_M)
    tokens = [record["token"] for layer in devkit_map.layer_names for record in getattr(devkit_map, layer)]
    assert len(tokens) == len(set(tokens))


def test_the_map_mask_is_foreground_on_roads_and_walkways_only(root: Path, placed: list[PlacedTown]):
    mask = MapMask(str(root / "maps" / "prior.png"))
    rng = np.random.default_rng(1)
    for town, offset in placed:
        truth = shapely.union_all([town.roads.drivable, *town.roads.walkways])
        points = rng.uniform(-120, 120, (1500, 2))
        clear = shapely.distance(truth.boundary, shapely.points(points)) > 0.15
        points = points[clear]
        found = mask.is_on_mask(points[:, 0] + offset[0], points[:, 1] + offset[1])
        np.testing.assert_array_equal(found, shapely.contains_xy(truth, points[:, 0], points[:, 1]))


def test_the_basemap_shows_paint_brighter_than_asphalt(root: Path, placed: list[PlacedTown]):
    from PIL import Image

    picture = np.asarray(Image.open(root / "maps" / "basemap" / f"{LOCATION}.png"))
    assert picture.shape == (580, 1120)
    town, offset = placed[0]
    crossing = np.asarray(town.roads.crossings[0].centroid.coords[0]) + offset
    row, column = int(580 - crossing[1] * 2), int(crossing[0] * 2)
    patch = picture[row - 3 : row + 4, column - 3 : column + 4]
    assert int(patch.max()) - int(patch.min()) > 80


def test_the_same_towns_give_the_same_bytes(root: Path, placed: list[PlacedTown], tmp_path: Path):
    write_map_expansion(tmp_path / "again.json", placed, CANVAS_M)
    first = (root / "maps" / "expansion" / f"{LOCATION}.json").read_bytes()
    assert hashlib.sha256(first).digest() == hashlib.sha256((tmp_path / "again.json").read_bytes()).digest()
    assert json.loads(first)["version"] == "1.3"
    assert [path.name for path in tmp_path.iterdir()] == ["again.json"]


def test_a_town_beside_the_canvas_is_refused(placed: list[PlacedTown], tmp_path: Path):
    with pytest.raises(ValueError, match="leaves the canvas"):
        write_map_expansion(tmp_path / "map.json", [(placed[0][0], (100.0, 140.0))], CANVAS_M)
    assert not list(tmp_path.iterdir())
