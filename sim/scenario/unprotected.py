"""What happens to an ego vehicle that does not react: the proof that a scenario is dangerous."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.scenario.expectations import CollisionDanger
from bevstack.sim.scenario.motion import Body, EgoMotion, corners_of, gap_between
from bevstack.sim.scenario.placing import EGO, ego_way
from bevstack.sim.scenario.roads import build_roads
from bevstack.sim.scenario.schema import Scenario
from bevstack.sim.scenario.script import Script, ScriptState, advance, bodies

IMPACT_TOLERANCE_M = 0.15
"""How far the impact location may be from the one that a scenario names."""
_HALVINGS = 10
"""Of a step, to find the time of first contact: to 0.1 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The first time that the ego vehicle touches somebody."""

    time_s: float
    actor: str
    ego: Body
    other: Body

    def face(self) -> str:
        """Side of the ego vehicle that is touched: front, left, right or rear."""
        corners = [self._local(*corner) for corner in corners_of(self.other)]
        half_l, half_w = self.ego.length_m / 2, self.ego.width_m / 2
        gaps = {
            "front": min(x for x, _ in corners) - half_l,
            "rear": -half_l - max(x for x, _ in corners),
            "left": min(y for _, y in corners) - half_w,
            "right": -half_w - max(y for _, y in corners),
        }
        turned = abs(math.sin(2 * (self.other.yaw - self.ego.yaw))) > 0.05
        return max(gaps, key=lambda side: gaps[side]) if not turned else self._face_of_corner()

    def share(self, danger: CollisionDanger) -> float:
        """Where the named point of the actor is: share of the ego's width, or on its flanks of its length."""
        along = {"centre": 0.0, "front": 0.5, "rear": -0.5}[danger.point] * self.other.length_m
        x, y = self._local(
            self.other.x + along * math.cos(self.other.yaw), self.other.y + along * math.sin(self.other.yaw)
        )
        if danger.face in ("left", "right"):
            return 0.5 - x / self.ego.length_m
        from_right = 0.5 + y / self.ego.width_m
        return from_right if danger.measured_from == "right" else 1.0 - from_right

    def _face_of_corner(self) -> str:
        """Where the outlines are turned against each other a corner touches: the side that it lies nearest to."""
        half_l, half_w = self.ego.length_m / 2, self.ego.width_m / 2
        points = [self._local(*corner) for corner in corners_of(self.other)]
        inside = [(x, y) for x, y in points if abs(x) < half_l + 0.01 and abs(y) < half_w + 0.01]
        if not inside:
            # A corner of the ego vehicle touches the other's side.
            own = corners_of(self.ego)
            inside = [self._local(*min(own, key=lambda corner: _depth(self.other, corner)))]
        x, y = inside[0]
        sides = {"front": half_l - x, "rear": half_l + x, "left": half_w - y, "right": half_w + y}
        # Where two corners meet, the end of the vehicle counts before its flank.
        return min(sides, key=lambda side: round(abs(sides[side]), 2))

    def _local(self, x: float, y: float) -> tuple[float, float]:
        return _in_frame(self.ego, x, y)


def first_contact(scenario: Scenario, vehicle: VehicleParams = NUSCENES_VEHICLE) -> Contact | None:
    """Drive a concrete scenario along the ego's route at its first speed, to the first contact or the end.

    Raises:
        ValueError: the scenario cannot begin.
    """
    roads = build_roads(scenario.road)
    script = Script(scenario=scenario, roads=roads, vehicle=vehicle)
    way, station, left = ego_way(scenario.ego, roads)
    speed = float(scenario.ego.speed_mps)

    def ego_at(time_s: float) -> EgoMotion:
        x, y, yaw = way.pose(station + speed * time_s, left)
        return EgoMotion(x=x, y=y, yaw=yaw, speed_mps=speed, travelled_m=speed * time_s)

    state = script.start()
    for step in range(round(float(scenario.duration_s) / DRIVE_STEP_S)):
        following = advance(script, state, ego_at(step * DRIVE_STEP_S))
        if _touched(script, following, ego_at((step + 1) * DRIVE_STEP_S)):
            return _refined(script, state, step * DRIVE_STEP_S, ego_at)
        state = following
    return None


def check_danger(scenario: Scenario, vehicle: VehicleParams = NUSCENES_VEHICLE) -> Contact | None:
    """Drive a concrete scenario unprotected and compare with what its `danger` claims; returns the contact.

    Raises:
        ValueError: the scenario cannot begin, or something else happens than it claims.
    """
    danger, contact = scenario.danger, first_contact(scenario, vehicle)
    where = f"scenario {scenario.name} {scenario.values or ''}: unprotected, the ego vehicle"
    if not isinstance(danger, CollisionDanger):
        if contact and danger.what:
            raise ValueError(f"{where} touches {contact.actor} after {contact.time_s:.2f} s, but no collision is meant")
        return contact
    if danger.holds_if is not True:
        return contact
    if contact is None:
        raise ValueError(f"{where} touches nobody; it should hit {danger.actor}")
    if (contact.actor, contact.face()) != (danger.actor, danger.face):
        raise ValueError(
            f"{where} touches {contact.actor} with its {contact.face()} after {contact.time_s:.2f} s; it should hit "
            f"{danger.actor} with its {danger.face}"
        )
    if danger.share is not None:
        extent = vehicle.length_m if danger.face in ("left", "right") else vehicle.width_m
        off = (contact.share(danger) - float(danger.share)) * extent
        if abs(off) > IMPACT_TOLERANCE_M:
            raise ValueError(
                f"{where} hits {danger.actor} at {contact.share(danger):.2f} instead of {float(danger.share):.2f} of "
                f"its width, {abs(off):.2f} m off (limit {IMPACT_TOLERANCE_M} m)"
            )
    return contact


def _refined(script: Script, state: ScriptState, begin_s: float, ego_at: Callable[[float], EgoMotion]) -> Contact:
    low, high = 0.0, DRIVE_STEP_S
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        after = advance(script, state, ego_at(begin_s), middle)
        low, high = (low, middle) if _touched(script, after, ego_at(begin_s + middle)) else (middle, high)
    after = advance(script, state, ego_at(begin_s), high)
    everybody = bodies(script, after, ego_at(begin_s + high))
    name = _touched(script, after, ego_at(begin_s + high))[0]
    return Contact(time_s=begin_s + high, actor=name, ego=everybody[EGO], other=everybody[name])


def _touched(script: Script, state: ScriptState, ego: EgoMotion) -> list[str]:
    everybody = bodies(script, state, ego)
    own = everybody.pop(EGO)
    reach = math.hypot(own.length_m, own.width_m) / 2
    near = (
        name
        for name, body in everybody.items()
        if math.dist((own.x, own.y), (body.x, body.y)) < reach + math.hypot(body.length_m, body.width_m) / 2
    )
    return [name for name in near if gap_between(own, everybody[name]) <= 0]


def _in_frame(body: Body, x: float, y: float) -> tuple[float, float]:
    c, s = math.cos(body.yaw), math.sin(body.yaw)
    dx, dy = x - body.x, y - body.y
    return c * dx + s * dy, c * dy - s * dx


def _depth(body: Body, point: tuple[float, float]) -> float:
    """How far a point lies outside of an outline; 0 or less inside."""
    x, y = _in_frame(body, *point)
    return max(abs(x) - body.length_m / 2, abs(y) - body.width_m / 2)
