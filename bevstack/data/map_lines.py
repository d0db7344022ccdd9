"""The map around a vehicle as lines: what vectorised map construction predicts and is scored on.

Three classes in a patch of 60 m along the vehicle and 30 m across, as in HDMapNet (Li et al., ICRA 2022), VectorMapNet
(Liu et al., ICML 2023) and MapTR (Liao et al., ICLR 2023):

* divider: road and lane dividers, cut off at the patch; a line that leaves and enters again is two.
* ped_crossing: outlines of the union of all crossings, closed along the rim of the patch where they are cut.
* boundary: outlines of the union of road segments and lanes, without what runs along the rim (0.2 m are taken off).
"""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float, Int64
from shapely import affinity
from shapely.geometry import LineString, MultiLineString, Polygon
from shapely.geometry.base import BaseGeometry

from bevstack.data.maps import VectorMap
from bevstack.geometry.transforms import yaw_of

MAP_LINE_CLASSES = ("divider", "ped_crossing", "boundary")
PATCH_M = (60.0, 30.0)
"""Along x (forward) and along y (left), with the vehicle in the middle."""

_DIVIDERS, _CROSSINGS, _ROADS = ("road_divider", "lane_divider"), ("ped_crossing",), ("road_segment", "lane")
_RIM_M = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class MapLines:
    """Lines in a patch, in metres: x forward, y left, zero in its middle."""

    lines: tuple[Float[np.ndarray, "_ 2"], ...]
    """Corners of each; the first and the last are the same in a closed one."""
    class_index: Int64[np.ndarray, " N"]
    """Into `MAP_LINE_CLASSES`."""

    def __len__(self) -> int:
        return len(self.lines)


def map_lines(
    vector_map: VectorMap, T_global_ego: Float[np.ndarray, "4 4"], patch_m: tuple[float, float] = PATCH_M
) -> MapLines:
    """The lines around a pose.

    Args:
        vector_map: the map of the location.
        T_global_ego: the pose; its place seen from above and its heading count.
        patch_m: size along and across.

    Raises:
        ValueError: the map lacks a layer, or the patch is not larger than its rim.
    """
    if min(patch_m) <= 2 * _RIM_M:
        raise ValueError(f"patch_m={patch_m} must be more than {2 * _RIM_M} m each way")
    view = _View(vector_map, T_global_ego, patch_m)
    of_class = (
        [line for layer in _DIVIDERS for shape in view.shapes((layer,)) for line in _lines(shape)],
        _outlines(view.shapes(_CROSSINGS), view.area(_RIM_M)),
        _outlines(view.shapes(_ROADS), view.area(-_RIM_M)),
    )
    lines = [np.asarray(line.coords)[:, :2] for lines in of_class for line in lines]
    class_index = np.repeat(np.arange(len(of_class)), [len(lines) for lines in of_class])
    return MapLines(tuple(lines), class_index.astype(np.int64))


class _View:
    """The shapes of a map as they are seen in a patch."""

    def __init__(self, vector_map: VectorMap, T_global_ego: np.ndarray, patch_m: tuple[float, float]) -> None:
        self._map, self._patch_m = vector_map, patch_m
        yaw = float(yaw_of(T_global_ego[None])[0])
        c, s = float(np.cos(yaw)), float(np.sin(yaw))
        x, y = T_global_ego[:2, 3].tolist()
        self._from_global = [c, s, -s, c, -(c * x + s * y), s * x - c * y]
        self._area_global = affinity.affine_transform(self.area(), [c, -s, s, c, x, y])
        shapely.prepare(self._area_global)

    def area(self, margin_m: float = 0.0) -> Polygon:
        """The patch, grown by a margin."""
        x, y = (side / 2 + margin_m for side in self._patch_m)
        return shapely.box(-x, -y, x, y)

    def shapes(self, layers: tuple[str, ...]) -> list[BaseGeometry]:
        """What of the layers lies in the patch, in its coordinates and file order."""
        found = [shape for layer in layers for shape in self._map.shapes(layer)]
        near = shapely.intersects(self._area_global, found) if found else []
        local = [affinity.affine_transform(shape, self._from_global) for shape, is_near in zip(found, near) if is_near]
        return [part for part in (shape.intersection(self.area()) for shape in local) if not part.is_empty]


def _outlines(shapes: list[BaseGeometry], area: Polygon) -> list[LineString]:
    """Rings of the union of some polygons, as far as they lie in an area."""
    lines = []
    for part in shapely.get_parts(shapely.union_all(shapes)):
        if isinstance(part, Polygon):
            for ring in (part.exterior, *part.interiors):
                inside = LineString(ring).intersection(area)
                lines += _lines(shapely.line_merge(inside) if isinstance(inside, MultiLineString) else inside)
    return lines


def _lines(shape: BaseGeometry) -> list[LineString]:
    """The lines of a shape that have a length."""
    return [part for part in shapely.get_parts(shape) if isinstance(part, LineString) and part.length > 0]
