"""Towns as a nuScenes map: the vector layers of map expansion 1.3, the semantic prior and a base map picture.

The layers and their fields are those of nuscenes-devkit's `NuScenesMap` (Caesar et al., nuScenes, CVPR 2020). Several
towns share one map: each lies at its own offset on the canvas of a location.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import orjson
import shapely
from shapely.geometry import LineString, MultiPolygon, Polygon

from bevstack.sim.world.arclines import arcline_path
from bevstack.sim.world.mesh import Material
from bevstack.sim.world.roads import Lane
from bevstack.sim.world.town import Town
from bevstack.sim.world.town_layout import SIMPLIFY_M, TOWN_SIZE_M, square

PlacedTown = tuple[Town, tuple[float, float]]
"""A town and the canvas coordinates (x, y) of its centre, metres."""

PRIOR_PIXEL_M = 0.1
_SUBPIXEL_BITS = 4
_POLYGON_LAYERS = (
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
_LINE_LAYERS = ("road_divider", "lane_divider", "traffic_light")


def write_map_expansion(path: Path, towns: Sequence[PlacedTown], canvas_edge_m: tuple[float, float]) -> None:
    """Write the vector map of a location, `maps/expansion/LOCATION.json`; tokens depend on the content alone.

    Raises:
        ValueError: a town does not lie on the canvas.
    """
    _check_on_canvas(towns, canvas_edge_m)
    layers = _Layers()
    for town, offset in towns:
        _TownRecords(layers, town, offset).add_all()
    content = {"version": "1.3", "canvas_edge": [float(edge) for edge in canvas_edge_m], **layers.tables}
    _replace_file(path, orjson.dumps(content))


def write_semantic_prior(path: Path, towns: Sequence[PlacedTown], canvas_edge_m: tuple[float, float]) -> None:
    """Write the picture that `map.json` names: 255 on drivable surface and walkways, 0 elsewhere, 0.1 m a pixel.

    Raises:
        ValueError: a town does not lie on the canvas.
        OSError: the picture could not be written.
    """
    _check_on_canvas(towns, canvas_edge_m)
    picture = _blank(canvas_edge_m, PRIOR_PIXEL_M, 0)
    for town, offset in towns:
        parts = shapely.get_parts(shapely.union_all([town.roads.drivable, *town.roads.walkways]))
        for part in parts:
            rings = [_pixels(np.asarray(ring.coords), offset, picture, PRIOR_PIXEL_M) for ring in _rings(part)]
            cv2.fillPoly(picture, rings, (255,), shift=_SUBPIXEL_BITS)
    _write_png(path, picture)


def write_basemap(
    path: Path, towns: Sequence[PlacedTown], canvas_edge_m: tuple[float, float], pixel_m: float = PRIOR_PIXEL_M
) -> None:
    """Write `maps/basemap/LOCATION.png`: a grey picture of the ground from above, as LiDAR intensity shows it.

    Raises:
        ValueError: a town does not lie on the canvas.
        OSError: the picture could not be written.
    """
    _check_on_canvas(towns, canvas_edge_m)
    picture = _blank(canvas_edge_m, pixel_m, 0)
    for town, offset in towns:
        mesh = town.mesh
        triangles = mesh.vertices[mesh.faces].astype(np.float64)
        edges_a, edges_b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
        faces_up = edges_a[:, 0] * edges_b[:, 1] - edges_a[:, 1] * edges_b[:, 0] > 1e-9
        order = np.flatnonzero(faces_up)
        order = order[np.argsort(triangles[order, :, 2].max(axis=1), kind="stable")]
        grey = mesh.albedo.mean(axis=1)
        grey[mesh.material == Material.GRASS] *= 0.6
        for face in order.tolist():
            corners = _pixels(triangles[face, :, :2], offset, picture, pixel_m)
            cv2.fillConvexPoly(picture, corners, (float(grey[face]),), shift=_SUBPIXEL_BITS)
    _write_png(path, picture)


class _Layers:
    """The tables of a map; equal coordinates share one node."""

    def __init__(self) -> None:
        self.tables: dict = {name: [] for name in ("polygon", "line", "node", *_POLYGON_LAYERS, *_LINE_LAYERS)}
        self.tables |= {"arcline_path_3": {}, "connectivity": {}}
        self._nodes: set[str] = set()

    def node(self, x: float, y: float) -> str:
        x, y = round(float(x), 4) + 0.0, round(float(y), 4) + 0.0
        token = _token("node", x, y)
        if token not in self._nodes:
            self._nodes.add(token)
            self.tables["node"].append({"token": token, "x": x, "y": y})
        return token

    def line(self, points: np.ndarray) -> str:
        nodes = [self.node(x, y) for x, y in points]
        token = _token("line", len(self.tables["line"]), *nodes)
        self.tables["line"].append({"token": token, "node_tokens": nodes})
        return token

    def polygon(self, polygon: Polygon) -> str:
        rings = [[self.node(x, y) for x, y in list(ring.coords)[:-1]] for ring in _rings(polygon)]
        token = _token("polygon", len(self.tables["polygon"]), *rings[0])
        holes = [{"node_tokens": ring} for ring in rings[1:]]
        self.tables["polygon"].append({"token": token, "exterior_node_tokens": rings[0], "holes": holes})
        return token

    def add(self, layer: str, **fields: object) -> str:
        token = _token(layer, len(self.tables[layer]), *fields.values())
        self.tables[layer].append({"token": token, **fields})
        return token


class _TownRecords:
    """Writes one town into the tables."""

    def __init__(self, layers: _Layers, town: Town, offset: tuple[float, float]) -> None:
        self.layers = layers
        self.roads = town.roads
        self.shift = np.asarray(offset, np.float64)
        self.lane_tokens: list[str] = []

    def add_all(self) -> None:
        """Add every layer; later layers refer to tokens of earlier ones."""
        layers, roads = self.layers, self.roads
        polygons = [self._polygon(part) for part in _polygons(roads.drivable)]
        drivable = layers.add("drivable_area", polygon_tokens=polygons)
        segments = [
            layers.add(
                "road_segment",
                polygon_token=self._polygon(area),
                is_intersection=crossing,
                drivable_area_token=drivable,
            )
            for area, crossing in zip(roads.road_segments, roads.segment_is_intersection, strict=True)
        ]
        blocks = self._road_blocks(segments)
        self._lanes()
        crossings = [
            layers.add("ped_crossing", polygon_token=self._polygon(area), road_segment_token=segments[index])
            for index, area in enumerate(roads.crossings)
        ]
        for area in roads.walkways:
            layers.add("walkway", polygon_token=self._polygon(area))
        for stop in roads.stop_line_details:
            layers.add(
                "stop_line",
                polygon_token=self._polygon(stop.polygon),
                stop_line_type=stop.kind,
                ped_crossing_tokens=[] if stop.crossing is None else [crossings[stop.crossing]],
                traffic_light_tokens=[],
                road_block_token=next(blocks[lane] for lane in stop.lanes),
            )
        for area, yaw in zip(roads.carparks, roads.carpark_yaws_rad, strict=True):
            layers.add("carpark_area", polygon_token=self._polygon(area), orientation=yaw, road_block_token=None)
        self._dividers(segments)

    def _road_blocks(self, segments: list[str]) -> dict[int, str]:
        """Add the road blocks; the token of each lane's block."""
        tokens: dict[int, str] = {}
        for block in self.roads.road_blocks:
            lanes = [self.roads.lanes[lane] for lane in block.lanes]
            token = self.layers.add(
                "road_block",
                polygon_token=self._polygon(block.polygon),
                from_edge_line_token=self._edge(lanes, 0),
                to_edge_line_token=self._edge(lanes, -1),
                road_segment_token=segments[block.segment],
            )
            tokens |= dict.fromkeys(block.lanes, token)
        return tokens

    def _edge(self, lanes: list[Lane], end: int) -> str:
        """The line across neighbouring lanes at their start (0) or end (-1), from the left edge to the right."""
        left, right = _lane_sides(lanes[0]), _lane_sides(lanes[-1])
        return self.layers.line(np.stack((left[0][end], right[1][end])) + self.shift)

    def _lanes(self) -> None:
        layers = self.layers
        for lane in self.roads.lanes:
            polygon = self._polygon(lane.polygon)
            if lane.is_connector:
                self.lane_tokens.append(layers.add("lane_connector", polygon_token=polygon))
                continue
            left, right = (_simplified(side) + self.shift for side in _lane_sides(lane))
            self.lane_tokens.append(
                layers.add(
                    "lane",
                    polygon_token=polygon,
                    lane_type="CAR",
                    from_edge_line_token=self._edge([lane], 0),
                    to_edge_line_token=self._edge([lane], -1),
                    left_lane_divider_segments=self._divider_segments(left, lane.left_divider),
                    right_lane_divider_segments=self._divider_segments(right, lane.right_divider),
                )
            )
        for lane, token in zip(self.roads.lanes, self.lane_tokens, strict=True):
            layers.tables["arcline_path_3"][token] = arcline_path(lane.centerline + self.shift)
            layers.tables["connectivity"][token] = {
                "incoming": [self.lane_tokens[other] for other in lane.predecessors],
                "outgoing": [self.lane_tokens[other] for other in lane.successors],
            }

    def _dividers(self, segments: list[str]) -> None:
        for line, segment in zip(self.roads.road_dividers, self.roads.divider_segments, strict=True):
            points = _simplified(np.asarray(line.coords)) + self.shift
            self.layers.add("road_divider", line_token=self.layers.line(points), road_segment_token=segments[segment])
        for line in self.roads.lane_dividers:
            points = _simplified(np.asarray(line.coords)) + self.shift
            self.layers.add(
                "lane_divider",
                line_token=self.layers.line(points),
                lane_divider_segments=self._divider_segments(points, "DOUBLE_DASHED_WHITE"),
            )

    def _divider_segments(self, points: np.ndarray, kind: str) -> list[dict[str, str]]:
        return [{"node_token": self.layers.node(x, y), "segment_type": kind} for x, y in points]

    def _polygon(self, area: Polygon | MultiPolygon) -> str:
        inside = max(_polygons(area.intersection(square())), key=lambda part: part.area)
        moved = shapely.transform(inside.simplify(SIMPLIFY_M), lambda points: points + self.shift)
        return self.layers.polygon(moved)


def _lane_sides(lane: Lane) -> tuple[np.ndarray, np.ndarray]:
    """Left and right edge (P, 2) of a lane in the direction of travel."""
    ring = np.asarray(lane.polygon.exterior.coords)[:-1]
    half = len(ring) // 2
    return ring[half:][::-1], ring[:half]


def _simplified(points: np.ndarray) -> np.ndarray:
    return np.asarray(LineString(points).simplify(SIMPLIFY_M).coords)


def _polygons(area: shapely.Geometry) -> list[Polygon]:
    return [part for part in shapely.get_parts(area).tolist() if part.geom_type == "Polygon"]


def _rings(polygon: Polygon) -> list:
    return [polygon.exterior, *polygon.interiors]


def _token(*content: object) -> str:
    return hashlib.md5(repr(content).encode(), usedforsecurity=False).hexdigest()


def _check_on_canvas(towns: Sequence[PlacedTown], canvas_edge_m: tuple[float, float]) -> None:
    half = TOWN_SIZE_M / 2
    for number, (_, offset) in enumerate(towns):
        for center, edge in zip(offset, canvas_edge_m, strict=True):
            if not half <= center <= edge - half:
                raise ValueError(
                    f"town {number} at {tuple(offset)} m leaves the canvas of {tuple(canvas_edge_m)} m: "
                    f"its centre must lie at least {half:.0f} m inside"
                )


def _blank(canvas_edge_m: tuple[float, float], pixel_m: float, value: int) -> np.ndarray:
    width, height = (round(edge / pixel_m) for edge in canvas_edge_m)
    return np.full((height, width), value, np.uint8)


def _pixels(points: np.ndarray, offset: tuple[float, float], picture: np.ndarray, pixel_m: float) -> np.ndarray:
    """Fixed-point pixel coordinates; row 0 is the north edge of the canvas, OpenCV puts pixel centres at integers."""
    columns = (points[:, 0] + offset[0]) / pixel_m - 0.5
    rows = picture.shape[0] - (points[:, 1] + offset[1]) / pixel_m - 0.5
    return np.round(np.stack((columns, rows), axis=1) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _write_png(path: Path, picture: np.ndarray) -> None:
    # Run-length encoding: such pictures are large and nearly empty.
    is_ok, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, 3])
    if not is_ok:
        raise OSError(f"could not encode {path} as PNG")
    _replace_file(path, data.tobytes())


def _replace_file(path: Path, content: bytes) -> None:
    """Write beside the target, then rename, so that no half-written file is ever seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
