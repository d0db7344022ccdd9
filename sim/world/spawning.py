"""Where everything that moves begins: ego vehicle, traffic on the lanes around its way, people on foot."""

import numpy as np

from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.sim.world.actors import ActorModel, make_actor
from bevstack.sim.world.drive_paths import PATH_STEP_M, RUN_OUT_M, DrivePath, make_path, random_route
from bevstack.sim.world.pedestrians import Walker
from bevstack.sim.world.placements import StreetScene, sidewalk_spot
from bevstack.sim.world.polylines import offset
from bevstack.sim.world.presets import Crowd, Span
from bevstack.sim.world.roads import RoadNetwork
from bevstack.sim.world.town import Town
from bevstack.sim.world.traffic_kernels import rectangles_overlap
from bevstack.sim.world.vehicles import Vehicle, make_vehicle

TYPICAL_EGO_SPEED_MPS = 7.5
SPAWN_REACH_M = 62.0

Paths = dict[tuple[tuple[int, ...], float], DrivePath]
"""Paths by route and offset from the centreline."""


def place_ego(town: Town, rng: np.random.Generator, duration_s: float) -> Vehicle:
    """The ego vehicle on a random route, so that it passes the middle of the town some time during the scene."""
    travel = TYPICAL_EGO_SPEED_MPS * duration_s
    path = make_path(town.roads, random_route(town.roads, rng), speed_factor=0.9)
    middle_m = float(np.argmin(np.hypot(*path.points.T)) * 0.5)
    start = middle_m - rng.uniform(0.15, 1.0) * travel
    start = float(np.clip(start, RUN_OUT_M + 8.0, max(path.end_m - 1.25 * travel, RUN_OUT_M + 8.0)))
    start = _clear_of_connectors(town.roads, path, start)
    speed = path.speed_at(start) * rng.uniform(0.5, 0.9)
    hold = float(rng.uniform(0.5, 4.0)) if rng.random() < 0.12 else -1e9
    return Vehicle(
        model=None, path=path, rear_m=start, speed_mps=0.0 if hold > 0 else speed,
        length_m=NUSCENES_VEHICLE.length_m, width_m=NUSCENES_VEHICLE.width_m, wheelbase_m=NUSCENES_VEHICLE.wheelbase_m,
        rear_overhang_m=NUSCENES_VEHICLE.rear_overhang_m, hold_until_s=hold,
    )  # fmt: skip


def _clear_of_connectors(roads: RoadNetwork, path: DrivePath, start_m: float) -> float:
    """A start before any junction that the wanted start would lie in or close to."""
    for k, lane in enumerate(path.lanes):
        low, high = path.lane_starts_m[k], path.lane_starts_m[k + 1]
        if roads.lanes[lane].is_connector and low - 12.0 < start_m < high + 2.0:
            return max(low - 22.0, RUN_OUT_M + 4.0)
    return start_m


def red_lights(roads: RoadNetwork, ego: Vehicle, rng: np.random.Generator, duration_s: float) -> dict[int, float]:
    """Approach lanes that wait, as at a signal, and until when; often those across the ego vehicle's way."""
    approaches = [lane for lane in roads.lanes if not lane.is_connector and lane.successors]
    if not approaches or rng.random() < 0.35:
        return {}
    own = [lane for lane in approaches if lane.index in ego.path.lanes]
    if own and rng.random() < 0.3:
        direction = own[0].yaws_rad[-1]
        until = float(rng.uniform(1.0, 0.6 * duration_s))
        chosen = [lane for lane in approaches if abs(np.sin(lane.yaws_rad[-1] - direction)) < 0.5]
    else:
        direction = own[0].yaws_rad[-1] if own else 0.0
        until = float(rng.uniform(0.5, 1.2) * duration_s)
        chosen = [lane for lane in approaches if abs(np.sin(lane.yaws_rad[-1] - direction)) > 0.5]
    return {lane.index: until for lane in chosen}


def place_vehicles(street: StreetScene, crowd: Crowd, first: list[Vehicle]) -> list[Vehicle]:
    """Traffic on lanes near the ego vehicle's way; long vehicles first, each with room around it and around `first`."""
    rng = street.rng
    placed = list(first)
    paths: Paths = {}
    plan: list[tuple[str, Span, bool]] = [
        ("truck", crowd.towed_trailers, True),
        ("bus", crowd.moving_buses, False),
        ("truck", crowd.moving_trucks, False),
        ("bicycle", crowd.moving_bicycles, False),
        ("motorcycle", crowd.moving_motorcycles, False),
        ("car", crowd.moving_cars, False),
    ]
    for class_name, span, with_trailer in plan:
        for _ in range(street.count(span)):
            model = _draw_model(class_name, with_trailer, rng)
            trailer = make_actor("trailer", rng) if with_trailer else None
            for _ in range(40):
                vehicle = _draw_vehicle(street, model, trailer, paths)
                if vehicle is not None and _has_room(vehicle, placed, street):
                    placed.append(vehicle)
                    break
    return placed[len(first) :]


def _draw_model(class_name: str, with_trailer: bool, rng: np.random.Generator) -> ActorModel:
    variant = {"bicycle": "rider"}.get(class_name)
    if with_trailer:
        variant = str(rng.choice(["box", "flatbed", "tipper"]))
    return make_actor(class_name, rng, variant=variant)


def _draw_vehicle(street: StreetScene, model: ActorModel, trailer: ActorModel | None, paths: Paths) -> Vehicle | None:
    rng, roads = street.rng, street.town.roads
    factor = float(rng.uniform(0.8, 1.1))
    lateral = 0.0
    if model.class_name == "bicycle":
        lateral, factor = -0.9, float(rng.uniform(0.3, 0.5))
    elif model.class_name == "motorcycle":
        lateral = float(rng.choice((-0.7, -0.3, 0.0, 0.4)))
    route = random_route(roads, rng, straight_only=trailer is not None)
    if (route, lateral) not in paths:
        paths[route, lateral] = make_path(roads, route, offset_m=lateral)
    path = paths[route, lateral]
    rear = _station_near_way(street, path)
    if rear is None:
        return None
    vehicle = make_vehicle(model, path, rear, 0.0, speed_factor=factor)
    vehicle.trailer = trailer
    if trailer is not None and vehicle.tail_m < RUN_OUT_M:
        return None
    if _touches_connector(roads, vehicle):
        return None
    vehicle.speed_mps = path.speed_at(vehicle.front_m) * factor * float(rng.uniform(0.5, 0.9))
    return vehicle


def _station_near_way(street: StreetScene, path: DrivePath) -> float | None:
    """A random station of a path where it is near the ego vehicle's way."""
    first, last = int((RUN_OUT_M + 2.0) / PATH_STEP_M), int((path.end_m - 6.0) / PATH_STEP_M)
    candidates = np.arange(first, last, 4)
    sparse = street.way[::10]
    gaps = np.hypot(*(path.points[candidates, None] - sparse[None]).transpose(2, 0, 1)).min(axis=1, initial=np.inf)
    near = candidates[gaps < SPAWN_REACH_M]
    return float(street.rng.choice(near) * PATH_STEP_M) if len(near) else None


def _touches_connector(roads: RoadNetwork, vehicle: Vehicle) -> bool:
    """Whether a vehicle stands in a junction or so close before one that it could not stop comfortably."""
    starts = vehicle.path.lane_starts_m
    return any(
        roads.lanes[lane].is_connector and starts[k] - 5.0 < vehicle.front_m and vehicle.tail_m < starts[k + 1] + 1.0
        for k, lane in enumerate(vehicle.path.lanes)
    )


def _room(vehicle: Vehicle, ahead_m: float) -> np.ndarray:
    """Rectangle of a vehicle with its trailer, lengthened on both ends."""
    center = 0.5 * (vehicle.front_m + vehicle.tail_m)
    half = 0.5 * (vehicle.front_m - vehicle.tail_m)
    low, high = vehicle.path.at(center - 0.5 * half), vehicle.path.at(center + 0.5 * half)
    x, y = vehicle.path.at(center)
    yaw = float(np.arctan2(high[1] - low[1], high[0] - low[0]))
    return np.array((x, y, yaw, half + ahead_m, vehicle.width_m / 2 + 0.25))


def _has_room(vehicle: Vehicle, placed: list[Vehicle], street: StreetScene) -> bool:
    own = _room(vehicle, 1.2 + 0.35 * vehicle.speed_mps)
    if any(rectangles_overlap(own, _room(other, 1.2 + 0.35 * other.speed_mps)) for other in placed):
        return False
    return street.is_free(_room(vehicle, 2.0 + vehicle.speed_mps))


def place_walkers(
    street: StreetScene, crowd: Crowd, ego: Vehicle, duration_s: float, *, prefer_open: bool = False
) -> list[Walker]:
    """People on sidewalks, at crossings, and some who cross the open road ahead of the ego vehicle.

    `prefer_open`: most of those who cross do so on the open road.
    """
    walkers = [walker for _ in range(street.count(crowd.walkers)) for walker in _strollers(street)]
    crossings = street.count(crowd.crossing)
    zebras = [
        path
        for path in street.town.crossing_paths
        if street.is_near_way(float(path[:, 0].mean()), float(path[:, 1].mean()), 20.0)
    ]
    for k in range(crossings):
        if zebras and (k % 4 == 3 if prefer_open else k % 2 == 0 or street.rng.random() < 0.5):
            line = zebras[int(street.rng.integers(len(zebras)))]
            walkers.append(_crosser(street, _extended(line, street.rng), duration_s, 0.0))
        else:
            way = _open_crossing(street, ego)
            if way is not None:
                walkers.append(_crosser(street, way, duration_s, float(street.rng.uniform(16.0, 34.0))))
    return walkers


def _strollers(street: StreetScene) -> list[Walker]:
    rng = street.rng
    spot = sidewalk_spot(street)
    if spot is None:
        return []
    gaps = [np.hypot(*(path - spot[:2]).T).min() for path in street.town.sidewalk_paths]
    line = street.town.sidewalk_paths[int(np.argmin(gaps))]
    if rng.random() < 0.5:
        line = line[::-1]
    nearest = int(np.argmin(np.hypot(*(line - spot[:2]).T)))
    begin = float(np.hypot(*np.diff(line[: nearest + 1], axis=0).T).sum())
    speed = float(np.clip(rng.normal(1.3, 0.25), 0.7, 2.0))
    left = float(rng.uniform(-0.75, 0.1))
    company = 2 if rng.random() < 0.25 else 1
    return [
        Walker(
            model=make_actor("pedestrian", rng), line=offset(line, left + 0.85 * k), station_m=begin, speed_mps=speed
        )
        for k in range(company)
    ]


def _crosser(street: StreetScene, line: np.ndarray, duration_s: float, trigger_m: float) -> Walker:
    rng = street.rng
    if rng.random() < 0.5:
        line = line[::-1]
    return Walker(
        model=make_actor("pedestrian", rng),
        line=line,
        station_m=0.0,
        speed_mps=float(np.clip(rng.normal(1.4, 0.25), 0.9, 2.3)),
        crosses_road=True,
        start_at_s=float(rng.uniform(-2.0, 0.5 * duration_s)),
        trigger_distance_m=trigger_m,
        is_walking=False,
    )


def _extended(line: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crossing with a metre of sidewalk at both ends, beside its middle line."""
    ends = (line[0] - line[1], line[-1] - line[-2])
    first, last = line[0] + ends[0] / np.hypot(*ends[0]), line[-1] + ends[1] / np.hypot(*ends[1])
    return offset(np.concatenate((first[None], line, last[None])), float(rng.uniform(-1.2, 1.2)))


def _open_crossing(street: StreetScene, ego: Vehicle) -> np.ndarray | None:
    """A way straight across the road ahead of the ego vehicle, clear of everything that stands there."""
    for _ in range(10):
        line = way_across(street, ego.path, ego.front_m + float(street.rng.uniform(45.0, 85.0)))
        if line is not None:
            return line
    return None


def way_across(
    street: StreetScene, path: DrivePath, station_m: float, *, beyond_kerb_m: float = 0.9
) -> np.ndarray | None:
    """The line (9, 2) straight across the road at a station of a path, from left to right; None where it is blocked."""
    here, ahead = path.at(station_m), path.at(station_m + 1.0)
    normal = np.array((-(ahead - here)[1], (ahead - here)[0]))
    reach = np.arange(0.0, 22.0, 0.25)
    ends = []
    for side in (1.0, -1.0):
        inside = [street.is_drivable(*(here + side * r * normal)) for r in reach]
        if all(inside) or not inside[0]:
            return None
        ends.append(here + side * (reach[inside.index(False)] + beyond_kerb_m) * normal)
    yaw = float(np.arctan2(normal[1], normal[0]))
    if all(street.is_free(np.array((x, y, yaw, 0.7, 0.5))) for x, y in np.linspace(ends[0], ends[1], 25)):
        return np.linspace(ends[0], ends[1], 9)
    return None
