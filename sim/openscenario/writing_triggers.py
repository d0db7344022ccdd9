"""Triggers of our scenarios as start triggers of OpenSCENARIO 1.2."""

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Callable

from bevstack.sim.openscenario.writing_positions import NotWritableError, PositionWriter, entity_name, number
from bevstack.sim.scenario.places import RelativePlace
from bevstack.sim.scenario.triggers import (
    AfterTrigger,
    AllTrigger,
    AnyTrigger,
    DistanceTrigger,
    HeadwayTrigger,
    ReachTrigger,
    SpeedTrigger,
    StandstillTrigger,
    StationTrigger,
    TimeTrigger,
    TravelledTrigger,
    Trigger,
    TtcTrigger,
)

_MOST_GROUPS = 64
_MEASURES = {"gap": "euclidianDistance", "centres": "euclidianDistance", "along": "longitudinal", "across": "lateral"}

StationAsWay = Callable[[StationTrigger], float]
"""How far somebody has travelled when they come to a station of a lane."""


def add_trigger(event: ET.Element, tag: str, trigger: Trigger, positions: PositionWriter, way: StationAsWay) -> None:
    """Add a start or stop trigger to an element.

    Raises:
        NotWritableError: a condition has no element, or they are nested too much.
    """
    node = ET.SubElement(event, tag)
    groups = _groups(trigger)
    if len(groups) > _MOST_GROUPS:
        raise NotWritableError(f"a trigger of {len(groups)} alternatives")
    for group in groups:
        holder = ET.SubElement(node, "ConditionGroup")
        for leaf in group:
            _condition(holder, leaf, positions, way)


def _groups(trigger: Trigger) -> list[tuple[Trigger, ...]]:
    """Alternatives, each of what must hold together."""
    if isinstance(trigger, AnyTrigger):
        return [group for part in trigger.of for group in _groups(part)]
    if isinstance(trigger, AllTrigger):
        rows = itertools.product(*(_groups(part) for part in trigger.of))
        return [tuple(leaf for group in row for leaf in group) for row in rows]
    return [(trigger,)]


def _condition(holder: ET.Element, trigger: Trigger, positions: PositionWriter, way: StationAsWay) -> None:
    delay = trigger.delay_s if isinstance(trigger, AfterTrigger) else 0.0
    node = ET.SubElement(holder, "Condition", name=trigger.KIND, delay=number(delay), conditionEdge="none")
    if isinstance(trigger, TimeTrigger):
        by_value = ET.SubElement(node, "ByValueCondition")
        ET.SubElement(by_value, "SimulationTimeCondition", value=number(trigger.at_s), rule="greaterOrEqual")
    elif isinstance(trigger, AfterTrigger):
        by_value = ET.SubElement(node, "ByValueCondition")
        ET.SubElement(by_value, "StoryboardElementStateCondition", storyboardElementType="action",
                      storyboardElementRef=trigger.maneuver, state="completeState")  # fmt: skip
    elif not isinstance(trigger, AllTrigger | AnyTrigger):
        by_entity = ET.SubElement(node, "ByEntityCondition")
        who = ET.SubElement(by_entity, "TriggeringEntities", triggeringEntitiesRule="any")
        ET.SubElement(who, "EntityRef", entityRef=entity_name(trigger.who))
        _by_entity(ET.SubElement(by_entity, "EntityCondition"), trigger, positions, way)


def _by_entity(node: ET.Element, trigger: Trigger, positions: PositionWriter, way: StationAsWay) -> None:
    if isinstance(trigger, ReachTrigger):
        if isinstance(trigger.place, RelativePlace):
            raise NotWritableError("reaching a place that moves with somebody")
        distance = ET.SubElement(node, "DistanceCondition", value=number(trigger.within_m), freespace="false",
                                 rule="lessOrEqual", coordinateSystem="entity")  # fmt: skip
        positions.place(ET.SubElement(distance, "Position"), trigger.place)
    elif isinstance(trigger, StationTrigger):
        ET.SubElement(node, "TraveledDistanceCondition", value=number(way(trigger)))
    elif isinstance(trigger, TravelledTrigger):
        ET.SubElement(node, "TraveledDistanceCondition", value=number(trigger.distance_m))
    elif isinstance(trigger, DistanceTrigger):
        ET.SubElement(node, "RelativeDistanceCondition", entityRef=entity_name(trigger.to),
                      relativeDistanceType=_MEASURES[trigger.measure], value=number(trigger.distance_m),
                      freespace=str(trigger.measure != "centres").lower(), coordinateSystem="entity",
                      rule=_rule(trigger.rule))  # fmt: skip
    elif isinstance(trigger, TtcTrigger):
        ttc = ET.SubElement(node, "TimeToCollisionCondition", value=number(trigger.time_s), freespace="true",
                            rule=_rule(trigger.rule), coordinateSystem="entity",
                            relativeDistanceType="euclidianDistance")  # fmt: skip
        target = ET.SubElement(ttc, "TimeToCollisionConditionTarget")
        ET.SubElement(target, "EntityRef", entityRef=entity_name(trigger.to))
    elif isinstance(trigger, HeadwayTrigger):
        ET.SubElement(node, "TimeHeadwayCondition", entityRef=entity_name(trigger.to), value=number(trigger.time_s),
                      freespace="true", rule=_rule(trigger.rule), coordinateSystem="entity",
                      relativeDistanceType="longitudinal")  # fmt: skip
    elif isinstance(trigger, SpeedTrigger):
        ET.SubElement(node, "SpeedCondition", value=number(trigger.speed_mps), rule=_rule(trigger.rule))
    elif isinstance(trigger, StandstillTrigger):
        ET.SubElement(node, "StandStillCondition", duration=number(trigger.for_s))


def _rule(rule: str) -> str:
    return "lessOrEqual" if rule == "below" else "greaterOrEqual"
