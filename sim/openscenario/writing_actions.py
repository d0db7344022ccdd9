"""Actions of our scenarios as actions of OpenSCENARIO 1.2."""

import xml.etree.ElementTree as ET

from bevstack.sim.openscenario.moving import HOLD_COMMAND
from bevstack.sim.openscenario.writing_positions import NotWritableError, PositionWriter, entity_name, number
from bevstack.sim.scenario.actions import (
    Action,
    AppearAction,
    FollowAction,
    HoldAction,
    LaneChangeAction,
    SpeedAction,
    TeleportAction,
    VanishAction,
)
from bevstack.sim.scenario.places import RelativePlace
from bevstack.sim.scenario.schema import ActorSpec


def add_action(holder: ET.Element, action: Action, actor: ActorSpec, positions: PositionWriter) -> None:
    """Add what an actor does to an `Action` element.

    Raises:
        NotWritableError: there is no element for it.
    """
    if isinstance(action, HoldAction):
        user = ET.SubElement(holder, "UserDefinedAction")
        ET.SubElement(user, "CustomCommandAction", type=f"{HOLD_COMMAND} {number(action.duration_s)}")
        return
    private = ET.SubElement(holder, "PrivateAction")
    if isinstance(action, SpeedAction):
        _speed(ET.SubElement(private, "LongitudinalAction"), action)
    elif isinstance(action, LaneChangeAction):
        _lane_change(ET.SubElement(private, "LateralAction"), action, actor, positions)
    elif isinstance(action, FollowAction):
        _follow(ET.SubElement(private, "RoutingAction"), action, positions)
    elif isinstance(action, TeleportAction):
        positions.place(ET.SubElement(ET.SubElement(private, "TeleportAction"), "Position"), action.place)
    elif isinstance(action, AppearAction | VanishAction):
        seen = str(isinstance(action, AppearAction)).lower()
        ET.SubElement(private, "VisibilityAction", graphics=seen, sensors=seen, traffic=seen)


def _dynamics(holder: ET.Element, tag: str, action: SpeedAction | LaneChangeAction) -> None:
    at_once = action.shape == "step" or float(action.amount) <= 0
    ET.SubElement(
        holder, tag,
        dynamicsShape="step" if at_once else action.shape,
        dynamicsDimension="time" if at_once else action.by,
        value="0" if at_once else number(action.amount),
    )  # fmt: skip


def _speed(holder: ET.Element, action: SpeedAction) -> None:
    node = ET.SubElement(holder, "SpeedAction")
    _dynamics(node, "SpeedActionDynamics", action)
    target = ET.SubElement(node, "SpeedActionTarget")
    if action.relative_to is None:
        ET.SubElement(target, "AbsoluteTargetSpeed", value=number(action.speed_mps))
    else:
        ET.SubElement(target, "RelativeTargetSpeed", entityRef=entity_name(action.relative_to),
                      value=number(action.speed_mps), speedTargetValueType="delta", continuous="false")  # fmt: skip


def _lane_change(holder: ET.Element, action: LaneChangeAction, actor: ActorSpec, positions: PositionWriter) -> None:
    """Relative to the actor itself; OpenSCENARIO counts lanes and offsets along the road, we along the way."""
    side = positions.side_of(actor)
    node = ET.SubElement(holder, "LaneChangeAction", targetLaneOffset=number(float(action.offset_m) * side))
    _dynamics(node, "LaneChangeActionDynamics", action)
    target = ET.SubElement(node, "LaneChangeTarget")
    ET.SubElement(target, "RelativeTargetLane", entityRef=entity_name(actor.name), value=str(action.lanes_left * side))


def _follow(holder: ET.Element, action: FollowAction, positions: PositionWriter) -> None:
    if any(isinstance(point.place, RelativePlace) for point in action.points):
        raise NotWritableError("a way whose points move with somebody")
    node = ET.SubElement(holder, "FollowTrajectoryAction")
    timed = action.points[0].time_s is not None
    reference = ET.SubElement(node, "TimeReference")
    if timed:
        ET.SubElement(reference, "Timing", domainAbsoluteRelative="relative", scale="1", offset="0")
    else:
        ET.SubElement(reference, "None")
    ET.SubElement(node, "TrajectoryFollowingMode", followingMode="position")
    trajectory = ET.SubElement(ET.SubElement(node, "TrajectoryRef"), "Trajectory", name="way", closed="false")
    line = ET.SubElement(ET.SubElement(trajectory, "Shape"), "Polyline")
    for point in action.points:
        vertex = ET.SubElement(line, "Vertex")
        if point.time_s is not None:
            vertex.set("time", number(point.time_s))
        positions.place(ET.SubElement(vertex, "Position"), point.place)
