"""How a scenario begins: the Init actions, as starts, speeds and routes of everybody."""

import math
from dataclasses import replace

from bevstack.sim.openscenario.entities import Entity
from bevstack.sim.openscenario.losses import Losses, UnsupportedElementError
from bevstack.sim.openscenario.moving import Actor, Moves, follow_action, place_of, route_from
from bevstack.sim.openscenario.opendrive_lanes import lay_network
from bevstack.sim.openscenario.positions import Path, Spot, Stage, placed_in_order
from bevstack.sim.openscenario.xml_nodes import Node
from bevstack.sim.scenario.places import LanePlace
from bevstack.sim.scenario.road_specs import FurtherLane
from bevstack.sim.scenario.roads import ScenarioRoads
from bevstack.sim.scenario.schema import ActorSpec, EgoSpec, Maneuver
from bevstack.sim.scenario.triggers import TimeTrigger
from bevstack.sim.scenario.ways import Way

_EGO_PATH = "trajectory of ego"
_QUIET = ("ControllerAction", "VisibilityAction")
"""Nothing is lost without them at the begin: nobody here needs a controller or is invisible."""


class Beginning:
    """Reads the Init actions."""

    def __init__(self, tree: Node, stage: Stage, losses: Losses) -> None:
        """Place everybody.

        Args:
            tree: A concrete scenario without references.
            stage: Its roads and entities; gets their spots, and the trajectory of the vehicle under test as a lane.
            losses: Where to note what is left out.

        Raises:
            ValueError: a position names what is not there, or the vehicle under test has none.
        """
        self._stage, self._losses = stage, losses
        self.further_lanes: tuple[FurtherLane, ...] = ()
        self.actors: dict[str, Actor] = {}
        self.moves = Moves(stage=stage, actors=self.actors, losses=losses)
        actions = tree.need("Storyboard", "Init", "Actions")
        self._actions = [(n.text("entityRef"), a) for n in actions.all("Private") for a in n.all("PrivateAction")]
        placed_in_order(stage, self._places())
        self._start_actors(actions)
        for action in self._taken("SpeedAction", "LongitudinalAction"):
            self._set_speed(*action)
        for name, node in self._taken("LongitudinalDistanceAction", "LongitudinalAction"):
            self._set_distance(self._begun(name, node), node)
        for name, node in self._taken("AssignRouteAction", "RoutingAction"):
            self._set_route(self._begun(name, node), node)
        for name, node in self._taken("AcquirePositionAction", "RoutingAction"):
            self._acquire(self._begun(name, node), node)
        for name, node in self._taken("VisibilityAction"):
            if name in self.actors and not any(node.flag(k, default=True) for k in ("graphics", "sensors", "traffic")):
                self.actors[name].is_present = False
        self._note_others()

    def ego_spec(self) -> EgoSpec:
        """The vehicle under test."""
        actor = next(actor for actor in self.actors.values() if actor.entity.is_ego)
        lane = actor.spot.lane or self._stage.lane_near(actor.spot)
        start = self._stage.place(actor.spot.x, actor.spot.y, actor.spot.yaw, lane)
        if not isinstance(start, LanePlace):
            raise ValueError(f"the vehicle under test begins at ({actor.spot.x:.1f}, {actor.spot.y:.1f}), which is "
                             "beside no lane for driving")  # fmt: skip
        return EgoSpec(start=start, speed_mps=actor.speed_mps, route=route_from(actor.route, lane))

    def actor_specs(self, maneuvers: dict[str, list[Maneuver]], delays: list[Maneuver]) -> tuple[ActorSpec, ...]:
        """Everybody else, with manoeuvres."""
        specs = [
            self._spec(actor, maneuvers.get(name, [])) for name, actor in self.actors.items() if not actor.entity.is_ego
        ]
        if specs and delays:
            specs[0] = replace(specs[0], maneuvers=(*specs[0].maneuvers, *delays))
        return tuple(specs)

    def _spec(self, actor: Actor, maneuvers: list[Maneuver]) -> ActorSpec:
        entity, spot, own = actor.entity, actor.spot, list(maneuvers)
        if actor.path is not None:
            name = f"trajectory of {entity.name}"
            own.insert(0, Maneuver(name=name, when=TimeTrigger(at_s=0.0), action=follow_action(actor.path, entity)))
        way = self._stage.lanes.way(spot.lane) if spot.lane else None
        along = way is not None and math.cos(way.pose(way.station_of(spot.x, spot.y)[0])[2] - spot.yaw) > 0.5
        guide = "lane" if along else "heading"
        return ActorSpec(
            name=entity.name,
            class_name=entity.class_name,
            size_lwh=entity.size_lwh,
            start=place_of(spot, entity, self._stage),
            speed_mps=actor.start_speed_mps,
            guide="lane" if guide == "lane" else "heading",
            route=route_from(actor.route, spot.lane) if spot.lane and guide == "lane" else (),
            is_present=actor.is_present,
            maneuvers=tuple(own),
        )

    def _taken(self, tag: str, *around: str) -> list[tuple[str, Node]]:
        found = ((name, node.child(*around, tag)) for name, node in self._actions)
        return [(name, node) for name, node in found if node is not None]

    def _places(self) -> list[tuple[str, Node]]:
        """Positions to begin at; where somebody has a trajectory instead, it is laid first."""
        placed = [(name, node.need("Position")) for name, node in self._taken("TeleportAction")]
        self._paths: dict[str, Path] = {}
        for name, node in self._taken("FollowTrajectoryAction", "RoutingAction"):
            if name not in self._stage.entities:
                raise node.fault(f"there is no entity '{name}'")
            self._take_path(self._stage.entities[name], name, node, is_placed=name in dict(placed))
        return placed

    def _take_path(self, entity: Entity, name: str, node: Node, *, is_placed: bool) -> None:
        path = self.moves.trajectory(node)
        self._paths[name] = path
        if entity.is_ego:
            points = path.points.round(6) + 0.0
            self.further_lanes = (FurtherLane(name=_EGO_PATH, x_m=tuple(points[:, 0].tolist()),
                                              y_m=tuple(points[:, 1].tolist())),)  # fmt: skip
            laid = lay_network(self._stage.roads, [(_EGO_PATH, points)])
            self._stage.lanes = ScenarioRoads(network=laid.network, lane_names=laid.lane_names, speed_limit_mps=0.0)
        if not is_placed:
            x, y, yaw = path.way.pose(0.0)
            self._stage.spots[name] = Spot(x=x, y=y, yaw=yaw, lane=_EGO_PATH if entity.is_ego else None)

    def _start_actors(self, actions: Node) -> None:
        gone = {node.text("entityRef") for action in actions.all("GlobalAction") for node in action.all("EntityAction")
                if node.child("DeleteEntityAction")}  # fmt: skip
        for name, entity in self._stage.entities.items():
            if name not in self._stage.spots:
                if entity.is_ego:
                    raise actions.fault(f"the vehicle under test, '{name}', has no position to begin at")
                if name not in gone:
                    self._losses.note(actions, f"'{name}' has no position to begin at and is left out")
                continue
            spot = self._stage.spots[name]
            actor = Actor(entity=entity, spot=spot, is_present=name not in gone, path=self._paths.get(name))
            self._take_lane(actor)
            self.actors[name] = actor

    def _take_lane(self, actor: Actor) -> None:
        parts = (actor.spot.lane or "").split("/")
        if len(parts) == 3:
            actor.lane = int(parts[2])
            way = Way.along((self._stage.lanes.lane(actor.spot.lane or ""),))
            actor.offset_m = way.station_of(actor.spot.x, actor.spot.y)[1]

    def _begun(self, name: str, node: Node) -> Actor:
        if name not in self.actors:
            raise node.fault(f"'{name}' has no position to begin at")
        return self.actors[name]

    def _set_speed(self, name: str, node: Node) -> None:
        target = node.need("SpeedActionTarget").only()
        speed = target.number("value")
        if target.tag == "RelativeTargetSpeed":
            other = self._begun(self._stage.entity(target).file_name, target).speed_mps
            speed = other * speed if target.text("speedTargetValueType", "delta") == "factor" else other + speed
        dynamics = node.need("SpeedActionDynamics")
        if dynamics.text("dynamicsShape") != "step" and dynamics.number("value") > 0:
            self._losses.note(dynamics, "at the begin a speed is there at once")
        if name in self.actors:
            self.actors[name].speed_mps = self.actors[name].start_speed_mps = max(0.0, speed)

    def _set_distance(self, actor: Actor, node: Node) -> None:
        other = self._begun(self._stage.entity(node).file_name, node)
        way = other.way(self._stage)
        station, _ = way.station_of(other.spot.x, other.spot.y)
        if not other.entity.is_ego:
            station += other.entity.center_ahead_m
        left = way.station_of(actor.spot.x, actor.spot.y)[1]
        ahead = self.moves.distance_ahead(actor, other, node) - actor.entity.center_ahead_m
        x, y, yaw = way.pose(station + ahead, left)
        actor.spot = replace(actor.spot, x=x, y=y, yaw=yaw)
        self._stage.spots[actor.entity.file_name] = actor.spot

    def _set_route(self, actor: Actor, node: Node) -> None:
        actor.route = self._stage.route(node.need("Route"))
        if actor.spot.lane is not None and actor.spot.lane not in actor.route:
            self._losses.note(node, "the route does not pass the start")

    def _acquire(self, actor: Actor, node: Node) -> None:
        goal = self._stage.spot(node.need("Position")).lane
        if actor.spot.lane is None or goal is None:
            self._losses.note(node, "a way from or to a place beside the lanes is not sought")
            return
        actor.route = tuple(self._stage.way_between(actor.spot.lane, goal, node))

    def _note_others(self) -> None:
        known = {"TeleportAction", "SpeedAction", "LongitudinalDistanceAction", "AssignRouteAction",
                 "AcquirePositionAction", "FollowTrajectoryAction", *_QUIET}  # fmt: skip
        for _, action in self._actions:
            node = action.only()
            inner = node.only() if node.tag in ("LongitudinalAction", "LateralAction", "RoutingAction") else node
            if inner.tag not in known:
                self._losses.note(inner, "this action has no counterpart at the begin")
            elif inner.tag == "FollowTrajectoryAction" and self._is_timed(inner):
                self._losses.note(inner, "the vehicle under test follows its trajectory at its own speed")

    def _is_timed(self, node: Node) -> bool:
        try:
            return self.moves.trajectory(node).times_s is not None and _EGO_PATH in self._stage.lanes.lane_names
        except UnsupportedElementError:
            return False
