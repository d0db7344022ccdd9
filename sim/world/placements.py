"""What stands still: parked vehicles, road works, barrier rows, people who wait or sit. Nothing touches anything."""

from dataclasses import dataclass, field

import numpy as np
import shapely
from jaxtyping import Float
from shapely.geometry import Polygon

from bevstack.sim.world.actors import ActorModel, make_actor
from bevstack.sim.world.drive_paths import DrivePath
from bevstack.sim.world.pedestrians import SIDEWALK_HEIGHT_M
from bevstack.sim.world.presets import Crowd, Span
from bevstack.sim.world.roads import Lane
from bevstack.sim.world.town import Town
from bevstack.sim.world.traffic_kernels import footprint_circles, rectangles_overlap

CLEARANCE_M = 0.12
REACH_M = 58.0
"""Static actors stand within this distance of the ego vehicle's way."""
LANE_CORRIDOR_M = 1.62
"""Half width that a lane keeps free of static actors: half a bus and the margin of `vehicles`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StaticActor:
    """An actor that stays where it is."""

    model: ActorModel
    pose: tuple[float, float, float]
    z_m: float
    attribute: str


@dataclass(slots=True, kw_only=True, eq=False)
class StreetScene:
    """A town being furnished; every placement checks the ones before."""

    town: Town
    way: Float[np.ndarray, "P 2"]
    """Points of the ego vehicle's way."""
    rng: np.random.Generator
    actors: list[StaticActor] = field(default_factory=list)
    _rectangles: list[np.ndarray] = field(default_factory=list)
    _drivable: Polygon | None = None
    _lane_space: Polygon | None = None

    def __post_init__(self) -> None:
        self._drivable = self.town.roads.drivable
        strips = [shapely.LineString(lane.centerline).buffer(LANE_CORRIDOR_M, cap_style="flat")
                  for lane in self.town.roads.lanes]  # fmt: skip
        self._lane_space = shapely.union_all(strips)
        shapely.prepare(self._drivable)
        shapely.prepare(self._lane_space)

    def count(self, span: Span) -> int:
        """A number drawn from a span."""
        return int(self.rng.integers(span[0], span[1] + 1))

    def is_near_way(self, x: float, y: float, reach_m: float = REACH_M) -> bool:
        """Whether a place lies within reach of the ego vehicle's way."""
        return bool(np.hypot(*(self.way - (x, y)).T).min() < reach_m)

    def is_drivable(self, x: float, y: float) -> bool:
        """Whether a place is on the road surface."""
        return bool(shapely.contains_xy(self._drivable, x, y))

    def is_free(self, rectangle: np.ndarray) -> bool:
        """Whether a rectangle (x, y, yaw, half length, half width) keeps its distance from all static actors."""
        grown = rectangle + np.array((0, 0, 0, CLEARANCE_M, CLEARANCE_M))
        return not any(rectangles_overlap(grown, other) for other in self._rectangles)

    def keep_clear(self, rectangle: np.ndarray) -> None:
        """Let nothing be placed on a rectangle any more."""
        self._rectangles.append(rectangle)

    def place(
        self, model: ActorModel, pose: tuple[float, float, float], attribute: str, *, may_use_lane: bool = False
    ) -> bool:
        """Put an actor there if the place is free, in town, and (unless allowed) off the lanes."""
        rectangle = np.array((*pose, model.size_lwh[0] / 2, model.size_lwh[1] / 2))
        if max(abs(pose[0]), abs(pose[1])) > 124.0 or not self.is_free(rectangle):
            return False
        if not may_use_lane and self._lane_space is not None and self._lane_space.intersects(outline(rectangle)):
            return False
        height = 0.0 if self.is_drivable(pose[0], pose[1]) else SIDEWALK_HEIGHT_M
        self.actors.append(StaticActor(model=model, pose=pose, z_m=height, attribute=attribute))
        self._rectangles.append(rectangle)
        return True

    def obstacle_rows(self) -> np.ndarray:
        """Rows x, y, radius, vx, vy, owner (-1) for car following."""
        rows = [np.zeros((0, 6))]
        for actor in self.actors:
            circles = footprint_circles(actor.pose, *actor.model.size_lwh[:2])
            rows.append(np.concatenate((circles, np.tile((0.0, 0.0, -1.0), (len(circles), 1))), axis=1))
        return np.concatenate(rows)


def outline(rectangle: np.ndarray) -> Polygon:
    """Polygon of a rectangle x, y, yaw, half length, half width."""
    x, y, yaw, a, b = rectangle
    c, s = np.cos(yaw), np.sin(yaw)
    return Polygon(
        [(x + u * a * c - v * b * s, y + u * a * s + v * b * c) for u, v in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    )


def shifted(
    pose: np.ndarray | tuple[float, float, float], ahead: float, left: float, turn: float = 0.0
) -> tuple[float, float, float]:
    """A pose moved in its own frame and turned."""
    x, y, yaw = (float(value) for value in pose)
    return (
        x + ahead * np.cos(yaw) - left * np.sin(yaw),
        y + ahead * np.sin(yaw) + left * np.cos(yaw),
        float((yaw + turn + np.pi) % (2 * np.pi) - np.pi),
    )


def park_vehicles(scene: StreetScene, crowd: Crowd) -> None:
    """Fill bays: long vehicles first (they need neighbouring bays too), then cars and motorcycles."""
    rng = scene.rng
    slots = np.array([slot for slot in scene.town.parking_slots if scene.is_near_way(slot[0], slot[1])]).reshape(-1, 3)
    rng.shuffle(slots)
    plan: list[tuple[str, Span, tuple[str, ...]]] = [
        ("trailer", crowd.parked_trailers, ("box", "flatbed", "tanker")),
        ("bus", crowd.parked_buses, ("city", "coach")),
        ("truck", crowd.parked_trucks, ("pickup", "box", "flatbed", "tractor")),
        ("car", crowd.parked_cars, ("sedan", "suv", "hatchback", "wagon", "minivan", "coupe")),
        ("motorcycle", crowd.parked_motorcycles, ("street", "scooter")),
    ]
    for class_name, span, variants in plan:
        wanted = scene.count(span)
        model = None
        for slot in slots:
            if wanted == 0:
                break
            if not scene.is_free(np.array((*slot, 1.5, 0.5))):
                continue
            model = model or make_actor(class_name, rng, variant=str(rng.choice(variants)))
            length, width, _ = model.size_lwh
            turn = float(rng.normal(0.0, 0.015))
            if class_name == "motorcycle":
                turn += float(rng.choice((0.6, 0.9, -0.7)))
            pose = shifted(
                slot, float(rng.normal(0, 0.15)), -max(0.0, (width - 2.0) / 2) + float(rng.normal(0, 0.05)), turn
            )
            if length > 5.6 and not _fits_at_kerb(scene, model, pose):
                continue
            attribute = "cycle.without_rider" if class_name == "motorcycle" else "vehicle.parked"
            if scene.place(model, pose, attribute):
                wanted, model = wanted - 1, None


def _fits_at_kerb(scene: StreetScene, model: ActorModel, pose: tuple[float, float, float]) -> bool:
    """Whether the road surface carries both ends of a long vehicle: a row of bays, not one of a parking lot."""
    reach = model.size_lwh[0] / 2
    return all(scene.is_drivable(*shifted(pose, ahead, 0.0)[:2]) for ahead in (-reach, -reach / 2, reach / 2, reach))


def park_bicycles(scene: StreetScene, crowd: Crowd) -> None:
    """Bicycles without riders at the edges of sidewalks, alone or two together."""
    for _ in range(scene.count(crowd.parked_bicycles)):
        for _ in range(8):
            spot = sidewalk_spot(scene)
            if spot is None:
                return
            turn = float(scene.rng.choice((0.0, np.pi / 2, 1.2, np.pi)))
            pose = shifted(spot, 0.0, float(scene.rng.choice((-0.95, 0.95))), turn)
            model = make_actor("bicycle", scene.rng, variant="parked")
            if scene.place(model, pose, "cycle.without_rider"):
                beside = shifted(pose, 0.1, 0.85)
                if scene.rng.random() < 0.4:
                    scene.place(make_actor("bicycle", scene.rng, variant="parked"), beside, "cycle.without_rider")
                break


def sidewalk_spot(scene: StreetScene, reach_m: float = 45.0) -> tuple[float, float, float] | None:
    """A random place on a sidewalk near the way: x, y and the direction of the sidewalk."""
    paths = scene.town.sidewalk_paths
    for _ in range(30):
        line = paths[int(scene.rng.integers(len(paths)))]
        k = int(scene.rng.integers(len(line) - 1))
        x, y = line[k]
        if scene.is_near_way(x, y, reach_m):
            step = line[k + 1] - line[k]
            return float(x), float(y), float(np.arctan2(step[1], step[0]))
    return None


def put_bystanders(scene: StreetScene, crowd: Crowd) -> None:
    """People who stand in small groups or sit."""
    rng = scene.rng
    for _ in range(scene.count(crowd.standing)):
        spot = sidewalk_spot(scene)
        if spot is None:
            break
        turn = float(rng.uniform(-np.pi, np.pi))
        pose = shifted(spot, 0.0, float(rng.uniform(-0.8, 0.8)), turn)
        if (
            scene.place(make_actor("pedestrian", rng, variant="standing"), pose, "pedestrian.standing")
            and rng.random() < 0.4
        ):
            scene.place(
                make_actor("pedestrian", rng, variant="standing"),
                shifted(pose, 0.95, 0.1, np.pi),
                "pedestrian.standing",
            )
    for _ in range(scene.count(crowd.sitting)):
        spot = sidewalk_spot(scene)
        if spot is not None:
            pose = shifted(spot, 0.0, float(rng.uniform(-0.8, 0.8)), float(rng.choice((-np.pi / 2, np.pi / 2))))
            scene.place(make_actor("pedestrian", rng, variant="sitting"), pose, "pedestrian.sitting_lying_down")


def _lane_frames(lane: Lane, station_m: float, offsets: np.ndarray) -> list[tuple[float, float, float]]:
    return [lane.pose_at(float(np.clip(station_m + offset, 1.0, lane.length_m - 1.0))) for offset in offsets]


def close_lanes(scene: StreetScene, crowd: Crowd, ego_path: DrivePath) -> None:
    """Road works that close a lane which the ego vehicle does not use: taper of cones, machine, barriers, workers."""
    zones = [z for z in scene.town.work_zones if scene.is_near_way(z[0], z[1], 50.0)]
    scene.rng.shuffle(zones)
    wanted = scene.count(crowd.work_zones)
    for zone in zones:
        lane = scene.town.roads.nearest_lane(float(zone[0]), float(zone[1]))
        station, _ = lane.station_of(float(zone[0]), float(zone[1]))
        room = min(station, lane.length_m - station)
        if wanted == 0 or lane.is_connector or room < 16.0:
            continue
        if lane.index in ego_path.lanes:
            continue
        _furnish_works(scene, lane, station)
        wanted -= 1
    for _ in range(wanted):
        _kerb_works(scene)


def _furnish_works(scene: StreetScene, lane: Lane, station_m: float) -> None:
    rng, half = scene.rng, lane.width_m / 2
    machine_first = rng.random() < 0.75
    class_name = "construction_vehicle" if machine_first else str(rng.choice(["truck", "trailer"]))
    machine = make_actor(class_name, rng, variant="tipper" if class_name == "truck" else None)
    turn = 0.0 if rng.random() < 0.6 else np.pi
    pose = shifted(_lane_frames(lane, station_m, np.zeros(1))[0], 0.0, -half + machine.size_lwh[1] / 2 - 0.1, turn)
    scene.place(machine, pose, "vehicle.parked" if rng.random() < 0.5 else "vehicle.stopped", may_use_lane=True)
    reach = machine.size_lwh[0] / 2
    # Upstream a taper of cones leads traffic away from the kerb, then barriers or cones run along the lane's edge.
    for k, ahead in enumerate(np.linspace(-reach - 9.0, -reach - 2.0, 5)):
        left = -half + 0.4 + (lane.width_m - 0.8) * k / 4
        cone = make_actor("traffic_cone", rng)
        scene.place(cone, shifted(_lane_frames(lane, station_m, np.array([ahead]))[0], 0, left), "", may_use_lane=True)
    kind = str(rng.choice(["jersey", "water", "board"]))
    use_barriers = rng.random() < 0.8
    for ahead in np.arange(-reach - 3.2, reach + 3.0, 2.9 if use_barriers else 3.6):
        frame = _lane_frames(lane, station_m, np.array([ahead]))[0]
        if use_barriers and ahead < -reach - 0.5:
            model = make_actor("barrier", rng, variant=kind)
            scene.place(model, shifted(frame, 1.8, -0.35, np.pi), "", may_use_lane=True)  # across the closed lane
        elif use_barriers:
            model = make_actor("barrier", rng, variant=kind)
            scene.place(model, shifted(frame, 1.2, half - 0.32, np.pi / 2), "", may_use_lane=True)
        else:
            scene.place(make_actor("traffic_cone", rng), shifted(frame, 0, half - 0.3), "", may_use_lane=True)
    for _ in range(int(rng.integers(1, 4))):
        left = float(rng.choice((-1.0, 1.0))) * float(rng.uniform(0.3, 1.4))
        spot = shifted(pose, float(rng.uniform(-reach - 3, reach + 4)), left, float(rng.uniform(-np.pi, np.pi)))
        worker = make_actor("pedestrian", rng, variant="worker")
        scene.place(worker, spot, "pedestrian.standing", may_use_lane=True)


def _kerb_works(scene: StreetScene) -> None:
    """Works on a parking bay or at the kerb: nothing on the lane is touched."""
    rng = scene.rng
    slots = [slot for slot in scene.town.parking_slots if scene.is_near_way(slot[0], slot[1], 40.0)]
    rng.shuffle(slots)
    machine = make_actor("construction_vehicle", rng, variant=str(rng.choice(["loader", "roller", "excavator"])))
    for slot in slots[:12]:
        pose = shifted(slot, 0.0, -max(0.0, (machine.size_lwh[1] - 2.0) / 2))
        if not _fits_at_kerb(scene, machine, pose) or not scene.place(machine, pose, "vehicle.parked"):
            continue
        reach = machine.size_lwh[0] / 2
        for ahead in (-reach - 1.0, reach + 1.0):
            for left in (-0.8, 0.0, 0.8):
                scene.place(make_actor("traffic_cone", rng), shifted(slot, ahead, left), "")
        for side in (-1, 1):
            worker = make_actor("pedestrian", rng, variant="worker")
            scene.place(worker, shifted(slot, side * (reach + 1.9), float(rng.uniform(-0.5, 0.5)), rng.uniform(-3, 3)),
                        "pedestrian.standing")  # fmt: skip
        return


def put_barrier_rows(scene: StreetScene, crowd: Crowd, ego_path: DrivePath) -> None:
    """Rows of barriers or cones along kerbs, beside the lanes that pass the ego vehicle's way."""
    rng = scene.rng
    lanes = [lane for lane in scene.town.roads.lanes if not lane.is_connector and lane.right_neighbor is None]
    wanted = scene.count(crowd.barrier_rows)
    for index in np.concatenate((rng.permutation(len(lanes)), rng.permutation(len(lanes)))):
        lane = lanes[int(index)]
        if wanted == 0:
            break
        station = float(rng.uniform(6.0, max(lane.length_m - 6.0, 6.5)))
        x, y, _ = lane.pose_at(station)
        if not scene.is_near_way(x, y, 32.0):
            continue
        count, kind = int(rng.integers(3, 7)), str(rng.choice(["jersey", "water", "board"]))
        of_cones = rng.random() < 0.2
        placed = 0
        for frame in _lane_frames(lane, station, np.arange(count) * (3.2 if of_cones else 2.75)):
            model = make_actor("traffic_cone", rng) if of_cones else make_actor("barrier", rng, variant=kind)
            spot = shifted(frame, 0.0, -lane.width_m / 2 - 0.62, 0.0 if of_cones else -np.pi / 2)
            placed += scene.place(model, spot, "")
        wanted -= placed > 0
