"""What a command asks of the planner: a place to stop, a turn of the route, or a thing to follow."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevstack.asking.believed import Belief, Thing
from bevstack.asking.commands import Command, parse_command
from bevstack.asking.phrases import place, spoken
from bevstack.asking.referred import Candidate, resolve
from bevstack.asking.way import FRONT_M, REAR_M, Way, way_ahead
from bevstack.geometry.boxes import footprints
from bevstack.types.trajectory import Route, RouteCommand

STOP_GAP_M = 2.0
"""Between the vehicle and what it stops behind, before or in front of."""
COMFORT_MPS2, HARD_MPS2 = 2.0, 6.0
"""Braking that a command may ask for without and with being called hard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopGoal:
    """Come to rest here."""

    pose_ego: Float[np.ndarray, "3"]
    """x, y of the rear axle and heading, in `ego` at reference time."""
    along_m: float
    """Way to it."""
    side: str | None
    """left or right where it is beside the way: pull over to it."""
    braking_mps2: float
    """Constant braking that it takes from the present speed; NaN where that is not known."""

    @property
    def front_ego(self) -> tuple[float, float]:
        """Where the front end comes to stand: the `stop_goal_ego` of `bevstack.planning.rule_planner`."""
        x, y, yaw = self.pose_ego
        return float(x + FRONT_M * np.cos(yaw)), float(y + FRONT_M * np.sin(yaw))


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteGoal:
    """Take this turn."""

    command: RouteCommand
    after_m: float
    """Way that is driven first: behind the referred object, 0 at the next possibility."""

    def route(self, current: Route | None) -> Route:
        """The route with the turn in the place of its own command; its waypoints no longer hold beyond `after_m`."""
        points = np.zeros((0, 2)) if current is None else current.waypoints_ego
        lengths = np.linalg.norm(np.diff(np.concatenate((np.zeros((1, 2)), points)), axis=0), axis=1).cumsum()
        limit = float("nan") if current is None else current.speed_limit_mps
        return Route(command=self.command, waypoints_ego=points[lengths <= self.after_m], speed_limit_mps=limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowGoal:
    """Stay behind this thing."""

    thing: Thing


Goal = StopGoal | RouteGoal | FollowGoal


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """A command with the object that it refers to and the goal that follows."""

    command: Command
    candidates: tuple[Candidate, ...]
    """Best first."""
    goal: Goal | None
    problem: str = ""
    """Why there is no goal."""
    oracle: bool = False

    @property
    def said(self) -> str:
        """In words for people."""
        if self.goal is None:
            return f"I cannot do that: {self.problem}."
        what = ""
        if self.candidates:
            best = self.candidates[0]
            where = f"{best.thing.distance_m:.1f} m {place(best.thing.bearing_deg)}"
            what = f" (the {spoken(best.thing.name)} {where}, {best.share:.0%} sure)"
        if isinstance(self.goal, StopGoal):
            side = f", pulling over to the {self.goal.side}" if self.goal.side else ""
            return f"Stop after {self.goal.along_m:.1f} m{side}{what}."
        if isinstance(self.goal, RouteGoal):
            return f"Route {self.goal.command.value} after {self.goal.after_m:.0f} m{what}."
        return f"Follow it{what}."


def understand(text: str, belief: Belief, *, most: int = 3) -> Understood:
    """A command, the object that it means, and its goal.

    Args:
        text: The command.
        belief: What was perceived.
        most: Candidates to keep.

    Raises:
        ValueError: the command is empty.
    """
    command = parse_command(text)
    found = [] if command.reference is None else resolve(command.reference, belief)
    goal, problem = _goal(command, found, belief)
    return Understood(
        command=command, candidates=tuple(found[:most]), goal=goal, problem=problem, oracle=belief.is_oracle
    )  # fmt: skip


def _goal(command: Command, found: list[Candidate], belief: Belief) -> tuple[Goal | None, str]:
    if command.reference is not None and not found:
        what = " or ".join(spoken(name) for name in command.reference.classes[:3])
        return None, f"I see no {what} ('{command.reference.text}')"
    thing = found[0].thing if found else None
    way = way_ahead(belief)
    if command.action == "follow":
        return (FollowGoal(thing=thing), "") if thing is not None else (None, "the command does not say whom to follow")
    if command.action in ("turn", "change_lane", "go", "overtake", "slow"):
        if command.action in ("overtake", "slow"):
            return None, f"'{command.action}' is a manoeuvre for which there is no goal"
        after = 0.0 if thing is None or command.relation != "after" else max(0.0, _reach(thing, way)[1])
        return RouteGoal(command=command.direction or RouteCommand.STRAIGHT, after_m=after), ""
    if thing is None:
        speed = 0.0 if belief.ego is None or not np.isfinite(belief.ego.speed_mps) else belief.ego.speed_mps
        return _stop(max(1.0, speed**2 / (2 * COMFORT_MPS2)), None, way, belief)
    near, far, across = _reach(thing, way)
    along = {
        "in_front_of": far + STOP_GAP_M + REAR_M,
        "after": far + STOP_GAP_M + REAR_M,
        "next_to": (near + far) / 2 - (FRONT_M - REAR_M) / 2,
        "at": (near + far) / 2 - (FRONT_M - REAR_M) / 2,
    }.get(command.relation or "at", near - STOP_GAP_M - FRONT_M)
    beside = abs(across) > 2.0
    if not beside and command.relation in ("next_to", "at", None) or command.action == "yield":
        along = near - STOP_GAP_M - FRONT_M  # it stands on the way, or is to go first
    pulls = (
        beside
        and thing.state != "moving"
        and (command.action == "park" or command.relation in ("behind", "in_front_of"))
    )
    return _stop(along, ("left" if across > 0 else "right") if pulls else None, way, belief, offset=across)


def _stop(
    along: float, side: str | None, way: Way, belief: Belief, *, offset: float = 0.0
) -> tuple[StopGoal | None, str]:
    if along < 0:
        return None, f"the place to stop is {-along:.0f} m behind"
    speed = float("nan") if belief.ego is None else float(belief.ego.speed_mps)
    braking = speed**2 / (2 * max(along, 0.1))
    if braking > HARD_MPS2:
        return None, f"the place is only {along:.1f} m away: {braking:.1f} m/s2 of braking would be needed"
    x, y, yaw = way.pose_at(along)
    if side is not None:
        x, y = x - np.sin(yaw) * offset, y + np.cos(yaw) * offset  # into the row in which the object stands
    return StopGoal(pose_ego=np.array([x, y, yaw]), along_m=along, side=side, braking_mps2=braking), ""


def _reach(thing: Thing, way: Way) -> tuple[float, float, float]:
    """First and last metre of the way that a thing lies beside, and how far to the left its middle is."""
    corners = way.coordinates(footprints(np.asarray(thing.row, np.float64)[None])[0])
    return float(corners[:, 0].min()), float(corners[:, 0].max()), float(way.coordinates(thing.xy[None])[0, 1])
