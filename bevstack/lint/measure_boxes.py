"""What labels, or written predictions, of the probe's boxes say: axes, heading, order of sizes, height, classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.geometry.transforms import wrap_angle
from bevstack.lint import probe
from bevstack.lint.axes import axes_of
from bevstack.lint.card import Fact
from bevstack.types.boxes import BoxIndex

_CLOSE_RAD = 0.02

_HEADINGS = {
    "counter-clockwise from x": lambda yaw: yaw,
    "clockwise from x": lambda yaw: -yaw,
    "counter-clockwise from y": lambda yaw: yaw - np.pi / 2,
    "clockwise from y": lambda yaw: -yaw + np.pi / 2,
    "clockwise from -y": lambda yaw: -yaw - np.pi / 2,
    "counter-clockwise from -y": lambda yaw: yaw + np.pi / 2,
    "counter-clockwise from -x": lambda yaw: yaw + np.pi,
    "clockwise from -x": lambda yaw: -yaw + np.pi,
}


def measure_boxes(
    rows: Float[np.ndarray, "N 9"], class_index: Int[np.ndarray, " N"], class_names: Sequence[str] = DETECTION_CLASSES
) -> dict[str, Fact | None]:
    """Facts of the probe's boxes as they came out; each is recognised by its height, which no fault touches.

    Args:
        rows: columns as in `BoxIndex`.
        class_index: of each row.
        class_names: what the indices are said to mean.
    """
    known = probe.boxes_ego()
    heights = np.array([row[5] for row in known.values()])
    true = np.array(list(known.values()))
    nearest = np.abs(rows[:, BoxIndex.HEIGHT, None] - heights).argmin(axis=1) if len(rows) else np.zeros(0, int)
    if len(np.unique(nearest)) < 6:
        return dict.fromkeys(("axes_boxes", "yaw", "box_layout", "class_order"))
    true = true[nearest]
    rise = _rise(true, rows[:, BoxIndex.Z] - true[:, 2])
    centers = rows[:, :3] - np.array([0.0, 0.0, 1.0]) * (rise * true[:, 5])[:, None]
    names = list(known)
    order: dict[int, str] = {}
    for k, index in zip(nearest, class_index, strict=True):
        order[int(index)] = names[k]
    return {
        "axes_boxes": {"boxes": axes_of(true[:, :3], centers)},
        "yaw": {"": heading_name(true[:, 6], rows[:, BoxIndex.YAW])},
        "box_layout": {
            "sizes": _size_order(rows),
            "z": {0.0: "centre", -0.5: "bottom", 0.5: "top"}.get(rise, f"centre {rise:+.2f} heights"),
        },
        "class_order": class_order(class_names, order),
    }


def class_order(class_names: Sequence[str], labels: Mapping[int, str] | None = None) -> Fact:
    """What the class indices mean; both meanings where the labels mean something else than the names say.

    Args:
        class_names: what the path says that the indices mean.
        labels: index -> the class that the labels really have there; None where the path has no labels.
    """
    said = ", ".join(class_names)
    if labels is None or all(k < len(class_names) and class_names[k] == name for k, name in labels.items()):
        return {"": said}
    meant = ", ".join(f"{k} {labels[k]}" for k in sorted(labels))
    return {"": f"{meant} in the labels, but {said} by name"}


def heading_name(true: Float[np.ndarray, " N"], measured: Float[np.ndarray, " N"]) -> str:
    """The convention under which the measured headings are the true ones."""
    for unit, factor in (("", 1.0), (", in degrees", np.pi / 180)):
        for name, convention in _HEADINGS.items():
            error = wrap_angle(np.asarray(measured, np.float64) * factor - convention(true))
            if np.abs(error).max() < _CLOSE_RAD:
                return name + unit
    return "of no known convention"


def _rise(true: np.ndarray, offset: np.ndarray) -> float:
    """By how many box heights z lies above the centre, to a twentieth; a rise of the whole frame does not count."""
    terms = np.column_stack((true[:, :3], true[:, 5], np.ones(len(true))))
    solution, *_ = np.linalg.lstsq(terms, offset, rcond=None)
    return round(float(solution[3]) * 20) / 20 + 0.0


def _size_order(rows: np.ndarray) -> str:
    length, width = float(np.median(rows[:, BoxIndex.LENGTH])), float(np.median(rows[:, BoxIndex.WIDTH]))
    known = {
        (probe.BOX_LENGTH_M, probe.BOX_WIDTH_M): "length, width",
        (probe.BOX_WIDTH_M, probe.BOX_LENGTH_M): "width, length",
    }
    for (first, second), name in known.items():
        if abs(length - first) < 0.05 and abs(width - second) < 0.05:
            return f"{name}, height"
    return f"{length:.2f} x {width:.2f} m of boxes that are {probe.BOX_LENGTH_M} x {probe.BOX_WIDTH_M} m"
