"""The commands of Talk2Car: how they are read, and what of them can be measured.

    {"commands": [{"command": "...", "obj_name": "vehicle.car", "sample_token": "...", "2d_box": [left, top, w, h],
                   "translation": [x, y, z], "size": [w, l, h], "rotation": [w, x, y, z], ...}, ...]}

`2d_box` is in pixels of the 1600 x 900 front picture; translation and rotation are in the frame of the front camera (x
right, y down, z forward). The benchmark's number is AP50: the share of commands whose predicted 2D box has an IoU of at
least 0.5 with `2d_box`. It needs the pictures' predictions; class accuracy and the choice among the annotated objects
of a frame only need the file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float

from bevstack.asking.believed import Belief, Rectangle, Thing, numbered
from bevstack.asking.commands import parse_command
from bevstack.asking.drivelm_frames import NATIVE
from bevstack.asking.referred import resolve
from bevstack.data.class_names import CLASS_OF_CATEGORY
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import from_quaternion, transform_points
from bevstack.sim.sensors.rig import NUSCENES_CAMERAS

AP_IOU = 0.5
_CAMERA = NUSCENES_CAMERAS[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealCommand:
    """One command with the object that it means."""

    text: str
    sample_token: str
    category: str
    rectangle: Rectangle
    """In the front picture."""
    T_cam_box: Float[np.ndarray, "4 4"]
    size_wlh: tuple[float, float, float]

    @property
    def class_name(self) -> str | None:
        """Detection class; None for categories outside of the benchmark."""
        return CLASS_OF_CATEGORY.get(self.category)

    @property
    def projected(self) -> Rectangle:
        """The 3D box in the front picture, by the nominal rig."""
        width, length, height = self.size_wlh
        signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], np.float64)
        points_cam = transform_points(self.T_cam_box, signs * [length / 2, width / 2, height / 2])
        pixels, _ = project(_CAMERA.K_cam, points_cam[points_cam[:, 2] > 0.1])
        left, top = pixels.min(axis=0).clip(0, (NATIVE.width, NATIVE.height))
        right, bottom = pixels.max(axis=0).clip(0, (NATIVE.width, NATIVE.height))
        return float(left), float(top), float(right), float(bottom)

    def thing(self, number: int) -> Thing:
        """The object as a thing, without colour or motion: those are not annotated."""
        T_ego_box = _CAMERA.T_ego_cam @ self.T_cam_box
        x, y, z = T_ego_box[:3, 3]
        width, length, height = self.size_wlh
        yaw, nothing = float(np.arctan2(T_ego_box[1, 0], T_ego_box[0, 0])), float("nan")
        row = np.array([x, y, z, length, width, height, yaw, nothing, nothing], np.float32)
        name = self.class_name or "unknown"
        return Thing(number=number, name=name, row=row, score=1.0, views={_CAMERA.name: self.rectangle})


def read_commands(path: str | Path) -> tuple[RealCommand, ...]:
    """All commands of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry is malformed; names entry and field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    content = orjson.loads(path.read_bytes())
    entries = content.get("commands") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{path} must be an object whose field 'commands' is a list")
    return tuple(_command(entry, f"{path}: command {number}") for number, entry in enumerate(entries))


def iou(a: Rectangle, b: Rectangle) -> float:
    """Of two rectangles."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (a, b)]
    return shared / (sum(areas) - shared) if sum(areas) > shared else 0.0


def class_accuracy(commands: Iterable[RealCommand]) -> tuple[int, int]:
    """(right, all): commands of a detection class whose referred object is read as that class."""
    known = [command for command in commands if command.class_name is not None]
    parsed = [parse_command(command.text).reference for command in known]
    pairs = zip(known, parsed, strict=True)
    right = sum(phrase is not None and command.class_name in phrase.classes for command, phrase in pairs)
    return right, len(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Choosing the object of a command among the objects that commands of its frame mean."""

    num_commands: int
    num_right: int
    by_chance: float
    """Expected number right of a blind choice."""


def choose_among_referred(commands: Sequence[RealCommand]) -> Choice:
    """An oracle bound without pictures: 3D boxes of the objects that the frame's commands mean, no colours, no motion.

    Frames whose commands all mean one object are left out.
    """
    ordered = sorted(commands, key=lambda command: command.sample_token)
    total, right, chance = 0, 0, 0.0
    for token, group in groupby(ordered, key=lambda command: command.sample_token):
        own = list(group)
        different = {command.rectangle: command for command in own}
        if len(different) < 2:
            continue
        things = numbered([command.thing(0) for command in different.values()])
        belief = Belief(token=token, source="annotations", things=things, picture_size=NATIVE)
        for command in own:
            phrase = parse_command(command.text).reference
            found = [] if phrase is None else resolve(phrase, belief)
            total += 1
            chance += 1 / len(different)
            right += bool(found) and found[0].thing.views[_CAMERA.name] == command.rectangle
    return Choice(num_commands=total, num_right=right, by_chance=chance)


def referred_iou(command: RealCommand, belief: Belief) -> float:
    """IoU of the 2D box of the object that is found with the annotated one; 0 where none is found."""
    phrase = parse_command(command.text).reference
    found = [] if phrase is None else resolve(phrase, belief)
    seen = found[0].thing.views.get(_CAMERA.name) if found else None
    return 0.0 if seen is None else iou(seen, command.rectangle)


def _command(entry: Any, place: str) -> RealCommand:
    for field in ("command", "sample_token", "obj_name", "2d_box", "translation", "size", "rotation"):
        if not isinstance(entry, dict) or field not in entry:
            raise ValueError(f"{place}: field '{field}' is missing")
    try:
        left, top, width, height = (float(value) for value in entry["2d_box"])
        rotation = np.array([float(value) for value in entry["rotation"]])
        translation = np.array([float(value) for value in entry["translation"]])
        wide, long, high = (float(value) for value in entry["size"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: a box is malformed ({error})") from error
    return RealCommand(
        text=entry["command"],
        sample_token=entry["sample_token"],
        category=entry["obj_name"],
        rectangle=(left, top, left + width, top + height),
        T_cam_box=from_quaternion(rotation / np.linalg.norm(rotation), translation),
        size_wlh=(wide, long, high),
    )
