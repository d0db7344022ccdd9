import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from fixtures.map_writer import DEVKIT_LAYERS, EMPTY_LAYERS, LOCATION, MapWriter, city
from shapely.geometry import LineString, Polygon

from bevstack.data.maps import MAP_CLASSES, POLYGON_LAYERS, VectorMap, map_of_location, read_vector_map
from bevstack.geometry.transforms import from_xy_yaw
from bevstack.types.bev import BevGrid
from bevstack.types.errors import DatasetError


@pytest.fixture(scope="module")
def city_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("city")
    city().write(root)
    return root


def grid_of(x_range_m: tuple[float, float], y_range_m: tuple[float, float], cell_m: float) -> BevGrid:
    return BevGrid(x_range_m=x_range_m, y_range_m=y_range_m, z_range_m=(-5.0, 3.0), cell_m=cell_m)


POSES = [(200.0, 200.0, 0.0), (137.3, 251.9, 0.37), (310.2, 90.4, -2.5), (5.0, 390.0, 1.5707963)]


@pytest.mark.parametrize("pose", POSES)
def test_exact_masks_are_the_devkits_bit_for_bit(city_root: Path, pose: tuple[float, float, float]) -> None:
    from nuscenes.map_expansion.map_api import NuScenesMap, NuScenesMapExplorer

    def lines_of_all_parts(lines: Any, mask: np.ndarray) -> np.ndarray:
        # The devkit's own function raises a TypeError for several parts with Shapely 2; one by one it works.
        for line in getattr(lines, "geoms", [lines]):
            original(line, mask)
        return mask

    original = NuScenesMapExplorer.mask_for_lines
    devkit = NuScenesMap(str(city_root), LOCATION)
    devkit.explorer.mask_for_lines = lines_of_all_parts
    x, y, yaw = pose
    expected = devkit.get_map_mask((x, y, 100.0, 100.0), float(np.degrees(yaw)), list(DEVKIT_LAYERS), (200, 200))
    vector_map = read_vector_map(city_root / "maps" / "expansion" / f"{LOCATION}.json")
    masks = vector_map.patch_masks(DEVKIT_LAYERS, np.array((x, y)), (100.0, 100.0), yaw, (200, 200))
    assert expected.any(axis=(1, 2)).sum() >= 5, "the patch shows something"
    assert np.array_equal(masks, expected)


@pytest.mark.parametrize("compat", ["devkit", "correct"])
def test_fast_masks_overlap_the_exact_ones(city_root: Path, compat: str) -> None:
    vector_map = map_of_location(city_root, LOCATION)
    grid = grid_of((-50.0, 50.0), (-50.0, 50.0), 0.5)
    both = either = 0
    for pose in POSES:
        fast, exact = (
            vector_map.raster(grid, from_xy_yaw(*pose), {"drivable_area": ("drivable_area",)}, method=m, compat=compat)
            for m in ("fast", "exact")
        )
        both, either = both + (fast & exact).sum(), either + (fast | exact).sum()
    assert both / either > 0.99


def test_a_hole_erases_earlier_polygons_in_devkit_mode_only(tmp_path: Path) -> None:
    plate = shapely.box(90, 90, 110, 110)
    ring = Polygon(shapely.box(80, 80, 120, 120).exterior, [shapely.box(90, 90, 110, 110).exterior.coords])
    path = MapWriter().add("walkway", plate, ring).write(tmp_path)
    center = np.array((100.0, 100.0))
    masks = {
        (method, compat): read_vector_map(path).patch_masks(
            ("walkway",), center, (60.0, 60.0), 0.0, (60, 60), method=method, compat=compat
        )[0]
        for method in ("exact", "fast")
        for compat in ("devkit", "correct")
    }
    assert masks["exact", "devkit"][30, 30] == 0
    assert masks["exact", "correct"][30, 30] == 1 and masks["fast", "correct"][30, 30] == 1
    assert masks["exact", "correct"].sum() >= 40 * 40


@pytest.mark.parametrize("method", ["exact", "fast"])
def test_a_shape_ahead_and_to_the_left_lands_in_its_cells(tmp_path: Path, method: str) -> None:
    # The vehicle at (200, 100) looks along global y. A walkway 10 to 14 m ahead and 4 to 6 m to the left.
    path = MapWriter().add("walkway", shapely.box(194, 110, 196, 114)).write(tmp_path)
    grid = grid_of((-20.0, 40.0), (-20.0, 20.0), 1.0)
    masks = read_vector_map(path).raster(grid, from_xy_yaw(200.0, 100.0, np.pi / 2), method=method, compat="correct")
    assert masks.shape == (len(MAP_CLASSES), 40, 60)
    rows, columns = np.nonzero(masks[list(MAP_CLASSES).index("walkway")])
    centers = grid.centers_m().numpy()[rows, columns]
    assert centers[:, 0].mean() == pytest.approx(12.0, abs=0.51) and centers[:, 1].mean() == pytest.approx(
        5.0, abs=0.51
    )
    inside = (np.abs(centers[:, 0] - 12) < 2) & (np.abs(centers[:, 1] - 5) < 1)
    assert inside.sum() == 8, "all eight cells whose centre is inside are set"
    assert not masks[0].any()


def test_divider_joins_road_and_lane_dividers(tmp_path: Path) -> None:
    writer = MapWriter().add("road_divider", LineString([(90, 95), (110, 95)]))
    path = writer.add("lane_divider", LineString([(90, 105), (110, 105)])).write(tmp_path)
    grid = grid_of((-16.0, 16.0), (-16.0, 16.0), 0.5)
    divider = read_vector_map(path).raster(grid, from_xy_yaw(100.0, 100.0, 0.0))[-1]
    rows = np.flatnonzero(divider[:, 32])
    assert set(rows.tolist()) == {21, 22, 23, 41, 42, 43}, "the line and its two neighbours"


def test_nothing_is_drawn_far_from_everything(city_root: Path) -> None:
    grid = grid_of((-50.0, 50.0), (-50.0, 50.0), 0.5)
    for method in ("exact", "fast"):
        masks = map_of_location(city_root, LOCATION).raster(grid, from_xy_yaw(9000.0, 0.0, 0.3), method=method)
        assert not masks.any()


def test_layers_are_available_as_shapes_and_unknown_ones_are_refused(city_root: Path) -> None:
    vector_map = map_of_location(city_root, LOCATION)
    assert len(vector_map.shapes("drivable_area")) == 25 and len(vector_map.shapes("walkway")) == 25
    assert {name for name in POLYGON_LAYERS if not vector_map.shapes(name)} == set(EMPTY_LAYERS) - {"traffic_light"}
    with pytest.raises(ValueError, match="no map layer 'pavement'"):
        vector_map.shapes("pavement")


def test_a_map_that_is_missing_old_or_damaged_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"moon.json is missing: unpack nuScenes-map-expansion-v1.3.zip"):
        map_of_location(tmp_path, "moon")
    writer = MapWriter().add("walkway", shapely.box(0, 0, 9, 9))
    writer.document["version"] = "1.2"
    with pytest.raises(DatasetError, match="has version 1.2"):
        read_vector_map(writer.write(tmp_path))
    writer.document |= {"version": "1.3", "node": []}
    with pytest.raises(DatasetError, match="is damaged"):
        read_vector_map(writer.write(tmp_path))
    path = writer.write(tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DatasetError, match="not complete JSON"):
        read_vector_map(path)
    shutil.rmtree(tmp_path / "maps")


def test_an_empty_map_rasterises_to_nothing() -> None:
    empty = VectorMap("nowhere", (10.0, 10.0), {name: [] for name in (*POLYGON_LAYERS, "road_divider", "lane_divider")})
    grid = grid_of((-4.0, 4.0), (-4.0, 4.0), 0.5)
    assert not empty.raster(grid, from_xy_yaw(0.0, 0.0, 0.0), method="exact").any()
