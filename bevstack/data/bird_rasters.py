"""Map, occupancy and attention from above, as pictures of small numbers: ahead is up, left is left, as in every picture
here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.maps import MAP_CLASSES
from bevstack.types.bev import BevGrid, VoxelGrid

Colour = tuple[int, int, int]
"""Red, green, blue."""

MAP_COLOURS: dict[str, Colour] = {
    "drivable_area": (54, 70, 92),
    "ped_crossing": (64, 176, 160),
    "walkway": (120, 92, 66),
    "stop_line": (222, 88, 70),
    "carpark_area": (98, 80, 140),
    "divider": (235, 214, 110),
}
"""Told apart on a dark ground, and dark enough to see points and boxes on them."""

DRAW_ORDER = ("drivable_area", "carpark_area", "walkway", "ped_crossing", "stop_line", "divider")
"""Map classes overlap: areas first, lines last."""

GROUND_COLOURS: dict[str, Colour] = {
    "others": (128, 128, 138),
    "driveable_surface": (54, 70, 92),
    "other_flat": (92, 84, 110),
    "sidewalk": (120, 92, 66),
    "terrain": (98, 116, 62),
    "manmade": (176, 160, 136),
    "vegetation": (44, 120, 74),
}
"""Occupancy classes that are no objects of the detection task; surfaces look as on the map."""


ATTENTION_CELLS, ATTENTION_LEVELS = 64, 32
"""Of the picture of an attention: coarse enough to keep one of every frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BirdRaster:
    """A picture of numbers; its first row is the far end ahead, its first column the left end."""

    values: UInt8[np.ndarray, "H W"]
    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]


def map_raster(masks: Bool[np.ndarray, "K Y X"], grid: BevGrid) -> BirdRaster:
    """Bit k is set where class k of `MAP_CLASSES` is."""
    bits = np.zeros(masks.shape[1:], np.uint8)
    for k, mask in enumerate(masks):
        bits |= mask.astype(np.uint8) << np.uint8(k)
    return _from_above(bits.T, grid)


def occupancy_raster(semantics: UInt8[np.ndarray, "X Y Z"], grid: VoxelGrid) -> BirdRaster:
    """Class of the highest voxel that is known to be occupied; `OCCUPANCY_FREE` where there is none."""
    is_occupied = (semantics != OCCUPANCY_FREE) & (semantics != OCCUPANCY_IGNORE)
    highest = semantics.shape[2] - 1 - is_occupied[:, :, ::-1].argmax(axis=2)
    top = np.take_along_axis(semantics, highest[:, :, None], axis=2)[:, :, 0]
    return _from_above(np.where(is_occupied.any(axis=2), top, np.uint8(OCCUPANCY_FREE)), grid)


def attention_raster(weights: Float32[np.ndarray, "Y X"], grid: BevGrid) -> BirdRaster:
    """0 to 255 for weights 0 to 1, in `ATTENTION_LEVELS` steps; means of cells where there are more than 64 a side."""
    rows, columns = (min(cells, ATTENTION_CELLS) for cells in weights.shape)
    small = cv2.resize(weights, (columns, rows), interpolation=cv2.INTER_AREA)
    steps = np.round(np.clip(small, 0, 1) * (ATTENTION_LEVELS - 1)) / (ATTENTION_LEVELS - 1)
    return _from_above(np.round(255 * steps).astype(np.uint8).T, grid)


def occupancy_colours(objects: Mapping[str, Colour]) -> dict[str, Colour]:
    """A colour for each class but "free", objects in the colours of their boxes."""
    return {name: {**GROUND_COLOURS, **objects}[name] for name in OCCUPANCY_CLASSES if name != "free"}


def paint_map(raster: BirdRaster, background: Colour) -> UInt8[np.ndarray, "H W 3"]:
    """The map as RGB."""
    picture = np.full((*raster.values.shape, 3), background, np.uint8)
    for name in DRAW_ORDER:
        picture[raster.values >> np.uint8(tuple(MAP_CLASSES).index(name)) & 1 > 0] = MAP_COLOURS[name]
    return picture


def paint_occupancy(
    raster: BirdRaster, colours: Mapping[str, Colour], background: Colour
) -> UInt8[np.ndarray, "H W 3"]:
    """The occupancy as RGB."""
    table = np.array([colours.get(name, background) for name in OCCUPANCY_CLASSES], np.uint8)
    return table[raster.values]


def encode_png(raster: BirdRaster) -> bytes:
    """The numbers as a grey PNG, without loss: a few kilobytes."""
    return cv2.imencode(".png", raster.values, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def _from_above(values: UInt8[np.ndarray, "X Y"], grid: BevGrid | VoxelGrid) -> BirdRaster:
    return BirdRaster(
        values=np.ascontiguousarray(values[::-1, ::-1]),
        x_range_m=_pair(grid.x_range_m),
        y_range_m=_pair(grid.y_range_m),
    )


def _pair(values: Sequence[float]) -> tuple[float, float]:
    return float(values[0]), float(values[1])
