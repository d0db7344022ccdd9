"""Background traffic by SUMO, with the ego vehicle driven from outside. Needs the package libsumo.

Lopez et al., Microscopic Traffic Simulation using SUMO, ITSC 2018. SUMO plays one simulation per process, on a network
and routes of its own (a `.sumocfg`); its positions are front bumpers and its angles are degrees clockwise from north.
"""

import math
from importlib import import_module
from pathlib import Path
from typing import Any

from bevstack.sim.agents.view import EGO, RoadUser

_CLASSES = {
    "truck": "truck", "trailer": "truck", "delivery": "truck", "bus": "bus", "coach": "bus",
    "motorcycle": "motorcycle", "moped": "motorcycle", "bicycle": "bicycle",
}  # fmt: skip
"""Class of a SUMO vehicle class; everything else is a car."""
_OFF_NETWORK_ANYWHERE = 2
"""SUMO's keepRoute: the ego vehicle is where it is told to be, on its route, on another lane or beside the road."""


class SumoTraffic:
    """Vehicles and people of one SUMO simulation, around an ego vehicle that SUMO does not move.

    Close it, or use it in a `with` statement: a process has room for one.

    Args:
        config: A `.sumocfg` file.
        seed: Of its random choices.
        step_s: Time of one step.
        origin: Place of the network's (0, 0) in the frame of the run.

    Raises:
        ImportError: libsumo is not installed.
        ValueError: the file does not exist, the step is not positive, or SUMO does not accept the file.
        RuntimeError: a simulation is being played already.
    """

    _is_taken = False

    def __init__(
        self, config: str | Path, *, seed: int = 0, step_s: float = 0.1, origin: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self._sumo = load_libsumo()
        if not Path(config).is_file():
            raise ValueError(f"config='{config}' must be an existing .sumocfg file")
        if not 0 < step_s < math.inf:
            raise ValueError(f"step_s={step_s} must be positive and finite")
        if SumoTraffic._is_taken:
            raise RuntimeError("SUMO plays one simulation per process: close the other one first")
        self.step_s, self.origin, self._has_ego, self._steps = step_s, origin, False, 0
        options = f"--no-step-log true --no-warnings true --collision.action none --seed {seed} --step-length {step_s}"
        try:
            self._sumo.start(["sumo", *options.split(), "-c", str(config)])
        except (self._sumo.TraCIException, self._sumo.FatalTraCIError) as error:
            raise ValueError(f"SUMO does not accept {config}: {error}") from error
        SumoTraffic._is_taken = True
        self._is_open = True

    @property
    def now_s(self) -> float:
        """Time since the begin."""
        return self._steps * self.step_s

    def step(self, ego: RoadUser | None) -> dict[str, RoadUser]:
        """Everybody but the ego vehicle, one step later.

        Args:
            ego: Where the ego vehicle has come to meanwhile; None where there is none.

        Raises:
            RuntimeError: the simulation is closed.
        """
        if not self._is_open:
            raise RuntimeError("the SUMO simulation is closed")
        if ego is not None:
            self._place_ego(ego)
        self._sumo.simulationStep()
        self._steps += 1
        vehicles, people = self._sumo.vehicle, self._sumo.person
        found = {name: self._vehicle(name) for name in sorted(vehicles.getIDList()) if name != EGO}
        return found | {name: self._person(name) for name in sorted(people.getIDList())}

    def close(self) -> None:
        """End the simulation; a second time does nothing."""
        if self._is_open:
            self._is_open, SumoTraffic._is_taken = False, False
            self._sumo.close()

    def __enter__(self) -> "SumoTraffic":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _place_ego(self, ego: RoadUser) -> None:
        vehicles = self._sumo.vehicle
        if not self._has_ego:
            vehicles.add(EGO, "", departPos="0", departSpeed="0")  # an empty route: any edge
            vehicles.setLength(EGO, ego.length_m)
            vehicles.setWidth(EGO, ego.width_m)
            vehicles.setSpeedMode(EGO, 0)
            self._has_ego = True
        half = ego.length_m / 2
        x = ego.x_m + half * math.cos(ego.yaw_rad) - self.origin[0]
        y = ego.y_m + half * math.sin(ego.yaw_rad) - self.origin[1]
        vehicles.moveToXY(EGO, "", -1, x, y, sumo_angle(ego.yaw_rad), _OFF_NETWORK_ANYWHERE)
        vehicles.setSpeed(EGO, ego.speed_mps)

    def _vehicle(self, name: str) -> RoadUser:
        vehicles = self._sumo.vehicle
        return self._user(vehicles, name, vehicles.getLength(name), _CLASSES.get(vehicles.getVehicleClass(name), "car"))

    def _person(self, name: str) -> RoadUser:
        people = self._sumo.person
        return self._user(people, name, people.getLength(name), "pedestrian")

    def _user(self, source: Any, name: str, length_m: float, class_name: str) -> RoadUser:
        (x, y), yaw = source.getPosition(name), yaw_of_sumo(source.getAngle(name))
        return RoadUser(
            x_m=x + self.origin[0] - length_m / 2 * math.cos(yaw),
            y_m=y + self.origin[1] - length_m / 2 * math.sin(yaw),
            yaw_rad=yaw,
            speed_mps=source.getSpeed(name),
            length_m=length_m,
            width_m=source.getWidth(name),
            class_name=class_name,
        )


def load_libsumo() -> Any:
    """The module.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module("libsumo")
    except ImportError as error:
        raise ImportError("traffic by SUMO needs the package libsumo: pip install libsumo") from error


def sumo_angle(yaw_rad: float) -> float:
    """SUMO's angle, degrees clockwise from north in [0, 360), of a yaw counter-clockwise from east."""
    return (90.0 - math.degrees(yaw_rad)) % 360.0


def yaw_of_sumo(angle_deg: float) -> float:
    """The yaw in [-pi, pi) of SUMO's angle."""
    return (math.radians(90.0 - angle_deg) + math.pi) % (2 * math.pi) - math.pi
