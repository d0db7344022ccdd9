"""Who takes part: vehicles, pedestrians and objects, with their outlines."""

import math
from dataclasses import dataclass

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.openscenario.xml_nodes import Node
from bevstack.sim.scenario.placing import EGO
from bevstack.sim.scenario.schema import DEFAULT_SIZES, ActorClass

CLASSES: dict[str, ActorClass] = {
    "car": "car",
    "van": "car",
    "truck": "truck",
    "semitrailer": "trailer",
    "trailer": "trailer",
    "bus": "bus",
    "tram": "bus",
    "motorbike": "motorcycle",
    "bicycle": "bicycle",
    "standupScooter": "bicycle",
    "workMachine": "construction_vehicle",
    "pedestrian": "pedestrian",
    "wheelchair": "pedestrian",
    "animal": "animal",
    "barrier": "barrier",
    "railing": "barrier",
    "building": "building",
    "obstacle": "debris",
    "pole": "debris",
    "tree": "debris",
}
"""Category of a vehicle, pedestrian or object -> our class."""

_EGO_NAMES = ("ego", "hero", "vut", "sut", "egovehicle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One participant."""

    file_name: str
    name: str
    """As our scenario names it; "ego" for the vehicle under test."""
    class_name: ActorClass
    size_lwh: tuple[float, float, float]
    center_ahead_m: float = 0.0
    """From the reference point (a vehicle's rear axle) to the middle of the box."""

    @property
    def is_ego(self) -> bool:
        """Whether it is the vehicle under test."""
        return self.name == EGO

    @property
    def front_m(self) -> float:
        """From the reference point to the front."""
        return self.center_ahead_m + self.size_lwh[0] / 2

    @property
    def rear_m(self) -> float:
        """From the reference point back to the rear."""
        return self.size_lwh[0] / 2 - self.center_ahead_m

    def centre_of(self, x: float, y: float, yaw: float) -> tuple[float, float]:
        """Middle of the box where the reference point has a pose."""
        return x + self.center_ahead_m * math.cos(yaw), y + self.center_ahead_m * math.sin(yaw)

    def vehicle(self) -> VehicleParams:
        """It as an ego vehicle: its outline, everything else as the usual one."""
        default, rear = NUSCENES_VEHICLE, max(self.rear_m, 0.05)
        length, width, height = self.size_lwh
        wheelbase = min(default.wheelbase_m, length - rear - 0.05)
        return VehicleParams(
            length_m=length, width_m=width, height_m=height, rear_overhang_m=rear, wheelbase_m=wheelbase
        )


def entities_of(root: Node, ego: str | None = None) -> dict[str, Entity]:
    """All participants by the name that the file gives them.

    Args:
        root: Of a concrete scenario without references.
        ego: Name of the vehicle under test; None: the one named ego, hero, vut or sut, else the first vehicle.

    Raises:
        ValueError: there is no vehicle, or none of that name.
    """
    objects = {node.text("name"): node for node in root.need("Entities").all("ScenarioObject")}
    under_test = _ego_of(root, objects, ego)
    return {name: _entity(name, node, is_ego=name == under_test) for name, node in objects.items()}


def _ego_of(root: Node, objects: dict[str, Node], ego: str | None) -> str:
    vehicles = [name for name, node in objects.items() if node.child("Vehicle")]
    if ego is not None:
        if ego not in vehicles:
            raise root.need("Entities").fault(f"there is no vehicle '{ego}'; there are {', '.join(vehicles) or 'none'}")
        return ego
    named = [name for name in vehicles if name.lower() in _EGO_NAMES]
    if not (named or vehicles):
        raise root.need("Entities").fault("there is no vehicle that could be the one under test")
    return (named or vehicles)[0]


def _entity(name: str, node: Node, *, is_ego: bool) -> Entity:
    body = next((c for c in node.children if c.tag in ("Vehicle", "Pedestrian", "MiscObject")), None)
    if body is None:
        raise node.fault("it is neither Vehicle, Pedestrian nor MiscObject")
    keys = {"Vehicle": "vehicleCategory", "Pedestrian": "pedestrianCategory", "MiscObject": "miscObjectCategory"}
    class_name = CLASSES.get(body.text(keys[body.tag], ""), "debris" if body.tag == "MiscObject" else "car")
    dimensions, center = body.child("BoundingBox", "Dimensions"), body.child("BoundingBox", "Center")
    size = DEFAULT_SIZES[class_name]
    if dimensions is not None:
        size = (dimensions.number("length"), dimensions.number("width"), dimensions.number("height"))
        if min(size) <= 0:
            raise dimensions.fault(f"length, width and height must be positive, not {size}")
    return Entity(
        file_name=name,
        name=EGO if is_ego else f"{name}_" if name == EGO else name,
        class_name=class_name,
        size_lwh=size,
        center_ahead_m=center.number("x") if center else 0.0,
    )
