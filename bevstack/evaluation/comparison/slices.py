"""Parts of a data set that are harder or rarer than the rest, each with its definition, and the figures of each.

Slices of samples:

* `night`, `rain`: the scene's description has the word ("night"; "rain", "rainy", "raining"), as nuScenes writes it and
  our worlds do. "train" is not rain.
* `crossing pedestrian`, `occluded pedestrian`, `lead braking`: the scene's description begins with it, as it does in
  worlds that are made for such an event.
* `turning`: the vehicle's heading changes by 15 degrees or more within the next 3 s (`ego_future`, as in planning).

Slices of objects, for detection:

* `0-20 m`, `20-30 m`, `30-50 m`: distance of the centre from the vehicle, seen from above.
* `visibility 1` to `4`: nuScenes' levels, up to 40, 60, 80 and 100 % of the object visible in the pictures.
* `rare classes`: the five that nuScenes has the fewest of.
* `path 0-3 m`, `path 3-10 m`, `path 10- m`: distance of the centre from the line that the vehicle drives in the next
  6 s (12 key frames, or to the end of the scene).

A match counts in the slice of its annotated box. A false prediction counts in the slice where it lies itself; it has no
visibility, so it counts at every level: precision is lower there than elsewhere, for all runs alike. Means are over the
classes that the slice has, so figures of a slice compare with those of the same slice on the same data, and with
nothing else.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.detection.curves import average_precision, curve, tp_error
from bevstack.evaluation.detection.protocol import DetectionSummary
from bevstack.evaluation.detection.rules import (
    ERROR_NAMES,
    MATCH_DISTANCES_M,
    TP_DISTANCE_M,
    TP_FIELDS,
    UNDEFINED_ERRORS,
)
from bevstack.evaluation.detection.statistics import ClassStatistics, DetectionStatistics, Places, means_over

RARE_CLASSES = ("bus", "trailer", "construction_vehicle", "motorcycle", "bicycle")
DISTANCE_BANDS_M = ((0, 20), (20, 30), (30, 50))
PATH_BANDS_M = ((0, 3), (3, 10), (10, None))
VISIBILITY_LEVELS = (1, 2, 3, 4)
PATH_STEPS = 12
"""Key frames of 0.5 s whose places make the way of the vehicle."""

EVENTS = ("crossing pedestrian", "occluded pedestrian", "lead braking")
"""What a world is made for, where one is made for something: its description begins with it."""
SCENE_SLICES = {
    "night": re.compile(r"\bnight\b", re.I),
    "rain": re.compile(r"\brain(y|ing)?\b", re.I),
    **{event: re.compile(rf"^{event}\b", re.I) for event in EVENTS},
}
"""Slice -> what the description of its scenes says."""
_TP_PLACE = MATCH_DISTANCES_M.index(TP_DISTANCE_M)


def slices_of_description(text: str) -> tuple[str, ...]:
    """Names of the slices that a scene belongs to."""
    return tuple(name for name, words in SCENE_SLICES.items() if words.search(text))


def distance_to_path(xy: Float64[np.ndarray, "N 2"], path: Float64[np.ndarray, "P 2"]) -> Float64[np.ndarray, " N"]:
    """Distance of points from a line of P >= 1 corners, in the unit of both."""
    start, way = path[:-1], np.diff(path, axis=0)
    if not len(way):
        return np.linalg.norm(xy - path[0], axis=1)
    offset = xy[:, None] - start
    length = np.maximum((way**2).sum(axis=1), np.finfo(np.float64).tiny)
    share = np.clip((offset * way).sum(axis=2) / length, 0, 1)
    return np.linalg.norm(offset - share[..., None] * way, axis=2).min(axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSlice:
    """Which boxes belong to a slice."""

    of_places: Callable[[Places], np.ndarray] = lambda places: np.ones(len(places.distance_cm), bool)
    visibility: int | None = None
    classes: tuple[str, ...] = DETECTION_CLASSES


def _band(field: str, low: int, high: int | None) -> Callable[[Places], np.ndarray]:
    def inside(places: Places) -> np.ndarray:
        centimetres = getattr(places, field)
        return (centimetres >= 100 * low) & (True if high is None else centimetres < 100 * high)

    return inside


def _object_slices() -> dict[str, ObjectSlice]:
    slices = {f"{a}-{b} m": ObjectSlice(of_places=_band("distance_cm", a, b)) for a, b in DISTANCE_BANDS_M}
    slices |= {f"visibility {level}": ObjectSlice(visibility=level) for level in VISIBILITY_LEVELS}
    slices["rare classes"] = ObjectSlice(classes=RARE_CLASSES)
    for low, high in PATH_BANDS_M:
        name = f"path {low}-{'' if high is None else high} m"
        slices[name] = ObjectSlice(of_places=_band("path_cm", low, high))
    return slices


OBJECT_SLICES = _object_slices()


class SlicedFigures:
    """Detection figures of the objects of one slice, where each sample counts some number of times."""

    def __init__(self, statistics: DetectionStatistics, chosen: ObjectSlice) -> None:
        truth = statistics.truth
        is_kept = chosen.of_places(truth.places)
        is_kept &= np.isin(truth.class_index, [DETECTION_CLASSES.index(name) for name in chosen.classes])
        if chosen.visibility is not None:
            is_kept &= truth.visibility == chosen.visibility
        self._num_truth = statistics.num_truth(is_kept)
        self._records = {name: of.records(_members(of, is_kept, chosen)) for name, of in statistics.classes.items()}

    def __call__(self, sample_weight: np.ndarray) -> dict[str, Any]:
        """Figures over the classes of which the weighted samples have an object in the slice, and its objects."""
        totals = self._num_truth @ sample_weight
        present = [name for name, total in zip(DETECTION_CLASSES, totals.tolist(), strict=True) if total > 0]
        class_ap, class_errors = {}, {}
        for name in present:
            total = float(totals[DETECTION_CLASSES.index(name)])
            curves = [
                curve(records, place, total, sample_weight, with_errors=place == _TP_PLACE)
                for place, records in enumerate(self._records[name])
            ]
            class_ap[name] = float(np.mean([average_precision(of) for of in curves]))
            undefined = UNDEFINED_ERRORS.get(name, ())
            class_errors[name] = {
                ERROR_NAMES[field]: None if field in undefined else tp_error(curves[_TP_PLACE], field)
                for field in TP_FIELDS
            }
        summary = DetectionSummary(
            nds=0.0, mean_ap=0.0, errors={}, class_ap=class_ap, class_ap_at={}, class_errors=class_errors
        )
        if not present:
            return {"num_truth": 0.0, "nds": None, "mean_ap": None, "errors": {}, "class_ap": {}, "class_errors": {}}
        return {"num_truth": float(totals.sum()), **means_over(summary, present)}


def _members(of: ClassStatistics, is_kept: np.ndarray, chosen: ObjectSlice) -> Bool[np.ndarray, "4 N"]:
    """Which predictions take part at each matching distance."""
    with_none = np.append(is_kept, False)
    is_matched = of.partner >= 0
    own = chosen.of_places(of.places)
    return np.where(is_matched, with_none[of.partner], own)
