"""Places of our scenarios as positions of OpenSCENARIO."""

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from bevstack.sim.openscenario.opendrive import RoadMap
from bevstack.sim.scenario.places import LanePlace, Place, RelativePlace
from bevstack.sim.scenario.placing import pose_of
from bevstack.sim.scenario.roads import ScenarioRoads
from bevstack.sim.scenario.schema import ActorSpec
from bevstack.sim.scenario.ways import Way


class NotWritableError(ValueError):
    """Something of our scenarios that OpenSCENARIO has no element for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PositionWriter:
    """Writes positions on a road network."""

    written: RoadMap
    """What the exported .xodr says."""
    roads: ScenarioRoads
    """Our roads."""

    def place(self, holder: ET.Element, place: Place) -> None:
        """Add the position of a place to an element.

        Raises:
            NotWritableError: it is relative, and not as a whole along the other's road.
        """
        if isinstance(place, RelativePlace):
            if float(place.yaw_rad):
                raise NotWritableError("a place relative to somebody that also turns")
            ET.SubElement(holder, "RelativeRoadPosition", entityRef=entity_name(place.to),
                          ds=number(place.ahead_m), dt=number(place.left_m))  # fmt: skip
            return
        x, y, yaw = pose_of(place, self.roads, {})
        if isinstance(place, LanePlace):
            self.on_lane(holder, place.lane, float(place.station_m), float(place.offset_m), float(place.yaw_rad))
        else:
            ET.SubElement(holder, "WorldPosition", x=number(x), y=number(y), h=number(yaw))

    def on_lane(self, holder: ET.Element, lane: str, station: float, left: float, turn: float) -> None:
        """Add a position beside the middle of one of our lanes.

        Raises:
            NotWritableError: the lane is none of the file's.
        """
        x, y, yaw = Way.along((self.roads.lane(lane),)).pose(station, left)
        road_id, lane_id, s, offset = self._on_road(lane, x, y, yaw)
        node = ET.SubElement(holder, "LanePosition", roadId=road_id, laneId=str(lane_id), s=number(s),
                             offset=number(offset))  # fmt: skip
        if turn:
            ET.SubElement(node, "Orientation", type="relative", h=number(turn))

    def side_of(self, actor: ActorSpec) -> int:
        """1 where an actor's left is that of the road that it begins on, -1 where it drives against its direction."""
        if actor.guide != "lane" or not isinstance(actor.start, LanePlace):
            return 1
        x, y, yaw = Way.along((self.roads.lane(actor.start.lane),)).pose(float(actor.start.station_m))
        road, lane, _, _ = self._on_road(actor.start.lane, x, y, yaw)
        return 1 if self.written.road(road).runs_along(lane) else -1

    def _on_road(self, name: str, x: float, y: float, yaw: float) -> tuple[str, int, float, float]:
        """Road, lane, station and offset of a point, on the lane of the file that runs where ours does."""
        middle = Way.along((self.roads.lane(name),))
        station, _ = middle.station_of(x, y)
        mx, my, _ = middle.pose(station)
        best: tuple[float, str, int, float, float] | None = None
        for road in self.written.roads.values():
            line = Way.through(road.line.poses(road.line.stations(0.0, road.line.length_m))[:, :2])
            s = min(max(line.station_of(x, y)[0], 0.0), road.line.length_m)
            for lane in road.sections[road.section_at(s)].lanes:
                lx, ly, lane_yaw = road.lane_pose(lane, s, 0.0)
                if math.cos(lane_yaw - yaw) < 0.5:
                    continue
                gap = math.dist((lx, ly), (mx, my))
                if best is None or gap < best[0] - 1e-6:
                    _, _, heading = road.pose(s, 0.0)
                    offset = (y - ly) * math.cos(heading) - (x - lx) * math.sin(heading)
                    best = (gap, road.id, lane, s, offset)
        if best is None or best[0] > 1.0:
            raise NotWritableError(f"lane '{name}' is none of the road file's")
        return best[1:]


def entity_name(name: str) -> str:
    """Of somebody of our scenarios, in the file."""
    return "Ego" if name == "ego" else name


def number(value: float | str) -> str:
    """A number of a concrete scenario, as text that reads back exactly to a micrometre."""
    return repr(round(float(value), 6) + 0.0)
