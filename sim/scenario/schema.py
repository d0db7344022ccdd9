"""A scenario: road, ego vehicle, actors with manoeuvres, weather, faults, and what is expected.

Every number may be an expression of the parameters (`expressions.py`) until `variations.concrete` gives it a value.
YAML has the same names; a value of a union says its `kind`.
"""

from dataclasses import dataclass, field
from typing import Literal

from bevstack.sim.scenario.actions import Action
from bevstack.sim.scenario.behaviours import Behaviour, ScriptedBehaviour
from bevstack.sim.scenario.expectations import Danger, Expectation, OtherTest
from bevstack.sim.scenario.expressions import Number
from bevstack.sim.scenario.places import LanePlace, Place
from bevstack.sim.scenario.road_specs import RoadSpec
from bevstack.sim.scenario.triggers import Trigger

WeatherKind = Literal["day", "overcast", "dusk", "night", "rain", "fog"]
"""As `bevstack.sim.sensors.weather.WEATHER_KINDS`."""

ActorClass = Literal[
    "car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle", "bicycle", "traffic_cone",
    "barrier", "building", "debris", "animal",
]  # fmt: skip
"""The detection classes, and what is none of them."""

DEFAULT_SIZES: dict[str, tuple[float, float, float]] = {
    "car": (4.02, 1.71, 1.44),  # the soft target of ISO 19206-3
    "truck": (7.5, 2.5, 3.2),
    "bus": (11.0, 2.9, 3.4),
    "trailer": (9.0, 2.5, 3.6),
    "construction_vehicle": (6.4, 2.8, 3.2),
    "pedestrian": (0.6, 0.5, 1.8),  # ISO 19206-2, stride and shoulders
    "motorcycle": (2.1, 0.8, 1.7),
    "bicycle": (1.9, 0.6, 1.86),  # ISO 19206-4
    "traffic_cone": (0.4, 0.4, 1.0),
    "barrier": (0.5, 2.5, 1.0),
    "building": (12.0, 12.0, 9.0),
    "debris": (0.8, 0.8, 0.4),
    "animal": (1.4, 0.5, 1.2),
}
"""Length, width and height in metres where a scenario gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A named number that varies: over listed values, or over a range."""

    name: str
    values: tuple[float, ...] = ()
    """Either these, or low and high."""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    """Of the official grid over the range; None: only drawn, the grid has both ends."""
    unit: str = ""
    distribution: Literal["uniform", "log_uniform", "normal"] = "uniform"
    """Of draws over a range. A normal one has its middle in the range's and a sixth of it as deviation; it is cut."""
    default: float | None = None
    """Where nothing else is asked for; the middle of the grid where None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoSpec:
    """How the ego vehicle begins and where it shall go."""

    start: LanePlace
    speed_mps: Number
    cruise_mps: Number | None = None
    """The speed that it shall drive where nothing hinders it; None: as at the begin."""
    route: tuple[str, ...] = ()
    """Lanes to take, from the start's; empty: straight on."""
    goal_m: Number | None = None
    """Way from the start to the goal; None: no goal, the time decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maneuver:
    """An action and what starts it; each happens once."""

    name: str
    """Unique in the scenario."""
    when: Trigger
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorSpec:
    """Another road user or an object."""

    name: str
    class_name: ActorClass
    start: Place
    size_lwh: tuple[Number, Number, Number] | None = None
    """Metres; None: `DEFAULT_SIZES`."""
    model: str | None = None
    """Shape for rendering, one that `bevstack.sim.world.actors` knows for the class; None: drawn."""
    speed_mps: Number = 0.0
    guide: Literal["lane", "heading"] = "lane"
    """What it moves along: its lane and those that follow, or straight ahead as it faces."""
    route: tuple[str, ...] = ()
    """Lanes to take, from the start's; empty: straight on."""
    behaviour: Behaviour = ScriptedBehaviour()
    is_present: bool = True
    """Whether it is in the world from the begin."""
    maneuvers: tuple[Maneuver, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeatherSpec:
    """Light and weather."""

    kind: WeatherKind = "day"
    also: tuple[WeatherKind, ...] = ()
    """Further kinds of the official variations."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RedLightSpec:
    """A signal that stops lanes for part of the time."""

    lanes: tuple[str, ...]
    """Lanes that end at it."""
    from_s: Number = 0.0
    until_s: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEntry:
    """A fault of a sensor, the calibration, the pose, the clock, the controls or the cues.

    Kinds and parameters are those of `bevstack.sim.sensing.fault_kinds`.
    """

    kind: str
    from_s: Number = 0.0
    until_s: Number | None = None
    """None: to the end."""
    seed: int = 0
    sensors: tuple[str, ...] = ()
    """CAM_FRONT and so on, or LIDAR_TOP; empty: all that the kind is about."""
    parameters: dict[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario, with or without free parameters."""

    name: str
    standard: str = ""
    """Where it comes from, with edition."""
    description: str = ""
    duration_s: Number = 12.0
    road: RoadSpec
    ego: EgoSpec
    actors: tuple[ActorSpec, ...] = ()
    red_lights: tuple[RedLightSpec, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    derived: dict[str, Number] = field(default_factory=dict)
    """Named expressions of parameters and of earlier ones."""
    constraints: tuple[str, ...] = ()
    """Comparisons that parameters must meet; the grid leaves out what does not."""
    values: dict[str, float] = field(default_factory=dict)
    """Of the parameters that this scenario was made concrete with."""
    weather: WeatherSpec = WeatherSpec()
    faults: tuple[FaultEntry, ...] = ()
    danger: Danger = OtherTest(what="")
    preventable: bool | str = True
    """Whether a competent driver avoids it: a comparison of parameters where a regulation has a rule for it."""
    expectations: tuple[Expectation, ...] = ()

    @property
    def is_concrete(self) -> bool:
        """Whether nothing is left to choose."""
        return not self.parameters
