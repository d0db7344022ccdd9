"""The vector map (nuScenes map expansion 1.3) and its rasters on a BEV grid.

Two ways to rasterise. `exact` clips every shape to the patch like nuscenes-devkit's `get_map_mask`, with shapes
kept in memory instead of being rebuilt for each call; with compat="devkit" its result is bit-identical.
`fast` clips outlines in one pass of compiled code and differs from it where a corner is rounded the other way.

compat="devkit" is what published map-segmentation figures are measured on, with two flaws: a shape is drawn half a cell
too far along x and y (polygon corners are rounded to cell *indices*), and the hole of a polygon erases what earlier
polygons of the layer had drawn there (`exact` only: `fast` never erases). compat="correct" has neither. (The devkit
also raises a TypeError where a divider leaves the patch and enters it again; here its parts are drawn.)
"""

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import orjson
import shapely
from jaxtyping import Bool, Float, UInt8
from shapely import affinity
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from bevstack.geometry.clip import LocalFrame, Outlines, clip_outlines
from bevstack.geometry.transforms import yaw_of
from bevstack.types.bev import BevGrid
from bevstack.types.errors import DatasetError

Compat = Literal["devkit", "correct"]
Method = Literal["exact", "fast"]

POLYGON_LAYERS = (
    "drivable_area",
    "road_segment",
    "road_block",
    "lane",
    "lane_connector",
    "ped_crossing",
    "walkway",
    "stop_line",
    "carpark_area",
)
LINE_LAYERS = ("road_divider", "lane_divider")
MAP_CLASSES: dict[str, tuple[str, ...]] = {
    "drivable_area": ("drivable_area",),
    "ped_crossing": ("ped_crossing",),
    "walkway": ("walkway",),
    "stop_line": ("stop_line",),
    "carpark_area": ("carpark_area",),
    "divider": ("road_divider", "lane_divider"),
}
"""The six classes of BEV map segmentation and the layers of each (Liu et al., BEVFusion, ICRA 2023)."""

MIN_VERSION = (1, 3)
_LINE_WIDTH_CELLS = 2
_RIM_CELLS = 2.0
"""How far outside the patch an outline in several parts is cut."""
_RIGID_TOLERANCE = 1e-5
_SUBPIXEL_BITS = 4
"""OpenCV holds shifted coordinates in 32 bits: 4 bits leave room for outlines a thousand kilometres long."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """Shapes of one layer in file order, with what the rasterisers need prepared."""

    shapes: np.ndarray
    """Polygons or lines (object array)."""
    bounds: Float[np.ndarray, "N 4"]
    """Of each shape: least x and y, largest x and y."""
    outlines: Outlines
    """The same shapes as bare points."""

    @classmethod
    def of(cls, shapes: list[BaseGeometry]) -> "_Layer":
        array = np.empty(len(shapes), object)
        array[:] = shapes
        rings = [
            [np.asarray(ring.coords) for ring in (shape.exterior, *shape.interiors)]
            if isinstance(shape, Polygon)
            else [np.asarray(shape.coords)]
            for shape in shapes
        ]
        bounds = shapely.bounds(array).reshape(-1, 4)
        is_closed = bool(shapes) and isinstance(shapes[0], Polygon)
        return cls(array, bounds, Outlines.of(rings, bounds, is_closed=is_closed))

    def near(self, area_bounds: tuple[float, float, float, float]) -> np.ndarray:
        """Indices, in file order, of shapes whose bounding rectangles meet another one."""
        x_low, y_low, x_high, y_high = area_bounds
        low, high = self.bounds[:, :2], self.bounds[:, 2:]
        return np.flatnonzero((low <= (x_high, y_high)).all(axis=1) & (high >= (x_low, y_low)).all(axis=1))


class VectorMap:
    """Polygons and lines of one location, in the map's global coordinates (metres)."""

    def __init__(
        self, location: str, canvas_edge_m: tuple[float, float], layers: dict[str, list[BaseGeometry]]
    ) -> None:
        self.location, self.canvas_edge_m = location, canvas_edge_m
        self._layers = {name: _Layer.of(shapes) for name, shapes in layers.items()}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers that the file has, empty ones included."""
        return tuple(self._layers)

    def shapes(self, layer: str) -> list[BaseGeometry]:
        """All polygons or lines of a layer, in file order.

        Raises:
            ValueError: there is no such layer.
        """
        return list(self._layer(layer).shapes)

    def _layer(self, name: str) -> _Layer:
        if name not in self._layers:
            raise ValueError(f"there is no map layer '{name}'; layers: {', '.join(self._layers)}")
        return self._layers[name]

    def raster(
        self,
        grid: BevGrid,
        T_global_ego: Float[np.ndarray, "4 4"],
        classes: dict[str, tuple[str, ...]] = MAP_CLASSES,
        *,
        method: Method = "fast",
        compat: Compat = "devkit",
    ) -> Bool[np.ndarray, "K Y X"]:
        """One mask for each class on the grid, around a pose and turned with its heading.

        The pose may be that of an augmented frame (`augment.move_world`): with its scale the patch grows or shrinks,
        and in a mirrored frame the patch is drawn as it lies on the map and then mirrored. Lines stay as wide as they
        are, in cells.

        Raises:
            ValueError: a class names an unknown layer, or the cells of the grid are not those of a patch.
        """
        yaw = float(yaw_of(T_global_ego[None])[0])
        scale, is_mirrored = _scale_and_mirror(T_global_ego)
        (x_low, x_high), (y_low, y_high) = grid.x_range_m, grid.y_range_m
        if is_mirrored:  # seen from the map, y of the frame runs to the right of its heading
            y_low, y_high = -y_high, -y_low
        middle = np.array(((x_low + x_high) / 2, (y_low + y_high) / 2))
        turn = np.array(((np.cos(yaw), -np.sin(yaw)), (np.sin(yaw), np.cos(yaw))))
        center = T_global_ego[:2, 3] + scale * (turn @ middle)
        size = (scale * (y_high - y_low), scale * (x_high - x_low))
        masks = []
        for layers in classes.values():
            stacked = self.patch_masks(layers, center, size, yaw, grid.shape_yx, method=method, compat=compat)
            masks.append(stacked.any(axis=0))
        drawn = np.stack(masks)
        return drawn[:, ::-1] if is_mirrored else drawn

    def patch_masks(
        self,
        layers: tuple[str, ...],
        center_m: Float[np.ndarray, "2"],
        size_m: tuple[float, float],
        yaw_rad: float,
        cells: tuple[int, int],
        *,
        method: Method = "exact",
        compat: Compat = "devkit",
    ) -> UInt8[np.ndarray, "L H W"]:
        """One 0/1 mask for each layer on a turned rectangle; rows run along its y axis, columns along its x axis.

        Args:
            layers: Layer names.
            center_m: Centre of the rectangle in global coordinates.
            size_m: (along y, along x), the devkit's (height, width).
            yaw_rad: Direction of the rectangle's x axis.
            cells: (rows, columns) of the masks.
            method: See the module.
            compat: See the module.

        Raises:
            ValueError: there is no such layer.
        """
        patch = _Patch(float(center_m[0]), float(center_m[1]), *size_m, float(np.degrees(yaw_rad)), cells)
        draw = _draw_exact if method == "exact" else _draw_fast
        return np.stack([draw(self._layer(name), patch, compat) for name in layers])


def _scale_and_mirror(T_global_ego: np.ndarray) -> tuple[float, bool]:
    """Metres of the map for a metre of the frame, exactly 1 for every rigid pose, and whether the frame is mirrored."""
    volume = float(np.linalg.det(T_global_ego[:3, :3]))
    scale = abs(volume) ** (1 / 3)
    return (1.0 if abs(scale - 1.0) < _RIGID_TOLERANCE else scale), volume < 0


@dataclass(frozen=True, slots=True)
class _Patch:
    x_m: float
    y_m: float
    height_m: float
    width_m: float
    angle_deg: float
    cells: tuple[int, int]

    @property
    def area(self) -> Polygon:
        """The rectangle in global coordinates."""
        upright = shapely.box(
            self.x_m - self.width_m / 2.0,
            self.y_m - self.height_m / 2.0,
            self.x_m + self.width_m / 2.0,
            self.y_m + self.height_m / 2.0,
        )
        return affinity.rotate(upright, self.angle_deg, origin=(self.x_m, self.y_m))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The upright rectangle around it in global coordinates: least x and y, largest x and y."""
        angle = np.radians(self.angle_deg)
        c, s = abs(np.cos(angle)) / 2, abs(np.sin(angle)) / 2
        x, y = c * self.width_m + s * self.height_m, s * self.width_m + c * self.height_m
        return self.x_m - x, self.y_m - y, self.x_m + x, self.y_m + y

    @property
    def local_area(self) -> Polygon:
        """The rectangle in its own coordinates, around zero."""
        return shapely.box(-self.width_m / 2.0, -self.height_m / 2.0, self.width_m / 2.0, self.height_m / 2.0)

    @property
    def in_cells(self) -> LocalFrame:
        """From global coordinates to cells, counted from the first corner."""
        angle = np.radians(self.angle_deg)
        turn = np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))  # rows turn by -angle
        to_cells = turn * self.cells_per_m
        size = (float(self.cells[1]), float(self.cells[0]))
        shift = np.array(size) / 2 - np.array((self.x_m, self.y_m)) @ to_cells
        return LocalFrame(matrix=to_cells, shift=shift, size=size, rim=_RIM_CELLS)

    @property
    def cells_per_m(self) -> tuple[float, float]:
        """Scale along x and along y."""
        return self.cells[1] / self.width_m, self.cells[0] / self.height_m


def _draw_exact(layer: _Layer, patch: _Patch, compat: Compat) -> np.ndarray:
    """Clip, turn, clip again, scale, round: the order of operations decides the last bit, so it is the devkit's."""
    mask = np.zeros(patch.cells, np.uint8)
    area, local_area = patch.area, patch.local_area
    along_x, along_y = patch.cells_per_m
    for shape in shapely.intersection(layer.shapes[layer.near(area.bounds)], area):
        if shape.is_empty:
            continue
        turned = affinity.rotate(shape, -patch.angle_deg, origin=(patch.x_m, patch.y_m))
        local = affinity.affine_transform(turned, [1.0, 0.0, 0.0, 1.0, -patch.x_m, -patch.y_m]).intersection(local_area)
        if local.is_empty:
            continue
        moved = affinity.affine_transform(local, [1.0, 0.0, 0.0, 1.0, patch.width_m / 2.0, patch.height_m / 2.0])
        scaled = affinity.scale(moved, xfact=along_x, yfact=along_y, origin=(0, 0))
        parts = shapely.get_parts(scaled, return_index=False)
        _draw_polygons(mask, [part for part in parts if isinstance(part, Polygon)], compat)
        _draw_lines(mask, [part for part in parts if isinstance(part, LineString)], layer)
    return mask


def _draw_polygons(mask: np.ndarray, polygons: list[Polygon], compat: Compat) -> None:
    if not polygons:
        return
    shift = 0.0 if compat == "devkit" else 0.5
    exteriors = [_rounded(polygon.exterior.coords, shift) for polygon in polygons]
    holes = [_rounded(hole.coords, shift) for polygon in polygons for hole in polygon.interiors]
    if compat == "devkit" or not holes:
        cv2.fillPoly(mask, exteriors, (1,))
        cv2.fillPoly(mask, holes, (0,))
        return
    own = np.zeros_like(mask)
    cv2.fillPoly(own, exteriors, (1,))
    cv2.fillPoly(own, holes, (0,))
    np.maximum(mask, own, out=mask)


def _rounded(coordinates: Any, shift: float) -> np.ndarray:
    return (np.array(coordinates) - shift).round().astype(np.int32)


def _draw_lines(mask: np.ndarray, lines: list[LineString], layer: _Layer) -> None:
    """Lines of line layers; a polygon that only touches the patch also leaves a line, which is not drawn."""
    if not lines or (len(layer.shapes) and isinstance(layer.shapes[0], Polygon)):
        return
    for line in lines:
        cv2.polylines(mask, [np.asarray(line.coords).astype(np.int32)], False, (1,), _LINE_WIDTH_CELLS)


def _draw_fast(layer: _Layer, patch: _Patch, compat: Compat) -> np.ndarray:
    mask = np.zeros(patch.cells, np.uint8)
    points, piece_starts, shape_pieces = clip_outlines(layer.outlines, patch.bounds, patch.in_cells)
    if not layer.outlines.is_closed:
        whole = points.astype(np.int32)
        pieces = [whole[a:b] for a, b in itertools.pairwise(piece_starts.tolist())]
        cv2.polylines(mask, pieces, False, (1,), _LINE_WIDTH_CELLS)
        return mask
    subpixel_bits = 0 if compat == "devkit" else _SUBPIXEL_BITS
    shift = 0.0 if compat == "devkit" else 0.5
    whole = _rounded((points - shift) * (1 << subpixel_bits), 0.0)
    starts = piece_starts.tolist()
    for first, last in itertools.pairwise(shape_pieces.tolist()):
        # An outline and its holes by the even-odd rule; what is cut away altogether has no corner left.
        rings = [whole[starts[k] : starts[k + 1]] for k in range(first, last) if starts[k + 1] - starts[k] > 2]
        if rings:
            cv2.fillPoly(mask, rings, (1,), shift=subpixel_bits)
    return mask


# -- reading ----------------------------------------------------------------------------------------------------------
def read_vector_map(path: Path) -> VectorMap:
    """Read one `maps/expansion/LOCATION.json`.

    Raises:
        DatasetError: the file is missing, older than version 1.3, cut short, or refers to nodes that it does not have.
    """
    try:
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path} is missing: unpack nuScenes-map-expansion-v1.3.zip in {path.parent.parent}"
        ) from error
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"{path} is not complete JSON ({error}): unpack the map expansion again") from error
    version = tuple(int(part) for part in str(document.get("version", "1.0")).split("."))
    if version < MIN_VERSION:
        raise DatasetError(f"{path} has version {document.get('version', '1.0')}: the map expansion 1.3 is needed")
    try:
        layers = _read_layers(document)
        width, height = document["canvas_edge"]
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{path} is damaged: {error!r}; unpack the map expansion again") from error
    return VectorMap(path.stem, (float(width), float(height)), layers)


@functools.lru_cache(maxsize=8)
def map_of_location(root: Path, location: str) -> VectorMap:
    """The vector map of a location of a data set, read once in a process.

    Raises:
        DatasetError: as `read_vector_map`.
    """
    return read_vector_map(root / "maps" / "expansion" / f"{location}.json")


def _read_layers(document: dict[str, Any]) -> dict[str, list[BaseGeometry]]:
    nodes = {node["token"]: (node["x"], node["y"]) for node in document["node"]}
    polygons = {record["token"]: _polygon(record, nodes) for record in document["polygon"]}
    lines = {
        record["token"]: LineString([nodes[token] for token in record["node_tokens"]])
        for record in document["line"]
        if len(record["node_tokens"]) > 1
    }
    layers: dict[str, list[BaseGeometry]] = {}
    for name in POLYGON_LAYERS:
        if name not in document:
            continue
        records = document[name]
        tokens = [token for record in records for token in record.get("polygon_tokens", [record.get("polygon_token")])]
        # The devkit leaves out self-intersecting shapes, except in drivable areas, where it would fail on them.
        shapes = [shapely.make_valid(polygons[t]) if name == "drivable_area" else polygons[t] for t in tokens]
        layers[name] = [
            part for shape in shapes if shape.is_valid for part in shapely.get_parts(shape) if isinstance(part, Polygon)
        ]
    for name in LINE_LAYERS:
        if name in document:
            tokens = [record["line_token"] for record in document[name]]
            layers[name] = [lines[token] for token in tokens if token in lines]
    return layers


def _polygon(record: dict[str, Any], nodes: dict[str, tuple[float, float]]) -> Polygon:
    holes = [[nodes[token] for token in hole["node_tokens"]] for hole in record["holes"]]
    return Polygon([nodes[token] for token in record["exterior_node_tokens"]], [hole for hole in holes if hole])
