"""Main events of a scene in which it matters where a driver looks, staged on the ego vehicle's way.

An event is planned before the scene is furnished, from random numbers of its own: the ego vehicle begins so far before
the place that it gets there soon after time 0, on one lane without a junction, and nothing else is put there. Then it
happens by the rules that everybody keeps: drivers see people and vehicles ahead and brake for them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from bevstack.sim.world.actors import ActorModel, make_actor
from bevstack.sim.world.drive_paths import PATH_STEP_M, RUN_OUT_M, DrivePath
from bevstack.sim.world.pedestrians import Walker
from bevstack.sim.world.placements import StreetScene, shifted
from bevstack.sim.world.presets import CROSSING_PEDESTRIAN, LEAD_BRAKING, OCCLUDED_PEDESTRIAN
from bevstack.sim.world.spawning import TYPICAL_EGO_SPEED_MPS, place_ego, way_across
from bevstack.sim.world.town import Town
from bevstack.sim.world.vehicles import STEP_S, Vehicle, make_vehicle

TRIES = 40
"""Ego routes that are drawn until one has a place for the event."""
MIN_SPEED_MPS = 5.5
"""The way allows at least this speed where something is to happen."""
CROSSING_BRAKING_MPS2 = 3.0
"""Who crosses the open road counts on drivers to brake like this; a comfortable stop takes 2 m/s2."""
STEPPING_OUT_BRAKING_MPS2 = 3.5
LEAD_BRAKING_MPS2 = (4.5, 6.0)
LEAD_STANDS_S = (1.5, 3.0)
LEAD_REACH_M = 32.0
"""The lead brakes while the ego vehicle follows within this distance, bumper to bumper."""
EYE_AHEAD_M = 1.7
"""The front camera, ahead of the rear axle."""
HALF_BODY_M = 0.3
GAP_S = (2.5, 5.0)
"""Others reach a crossing this much before or after its use."""
SLOWED_MPS = 1.5
"""An event has happened when the ego vehicle lost at least this much speed to it."""


@dataclass(slots=True, kw_only=True, eq=False)
class SceneEvent:
    """An event and the actors that make it."""

    kind: str
    ego: Vehicle
    clear_from_m: float
    """On this stretch of the ego vehicle's path nobody else begins."""
    clear_to_m: float
    walkers: list[Walker] = field(default_factory=list)
    occluder: tuple[ActorModel, tuple[float, float, float]] | None = None
    """The parked vehicle behind which somebody waits."""
    lead: Vehicle | None = None
    earliest_s: float = 0.0
    """The lead brakes then, or as soon after as it is fast enough with the ego vehicle behind it."""
    lead_braking_mps2: float = 0.0
    lead_stands_s: float = 0.0
    crossing_after_s: float = 0.0
    """Time from the beginning of the burn-in to the crossing, about."""
    began_at_s: float | None = None
    """When the lead began to brake."""

    def reserve(self, street: StreetScene) -> None:
        """Put the occluder into a street without other actors, and keep the crossings free of what is put later."""
        if self.occluder is not None:
            street.place(*self.occluder, "vehicle.parked")
        for walker in self.walkers:
            street.keep_clear(_line_rectangle(walker.line))

    def allows_vehicle(self, vehicle: Vehicle) -> bool:
        """Whether a vehicle does not begin on the stretch that the event needs, and leaves a gap for who crosses."""
        stations = np.linspace(vehicle.tail_m, vehicle.front_m, 4)
        if not self._is_off_stretch(np.array([vehicle.path.at(station) for station in stations]), 2.5):
            return False
        return all(self._is_gap(vehicle, walker.line) for walker in self.walkers)

    def _is_gap(self, vehicle: Vehicle, line: Float[np.ndarray, "P 2"]) -> bool:
        """Whether a vehicle, driving as fast as its way allows, passes a crossing well before or after it is used."""
        points = vehicle.path.points
        gaps = np.hypot(*(points[:, None] - line[None]).transpose(2, 0, 1)).min(axis=1)
        nearest = int(np.argmin(gaps))
        if gaps[nearest] > 2.5 or nearest * PATH_STEP_M < vehicle.tail_m:
            return True
        here = min(int(vehicle.rear_m / PATH_STEP_M), nearest)
        speed = vehicle.path.speeds_mps[here : nearest + 1].mean() * vehicle.speed_factor
        arrives_s = (nearest * PATH_STEP_M - vehicle.front_m) / speed
        early_s, late_s = GAP_S
        return bool(not self.crossing_after_s - early_s < arrives_s < self.crossing_after_s + late_s)

    def allows_walker(self, walker: Walker) -> bool:
        """Whether somebody is not to cross that stretch before the event."""
        return not walker.crosses_road or self._is_off_stretch(walker.line, 1.6)

    def _is_off_stretch(self, points: Float[np.ndarray, "P 2"], reach_m: float) -> bool:
        stations = np.arange(self.clear_from_m, self.clear_to_m, 1.0)
        way = np.array([self.ego.path.at(station) for station in stations])
        return bool(np.hypot(*(way[:, None] - points[None]).transpose(2, 0, 1)).min() > reach_m)

    def before_step(self, now_s: float) -> None:
        """Let the lead begin to brake when it is time."""
        lead = self.lead
        if lead is None or self.began_at_s is not None or now_s < self.earliest_s:
            return
        if lead.speed_mps > MIN_SPEED_MPS and lead.tail_m - self.ego.front_m < LEAD_REACH_M:
            self.began_at_s = now_s
            lead.hold_braking_mps2 = self.lead_braking_mps2
            lead.hold_until_s = now_s + lead.speed_mps / self.lead_braking_mps2 + self.lead_stands_s

    def has_happened(self, kept_walkers: list[Walker], kept_vehicles: list[Vehicle]) -> bool:
        """Whether a played scene shows the event, among the actors that stayed in it."""
        if self.lead is not None:
            began = self.began_at_s
            return self.lead in kept_vehicles and began is not None and self._ego_slows(round(began / STEP_S))
        return any(self._was_met(walker) for walker in self.walkers if walker in kept_walkers)

    def _was_met(self, walker: Walker) -> bool:
        """Whether somebody walked across the ego vehicle's way before it, unseen at first if that is the event."""
        if not any(walker.moving) or walker.moving[0]:
            return False
        start = walker.moving.index(True)
        eye = eye_of(self.ego, self.ego.poses[start])
        if self.occluder is not None and not is_hidden(walker.line[0], eye, rectangle_of(*self.occluder)):
            return False
        here = np.array(self.ego.poses[start][:2])
        way = np.array([self.ego.path.at(s) for s in np.arange(self.clear_from_m, self.clear_to_m + 5.0, 0.5)])
        steps = np.array([pose[:2] for pose in walker.poses[start:]])
        gaps = np.hypot(*(steps[:, None] - way[None]).transpose(2, 0, 1)).min(axis=1)
        on_way = int(np.argmin(gaps))
        is_ahead = np.hypot(*(steps[0] - here)) > self.ego.length_m / 2
        return bool(gaps[on_way] < 1.0 and is_ahead and self._ego_slows(start))

    def _ego_slows(self, step: int) -> bool:
        speeds = np.array([speed for speed, _ in self.ego.states[step:]])
        return len(speeds) > 1 and bool(speeds[0] - speeds.min() >= SLOWED_MPS)


def stage_event(kind: str, town: Town, *, seed: int, duration_s: float, burn_in_s: float) -> SceneEvent | None:
    """Plan an event, or None when the town has no place for it on any of the routes that are drawn.

    Args:
        kind: one of `presets.EVENTS`.
        town: where.
        seed: of the scene; the event's random numbers are its own.
        duration_s: of the scene.
        burn_in_s: for which the scene is played before its time 0.

    Raises:
        ValueError: an unknown kind.
    """
    planners: dict[str, _Planner] = {
        CROSSING_PEDESTRIAN: _plan_crossing,
        OCCLUDED_PEDESTRIAN: _plan_occluded,
        LEAD_BRAKING: _plan_lead,
    }
    if kind not in planners:
        raise ValueError(f"there is no event {kind!r}; known: {', '.join(planners)}")
    rng = np.random.default_rng([seed, 11])
    for _ in range(TRIES):
        ego = place_ego(town, rng, duration_s + burn_in_s)
        ego.hold_until_s = -1e9
        street = StreetScene(town=town, way=ego.path.points, rng=rng)
        delay_s = float(rng.uniform(0.5, 0.5 + 0.15 * duration_s))  # early: wide roads take long to cross
        event = planners[kind](street, ego, delay_s, burn_in_s)
        if event is not None:
            return event
    return None


_Planner = Callable[[StreetScene, Vehicle, float, float], SceneEvent | None]


def _plan_crossing(street: StreetScene, ego: Vehicle, delay_s: float, burn_in_s: float) -> SceneEvent | None:
    """Two to four people who cross the open road ahead, one soon after the other."""
    rng = street.rng
    for station in _stations(ego.path, rng):
        trigger = _trigger_m(ego.path.speed_at(station), CROSSING_BRAKING_MPS2, rng)
        if not _begin_before(ego, station, trigger, delay_s, burn_in_s, rng):
            continue
        lines: list[np.ndarray] = []
        for ahead in (0.0, *rng.uniform(2.0, 14.0, int(rng.integers(1, 4)))):
            line = way_across(street, ego.path, station + ahead)
            if line is None or any(np.hypot(*(line[0] - other[0])) < 1.5 for other in lines):
                continue
            lines.append(line if rng.random() < 0.35 else line[::-1])
        if lines:
            walkers = [_steps_out(line, trigger, CROSSING_BRAKING_MPS2, rng) for line in lines]
            return SceneEvent(kind=CROSSING_PEDESTRIAN, ego=ego, walkers=walkers, crossing_after_s=burn_in_s + delay_s,
                              clear_from_m=ego.front_m + 1.0, clear_to_m=station + 12.0)  # fmt: skip
    return None


def _plan_occluded(street: StreetScene, ego: Vehicle, delay_s: float, burn_in_s: float) -> SceneEvent | None:
    """Somebody who steps out from behind a high vehicle that is parked at the kerb."""
    rng = street.rng
    variants = (("car", "minivan"), ("car", "suv"), ("truck", "box"))
    class_name, variant = variants[int(rng.choice(3, p=(0.35, 0.25, 0.4)))]
    model = make_actor(class_name, rng, variant=variant)
    for slot, slot_m in _slots_beside(street.town, ego.path, rng):
        pose = shifted(slot, 0.0, -max(0.0, (model.size_lwh[1] - 2.0) / 2))
        station = slot_m + model.size_lwh[0] / 2 + 0.85
        trigger = _trigger_m(ego.path.speed_at(station), STEPPING_OUT_BRAKING_MPS2, rng)
        if not _begin_before(ego, station, trigger, delay_s, burn_in_s, rng):
            continue
        trial = StreetScene(town=street.town, way=street.way, rng=rng)
        if not trial.place(model, pose, "vehicle.parked"):
            continue
        line = way_across(trial, ego.path, station, beyond_kerb_m=0.5)
        if line is None:
            continue
        if np.hypot(*(line[-1] - slot[:2])) < np.hypot(*(line[0] - slot[:2])):
            line = line[::-1]
        if _hidden_all_along(ego, line, trigger, rectangle_of(model, pose)):
            walker = _steps_out(line, trigger, STEPPING_OUT_BRAKING_MPS2, rng)
            return SceneEvent(kind=OCCLUDED_PEDESTRIAN, ego=ego, walkers=[walker], occluder=(model, pose),
                              crossing_after_s=burn_in_s + delay_s,
                              clear_from_m=ego.front_m + 1.0, clear_to_m=station + 8.0)  # fmt: skip
    return None


def _plan_lead(street: StreetScene, ego: Vehicle, delay_s: float, burn_in_s: float) -> SceneEvent | None:
    """A vehicle ahead that brakes hard to a stop, stands for some seconds and drives on."""
    rng = street.rng
    class_name, variant = (("car", None), ("truck", "box"))[int(rng.random() < 0.25)]
    model = make_actor(class_name, rng, variant=variant)
    for station in _stations(ego.path, rng):
        speed = ego.path.speed_at(station)
        gap = 2.0 + 1.2 * speed + float(rng.uniform(0.0, 4.0))
        room = gap + model.size_lwh[0] + speed**2 / (2 * LEAD_BRAKING_MPS2[0])
        if not _begin_before(ego, station, room, delay_s, burn_in_s, rng):
            continue
        lead = make_vehicle(model, ego.path, 0.0, ego.speed_mps, speed_factor=float(rng.uniform(0.85, 0.98)))
        lead.rear_m = ego.front_m + gap - lead.tail_m
        return SceneEvent(kind=LEAD_BRAKING, ego=ego, lead=lead, earliest_s=delay_s,
                          lead_braking_mps2=float(rng.uniform(*LEAD_BRAKING_MPS2)),
                          lead_stands_s=float(rng.uniform(*LEAD_STANDS_S)),
                          clear_from_m=ego.front_m + 1.0, clear_to_m=station + 20.0)  # fmt: skip
    return None


def _stations(path: DrivePath, rng: np.random.Generator) -> list[float]:
    """Some places along a path, in random order."""
    return [float(station) for station in rng.uniform(RUN_OUT_M + 50.0, max(path.end_m - 20.0, RUN_OUT_M + 51.0), 8)]


def _trigger_m(speed_mps: float, braking_mps2: float, rng: np.random.Generator) -> float:
    """Distance of the ego vehicle's centre at which a crossing begins: it can still be stopped for, with little rest.

    See `pedestrians.can_all_stop`.
    """
    needed = speed_mps**2 / (2 * braking_mps2) + 3.0 + 0.3 * speed_mps
    return needed + 2.5 + float(rng.uniform(4.0, 10.0))


def _begin_before(
    ego: Vehicle, station_m: float, rest_m: float, delay_s: float, burn_in_s: float, rng: np.random.Generator
) -> bool:
    """Move the ego vehicle so that it is `rest_m` before a station `delay_s` after time 0.

    False, with the vehicle somewhere, where the way there is slow, or no single lane of the town.
    """
    path = ego.path
    if path.speed_at(station_m) < MIN_SPEED_MPS:
        return False
    run_m = min(path.speed_at(station_m), 1.4 * TYPICAL_EGO_SPEED_MPS) * (0.8 * burn_in_s + delay_s)
    ego.rear_m += station_m - rest_m - run_m - ego.front_m
    ego.speed_mps = path.speed_at(ego.rear_m) * float(rng.uniform(0.75, 0.95))
    starts = path.lane_starts_m
    return (
        any(starts[k] + 1.0 < ego.tail_m and station_m + 10.0 < starts[k + 1] for k in range(len(path.lanes)))
        and path.speeds_mps[int(ego.rear_m / PATH_STEP_M) : int(station_m / PATH_STEP_M)].min() >= MIN_SPEED_MPS
    )


def _steps_out(line: np.ndarray, trigger_m: float, braking_mps2: float, rng: np.random.Generator) -> Walker:
    return Walker(
        model=make_actor("pedestrian", rng),
        line=line,
        station_m=0.0,
        speed_mps=float(np.clip(rng.normal(1.6, 0.25), 1.2, 2.3)),
        crosses_road=True,
        start_at_s=STEP_S,
        trigger_distance_m=trigger_m,
        expected_braking_mps2=braking_mps2,
        is_walking=False,
    )


def _slots_beside(town: Town, path: DrivePath, rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Bays along a path with their stations, those on its right first; each yaw along the path."""
    found = []
    for slot in rng.permutation(town.parking_slots):
        gaps = np.hypot(*(path.points - slot[:2]).T)
        nearest = int(np.argmin(gaps[:-1]))
        if not 2.0 < gaps[nearest] < 11.0:
            continue
        ahead, beside = path.points[nearest + 1] - path.points[nearest], slot[:2] - path.points[nearest]
        yaw = float(np.arctan2(ahead[1], ahead[0]))
        if abs(np.sin(slot[2] - yaw)) < 0.12:
            is_left = ahead[0] * beside[1] - ahead[1] * beside[0] > 0
            found.append((is_left, np.array((*slot[:2], yaw)), nearest * PATH_STEP_M))
    return [(slot, station) for _, slot, station in sorted(found, key=lambda item: item[0])]


def _line_rectangle(line: np.ndarray) -> np.ndarray:
    """x, y, yaw, half length, half width of the strip that a straight crossing needs."""
    way = line[-1] - line[0]
    return np.array((*(line[0] + line[-1]) / 2, np.arctan2(way[1], way[0]), np.hypot(*way) / 2 + 0.5, 0.5))


def rectangle_of(model: ActorModel, pose: tuple[float, float, float]) -> np.ndarray:
    """x, y, yaw, half length, half width of an actor."""
    return np.array((*pose, model.size_lwh[0] / 2, model.size_lwh[1] / 2))


def eye_of(ego: Vehicle, pose: tuple[float, float, float]) -> np.ndarray:
    """Where the front camera is when the box of the ego vehicle has a pose."""
    x, y, yaw = pose
    ahead = EYE_AHEAD_M - (ego.length_m / 2 - ego.rear_overhang_m)
    return np.array((x + ahead * np.cos(yaw), y + ahead * np.sin(yaw)))


def _hidden_all_along(ego: Vehicle, line: np.ndarray, trigger_m: float, rectangle: np.ndarray) -> bool:
    """Whether the start of a crossing is hidden from the trigger distance down to three quarters of it."""
    stations = np.arange(ego.rear_m, ego.path.end_m, 1.0)
    eyes = np.array([ego.path.at(station) for station in stations])
    gaps = np.hypot(*(eyes - line[0]).T)
    nearest = int(np.argmin(gaps))
    seen_from = eyes[:nearest][(gaps[:nearest] < trigger_m + 2.0) & (gaps[:nearest] > 0.75 * trigger_m)]
    return len(seen_from) > 0 and all(is_hidden(line[0], eye, rectangle) for eye in seen_from)


def is_hidden(person: np.ndarray, eye: np.ndarray, rectangle: np.ndarray) -> bool:
    """Whether a rectangle stands before the whole width of somebody: the lines of sight to both shoulders cut it.

    Args:
        person: x, y.
        eye: x, y.
        rectangle: x, y, yaw, half length, half width.
    """
    sight = (person - eye) / np.hypot(*(person - eye))
    across = HALF_BODY_M * np.array((-sight[1], sight[0]))
    return all(_cuts(rectangle, eye, person + side) for side in (across, -across, 0.0 * across))


def _cuts(rectangle: np.ndarray, start: np.ndarray, end: np.ndarray) -> bool:
    """Whether a segment and a rectangle share a point: its part within both slabs is not empty."""
    c, s = np.cos(rectangle[2]), np.sin(rectangle[2])
    to_frame = np.array(((c, s), (-s, c)))
    first, last = to_frame @ (start - rectangle[:2]), to_frame @ (end - rectangle[:2])
    low, high = 0.0, 1.0
    for a, b, half in zip(first, last, rectangle[3:]):
        if abs(b - a) < 1e-12:
            if abs(a) > half:
                return False
            continue
        ends = sorted(((-half - a) / (b - a), (half - a) / (b - a)))
        low, high = max(low, ends[0]), min(high, ends[1])
    return low <= high
