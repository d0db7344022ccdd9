"""Where the roads of a town run and how wide they are: five kinds of town drawn from a random generator."""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float
from shapely.geometry import MultiPolygon, Point, Polygon, box

from bevstack.sim.world.polylines import arc_lengths, clip_to_square, cut, integrate, resample, strip

TOWN_SIZE_M = 256.0
TOWN_KINDS = ("straight", "curve", "t_junction", "crossroads", "roundabout")

STEP_M = 1.0
"""Spacing of reference lines and lane centrelines."""
EDGE_STRIP_M = 0.4
"""Asphalt between the outer lane and the kerb."""
SIDE_BAY_WIDTH_M = 2.3
CONNECTOR_MARGIN_M = 0.3
"""Asphalt between a way through the junction and the kerb."""
SIMPLIFY_M = 0.01
"""How far outlines may leave the sampled curves to save points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """A two-way road along a reference line that divides the directions; it runs on past the edge of the town."""

    reference: Float[np.ndarray, "P 2"]
    """1 m spacing. At a junction town it leaves the junction's centre; else it crosses the town."""
    forward_lanes: int
    """Lanes along the reference line, to the right of it."""
    backward_lanes: int
    lane_width_m: float
    median_m: float
    """Width of the strip between the directions; only paint where it is narrow, a raised island from 1.5 m on."""
    bay_left: bool
    """Parking bays beside the left kerb."""
    bay_right: bool
    mouth_m: float
    """Distance along the reference at which the junction ends; 0 for a road without one."""
    is_major: bool
    speed_limit_mps: float

    @property
    def left_m(self) -> float:
        """Distance from the reference line to the left kerb where there are no bays."""
        return self.median_m / 2 + self.backward_lanes * self.lane_width_m + EDGE_STRIP_M

    @property
    def right_m(self) -> float:
        """Distance from the reference line to the right kerb where there are no bays."""
        return self.median_m / 2 + self.forward_lanes * self.lane_width_m + EDGE_STRIP_M

    @property
    def length_m(self) -> float:
        """Length of the reference line."""
        return float(arc_lengths(self.reference)[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The roads of a town before lanes are laid."""

    kind: str
    roads: tuple[Road, ...]
    center: Float[np.ndarray, " 2"]
    """Of the junction, or a point on the road."""
    ring_radius_m: float
    """Centreline of the lane around a roundabout; 0 elsewhere."""
    ring_width_m: float
    corner_radius_m: float
    kerb_strip_m: float
    """Kerb stone and, beyond it, grass between kerb and sidewalk."""
    sidewalk_m: float


def square() -> Polygon:
    """The town's square."""
    half = TOWN_SIZE_M / 2
    return box(-half, -half, half, half)


def make_layout(kind: str, rng: np.random.Generator) -> Layout:
    """Draw the roads of one kind of town."""
    center = rng.uniform(-12.0, 12.0, 2)
    yaw = rng.uniform(-np.pi, np.pi)
    corner_radius = rng.uniform(5.0, 8.0)
    ring_radius, ring_width = 0.0, 0.0
    if kind == "straight":
        roads = [_through_road(center, yaw, 0.0, rng)]
    elif kind == "curve":
        turn = rng.uniform(0.7, 1.6) * rng.choice((-1.0, 1.0))
        roads = [_through_road(center, yaw, turn, rng)]
    elif kind == "roundabout":
        ring_radius, ring_width = rng.uniform(14.0, 19.0), rng.uniform(5.0, 6.0)
        roads = _roundabout_arms(center, yaw, ring_radius + ring_width / 2, rng)
    else:
        roads = _junction_arms(kind, center, yaw, corner_radius, rng)
    has_verge = rng.random() < 0.4
    return Layout(
        kind=kind,
        roads=tuple(roads),
        center=center,
        ring_radius_m=ring_radius,
        ring_width_m=ring_width,
        corner_radius_m=corner_radius,
        kerb_strip_m=0.3 + (rng.uniform(0.9, 1.6) if has_verge else 0.0),
        sidewalk_m=rng.uniform(2.4, 4.2),
    )


def _through_road(center: np.ndarray, yaw: float, turn: float, rng: np.random.Generator) -> Road:
    """A road across the whole town, bending by `turn` radians around its middle."""
    steps = int(TOWN_SIZE_M)
    curvatures = np.zeros(steps)
    if turn:
        half = int(rng.uniform(50.0, 100.0) * abs(turn) / 2)
        # The bend eases out as a clothoid does, so that the heading rate never jumps.
        shape = np.minimum(1.0, (np.arange(half)[::-1] + 1) / 15)
        curvatures[:half] = shape / shape.sum() * (turn / 2)
    ahead = integrate(curvatures, STEP_M, yaw)
    behind = integrate(-curvatures, STEP_M, yaw + np.pi)
    reference = np.concatenate((behind[:0:-1], ahead)) + center
    lanes = int(rng.choice((1, 2, 3), p=(0.4, 0.45, 0.15)))
    backward = lanes if rng.random() < 0.8 else max(lanes - 1, 1)
    bays = rng.random(2) < 0.6
    return Road(
        reference=_trimmed(reference),
        forward_lanes=lanes,
        backward_lanes=backward,
        lane_width_m=rng.uniform(3.0, 3.7),
        median_m=_median(lanes, rng),
        bay_left=bool(bays[0]) and lanes < 3,
        bay_right=bool(bays[1]) and lanes < 3,
        mouth_m=0.0,
        is_major=True,
        speed_limit_mps=float(rng.choice((8.33, 11.11, 13.89))),
    )


def _trimmed(reference: np.ndarray) -> np.ndarray:
    """The part of a line inside the town and a little beyond, so that strips reach the border at any angle."""
    return resample(clip_to_square(reference, TOWN_SIZE_M / 2 + 24.0), STEP_M)


def _median(lanes: int, rng: np.random.Generator) -> float:
    if lanes >= 2 and rng.random() < 0.35:
        return float(rng.uniform(1.6, 3.0))
    return 0.3


def _arm(center: np.ndarray, yaw: float, bend: float) -> np.ndarray:
    """A reference line outward from a junction: straight near it, then with a slight constant curvature."""
    steps = int(TOWN_SIZE_M)
    curvatures = np.zeros(steps)
    curvatures[45:] = bend
    return _trimmed(integrate(curvatures, STEP_M, yaw) + center)


def _junction_arms(
    kind: str, center: np.ndarray, yaw: float, corner_radius: float, rng: np.random.Generator
) -> list[Road]:
    tilt = rng.uniform(-0.25, 0.25)
    yaws = [yaw, yaw + np.pi, yaw + np.pi / 2 + tilt]
    is_major = [True, True, False]
    if kind == "crossroads":
        yaws.append(yaw - np.pi / 2 + tilt + rng.uniform(-0.08, 0.08))
        is_major.append(False)
    lanes_major, lanes_minor = int(rng.choice((1, 2, 3), p=(0.4, 0.48, 0.12))), int(rng.choice((1, 2), p=(0.6, 0.4)))
    lanes_minor = min(lanes_minor, lanes_major)
    width_major, width_minor = rng.uniform(3.0, 3.7, 2)
    median = _median(lanes_major, rng)
    limit_major, limit_minor = float(rng.choice((11.11, 13.89))), float(rng.choice((8.33, 11.11)))
    roads = []
    for arm_yaw, major in zip(yaws, is_major, strict=True):
        lanes = lanes_major if major else lanes_minor
        bays = rng.random(2) < 0.5
        roads.append(
            Road(
                reference=_arm(center, arm_yaw, rng.choice((0.0, 1.0)) * rng.uniform(-0.006, 0.006)),
                forward_lanes=lanes,
                backward_lanes=lanes,
                lane_width_m=float(width_major if major else width_minor),
                median_m=median if major else 0.3,
                bay_left=bool(bays[0]) and lanes < 3,
                bay_right=bool(bays[1]) and lanes < 3,
                mouth_m=0.0,
                is_major=major,
                speed_limit_mps=limit_major if major else limit_minor,
            )
        )
    return [_with_mouth(road, _mouth(roads, yaws, index, corner_radius)) for index, road in enumerate(roads)]


def _mouth(roads: list[Road], yaws: list[float], index: int, corner_radius: float) -> float:
    """Where an arm is clear of its neighbours' kerbs and corners."""
    mouth = 0.0
    own = roads[index]
    for other_index, other in enumerate(roads):
        turn = (yaws[other_index] - yaws[index] + np.pi) % (2 * np.pi) - np.pi
        if other_index == index or abs(turn) > 2.6:
            continue
        angle = abs(turn)
        # A neighbour to the left meets our left kerb with its right one.
        own_half, other_half = (own.left_m, other.right_m) if turn > 0 else (own.right_m, other.left_m)
        kerbs_meet = (other_half + own_half * np.cos(angle)) / np.sin(angle)
        mouth = max(mouth, kerbs_meet + corner_radius / np.tan(angle / 2))
    return mouth + 0.5


def _with_mouth(road: Road, mouth_m: float) -> Road:
    return Road(**{name: getattr(road, name) for name in Road.__slots__} | {"mouth_m": float(np.ceil(mouth_m))})


def _roundabout_arms(center: np.ndarray, yaw: float, outer_radius: float, rng: np.random.Generator) -> list[Road]:
    count = int(rng.choice((3, 4)))
    width = rng.uniform(3.2, 3.8)
    roads = []
    for arm in range(count):
        arm_yaw = yaw + 2 * np.pi * arm / count + rng.uniform(-0.15, 0.15)
        bays = rng.random(2) < 0.5
        roads.append(
            Road(
                reference=_arm(center, arm_yaw, rng.choice((0.0, 1.0)) * rng.uniform(-0.006, 0.006)),
                forward_lanes=1,
                backward_lanes=1,
                lane_width_m=float(width),
                median_m=float(rng.uniform(1.6, 2.6)),
                bay_left=bool(bays[0]),
                bay_right=bool(bays[1]),
                mouth_m=float(np.ceil(outer_radius + 7.0)),
                is_major=True,
                speed_limit_mps=11.11,
            )
        )
    return roads


def bay_spans(road: Road) -> list[tuple[float, float]]:
    """Stretches (start, end along the reference) with parking bays, clear of the junction and the zebra."""
    first, last = road.mouth_m, road.length_m - 24.0
    if road.mouth_m:
        return [(first + 18.0, last)]
    crossing = crossing_station(road)
    return [(24.0, crossing - 12.0), (crossing + 12.0, last)]


def crossing_station(road: Road) -> float:
    """Where the zebra of a road lies along its reference: behind the junction's mouth or halfway across the town."""
    return road.mouth_m + 2.5 if road.mouth_m else round(road.length_m * 0.5)


def paved_area(layout: Layout, connectors: list[Polygon]) -> Polygon:
    """The drivable surface without parking lots: roads, bays and the ways through the junction, less raised islands.

    Kerbs keep clear of every connector, and inner corners are rounded.
    """
    parts = [connector.buffer(CONNECTOR_MARGIN_M, quad_segs=2) for connector in connectors]
    for road in layout.roads:
        parts.append(strip(road.reference, road.left_m, -road.right_m))
    area = shapely.union_all(parts)
    if layout.ring_radius_m:
        area = area.union(Point(*layout.center).buffer(layout.ring_radius_m + layout.ring_width_m / 2, quad_segs=16))
    if len(layout.roads) > 1:
        # Closing by the corner radius rounds the inner corners between arms as kerbs do.
        area = area.buffer(layout.corner_radius_m, quad_segs=8).buffer(-layout.corner_radius_m, quad_segs=8)
    bays = [bay for road in layout.roads for bay in bay_strips(road)]
    area = shapely.union_all([area, *bays])
    area = area.intersection(square()).difference(raised_islands(layout))
    return shapely.set_precision(area.simplify(SIMPLIFY_M), 1e-4)


def raised_islands(layout: Layout) -> Polygon | MultiPolygon:
    """Medians and the island of a roundabout: raised places that the drivable surface runs around."""
    islands = [island for road in layout.roads for island in median_islands(road)]
    if layout.ring_radius_m:
        radius = layout.ring_radius_m - layout.ring_width_m / 2
        islands.append(Point(*layout.center).buffer(radius, quad_segs=12))
    return shapely.union_all(islands).intersection(square()).simplify(SIMPLIFY_M)


def bay_strips(road: Road) -> list[Polygon]:
    """The parking bays beside a road."""
    result = []
    for start, end in bay_spans(road):
        line = cut(road.reference, start, end)
        if road.bay_left:
            result.append(strip(line, road.left_m + SIDE_BAY_WIDTH_M, road.left_m - 0.05))
        if road.bay_right:
            result.append(strip(line, -road.right_m + 0.05, -road.right_m - SIDE_BAY_WIDTH_M))
    return result


def median_islands(road: Road) -> list[Polygon]:
    """Raised islands between the directions, interrupted at the crossing."""
    if road.median_m < 1.5:
        return []
    half = road.median_m / 2 - 0.3
    crossing = crossing_station(road)
    spans = [(crossing + 3.0, road.length_m)]
    if not road.mouth_m:
        spans.append((0.0, crossing - 3.0))
    return [strip(cut(road.reference, *span), half, -half) for span in spans]
