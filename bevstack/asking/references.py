"""Objects as DriveLM writes them: `<c1,CAM_FRONT,714.3,503.6>`, a name, a camera, a pixel of its 1600 x 900 picture.

The pixel is the middle of the object in that picture. Here it is the middle of the projected box, cut at the edges of
the picture; a reference in a question is the thing whose box in that camera has it nearest to its middle.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bevstack.asking.believed import Belief, Rectangle, Thing

PATTERN = re.compile(r"<\s*(\w+)\s*,\s*(CAM_\w+)\s*,\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*>")

_MAX_OFFSET = 0.03
"""A thing whose box does not hold the pixel may be this far off, as a share of the picture's width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An object named in a text."""

    name: str
    """c1, c2, ..."""
    camera: str
    u: float
    v: float

    def __str__(self) -> str:
        return f"<{self.name},{self.camera},{self.u:.1f},{self.v:.1f}>"


def references_in(text: str) -> list[Reference]:
    """All references of a text, in order."""
    return [
        Reference(name=name, camera=camera, u=float(u), v=float(v)) for name, camera, u, v in PATTERN.findall(text)
    ]  # fmt: skip


def reference_to(thing: Thing, name: str) -> Reference | None:
    """How a thing is written: in the picture that shows it largest; None where none shows it."""
    if not thing.views:
        return None
    camera = max(thing.views, key=lambda each: (_area(thing.views[each]), each))
    u, v = _middle(thing.views[camera])
    return Reference(name=name, camera=camera, u=round(u, 1), v=round(v, 1))


def thing_of(reference: Reference, belief: Belief) -> Thing | None:
    """The thing that a reference means; None where nothing was perceived there.

    Boxes that hold the pixel come before those that only lie close to it; among those, the nearest middle in units of
    the box's own size, so that a small car before a large bus is found.
    """
    reach = _MAX_OFFSET * (belief.picture_size.width if belief.picture_size is not None else 0)
    candidates: list[tuple[bool, float, int, Thing]] = []
    for thing in belief.things:
        if reference.camera not in thing.views:
            continue
        rectangle = thing.views[reference.camera]
        left, top, right, bottom = rectangle
        u, v = _middle(rectangle)
        inside = left <= reference.u <= right and top <= reference.v <= bottom
        if not inside and max(abs(reference.u - u), abs(reference.v - v)) > reach:
            continue
        offset = abs(reference.u - u) / (right - left + 1) + abs(reference.v - v) / (bottom - top + 1)
        candidates.append((not inside, offset, thing.number, thing))
    return min(candidates, key=lambda each: each[:3])[3] if candidates else None


def named(things: Sequence[Thing]) -> list[tuple[Thing, Reference]]:
    """Things with their references c1, c2, ... in order; those that no picture shows are left out."""
    found: list[tuple[Thing, Reference]] = []
    for thing in things:
        reference = reference_to(thing, f"c{len(found) + 1}")
        if reference is not None:
            found.append((thing, reference))
    return found


def _middle(rectangle: Rectangle) -> tuple[float, float]:
    left, top, right, bottom = rectangle
    return (left + right) / 2, (top + bottom) / 2


def _area(rectangle: Rectangle) -> float:
    left, top, right, bottom = rectangle
    return (right - left) * (bottom - top)
