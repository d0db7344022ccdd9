"""The storyboard: stories, acts, manoeuvre groups, events and actions, as manoeuvres of actors."""

from dataclasses import dataclass, field

from bevstack.sim.openscenario.conditions import Conditions, Held, all_of, any_of
from bevstack.sim.openscenario.entities import Entity
from bevstack.sim.openscenario.losses import Losses, UnsupportedElementError
from bevstack.sim.openscenario.moving import Moves, Step, hold_of
from bevstack.sim.openscenario.parameters import Values
from bevstack.sim.openscenario.positions import Stage
from bevstack.sim.openscenario.xml_nodes import Node
from bevstack.sim.scenario.actions import AppearAction, VanishAction
from bevstack.sim.scenario.schema import Maneuver
from bevstack.sim.scenario.triggers import AfterTrigger, TimeTrigger, Trigger

_DONE = ("completeState", "endTransition", "stopTransition")
_BEGUN = ("startTransition", "runningState")
_LEVELS = {"story": "Story", "act": "Act", "maneuverGroup": "ManeuverGroup", "maneuver": "Maneuver", "event": "Event"}


@dataclass(kw_only=True, eq=False)
class StoryAction:
    """An action of an event, and the manoeuvres that it became."""

    name: str
    node: Node
    made: list[str] = field(default_factory=list)


@dataclass(kw_only=True, eq=False)
class StoryEvent:
    """An event with all that it is in."""

    node: Node
    names: dict[str, str]
    """Element -> name: of the event and what it is in."""
    starts: tuple[Node | None, ...]
    """Triggers that must all hold: the act's and the event's own."""
    actors: tuple[Entity, ...]
    actions: list[StoryAction]


class Storyboard:
    """Turns a storyboard into manoeuvres."""

    def __init__(self, root: Node, stage: Stage, moves: Moves, values: Values, losses: Losses) -> None:
        """Collect what there is.

        Args:
            root: Of a concrete scenario without references.
            stage: What positions refer to.
            moves: Reads the actions of actors.
            values: Of the parameters.
            losses: Where to note what is left out.

        Raises:
            ValueError: an element is missing or names what is not there.
        """
        self._root, self._stage, self._moves, self._losses = root, stage, moves, losses
        self._events = list(self._collected())
        self._setters: dict[str, list[tuple[str, StoryEvent]]] = {}
        self._asked: list[StoryEvent] = []
        self._used: set[str] = set()
        self._conditions = Conditions(
            stage=stage, values=values, element_state=self._element_state, setters=self._values_set
        )

    def maneuvers(self) -> dict[str, list[Maneuver]]:
        """Manoeuvres by the actor's name in the file."""
        pending = [
            (event, who, name, step)
            for event in self._events
            for action in event.actions
            for who, name, step in self._steps(event, action)
        ]
        found: dict[str, list[Maneuver]] = {}
        previous = ""
        for event, who, name, step in pending:
            try:
                held: Held = AfterTrigger(maneuver=previous) if step.after_previous else self._start(event)
            except UnsupportedElementError as error:
                self._losses.note(error.node, f"{error.what}; the event {event.names['Event']} is left out")
                continue
            held = all_of((held, step.also or True))
            if held is not False:
                when: Trigger = TimeTrigger(at_s=0.0) if held is True else held
                found.setdefault(who, []).append(Maneuver(name=name, when=when, action=step.action))
            previous = name
        return found

    def delays(self) -> list[Maneuver]:
        """Manoeuvres that only hold; call it after `maneuvers` and `stop_groups`."""
        return self._conditions.delays

    def stop_groups(self) -> list[list[tuple[Held, float]]]:
        """Conditions of the stop trigger with their delays; the scenario ends when all of one group held."""
        stop = self._root.need("Storyboard").child("StopTrigger")
        groups = []
        for node in stop.all("ConditionGroup") if stop else ():
            try:
                groups.append(self._conditions.with_delays(node))
            except UnsupportedElementError as error:
                self._losses.note(error.node, f"{error.what}; this way to end is left out")
        return groups

    def _collected(self) -> list[StoryEvent]:
        events = []
        for story in self._root.need("Storyboard").all("Story"):
            for act in story.all("Act"):
                for group in act.all("ManeuverGroup"):
                    events += self._of_group(story, act, group)
        return events

    def _of_group(self, story: Node, act: Node, group: Node) -> list[StoryEvent]:
        who = group.child("Actors")
        if who is not None and who.flag("selectTriggeringEntities"):
            self._losses.note(who, "entities that trigger are not added to the actors")
        actors = tuple(self._stage.entity(ref) for ref in who.all("EntityRef")) if who else ()
        if act.child("StopTrigger") is not None and any(not actor.is_ego for actor in actors):
            self._losses.note(act.need("StopTrigger"), "an act ends only with its manoeuvres")
        events = []
        for maneuver in group.all("Maneuver"):
            for event in maneuver.all("Event"):
                levels = (story, act, group, maneuver, event)
                if (
                    int(event.number("maximumExecutionCount", 1)) > 1
                    or int(group.number("maximumExecutionCount", 1)) > 1
                ):
                    self._losses.note(event, "it happens once instead of several times")
                events.append(
                    StoryEvent(
                        node=event,
                        names={level.tag: level.text("name", "") for level in levels},
                        starts=(act.child("StartTrigger"), event.child("StartTrigger")),
                        actors=actors,
                        actions=[StoryAction(name=a.text("name"), node=a) for a in event.all("Action")],
                    )
                )
        return events

    def _steps(self, event: StoryEvent, action: StoryAction) -> list[tuple[str, str, Step]]:
        """Actor, manoeuvre and step of everything that an action comes to."""
        steps: list[tuple[str, Step]] = []
        content = action.node.only()
        try:
            if content.tag == "PrivateAction":
                for entity in event.actors:
                    actor = self._moves.actors.get(entity.file_name)
                    if actor is None:
                        self._losses.note(content, f"'{entity.file_name}' has no position to begin at")
                    elif not entity.is_ego:
                        steps += [(entity.file_name, step) for step in self._moves.steps(actor, content)]
                    else:
                        self._of_ego(content.only())
            elif content.tag == "GlobalAction":
                steps = self._global(event, content.only())
            else:
                hold = hold_of(content)
                if hold is None:
                    raise UnsupportedElementError(content, "commands of one simulator have no counterpart")
                steps = [(entity.file_name, Step(action=hold)) for entity in event.actors if not entity.is_ego]
        except UnsupportedElementError as error:
            self._losses.note(error.node, error.what)
        named = [(who, self._name(event, action, who), step) for who, step in steps]
        action.made += [name for _, name, _ in named]
        return named

    def _of_ego(self, node: Node) -> None:
        if node.tag != "ControllerAction":
            self._losses.note(node, "the vehicle under test does what it decides")

    def _global(self, event: StoryEvent, node: Node) -> list[tuple[str, Step]]:
        if node.tag == "VariableAction":
            value = node.child("SetAction")
            if value is None:
                raise UnsupportedElementError(node, "only setting a variable has a counterpart")
            self._setters.setdefault(node.text("variableRef"), []).append((value.text("value"), event))
            return []
        if node.tag == "EntityAction":
            entity = self._stage.entity(node)
            comes = node.child("AddEntityAction")
            if comes is not None:
                position = comes.child("Position")
                if position is not None:
                    self._losses.note(position, "it comes into the world where it is")
            return [(entity.file_name, Step(action=AppearAction() if comes is not None else VanishAction()))]
        raise UnsupportedElementError(node, "this action has no counterpart in the course of a scenario")

    def _name(self, event: StoryEvent, action: StoryAction, who: str) -> str:
        names = event.names
        longer = f"{names['Maneuver']}/{names['Event']}/{action.name}"
        for name in (action.name, longer, f"{longer} {who}"):
            if name not in self._used:
                self._used.add(name)
                return name
        number = 2
        while f"{longer} {who} {number}" in self._used:
            number += 1
        self._used.add(f"{longer} {who} {number}")
        return f"{longer} {who} {number}"

    def _start(self, event: StoryEvent) -> Held:
        if event in self._asked:
            raise UnsupportedElementError(event.node, "events wait for each other")
        self._asked.append(event)
        try:
            return all_of(self._conditions.trigger(node) for node in event.starts)
        finally:
            self._asked.pop()

    def _element_state(self, node: Node) -> Held:
        level, state = node.text("storyboardElementType"), node.text("state")
        name = node.text("storyboardElementRef").rpartition("::")[2]
        actions = [
            (event, action)
            for event in self._events
            for action in event.actions
            if (action.name if level == "action" else event.names.get(_LEVELS.get(level, ""))) == name
        ]
        if not actions:
            raise node.fault(f"there is no {level} '{name}'")
        if state in _BEGUN:
            return any_of(self._start(event) for event, _ in actions)
        if state not in _DONE:
            raise UnsupportedElementError(node, f"state '{state}' has no counterpart")
        return all_of(self._over(event, action) for event, action in actions)

    def _over(self, event: StoryEvent, action: StoryAction) -> Held:
        """When an action has ended; what became no manoeuvre is over as soon as it begins."""
        if action.made:
            return all_of(AfterTrigger(maneuver=made) for made in action.made)
        return self._start(event)

    def _values_set(self, variable: str) -> list[tuple[str, Held]]:
        declarations = self._root.child("VariableDeclarations")
        first = [n.text("value") for n in declarations.children if n.text("name") == variable] if declarations else []
        if not first and variable not in self._setters:
            raise self._root.fault(f"variable '{variable}' is not declared")
        given: list[tuple[str, Held]] = [(value, True) for value in first]
        return given + [(value, self._start(event)) for value, event in self._setters.get(variable, ())]
