"""The colour of a thing, from the pixels inside its projected box.

Each pixel of the middle of the box that no nearer thing covers is given a colour name by its hue, saturation and
brightness; the shares of the names say how well a colour fits. Shadows, reflections and night change what is measured:
the names are as rough as those that people use.
"""

import re
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from bevstack.asking.believed import Belief, Rectangle, Thing
from bevstack.data.images import ImageSize, ResizeCrop

COLOURS = ("black", "grey", "white", "red", "orange", "yellow", "green", "blue", "purple", "brown")
ALIASES = {
    "gray": "grey", "silver": "grey", "dark": "black", "golden": "brown", "gold": "brown", "beige": "brown",
    "champagne": "brown", "tan": "brown", "pink": "red", "maroon": "red", "navy": "blue", "cream": "white",
}  # fmt: skip
"""Other words -> the name above that they are measured as."""

_NEAR = {"white": ("grey",), "grey": ("white", "black"), "black": ("grey",), "red": ("orange", "brown"),
         "brown": ("orange", "red"), "orange": ("red", "yellow", "brown"), "yellow": ("orange",)}  # fmt: skip
_NEAR_WEIGHT = 0.3
_MIDDLE = 0.6
"""Share of width and height of the box that is looked at: its rim shows the street."""
_HUES = ((20, "red"), (44, "orange"), (70, "yellow"), (165, "green"), (262, "blue"), (330, "purple"), (361, "red"))
_PALE, _DARK, _BRIGHT, _BROWN = 0.22, 0.22, 0.68, 0.55


def names_of(rgb: UInt8[np.ndarray, "H W 3"]) -> np.ndarray:
    """Index into `COLOURS` of every pixel, (H, W)."""
    hsv = cv2.cvtColor(np.ascontiguousarray(rgb).astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    bounds = np.array([bound for bound, _ in _HUES], np.float32)
    place = np.searchsorted(bounds, hue, side="right").clip(max=len(_HUES) - 1)
    of_hue = np.array([COLOURS.index(name) for _, name in _HUES])[place]
    dull = (of_hue == COLOURS.index("orange")) & (value < _BROWN)
    found = np.where(dull, COLOURS.index("brown"), of_hue)
    pale = saturation < _PALE
    found = np.where(pale & (value >= _BRIGHT), COLOURS.index("white"), found)
    found = np.where(pale & (value < _BRIGHT), COLOURS.index("grey"), found)
    return np.where(value < _DARK, COLOURS.index("black"), found)


def shares_of(thing: Thing, belief: Belief) -> dict[str, float]:
    """Colour -> share of the pixels of a thing, in the picture that shows it largest; empty where none shows it."""
    if thing.said is not None:
        said = colour_word(re.findall(r"[a-z]+", thing.said.lower()))
        return {} if said is None else {said: 1.0}
    pictures = {camera.name: camera for camera in belief.cameras}
    seen = [name for name in thing.views if name in pictures]
    if not seen or belief.picture_size is None:
        return {}
    name = max(seen, key=lambda each: _area(thing.views[each]))
    rgb = pictures[name].rgb
    size = ImageSize(*rgb.shape[:2])
    A_img = ResizeCrop(belief.picture_size, size).A_img
    left, top, right, bottom = _pixels(_middle(thing.views[name]), A_img, size)
    if right <= left or bottom <= top:
        return {}
    free = np.ones((bottom - top, right - left), bool)
    for other in belief.things:
        if other.distance_m < thing.distance_m and name in other.views:
            x0, y0, x1, y1 = _pixels(other.views[name], A_img, size)
            free[max(0, y0 - top) : max(0, y1 - top), max(0, x0 - left) : max(0, x1 - left)] = False
    names = names_of(rgb[top:bottom, left:right])[free] if free.any() else names_of(rgb[top:bottom, left:right]).ravel()
    counts = np.bincount(names, minlength=len(COLOURS)) / len(names)
    return {colour: float(share) for colour, share in zip(COLOURS, counts, strict=True) if share > 0}


def colour_of(thing: Thing, belief: Belief) -> str | None:
    """The name with the largest share; None where no picture shows the thing."""
    shares = shares_of(thing, belief)
    return max(shares, key=lambda name: (shares[name], name)) if shares else None


def fit(colour: str, shares: dict[str, float]) -> float:
    """How well a thing with these shares goes with a colour, 0 to 1; neighbouring names count for a part."""
    own = shares.get(colour, 0.0)
    return min(1.0, own + _NEAR_WEIGHT * sum(shares.get(near, 0.0) for near in _NEAR.get(colour, ())))


def colour_word(words: Sequence[str]) -> str | None:
    """The first colour among some words, by its measured name."""
    for word in words:
        if word in COLOURS or word in ALIASES:
            return ALIASES.get(word, word)
    return None


def _area(rectangle: Rectangle) -> float:
    left, top, right, bottom = rectangle
    return (right - left) * (bottom - top)


def _middle(rectangle: Rectangle) -> Rectangle:
    left, top, right, bottom = rectangle
    rim_x, rim_y = (right - left) * (1 - _MIDDLE) / 2, (bottom - top) * (1 - _MIDDLE) / 2
    return left + rim_x, top + rim_y, right - rim_x, bottom - rim_y


def _pixels(rectangle: Rectangle, A_img: np.ndarray, size: ImageSize) -> tuple[int, int, int, int]:
    """Rows and columns of a picture that a rectangle of the picture on disk covers, at least one each."""
    ends = np.array([[*rectangle[:2], 1.0], [*rectangle[2:], 1.0]]) @ A_img.T
    (left, top), (right, bottom) = ends[0, :2], ends[1, :2]
    x0, y0 = int(np.clip(np.floor(left), 0, size.width)), int(np.clip(np.floor(top), 0, size.height))
    return x0, y0, int(np.clip(np.ceil(right) + 1, 0, size.width)), int(np.clip(np.ceil(bottom) + 1, 0, size.height))
