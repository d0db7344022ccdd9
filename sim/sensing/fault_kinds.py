"""What can go wrong: the kinds of faults that a scenario may name, their parameters, and what values are possible."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bevstack.data.class_names import CAMERA_NAMES, LIDAR_NAME
from bevstack.sim.scenario.schema import FaultEntry
from bevstack.types.errors import did_you_mean

FRAME_STEP_S = 0.1
"""Time between two frames of the closed loop."""

Target = Literal["cameras", "lidar", "rig", "pose", "cue", "controls"]
_SENSORS_OF: dict[Target, tuple[str, ...]] = {
    "cameras": CAMERA_NAMES,
    "lidar": (LIDAR_NAME,),
    "rig": (*CAMERA_NAMES, LIDAR_NAME),
    "pose": (),
    "cue": (),
    "controls": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultParameter:
    """A number of a fault."""

    default: float
    low: float
    high: float
    meaning: str
    is_whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """One kind of fault."""

    target: Target
    effect: str
    parameters: Mapping[str, FaultParameter]

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensors that it can be about; none where it is not about sensors."""
        return _SENSORS_OF[self.target]


def _share(default: float, meaning: str) -> FaultParameter:
    return FaultParameter(default=default, low=0.0, high=1.0, meaning=meaning)


def _length(default: float, meaning: str) -> FaultParameter:
    return FaultParameter(default=default, low=-100.0, high=100.0, meaning=f"m, {meaning}")


def _angle(default: float, meaning: str) -> FaultParameter:
    return FaultParameter(default=default, low=-math.pi, high=math.pi, meaning=f"rad, {meaning}")


_FRAMES = FaultParameter(default=3, low=1, high=20, meaning="frames of 0.1 s", is_whole=True)
_CHANCE = _share(1.0, "chance of each frame")

FAULT_KINDS: dict[str, FaultKind] = {
    "camera_drop": FaultKind(
        target="cameras", effect="the picture is missing from the frame", parameters={"probability": _CHANCE}
    ),
    "camera_freeze": FaultKind(
        target="cameras", effect="the last picture from before comes again and again, stamped as new", parameters={}
    ),
    "camera_delay": FaultKind(
        target="cameras", effect="pictures come late, with their true time and pose", parameters={"frames": _FRAMES}
    ),
    "camera_dirt": FaultKind(
        target="cameras",
        effect="blotches on the lens, at the same place in every picture",
        parameters={"coverage": _share(0.25, "of the picture"), "opacity": _share(0.9, "of the blotches")},
    ),
    "camera_exposure": FaultKind(
        target="cameras",
        effect="pictures are too bright or too dark",
        parameters={"gain": FaultParameter(default=4.0, low=0.01, high=100.0, meaning="of the light, 1: as it is")},
    ),
    "camera_blur": FaultKind(
        target="cameras",
        effect="out of focus",
        parameters={"sigma_px": FaultParameter(default=3.0, low=0.1, high=50.0, meaning="pixels of the picture made")},
    ),
    "camera_crop": FaultKind(
        target="cameras",
        effect="a margin of the picture is black",
        parameters={side: _share(0.0, "of the picture") for side in ("left", "right", "top", "bottom")},
    ),
    "lidar_drop": FaultKind(
        target="lidar", effect="the frame has no LiDAR", parameters={"probability": _CHANCE}
    ),
    "lidar_delay": FaultKind(
        target="lidar", effect="sweeps come late, with their true time and pose", parameters={"frames": _FRAMES}
    ),
    "lidar_beams": FaultKind(
        target="lidar",
        effect="some lasers are dead",
        parameters={"count": FaultParameter(default=16, low=1, high=32, meaning="of 32, by the seed", is_whole=True)},
    ),
    "lidar_sector": FaultKind(
        target="lidar",
        effect="nothing comes back from a sector",
        parameters={
            "azimuth_rad": _angle(0.0, "middle of the sector, 0 ahead, positive to the left"),
            "width_rad": FaultParameter(default=math.pi / 2, low=0.0, high=2 * math.pi, meaning="rad, of the sector"),
        },
    ),
    "lidar_loss": FaultKind(
        target="lidar", effect="points are missing here and there", parameters={"share": _share(0.5, "of all points")}
    ),
    "lidar_rain": FaultKind(
        target="lidar",
        effect="rain or spray: a return from range R has the share exp(-2 a R) of its strength and of its chance, "
        "and some of the lost beams answer from drops nearby",
        parameters={
            "extinction_per_m": FaultParameter(default=0.02, low=0.0, high=1.0, meaning="a, 1/m"),
            "backscatter": _share(0.1, "of the lost beams"),
        },
    ),
    "calibration_drift": FaultKind(
        target="rig",
        effect="the sensor has turned or moved on the car, and the matrices do not know",
        parameters={
            "yaw_rad": _angle(0.0, "about the vertical axis of the car, at the sensor"),
            "pitch_rad": _angle(0.0, "about its axis to the left"),
            "roll_rad": _angle(0.0, "about its axis ahead"),
            "x_m": _length(0.0, "ahead"),
            "y_m": _length(0.0, "to the left"),
            "z_m": _length(0.0, "up"),
            "focal_scale": FaultParameter(default=1.0, low=0.1, high=10.0, meaning="of the focal length, cameras only"),
            "ramp_s": FaultParameter(default=0.0, low=0.0, high=3600.0, meaning="s, until it is all there"),
        },
    ),
    "time_offset": FaultKind(
        target="rig",
        effect="the clock of the sensor is fast: readings are older than their stamps say",
        parameters={"offset_s": FaultParameter(default=0.1, low=0.0, high=2.0, meaning="s; LIDAR_TOP: whole turns")},
    ),
    "pose_bias": FaultKind(
        target="pose",
        effect="the vehicle believes itself elsewhere; its route lies as much beside the road",
        parameters={
            "x_m": _length(0.0, "ahead"),
            "y_m": _length(1.0, "to the left"),
            "yaw_rad": _angle(0.0, "to the left"),
        },
    ),
    "pose_walk": FaultKind(
        target="pose",
        effect="the pose drifts away as a random walk",
        parameters={
            "sigma_m": FaultParameter(default=0.5, low=0.0, high=100.0, meaning="m in each direction after 1 s"),
            "sigma_rad": FaultParameter(default=0.01, low=0.0, high=math.pi, meaning="rad after 1 s"),
        },
    ),
    "cue_absent": FaultKind(target="cue", effect="there is no cue", parameters={"probability": _CHANCE}),
    "cue_wrong": FaultKind(
        target="cue",
        effect="the cue takes left for right; where it has no mirrored form, it speaks of something else",
        parameters={},
    ),
    "control_latency": FaultKind(
        target="controls",
        effect="commands take effect later",
        parameters={"delay_s": FaultParameter(default=0.2, low=0.0, high=10.0, meaning="s, added")},
    ),
}  # fmt: skip
"""Kind -> what it is. `docs/faults.md` has the table."""


def checked(entry: FaultEntry) -> dict[str, float]:
    """All parameters of a concrete entry, with the defaults for those that it does not give.

    Raises:
        ValueError: the kind, a parameter or a sensor does not exist, a value is out of range or still an expression,
            or the window is empty.
    """
    if entry.kind not in FAULT_KINDS:
        hint = did_you_mean(entry.kind, FAULT_KINDS) or f"; there are {', '.join(FAULT_KINDS)}"
        raise ValueError(f"there is no fault '{entry.kind}'{hint}")
    kind = FAULT_KINDS[entry.kind]
    start, end = window_of(entry)
    if not start < end:
        raise ValueError(f"fault {entry.kind}: until_s={end} must be later than from_s={start}")
    for sensor in entry.sensors:
        if sensor not in kind.sensors:
            valid = ", ".join(kind.sensors) or "none: leave sensors out"
            hint = did_you_mean(sensor, kind.sensors)
            raise ValueError(f"fault {entry.kind} is not about sensor '{sensor}'{hint}; possible: {valid}")
    for name in entry.parameters:
        if name not in kind.parameters:
            valid = ", ".join(kind.parameters) or "none"
            raise ValueError(
                f"fault {entry.kind} has no parameter '{name}'{did_you_mean(name, kind.parameters)}; it has {valid}"
            )
    return {
        name: _value(entry, name, parameter, entry.parameters.get(name, parameter.default))
        for name, parameter in kind.parameters.items()
    }


def window_of(entry: FaultEntry) -> tuple[float, float]:
    """Begin and end in seconds; the end is infinite where the entry has none.

    Raises:
        ValueError: one of them is still an expression.
    """
    end = math.inf if entry.until_s is None else entry.until_s
    if isinstance(entry.from_s, str) or isinstance(end, str):
        raise ValueError(
            f"fault {entry.kind}: from_s={entry.from_s} and until_s={end} must be numbers: "
            "make the scenario concrete first"
        )
    return float(entry.from_s), float(end)


def _value(entry: FaultEntry, name: str, parameter: FaultParameter, value: float | str) -> float:
    what = f"fault {entry.kind}: {name}={value}"
    if isinstance(value, str):
        raise ValueError(f"{what} must be a number: make the scenario concrete first")
    if not parameter.low <= value <= parameter.high:
        raise ValueError(f"{what} must lie in {parameter.low:g} to {parameter.high:g} ({parameter.meaning})")
    if parameter.is_whole and value != int(value):
        raise ValueError(f"{what} must be a whole number ({parameter.meaning})")
    return float(value)
