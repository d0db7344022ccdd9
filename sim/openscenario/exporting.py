"""Our scenarios as OpenSCENARIO XML 1.2, with an OpenDRIVE file beside them.

Written is what moves: starts, speeds, routes, manoeuvres and their triggers. What has no element (driver models,
faults, red lights, expectations) is left out and named.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.openscenario.opendrive import roads_of
from bevstack.sim.openscenario.writing_actions import add_action
from bevstack.sim.openscenario.writing_positions import NotWritableError, PositionWriter, entity_name, number
from bevstack.sim.openscenario.writing_roads import opendrive_text
from bevstack.sim.openscenario.writing_triggers import add_trigger
from bevstack.sim.openscenario.xml_nodes import parse_xml
from bevstack.sim.scenario.behaviours import ScriptedBehaviour, StaticBehaviour
from bevstack.sim.scenario.motion import ActorMotion
from bevstack.sim.scenario.placing import EGO, ego_way, start_motions
from bevstack.sim.scenario.road_specs import CrossingRoads, OpenDriveRoads
from bevstack.sim.scenario.roads import ScenarioRoads, build_roads
from bevstack.sim.scenario.schema import ActorSpec, Maneuver, Scenario
from bevstack.sim.scenario.script import size_of
from bevstack.sim.scenario.triggers import StationTrigger, TimeTrigger
from bevstack.sim.scenario.ways import Way

_VEHICLES = {"car": "car", "truck": "truck", "bus": "bus", "trailer": "trailer", "construction_vehicle": "truck",
             "motorcycle": "motorbike", "bicycle": "bicycle"}  # fmt: skip
_PEOPLE = {"pedestrian": "pedestrian", "animal": "animal"}
_SUN = {"day": ("0.9", "100000"), "overcast": ("0.9", "20000"), "dusk": ("0.05", "400"), "night": ("-0.5", "0.1"),
        "rain": ("0.9", "10000"), "fog": ("0.9", "10000")}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Two documents, and what is in neither."""

    xosc: str
    xodr: str
    losses: tuple[str, ...]


def save_xosc(scenario: Scenario, path: Path, vehicle: VehicleParams = NUSCENES_VEHICLE) -> tuple[str, ...]:
    """Write a concrete scenario, and its roads beside it with the ending .xodr; returns what is in neither.

    Raises:
        ValueError: the scenario has free parameters, cannot begin, or its road cannot be written.
        OSError: a file cannot be written.
    """
    road_path = path.with_suffix(".xodr")
    exported = export_xosc(scenario, road_path.name, vehicle)
    path.parent.mkdir(parents=True, exist_ok=True)
    road_path.write_text(exported.xodr, "utf-8")
    path.write_text(exported.xosc, "utf-8")
    return exported.losses


def export_xosc(scenario: Scenario, road_file: str, vehicle: VehicleParams = NUSCENES_VEHICLE) -> Exported:
    """A concrete scenario as documents.

    Args:
        scenario: Without free parameters.
        road_file: How the scenario shall name the road file.
        vehicle: The vehicle under test.

    Raises:
        ValueError: as `save_xosc`.
    """
    if not scenario.is_concrete:
        raise ValueError(f"scenario {scenario.name} has free parameters; make it concrete first")
    xodr = opendrive_text(scenario.road)
    roads = build_roads(scenario.road)
    positions = PositionWriter(written=roads_of(parse_xml(xodr, road_file)), roads=roads)
    writer = _Writer(scenario, roads, positions, vehicle)
    return Exported(xosc=writer.document(road_file), xodr=xodr, losses=tuple(dict.fromkeys(writer.losses)))


class _Writer:
    def __init__(
        self, scenario: Scenario, roads: ScenarioRoads, positions: PositionWriter, vehicle: VehicleParams
    ) -> None:
        self._scenario, self._roads, self._positions, self._vehicle = scenario, roads, positions, vehicle
        self._motions = start_motions(scenario, roads)
        self.losses = list(_lost(scenario))

    def document(self, road_file: str) -> str:
        root = ET.Element("OpenSCENARIO")
        ET.SubElement(root, "FileHeader", revMajor="1", revMinor="2", date="2026-01-01T00:00:00", author="bevstack",
                      description=f"{self._scenario.name}: {self._scenario.description}".strip(": "))  # fmt: skip
        ET.SubElement(root, "CatalogLocations")
        ET.SubElement(ET.SubElement(root, "RoadNetwork"), "LogicFile", filepath=road_file)
        entities = ET.SubElement(root, "Entities")
        self._ego(entities)
        for actor in self._scenario.actors:
            _entity(entities, actor)
        storyboard = ET.SubElement(root, "Storyboard")
        self._init(ET.SubElement(ET.SubElement(storyboard, "Init"), "Actions"))
        self._story(storyboard)
        end = TimeTrigger(at_s=self._scenario.duration_s)
        add_trigger(storyboard, "StopTrigger", end, self._positions, self._travelled)
        ET.indent(root)
        return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"

    def _ego(self, entities: ET.Element) -> None:
        vehicle = self._vehicle
        node = ET.SubElement(ET.SubElement(entities, "ScenarioObject", name=entity_name(EGO)), "Vehicle", name="ego",
                             vehicleCategory="car")  # fmt: skip
        size = (vehicle.length_m, vehicle.width_m, vehicle.height_m)
        _outline(node, size, vehicle.center_ahead_m, vehicle.wheelbase_m)

    def _init(self, actions: ET.Element) -> None:
        self._environment(actions)
        ego = self._scenario.ego
        private = ET.SubElement(actions, "Private", entityRef=entity_name(EGO))
        start = ego.start
        where = (start.lane, float(start.station_m), float(start.offset_m), float(start.yaw_rad))
        position = ET.SubElement(_private(private, "TeleportAction"), "Position")
        self._place_ego(private, position, where)
        _speed(private, float(ego.speed_mps))
        self._route(private, ego_way(ego, self._roads)[0], float(start.station_m), bool(ego.route))
        for actor in self._scenario.actors:
            private = ET.SubElement(actions, "Private", entityRef=actor.name)
            motion = self._motions[actor.name]
            self._start(ET.SubElement(_private(private, "TeleportAction"), "Position"), actor, motion)
            speed = 0.0 if isinstance(actor.behaviour, StaticBehaviour) else motion.speed_mps
            _speed(private, speed)
            if actor.guide == "lane":
                self._route(private, motion.way, motion.station_m, bool(actor.route))
            if not actor.is_present:
                hidden = _private(private, "VisibilityAction")
                hidden.attrib.update(graphics="false", sensors="false", traffic="false")

    def _place_ego(self, private: ET.Element, position: ET.Element, where: tuple[str, float, float, float]) -> None:
        """On its lane; on a lane that the road file lacks it follows that lane as a trajectory."""
        road = self._scenario.road
        further = {lane.name: lane for lane in road.further_lanes} if isinstance(road, OpenDriveRoads) else {}
        lane = further.get(where[0])
        if lane is None:
            self._positions.on_lane(position, *where)
            return
        x, y, yaw = Way.along((self._roads.lane(where[0]),)).pose(where[1], where[2])
        ET.SubElement(position, "WorldPosition", x=number(x), y=number(y), h=number(yaw + where[3]))
        follow = ET.SubElement(_private(private, "RoutingAction"), "FollowTrajectoryAction")
        ET.SubElement(ET.SubElement(follow, "TimeReference"), "None")
        ET.SubElement(follow, "TrajectoryFollowingMode", followingMode="follow")
        trajectory = ET.SubElement(ET.SubElement(follow, "TrajectoryRef"), "Trajectory", name="ego", closed="false")
        line = ET.SubElement(ET.SubElement(trajectory, "Shape"), "Polyline")
        for px, py in zip(lane.x_m, lane.y_m, strict=True):
            vertex = ET.SubElement(ET.SubElement(line, "Vertex"), "Position")
            ET.SubElement(vertex, "WorldPosition", x=number(px), y=number(py))

    def _start(self, position: ET.Element, actor: ActorSpec, motion: ActorMotion) -> None:
        if actor.guide == "lane" and motion.way.lanes:
            index = max(n for n, at in enumerate(motion.way.lane_starts_m) if at <= max(motion.station_m, 0.0) + 1e-9)
            lane = next(n for n, at in self._roads.lane_names.items() if at == motion.way.lanes[index])
            station = motion.station_m - motion.way.lane_starts_m[index]
            if 0 <= station <= self._roads.lane(lane).length_m:
                self._positions.on_lane(position, lane, station, motion.left_m, motion.yaw_rad)
                return
        x, y, yaw = motion.pose
        ET.SubElement(position, "WorldPosition", x=number(x), y=number(y), h=number(yaw))

    def _route(self, private: ET.Element, way: Way, station: float, is_given: bool) -> None:
        """Waypoints on every lane of a way that is not simply straight on."""
        if not is_given or len(way.lanes) < 2:
            return
        assign = ET.SubElement(_private(private, "RoutingAction"), "AssignRouteAction")
        route = ET.SubElement(assign, "Route", name="route", closed="false")
        names = {index: name for name, index in self._roads.lane_names.items()}
        for index, start in zip(way.lanes, way.lane_starts_m, strict=True):
            length = self._roads.network.lanes[index].length_m
            if station < start + length:
                waypoint = ET.SubElement(route, "Waypoint", routeStrategy="shortest")
                at = max(station - start, length / 2) if station > start else length / 2
                self._positions.on_lane(ET.SubElement(waypoint, "Position"), names[index], at, 0.0, 0.0)

    def _environment(self, actions: ET.Element) -> None:
        kind = self._scenario.weather.kind
        elevation, lux = _SUN[kind]
        action = ET.SubElement(ET.SubElement(actions, "GlobalAction"), "EnvironmentAction")
        environment = ET.SubElement(action, "Environment", name=kind)
        ET.SubElement(environment, "TimeOfDay", animation="false", dateTime="2026-06-01T12:00:00")
        clouds = "eightOktas" if kind in ("overcast", "rain") else "zeroOktas"
        weather = ET.SubElement(environment, "Weather", fractionalCloudCover=clouds)
        ET.SubElement(weather, "Sun", azimuth="3.0", elevation=elevation, illuminance=lux)
        if kind == "fog":
            ET.SubElement(weather, "Fog", visualRange="100")
        if kind == "rain":
            ET.SubElement(weather, "Precipitation", precipitationType="rain", precipitationIntensity="10")
        ET.SubElement(environment, "RoadCondition", frictionScaleFactor="0.7" if kind == "rain" else "1.0")

    def _story(self, storyboard: ET.Element) -> None:
        moving = [actor for actor in self._scenario.actors if actor.maneuvers]
        if not moving:
            return
        act = ET.SubElement(ET.SubElement(storyboard, "Story", name="course"), "Act", name="course of all")
        for actor in moving:
            group = ET.SubElement(act, "ManeuverGroup", name=f"course of {actor.name}", maximumExecutionCount="1")
            who = ET.SubElement(group, "Actors", selectTriggeringEntities="false")
            ET.SubElement(who, "EntityRef", entityRef=actor.name)
            maneuvers = ET.SubElement(group, "Maneuver", name=f"manoeuvres of {actor.name}")
            for maneuver in actor.maneuvers:
                self._event(maneuvers, actor, maneuver)
        add_trigger(act, "StartTrigger", TimeTrigger(at_s=0.0), self._positions, self._travelled)

    def _event(self, maneuvers: ET.Element, actor: ActorSpec, maneuver: Maneuver) -> None:
        event = ET.Element("Event", name=f"begin of {maneuver.name}", priority="parallel", maximumExecutionCount="1")
        try:
            action = ET.SubElement(event, "Action", name=maneuver.name)
            add_action(action, maneuver.action, actor, self._positions)
            add_trigger(event, "StartTrigger", maneuver.when, self._positions, self._travelled)
        except NotWritableError as error:
            self.losses.append(f"manoeuvre {maneuver.name}: {error}")
            return
        maneuvers.append(event)

    def _travelled(self, trigger: StationTrigger) -> float:
        if trigger.who == EGO:
            way, station, _ = ego_way(self._scenario.ego, self._roads)
        else:
            motion = self._motions[trigger.who]
            way, station = motion.way, motion.station_m
        index = self._roads.lane_names[trigger.lane]
        if index not in way.lanes:
            raise NotWritableError(f"lane '{trigger.lane}' is not on the way of {trigger.who}")
        return max(0.0, way.lane_starts_m[way.lanes.index(index)] + float(trigger.station_m) - station)


def _lost(scenario: Scenario) -> list[str]:
    lost = [f"actor {actor.name}: the behaviour '{actor.behaviour.KIND}'" for actor in scenario.actors
            if not isinstance(actor.behaviour, ScriptedBehaviour | StaticBehaviour)]  # fmt: skip
    lost += ["faults"] if scenario.faults else []
    lost += ["red lights"] if scenario.red_lights else []
    lost += ["the goal of the vehicle under test"] if scenario.ego.goal_m is not None else []
    lost += ["zebra crossings"] if isinstance(scenario.road, CrossingRoads) and scenario.road.has_zebras else []
    return lost + (["what is expected"] if scenario.expectations else [])


def _entity(entities: ET.Element, actor: ActorSpec) -> None:
    holder = ET.SubElement(entities, "ScenarioObject", name=actor.name)
    if actor.class_name in _VEHICLES:
        node = ET.SubElement(holder, "Vehicle", name=actor.name, vehicleCategory=_VEHICLES[actor.class_name])
        _outline(node, size_of(actor), 0.0, size_of(actor)[0] * 0.6)
    elif actor.class_name in _PEOPLE:
        node = ET.SubElement(holder, "Pedestrian", name=actor.name, mass="80",
                             pedestrianCategory=_PEOPLE[actor.class_name])  # fmt: skip
        _outline(node, size_of(actor), 0.0, None)
    else:
        category = actor.class_name if actor.class_name in ("barrier", "building") else "obstacle"
        node = ET.SubElement(holder, "MiscObject", name=actor.name, mass="10", miscObjectCategory=category)
        _outline(node, size_of(actor), 0.0, None)


def _outline(node: ET.Element, size: tuple[float, float, float], ahead: float, wheelbase: float | None) -> None:
    if wheelbase is None:
        ET.SubElement(node, "ParameterDeclarations")
    box = ET.SubElement(node, "BoundingBox")
    ET.SubElement(box, "Center", x=number(ahead), y="0", z=number(size[2] / 2))
    ET.SubElement(box, "Dimensions", length=number(size[0]), width=number(size[1]), height=number(size[2]))
    if wheelbase is not None:
        ET.SubElement(node, "Performance", maxSpeed="70", maxAcceleration="5", maxDeceleration="9")
        axles = ET.SubElement(node, "Axles")
        for tag, steering, x in (("FrontAxle", "0.55", wheelbase), ("RearAxle", "0", 0.0)):
            ET.SubElement(axles, tag, maxSteering=steering, wheelDiameter="0.65", trackWidth=number(size[1] * 0.85),
                          positionX=number(x), positionZ="0.32")  # fmt: skip
    ET.SubElement(node, "Properties")


def _private(private: ET.Element, tag: str) -> ET.Element:
    return ET.SubElement(ET.SubElement(private, "PrivateAction"), tag)


def _speed(private: ET.Element, speed: float) -> None:
    action = ET.SubElement(_private(private, "LongitudinalAction"), "SpeedAction")
    ET.SubElement(action, "SpeedActionDynamics", dynamicsShape="step", dynamicsDimension="time", value="0")
    ET.SubElement(ET.SubElement(action, "SpeedActionTarget"), "AbsoluteTargetSpeed", value=number(speed))
