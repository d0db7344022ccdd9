"""Conditions of OpenSCENARIO as triggers of our scenarios.

What is known from the file alone (parameters, variables that only the file sets) becomes true or false at once. Edges
are not kept: a condition counts as long as it holds, and every manoeuvre of ours begins once.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from bevstack.sim.openscenario.entities import Entity
from bevstack.sim.openscenario.losses import UnsupportedElementError
from bevstack.sim.openscenario.parameters import Values, compares
from bevstack.sim.openscenario.positions import Spot, Stage
from bevstack.sim.openscenario.xml_nodes import Node
from bevstack.sim.scenario.actions import HoldAction
from bevstack.sim.scenario.places import WorldPlace
from bevstack.sim.scenario.schema import Maneuver
from bevstack.sim.scenario.triggers import (
    AfterTrigger,
    AllTrigger,
    AnyTrigger,
    DistanceTrigger,
    HeadwayTrigger,
    ReachTrigger,
    Rule,
    SpeedTrigger,
    StandstillTrigger,
    TimeTrigger,
    TravelledTrigger,
    Trigger,
    TtcTrigger,
)

Held = Trigger | bool
"""A trigger, or what is always or never the case."""

_RULES: dict[str, Rule] = {
    "lessThan": "below",
    "lessOrEqual": "below",
    "greaterThan": "above",
    "greaterOrEqual": "above",
}


def all_of(parts: Iterable[Held]) -> Held:
    """Whether all hold."""
    open_ = []
    for part in parts:
        if part is False:
            return False
        if part is not True and part not in open_:
            open_.append(part)
    return True if not open_ else open_[0] if len(open_) == 1 else AllTrigger(of=tuple(open_))


def any_of(parts: Iterable[Held]) -> Held:
    """Whether one holds."""
    open_ = []
    for part in parts:
        if part is True:
            return True
        if part is not False and part not in open_:
            open_.append(part)
    return False if not open_ else open_[0] if len(open_) == 1 else AnyTrigger(of=tuple(open_))


@dataclass(kw_only=True)
class Conditions:
    """Turns conditions into triggers."""

    stage: Stage
    values: Values
    """Of the parameters."""
    element_state: Callable[[Node], Held]
    """What a `StoryboardElementStateCondition` comes to."""
    setters: Callable[[str], list[tuple[str, Held]]]
    """Values that actions give to a variable, and when; the declared one first."""
    delays: list[Maneuver] = field(default_factory=list)
    """Manoeuvres that do nothing but hold, for conditions with a delay."""

    def trigger(self, node: Node | None) -> Held:
        """When a start or stop trigger holds; always where there is none.

        Raises:
            UnsupportedElementError: a condition has no counterpart.
        """
        if node is None:
            return True
        groups = [[self._delayed(c) for c in group.all("Condition")] for group in node.all("ConditionGroup")]
        return any_of(all_of(group) for group in groups)

    def with_delays(self, group: Node) -> list[tuple[Held, float]]:
        """The conditions of one group, each with its delay in seconds.

        Raises:
            UnsupportedElementError: as `trigger`.
        """
        return [(self.condition(node), node.number("delay", 0.0)) for node in group.all("Condition")]

    def condition(self, node: Node) -> Held:
        """What a condition comes to, without its delay.

        Raises:
            UnsupportedElementError: it has no counterpart.
        """
        by_value = node.child("ByValueCondition")
        if by_value is not None:
            return self._by_value(by_value.only())
        by_entity = node.need("ByEntityCondition")
        triggering = by_entity.need("TriggeringEntities")
        who = [self.stage.entity(ref) for ref in triggering.all("EntityRef")]
        parts = [self._by_entity(by_entity.need("EntityCondition").only(), entity) for entity in who]
        return all_of(parts) if triggering.text("triggeringEntitiesRule", "any") == "all" else any_of(parts)

    def _delayed(self, node: Node) -> Held:
        held, delay = self.condition(node), node.number("delay", 0.0)
        if delay <= 0 or held is False:
            return held
        if held is True:
            return TimeTrigger(at_s=delay)
        if isinstance(held, TimeTrigger):
            return TimeTrigger(at_s=float(held.at_s) + delay)
        if isinstance(held, AfterTrigger):
            return replace(held, delay_s=float(held.delay_s) + delay)
        name = f"{node.text('name')} held {len(self.delays) + 1}"
        self.delays.append(Maneuver(name=name, when=held, action=HoldAction(duration_s=0.0)))
        return AfterTrigger(maneuver=name, delay_s=delay)

    def _by_value(self, node: Node) -> Held:
        if node.tag == "SimulationTimeCondition":
            above = _rule(node) == "above"
            return TimeTrigger(at_s=node.number("value")) if above else node.number("value") > 0
        if node.tag == "StoryboardElementStateCondition":
            return self.element_state(node)
        if node.tag == "ParameterCondition":
            name = node.text("parameterRef")
            if name not in self.values:
                raise node.fault(f"parameter '{name}' is not declared")
            return compares(self.values[name], node.text("rule"), node.text("value"))
        if node.tag == "VariableCondition":
            given = self.setters(node.text("variableRef"))
            return any_of(when for value, when in given if compares(value, node.text("rule"), node.text("value")))
        raise UnsupportedElementError(node, "this condition has no counterpart")

    def _by_entity(self, node: Node, who: Entity) -> Held:
        readers: dict[str, Callable[[Node, Entity], Held]] = {
            "TimeHeadwayCondition": self._headway,
            "TimeToCollisionCondition": self._ttc,
            "RelativeDistanceCondition": self._relative_distance,
            "DistanceCondition": self._distance,
            "ReachPositionCondition": self._reach,
            "TraveledDistanceCondition": lambda n, w: TravelledTrigger(who=w.name, distance_m=n.number("value")),
            "SpeedCondition": lambda n, w: SpeedTrigger(who=w.name, speed_mps=n.number("value"), rule=_rule(n)),
            "StandStillCondition": lambda n, w: StandstillTrigger(who=w.name, for_s=n.number("duration")),
            "CollisionCondition": self._collision,
        }
        if node.tag not in readers:
            raise UnsupportedElementError(node, f"this condition has no counterpart; there are {', '.join(readers)}")
        return readers[node.tag](node, who)

    def _headway(self, node: Node, who: Entity) -> Held:
        to = self.stage.entity(node)
        return HeadwayTrigger(who=who.name, to=to.name, time_s=node.number("value"), rule=_rule(node))

    def _ttc(self, node: Node, who: Entity) -> Held:
        target = node.child("TimeToCollisionConditionTarget", "EntityRef")
        if target is None:
            raise UnsupportedElementError(node, "only the time to collision with an entity has a counterpart")
        to = self.stage.entity(target)
        return TtcTrigger(who=who.name, to=to.name, time_s=node.number("value"), rule=_rule(node))

    def _relative_distance(self, node: Node, who: Entity) -> Held:
        to, value = self.stage.entity(node), node.number("value")
        kind, free = node.text("relativeDistanceType"), node.flag("freespace")
        if kind == "longitudinal":
            # Between reference points, where the other is ahead: the gap is shorter by what lies between.
            gap = value if free else max(0.0, value - who.front_m - to.rear_m)
            return DistanceTrigger(who=who.name, to=to.name, distance_m=gap, rule=_rule(node), measure="along")
        if kind == "lateral":
            gap = value if free else max(0.0, value - (who.size_lwh[1] + to.size_lwh[1]) / 2)
            return DistanceTrigger(who=who.name, to=to.name, distance_m=gap, rule=_rule(node), measure="across")
        return DistanceTrigger(
            who=who.name, to=to.name, distance_m=value, rule=_rule(node), measure="gap" if free else "centres"
        )

    def _distance(self, node: Node, who: Entity) -> Held:
        if _rule(node) != "below":
            raise UnsupportedElementError(node, "only nearer than a distance to a position has a counterpart")
        within = node.number("value") + (who.front_m if node.flag("freespace") else 0.0)
        return ReachTrigger(who=who.name, place=_place(self.stage.spot(node.need("Position"))), within_m=within)

    def _reach(self, node: Node, who: Entity) -> Held:
        place = _place(self.stage.spot(node.need("Position")))
        return ReachTrigger(who=who.name, place=place, within_m=node.number("tolerance"))

    def _collision(self, node: Node, who: Entity) -> Held:
        ref = node.child("EntityRef")
        if ref is None:
            raise UnsupportedElementError(node, "only a collision with a named entity has a counterpart")
        return DistanceTrigger(who=who.name, to=self.stage.entity(ref).name, distance_m=0.0, measure="gap")


def _place(spot: Spot) -> WorldPlace:
    return WorldPlace(x_m=spot.x, y_m=spot.y, yaw_rad=spot.yaw)


def _rule(node: Node) -> Rule:
    rule = node.text("rule")
    if rule not in _RULES:
        raise UnsupportedElementError(node, f"rule '{rule}' has no counterpart; there are {', '.join(_RULES)}")
    return _RULES[rule]
