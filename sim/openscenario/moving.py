"""Actions of one actor, as actions of our scenarios."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely

from bevstack.sim.agents.transitions import TransitionShape
from bevstack.sim.openscenario.entities import Entity
from bevstack.sim.openscenario.losses import Losses, UnsupportedElementError
from bevstack.sim.openscenario.positions import Path, Spot, Stage, lanes_between, shifted
from bevstack.sim.openscenario.synchronising import approach
from bevstack.sim.openscenario.xml_nodes import Node
from bevstack.sim.scenario.actions import (
    Action,
    AppearAction,
    FollowAction,
    HoldAction,
    LaneChangeAction,
    SpeedAction,
    TeleportAction,
    VanishAction,
    Waypoint,
)
from bevstack.sim.scenario.places import Place, RelativePlace, WorldPlace
from bevstack.sim.scenario.placing import EGO
from bevstack.sim.scenario.triggers import TravelledTrigger, Trigger
from bevstack.sim.scenario.ways import Way

_SHAPES: dict[str, TransitionShape] = {"linear": "linear", "cubic": "cubic", "sinusoidal": "sinusoidal", "step": "step"}
Dimension = Literal["rate", "time", "distance"]
_DIMENSIONS: dict[str, Dimension] = {"rate": "rate", "time": "time", "distance": "distance"}
_POINT_TOLERANCE_M = 0.002
HOLD_COMMAND = "bevstack:hold"
"""Custom command that our export writes for a manoeuvre that only waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An action of ours."""

    action: Action
    also: Trigger | None = None
    """What must hold besides the event's own trigger."""
    after_previous: bool = False
    """Whether it waits for the step before it."""


@dataclass(kw_only=True, eq=False)
class Actor:
    """An actor while the file is read: where it goes, by what was read so far."""

    entity: Entity
    spot: Spot
    speed_mps: float = 0.0
    start_speed_mps: float = 0.0
    route: tuple[str, ...] = ()
    path: Path | None = None
    """A trajectory that it follows from the begin."""
    lane: int | None = None
    """Lane of its road that it will be in."""
    offset_m: float = 0.0
    """To the left of its lane, in its direction."""
    is_present: bool = True

    def way(self, stage: Stage) -> Way:
        """What it moves along."""
        if self.path is not None:
            return self.path.way
        if self.spot.lane is not None:
            return stage.lanes.way(self.spot.lane, route_from(self.route, self.spot.lane))
        return Way.ahead(self.spot.x, self.spot.y, self.spot.yaw)


def route_from(route: tuple[str, ...], lane: str) -> tuple[str, ...]:
    """The part of a route that begins at a lane; nothing where the lane is not on it."""
    return route[route.index(lane) :] if lane in route else ()


def centre_points(path: Path, entity: Entity) -> np.ndarray:
    """Where the middle of the box is while the reference point follows a path; as few points as are needed."""
    line = np.array(shapely.simplify(shapely.LineString(path.points), _POINT_TOLERANCE_M).coords)
    if path.times_s is not None:
        line = path.points
    if not entity.center_ahead_m:
        return line
    way = Way.through(line)
    stations = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))))
    return np.array([entity.centre_of(*way.pose(float(station))) for station in stations])


def path_from(path: Path, distance_m: float) -> Path:
    """What is left of a path after a distance."""
    if distance_m <= 0:
        return path
    way, lengths = path.way, np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(path.points, axis=0).T))))
    x, y, _ = way.pose(min(distance_m, way.length_m - 1e-3))
    return Path(points=np.concatenate(([(x, y)], path.points[lengths > distance_m])), times_s=None)


@dataclass(kw_only=True, eq=False)
class Moves:
    """Reads the actions of actors."""

    stage: Stage
    actors: dict[str, Actor]
    """By the name in the file; with the vehicle under test."""
    losses: Losses

    def steps(self, actor: Actor, node: Node) -> list[Step]:
        """What a `PrivateAction` comes to; nothing where it does not change how something moves.

        Raises:
            UnsupportedElementError: it has no counterpart.
            ValueError: it names what is not there.
        """
        kind = node.only()
        if kind.tag in ("LongitudinalAction", "LateralAction", "RoutingAction", "AppearanceAction"):
            kind = kind.only()
        readers: dict[str, Callable[[Actor, Node], list[Step]]] = {
            "SpeedAction": self._speed,
            "SpeedProfileAction": self._profile,
            "LongitudinalDistanceAction": self._distance,
            "LaneChangeAction": self._lane_change,
            "LaneOffsetAction": self._lane_offset,
            "SynchronizeAction": self._synchronise,
            "FollowTrajectoryAction": self._follow,
            "TeleportAction": self._teleport,
            "VisibilityAction": self._visibility,
        }
        if kind.tag not in readers:
            raise UnsupportedElementError(kind, f"this action has no counterpart; there are {', '.join(readers)}")
        return readers[kind.tag](actor, kind)

    def _other(self, node: Node) -> Actor:
        entity = self.stage.entity(node)
        if entity.file_name not in self.actors:
            raise UnsupportedElementError(node, f"'{entity.file_name}' has no position to begin at")
        return self.actors[entity.file_name]

    def _speed(self, actor: Actor, node: Node) -> list[Step]:
        dynamics, target = node.need("SpeedActionDynamics"), node.need("SpeedActionTarget").only()
        relative_to, speed = None, target.number("value")
        if target.tag == "RelativeTargetSpeed":
            if target.text("speedTargetValueType", "delta") != "delta" or target.flag("continuous"):
                raise UnsupportedElementError(
                    target, "only a difference of speeds that is taken once has a counterpart"
                )
            relative_to = self.stage.entity(target).name
        shape, by, amount = _dynamics(dynamics)
        if shape != "step" and by == "rate" and amount == 0:
            return []  # A change with no rate never happens.
        actor.speed_mps = speed if relative_to is None else actor.speed_mps
        action = SpeedAction(speed_mps=speed, relative_to=relative_to, shape=shape, by=by, amount=amount)
        return [Step(action=action)]

    def _profile(self, actor: Actor, node: Node) -> list[Step]:
        if "entityRef" in node.attributes:
            raise UnsupportedElementError(node, "a profile relative to an entity has no counterpart")
        steps = []
        for index, entry in enumerate(node.all("SpeedProfileEntry")):
            action = SpeedAction(speed_mps=entry.number("speed"), by="time", amount=entry.number("time", 0.0))
            steps.append(Step(action=action, after_previous=index > 0))
        return steps

    def _distance(self, actor: Actor, node: Node) -> list[Step]:
        if node.flag("continuous") or node.child("DynamicConstraints"):
            raise UnsupportedElementError(node, "only a distance that is taken at once has a counterpart")
        other = self._other(node)
        ahead = self.distance_ahead(actor, other, node)
        left = _left_of(actor, other, self.stage)
        return [Step(action=TeleportAction(place=RelativePlace(to=other.entity.name, ahead_m=ahead, left_m=left)))]

    def distance_ahead(self, actor: Actor, other: Actor, node: Node) -> float:
        """From our reference point of another to the middle of an actor that keeps a distance to it."""
        gap = node.number("timeGap") * other.speed_mps if "timeGap" in node.attributes else node.number("distance")
        one, two = actor.entity, other.entity
        # Our reference point is the file's for the vehicle under test, and the middle of the box for all others.
        own_front = two.front_m if two.is_ego else two.size_lwh[0] / 2
        own_rear = two.rear_m if two.is_ego else two.size_lwh[0] / 2
        if node.text("displacement", "any") == "trailingReferencedEntity":
            between = own_rear + one.size_lwh[0] / 2 if node.flag("freespace") else -one.center_ahead_m
            return -(gap + between)
        return gap + (own_front + one.size_lwh[0] / 2 if node.flag("freespace") else one.center_ahead_m)

    def _lane_change(self, actor: Actor, node: Node) -> list[Step]:
        target = node.need("LaneChangeTarget").only()
        if target.tag == "RelativeTargetLane" and self.stage.entity(target) is actor.entity:
            return self._beside(actor, node, int(target.number("value")))
        if actor.lane is None:
            raise UnsupportedElementError(node, "the actor is on no lane for driving")
        if target.tag == "AbsoluteTargetLane":
            lane = int(target.number("value"))
        else:
            other = self._other(target)
            if other.lane is None:
                raise UnsupportedElementError(target, "the other one is on no lane for driving")
            lane = shifted(other.lane, int(target.number("value")))
        left = lanes_between(actor.lane, lane) * self._side(actor)
        offset = node.number("targetLaneOffset", 0.0) * self._side(actor)
        actor.lane, actor.offset_m = lane, offset
        shape, by, amount = _dynamics(node.need("LaneChangeActionDynamics"))
        action = LaneChangeAction(lanes_left=left, offset_m=offset, shape=shape, by=by, amount=amount)
        return [Step(action=action)]

    def _beside(self, actor: Actor, node: Node, by: int) -> list[Step]:
        """So many lanes beside its own: also where there is no lane, as for somebody who walks."""
        left, side = by * self._side(actor), self._side(actor)
        actor.lane = shifted(actor.lane, by) if actor.lane is not None else None
        actor.offset_m = node.number("targetLaneOffset", 0.0) * side
        shape, along, amount = _dynamics(node.need("LaneChangeActionDynamics"))
        return [Step(action=LaneChangeAction(lanes_left=left, offset_m=actor.offset_m, shape=shape, by=along,
                                             amount=amount))]  # fmt: skip

    def _lane_offset(self, actor: Actor, node: Node) -> list[Step]:
        dynamics, target = node.need("LaneOffsetActionDynamics"), node.need("LaneOffsetTarget").only()
        offset = target.number("value") * self._side(actor)
        if target.tag == "RelativeTargetLaneOffset":
            offset += self._other(target).offset_m
        shape = _SHAPES.get(dynamics.text("dynamicsShape", "linear"), "linear")
        change = abs(offset - actor.offset_m)
        acceleration = dynamics.number("maxLateralAcc", 0.0)
        # Largest second derivative of each shape over a duration of one; a linear change is eased evenly.
        steepest = {"sinusoidal": math.pi**2 / 2, "cubic": 6.0, "linear": 4.0, "step": 0.0}[shape]
        seconds = math.sqrt(steepest * change / acceleration) if acceleration > 0 else 0.0
        actor.offset_m = offset
        return [Step(action=LaneChangeAction(offset_m=offset, shape=shape, by="time", amount=seconds))]

    def _synchronise(self, actor: Actor, node: Node) -> list[Step]:
        master = self.actors.get(node.text("masterEntityRef"))
        if master is None or not master.entity.is_ego:
            raise UnsupportedElementError(node, "only the vehicle under test can be the one to synchronise with")
        speed = node.child("FinalSpeed", "AbsoluteSpeed")
        if speed is None:
            raise UnsupportedElementError(node, "only an absolute final speed has a counterpart")
        if master.speed_mps <= 0:
            raise UnsupportedElementError(node, "the vehicle under test stands, and never arrives")
        last = speed.number("value")
        steady = speed.child("TargetDistanceSteadyState")
        timed = speed.child("TargetTimeSteadyState")
        steady_m = steady.number("distance") if steady else timed.number("time") * last if timed else 0.0
        master_m = self._way_to(master, self.stage.spot(node.need("TargetPositionMaster")))
        way_m = self._way_to(actor, self.stage.spot(node.need("TargetPosition")))
        plan = approach(way_m=way_m, time_s=master_m / master.speed_mps, speed_mps=actor.speed_mps, last_mps=last,
                        steady_m=steady_m)  # fmt: skip
        if not plan.is_exact:
            self.losses.note(node, "the speeds do not allow to arrive in time; the change begins at once")
        also = TravelledTrigger(who=EGO, distance_m=plan.wait_s * master.speed_mps) if plan.wait_s > 0 else None
        actor.speed_mps = last
        return [Step(action=SpeedAction(speed_mps=last, by="distance", amount=plan.change_m), also=also)]

    def _way_to(self, actor: Actor, target: Spot) -> float:
        way = actor.way(self.stage)
        return way.station_of(target.x, target.y)[0] - way.station_of(actor.spot.x, actor.spot.y)[0]

    def trajectory(self, node: Node) -> Path:
        """The path of a `FollowTrajectoryAction`, from its initial distance on; times begin at 0 with the action."""
        holder = node.child("TrajectoryRef") or node
        path = self.stage.path(holder.need("Trajectory"))
        timing = node.child("TimeReference", "Timing")
        if path.times_s is not None and timing is not None:
            scale, offset = timing.number("scale", 1.0), timing.number("offset", 0.0)
            path = Path(points=path.points, times_s=tuple(time * scale + offset for time in path.times_s))
        elif path.times_s is not None:
            path = Path(points=path.points, times_s=None)
        return path_from(path, node.number("initialDistanceOffset", 0.0))

    def _follow(self, actor: Actor, node: Node) -> list[Step]:
        timing = node.child("TimeReference", "Timing")
        if timing is not None and timing.text("domainAbsoluteRelative", "relative") == "absolute":
            self.losses.note(timing, "times count from the begin of the action instead of the scenario's")
        return [Step(action=follow_action(self.trajectory(node), actor.entity))]

    def _teleport(self, actor: Actor, node: Node) -> list[Step]:
        relative = node.need("Position").only()
        if relative.tag == "RelativeRoadPosition":
            # Relative to where the other is then, not at the begin.
            return [Step(action=TeleportAction(place=self._beside_entity(actor, relative)))]
        spot = self.stage.spot(node.need("Position"))
        x, y = actor.entity.centre_of(spot.x, spot.y, spot.yaw)
        return [Step(action=TeleportAction(place=WorldPlace(x_m=x, y_m=y, yaw_rad=spot.yaw)))]

    def _beside_entity(self, actor: Actor, node: Node) -> RelativePlace:
        other = self.stage.entity(node)
        between = actor.entity.center_ahead_m - (0.0 if other.is_ego else other.center_ahead_m)
        return RelativePlace(to=other.name, ahead_m=node.number("ds") + between, left_m=node.number("dt"))

    def _visibility(self, actor: Actor, node: Node) -> list[Step]:
        seen = {node.flag(key, default=True) for key in ("graphics", "sensors", "traffic")}
        if len(seen) > 1:
            raise UnsupportedElementError(node, "one who is there for some and not for others has no counterpart")
        return [Step(action=AppearAction() if seen == {True} else VanishAction())]

    def _side(self, actor: Actor) -> int:
        """1 where the actor's left is that of its road, -1 where it drives against the road's direction."""
        if actor.spot.lane is None or actor.lane is None or "/" not in actor.spot.lane:
            return 1
        return 1 if self.stage.roads.road(actor.spot.lane.split("/")[0]).runs_along(actor.lane) else -1


def follow_action(path: Path, entity: Entity) -> FollowAction:
    """A path as our action."""
    points = centre_points(path, entity)
    times: tuple[float | None, ...] = path.times_s or (None,) * len(points)
    return FollowAction(points=tuple(Waypoint(place=WorldPlace(x_m=float(x), y_m=float(y)), time_s=time)
                                     for (x, y), time in zip(points, times, strict=True)))  # fmt: skip


def hold_of(node: Node) -> HoldAction | None:
    """The waiting that a `CustomCommandAction` of our own export stands for."""
    command = node.child("CustomCommandAction")
    name, _, seconds = command.text("type", "").partition(" ") if command else ("", "", "")
    if command is None or name != HOLD_COMMAND:
        return None
    try:
        return HoldAction(duration_s=float(seconds))
    except ValueError:
        raise command.fault(f"'{seconds}' must be seconds") from None


def place_of(spot: Spot, entity: Entity, stage: Stage) -> Place:
    """The middle of the box at a spot."""
    x, y = (spot.x, spot.y) if entity.is_ego else entity.centre_of(spot.x, spot.y, spot.yaw)
    return stage.place(x, y, spot.yaw, spot.lane)


def _left_of(actor: Actor, other: Actor, stage: Stage) -> float:
    way = other.way(stage)
    return way.station_of(actor.spot.x, actor.spot.y)[1] - way.station_of(other.spot.x, other.spot.y)[1]


def _dynamics(node: Node) -> tuple[TransitionShape, Dimension, float]:
    shape, by = node.text("dynamicsShape"), node.text("dynamicsDimension")
    if shape not in _SHAPES or by not in _DIMENSIONS:
        raise UnsupportedElementError(node, f"a transition of shape '{shape}' over '{by}' has no counterpart")
    return _SHAPES[shape], _DIMENSIONS[by], abs(node.number("value"))
