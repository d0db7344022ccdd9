"""Map and occupancy from above: where things end up in the picture, and that its numbers survive."""

import cv2
import numpy as np

from bevstack.data.bird_rasters import (
    DRAW_ORDER,
    GROUND_COLOURS,
    MAP_COLOURS,
    encode_png,
    map_raster,
    occupancy_colours,
    occupancy_raster,
    paint_map,
    paint_occupancy,
)
from bevstack.data.class_names import DETECTION_CLASSES, OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.maps import MAP_CLASSES
from bevstack.types import BevGrid, VoxelGrid

GRID = BevGrid(x_range_m=(-2.0, 4.0), y_range_m=(-2.0, 2.0), z_range_m=(-1.0, 1.0), cell_m=1.0)
VOXELS = VoxelGrid(x_range_m=(-2.0, 4.0), y_range_m=(-2.0, 2.0), z_range_m=(0.0, 3.0), voxel_m=1.0)
CAR, TREE, ROAD = (OCCUPANCY_CLASSES.index(name) for name in ("car", "vegetation", "driveable_surface"))


def test_ahead_is_up_and_left_is_left() -> None:
    masks = np.zeros((6, 4, 6), bool)
    masks[0, 3, 5] = True  # left end, far end
    semantics = np.full((6, 4, 3), OCCUPANCY_FREE, np.uint8)
    semantics[5, 3, 0] = CAR
    for raster, value in ((map_raster(masks, GRID), 1), (occupancy_raster(semantics, VOXELS), CAR)):
        assert raster.values.shape == (6, 4) and raster.x_range_m == (-2, 4) and raster.y_range_m == (-2, 2)
        assert raster.values[0, 0] == value
        assert (raster.values == value).sum() == 1


def test_overlapping_map_classes_keep_their_bits_and_lines_lie_on_top() -> None:
    masks = np.zeros((6, 4, 6), bool)
    names = list(MAP_CLASSES)
    masks[names.index("drivable_area")] = True
    masks[names.index("divider"), 0, 0] = True
    raster = map_raster(masks, GRID)
    assert raster.values[-1, -1] == 1 << names.index("drivable_area") | 1 << names.index("divider")
    picture = paint_map(raster, (0, 0, 0))
    assert tuple(picture[-1, -1]) == MAP_COLOURS["divider"]
    assert tuple(picture[0, 0]) == MAP_COLOURS["drivable_area"]
    assert sorted(DRAW_ORDER) == sorted(MAP_CLASSES) == sorted(MAP_COLOURS)


def test_the_highest_known_voxel_is_seen() -> None:
    semantics = np.full((6, 4, 3), OCCUPANCY_FREE, np.uint8)
    semantics[:, :, 0] = ROAD
    semantics[0, 0] = (CAR, TREE, OCCUPANCY_FREE)
    semantics[1, 0] = (CAR, OCCUPANCY_FREE, OCCUPANCY_IGNORE)
    semantics[2, 0] = OCCUPANCY_IGNORE
    seen = occupancy_raster(semantics, VOXELS).values[::-1, ::-1]
    assert (seen[0, 0], seen[1, 0], seen[2, 0], seen[5, 3]) == (TREE, CAR, OCCUPANCY_FREE, ROAD)


def test_every_occupied_class_has_its_own_colour_and_free_is_background() -> None:
    objects = {name: (index, 255, 0) for index, name in enumerate(DETECTION_CLASSES)}
    colours = occupancy_colours(objects)
    assert len(set(colours.values())) == len(OCCUPANCY_CLASSES) - 1 and "free" not in colours
    semantics = np.full((6, 4, 3), OCCUPANCY_FREE, np.uint8)
    semantics[0, 0, 1] = TREE
    picture = paint_occupancy(occupancy_raster(semantics, VOXELS), colours, (1, 2, 3))
    assert tuple(picture[-1, -1]) == GROUND_COLOURS["vegetation"] and tuple(picture[0, 0]) == (1, 2, 3)


def test_a_png_holds_the_very_numbers() -> None:
    raster = map_raster(np.random.default_rng(0).random((6, 4, 6)) > 0.5, GRID)
    decoded = cv2.imdecode(np.frombuffer(encode_png(raster), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, raster.values)
