"""OpenSCENARIO XML 1.0 to 1.3 into our scenarios.

What has no counterpart is left out and named with file, line and element; the scenario's description says so. Formats
are read here, not by a library: files that the standard allows must not fail for a missing attribute.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bevstack.planning.vehicle import VehicleParams
from bevstack.sim.openscenario import distributions
from bevstack.sim.openscenario.beginning import Beginning
from bevstack.sim.openscenario.catalogs import Catalogs
from bevstack.sim.openscenario.conditions import Held
from bevstack.sim.openscenario.entities import entities_of
from bevstack.sim.openscenario.losses import Loss, Losses
from bevstack.sim.openscenario.opendrive import read_opendrive
from bevstack.sim.openscenario.opendrive_lanes import lay_network
from bevstack.sim.openscenario.parameters import broken_constraints, concrete, declared, without_declarations
from bevstack.sim.openscenario.positions import Stage
from bevstack.sim.openscenario.storyboard import Storyboard
from bevstack.sim.openscenario.weather import weather_of
from bevstack.sim.openscenario.xml_nodes import Node, read_xml
from bevstack.sim.scenario.expectations import NoCollision, OtherTest
from bevstack.sim.scenario.placing import EGO
from bevstack.sim.scenario.road_specs import OpenDriveRoads
from bevstack.sim.scenario.roads import ScenarioRoads
from bevstack.sim.scenario.schema import Scenario
from bevstack.types.errors import did_you_mean

_UNKNOWN_DURATION_S = 60.0
_NAMED_LOSSES = 5
"""So many are named in the description; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A scenario from a file, and what is to be known about it."""

    scenario: Scenario
    """Concrete. Its duration is a guess until `playing.play` has found when it ends."""
    losses: tuple[Loss, ...]
    vehicle: VehicleParams
    """Outline of the file's vehicle under test, which no scenario of ours has."""
    stop_groups: tuple[tuple[tuple[Held, float], ...], ...]
    """The scenario ends when all conditions of a group have held for their delays."""
    collides_with: tuple[str, ...]
    """Whom the file expects a vehicle under test that does not react to hit: those whose collision it looks for."""
    broken_constraints: tuple[str, ...]
    """Parameters whose values the file itself does not allow."""


def variants(path: Path) -> Iterator[dict[str, str]]:
    """Parameter values of all variations that a file names; one without values for a scenario.

    Raises:
        ValueError: it is no XML, or its distributions are not deterministic.
    """
    root = read_xml(path)
    if distributions.is_distribution(root):
        yield from distributions.choices(root)
    else:
        yield {}


def import_xosc(path: Path, values: Mapping[str, str] | None = None, *, ego: str | None = None) -> Imported:
    """A scenario from a file.

    Args:
        path: A scenario, or a file that varies one: then its first variation.
        values: Of parameters, instead of the file's.
        ego: Name of the vehicle under test; None: the one named Ego, or the first vehicle.

    Raises:
        ValueError: the file is no OpenSCENARIO, lacks what it must have, or names what is not there; with file, line
            and element.
        OSError: a file cannot be read.
    """
    root, given = read_xml(path), dict(values or {})
    if root.tag != "OpenSCENARIO":
        raise root.fault("this is no OpenSCENARIO file; its first element must be OpenSCENARIO")
    folder, stem = path.parent, path.stem
    if distributions.is_distribution(root):
        given = next(distributions.choices(root)) | given
        path = distributions.varied_file(root, folder)
        root, folder = read_xml(path), path.parent
    if root.child("Catalog"):
        raise root.fault("this is a catalog, which is no scenario of its own")
    all_values = _values(root, given)
    tree = concrete(without_declarations(root), all_values)
    tree = Catalogs(tree, folder).expanded(tree)
    return _imported(tree, stem, folder, all_values, tuple(broken_constraints(root, all_values)), ego)


def _values(root: Node, given: Mapping[str, str]) -> dict[str, str]:
    values = declared(root, given, {})
    for name in given:
        if name not in values:
            raise root.fault(f"there is no parameter '{name}'{did_you_mean(name, values)}")
    return values


def _imported(
    tree: Node, name: str, folder: Path, values: dict[str, str], broken: tuple[str, ...], ego: str | None
) -> Imported:
    losses = Losses()
    file = tree.need("RoadNetwork").child("LogicFile")
    if file is None:
        raise tree.need("RoadNetwork").fault("there is no LogicFile; a scenario needs an OpenDRIVE file")
    road_path = folder / file.text("filepath")
    if not road_path.is_file():
        raise file.fault(f"there is no file '{file.text('filepath')}'")
    roads = read_opendrive(road_path)
    laid = lay_network(roads)
    lanes = ScenarioRoads(network=laid.network, lane_names=laid.lane_names, speed_limit_mps=0.0)
    stage = Stage(roads=roads, lanes=lanes, entities=entities_of(tree, ego))
    begin = Beginning(tree, stage, losses)
    storyboard = Storyboard(tree, stage, begin.moves, values, losses)
    maneuvers = storyboard.maneuvers()
    stops = storyboard.stop_groups()
    actors = begin.actor_specs(maneuvers, storyboard.delays())
    scenario = Scenario(
        name=name,
        standard=_origin(tree),
        duration_s=_UNKNOWN_DURATION_S,
        road=OpenDriveRoads(file=_short(road_path), further_lanes=begin.further_lanes),
        ego=begin.ego_spec(),
        actors=actors,
        weather=weather_of(tree, losses),
        danger=OtherTest(what=""),
        expectations=(NoCollision(),),
    )
    found = tuple(losses.found)
    under_test = next(entity for entity in stage.entities.values() if entity.is_ego)
    return Imported(
        scenario=replace(scenario, description=_description(tree, found)),
        losses=found,
        vehicle=under_test.vehicle(),
        stop_groups=tuple(tuple(group) for group in stops),
        collides_with=_collides_with(tree, stage),
        broken_constraints=broken,
    )


def _collides_with(tree: Node, stage: Stage) -> tuple[str, ...]:
    nodes = [node.child("EntityRef") for node in tree.walk() if node.tag == "CollisionCondition"]
    names = [stage.entity(node).name for node in nodes if node is not None]
    return tuple(dict.fromkeys(name for name in names if name != EGO))


def _origin(tree: Node) -> str:
    header = tree.child("FileHeader")
    if header is None:
        return "OpenSCENARIO"
    return f"OpenSCENARIO {header.text('revMajor', '1')}.{header.text('revMinor', '0')}, {header.text('author', '')}"


def _description(tree: Node, losses: tuple[Loss, ...]) -> str:
    header = tree.child("FileHeader")
    text = header.text("description", "") if header else ""
    if not losses:
        return text
    named = "; ".join(f"{loss.path.rpartition('/')[2]} (line {loss.line})" for loss in losses[:_NAMED_LOSSES])
    more = f" and {len(losses) - _NAMED_LOSSES} more" if len(losses) > _NAMED_LOSSES else ""
    return f"{text}. Not carried over: {named}{more}".lstrip(". ")


def _short(path: Path) -> str:
    """From the working folder where the file lies below it."""
    whole = path.resolve()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
