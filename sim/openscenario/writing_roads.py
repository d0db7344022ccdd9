"""Our test roads as OpenDRIVE 1.7: straight, curved, and two roads that cross."""

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from bevstack.sim.scenario.road_specs import CrossingRoads, CurvedRoad, OpenDriveRoads, RoadSpec, StraightRoad

_JUNCTION = "100"
_TURNS = {1: "right", 2: "straight", 3: "left"}
"""Arms counter-clockwise from the one that traffic comes from -> how it turns."""
_ARMS = {"south": -math.pi / 2, "east": 0.0, "north": math.pi / 2, "west": math.pi}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A straight line or an arc."""

    length_m: float
    curvature: float = 0.0


def opendrive_text(spec: RoadSpec) -> str:
    """A concrete road as a document.

    Raises:
        ValueError: it is of a kind that is not written.
    """
    if isinstance(spec, OpenDriveRoads):
        return Path(spec.file).read_text("utf-8-sig")
    root = ET.Element("OpenDRIVE")
    ET.SubElement(root, "header", revMajor="1", revMinor="7", name=spec.KIND, version="1.0")
    if isinstance(spec, CrossingRoads):
        _crossing(root, spec)
    elif isinstance(spec, StraightRoad | CurvedRoad):
        _track(root, spec)
    else:
        raise ValueError(f"roads of kind '{spec.KIND}' are not written as OpenDRIVE; straight, curved, crossing and "
                         "opendrive are")  # fmt: skip
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _track(root: ET.Element, spec: StraightRoad | CurvedRoad) -> None:
    if isinstance(spec, StraightRoad):
        pieces = [_Piece(length_m=float(spec.length_m))]
    else:
        radius, angle = float(spec.radius_m), float(spec.angle_rad)
        pieces = [
            _Piece(length_m=float(spec.before_m)),
            _Piece(length_m=abs(radius) * angle, curvature=1 / radius),
            _Piece(length_m=float(spec.after_m)),
        ]
    road = _road(root, "0", (0.0, 0.0, 0.0), pieces, float(spec.speed_limit_mps))
    width, shoulder = float(spec.lane_width_m), float(spec.shoulder_m)
    section = ET.SubElement(ET.SubElement(road, "lanes"), "laneSection", s="0")
    left = [(n, "driving", width) for n in range(1, spec.lanes_oncoming + 1)]
    right = [(-n, "driving", width) for n in range(1, spec.lanes_ahead + 1)]
    if shoulder > 0:
        left.append((spec.lanes_oncoming + 1, "shoulder", shoulder))
        right.append((-spec.lanes_ahead - 1, "shoulder", shoulder))
    _lanes(section, left[::-1], right)


def _crossing(root: ET.Element, spec: CrossingRoads) -> None:
    half, width = float(spec.half_m), float(spec.lane_width_m)
    limit, shoulder = float(spec.speed_limit_mps), float(spec.shoulder_m)
    ids = {arm: str(number) for number, arm in enumerate(_ARMS, 1)}
    for arm, yaw in _ARMS.items():
        start = (half * math.cos(yaw), half * math.sin(yaw), yaw)
        road = _road(root, ids[arm], start, [_Piece(length_m=float(spec.arm_m))], limit)
        ET.SubElement(_first(road, "link"), "predecessor", elementType="junction", elementId=_JUNCTION)
        section = ET.SubElement(ET.SubElement(road, "lanes"), "laneSection", s="0")
        left, right = [(1, "driving", width)], [(-1, "driving", width)]
        if shoulder > 0:
            left, right = [(2, "shoulder", shoulder), *left], [*right, (-2, "shoulder", shoulder)]
        _lanes(section, left, right)
    junction = ET.Element("junction", id=_JUNCTION, name="crossing")
    arms = list(_ARMS)
    for first, source in enumerate(arms):
        for steps, turn in _TURNS.items():
            target, name = arms[(first + steps) % 4], f"{ids[source]}{ids[arms[(first + steps) % 4]]}"
            _connector(root, spec, name, _ARMS[source] + math.pi, turn, ids[source], ids[target])
            connection = ET.SubElement(junction, "connection", id=name, incomingRoad=ids[source],
                                       connectingRoad=name, contactPoint="start")  # fmt: skip
            ET.SubElement(connection, "laneLink", {"from": "1", "to": "-1"})
    root.append(junction)


def _connector(
    root: ET.Element, spec: CrossingRoads, name: str, yaw: float, turn: str, source: str, target: str
) -> None:
    """A way through the junction: one lane whose middle is the reference line."""
    half, width = float(spec.half_m), float(spec.lane_width_m)
    radius = half + width / 2 if turn == "left" else half - width / 2
    piece = _Piece(length_m=2 * half)
    if turn != "straight":
        piece = _Piece(length_m=radius * math.pi / 2, curvature=1 / radius if turn == "left" else -1 / radius)
    c, s = math.cos(yaw), math.sin(yaw)
    start = (-half * c + width / 2 * s, -half * s - width / 2 * c, yaw)
    road = _road(root, name, start, [piece], float(spec.speed_limit_mps), junction=_JUNCTION)
    link = _first(road, "link")
    ET.SubElement(link, "predecessor", elementType="road", elementId=source, contactPoint="start")
    ET.SubElement(link, "successor", elementType="road", elementId=target, contactPoint="start")
    lanes = ET.SubElement(road, "lanes")
    ET.SubElement(lanes, "laneOffset", s="0", a=_text(width / 2), b="0", c="0", d="0")
    _lanes(ET.SubElement(lanes, "laneSection", s="0"), [], [(-1, "driving", width)], links=("1", "-1"))


def _road(
    root: ET.Element,
    name: str,
    start: tuple[float, float, float],
    pieces: list[_Piece],
    limit: float,
    junction: str = "-1",
) -> ET.Element:
    length = sum(piece.length_m for piece in pieces)
    road = ET.SubElement(root, "road", id=name, name=name, length=_text(length), junction=junction, rule="RHT")
    ET.SubElement(road, "link")
    kind = ET.SubElement(road, "type", s="0", type="rural")
    ET.SubElement(kind, "speed", max=_text(limit), unit="m/s")
    plan = ET.SubElement(road, "planView")
    (x, y, yaw), station = start, 0.0
    for piece in pieces:
        geometry = ET.SubElement(plan, "geometry", s=_text(station), x=_text(x), y=_text(y), hdg=_text(yaw),
                                 length=_text(piece.length_m))  # fmt: skip
        if piece.curvature:
            ET.SubElement(geometry, "arc", curvature=_text(piece.curvature))
        else:
            ET.SubElement(geometry, "line")
        half_turn = piece.curvature * piece.length_m / 2
        chord = piece.length_m * (math.sin(half_turn) / half_turn if half_turn else 1.0)
        x, y = x + chord * math.cos(yaw + half_turn), y + chord * math.sin(yaw + half_turn)
        yaw, station = yaw + 2 * half_turn, station + piece.length_m
    return road


def _lanes(
    section: ET.Element,
    left: list[tuple[int, str, float]],
    right: list[tuple[int, str, float]],
    links: tuple[str, str] | None = None,
) -> None:
    """Lanes as id, type and width, from left to right."""
    for side, lanes in (("left", left), ("center", [(0, "none", 0.0)]), ("right", right)):
        if not lanes:
            continue
        group = ET.SubElement(section, side)
        for lane, kind, width in lanes:
            node = ET.SubElement(group, "lane", id=str(lane), type=kind, level="false")
            link = ET.SubElement(node, "link")
            if links and lane:
                ET.SubElement(link, "predecessor", id=links[0])
                ET.SubElement(link, "successor", id=links[1])
            if lane:
                ET.SubElement(node, "width", sOffset="0", a=_text(width), b="0", c="0", d="0")
            is_outer = kind == "driving" and not any(k == "driving" and abs(n) > abs(lane) for n, k, _ in lanes)
            mark = "none" if kind == "shoulder" else "solid" if is_outer else "broken"
            ET.SubElement(node, "roadMark", sOffset="0", type=mark, color="standard", width="0.12")


def _first(node: ET.Element, tag: str) -> ET.Element:
    found = node.find(tag)
    if found is None:
        found = ET.SubElement(node, tag)
    return found


def _text(value: float) -> str:
    return repr(float(value))
