"""The figures of a row of `metrics.json` under one name each, with unit and which way is better.

`det.NDS`, `det.AP.car`, `map.iou-fixed-0.5.mIoU`: the protocol with a dot for the stroke, then the figure. The two
tasks with a single protocol, detection and tracking, are just `det` and `track`. A slice follows after @:
`det.mAP@night`. Fractions are shown in points (hundredths), everything else in its own unit.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bevstack.evaluation.protocols import PROTOCOLS

_SHORT = {"det/nusc-cvpr19": "det", "track/nusc-2020": "track"}
_WORDS = {
    "nds": "NDS",
    "mean_ap": "mAP",
    "class_ap": "AP",
    "errors": "",
    "mean_iou": "mIoU",
    "mean_iou_of_labelled": "mIoU-labelled",
    "class_iou": "IoU",
    "iou": "IoU-occupied",
    "overall": "",
}
_NO_FIGURE = re.compile(
    r"^(num_.*|class_(share|threshold|ap_at|iou_at)|mean_iou_at|confusion|protocol|curves|score_threshold|f1|matched|"
    r"missed|false|seconds_per_frame|is_.*|has_.*|uses_.*|baselines)$"
)
_BY_CLASS = ("class_errors", "classes", "groups")
"""Keys under which a protocol keeps all figures of each class."""
_SLICE_KEYS = ("turning",)
"""Keys under which a protocol keeps its numbers of a part of the frames."""
_DETECTION_KEYS = ("nds", "mean_ap", "errors", "class_ap", "class_errors")
_ERROR = re.compile(r"(?:^|\.)m?(ATE|ASE|AOE|AVE|AAE)(?:\.|$|@)")
_ERROR_UNITS = {"ATE": "m", "ASE": "", "AOE": "rad", "AVE": "m/s", "AAE": ""}
_LOWER_IS_BETTER = re.compile(
    r"(^|[._])(l2|l2_m|ade|fde|min_ade|min_fde|miss_rate|collision|leaves|crossing|amotp|motp|motar_fp|fp|fn|ids|frag|tid|lgd|"
    r"faf|ml|off_road)([._@]|\d|$)",
    re.I,
)
_POINTS = re.compile(
    r"(^|[._])(NDS|mAP|AP|mIoU|mIoU-labelled|IoU|IoU-occupied|amota|mota|motar|recall|epa|vpq|pq|sq|rq|vehicle_iou|"
    r"frequency_weighted_iou|collision|leaves|crossing|miss_rate|off_road|final|accuracy|language|match_f1)([._@]|$)",
    re.I,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a figure is shown and judged."""

    unit: str
    """"pt" for points, else its own unit; empty where it has none."""
    is_lower_better: bool

    @property
    def scale(self) -> float:
        """From the stored value to the shown one."""
        return 100.0 if self.unit == "pt" else 1.0


def kind_of(name: str) -> Kind:
    """What is known of a figure from its name."""
    if error := _ERROR.search(name):
        return Kind(unit=_ERROR_UNITS[error.group(1)], is_lower_better=True)
    unit = "pt" if _POINTS.search(name) else "m" if re.search(r"l2_m|ade|fde|otp", name) else ""
    return Kind(unit=unit, is_lower_better=bool(_LOWER_IS_BETTER.search(name)))


def is_headline(name: str) -> bool:
    """Whether a short table shows it: not the figure of one class, distance or error of a class.

    Of figures at several times the mean is shown, and of those with several counts of modes all are.
    """
    figure = name.partition("@")[0]
    head = max((short for short in prefixes().values() if figure.startswith(f"{short}.")), key=len, default="")
    _, *more = figure[len(head) + 1 :].split(".")
    return not more or more[-1] == "mean" or (len(more) == 1 and more[0].isdigit())


def prefixes() -> dict[str, str]:
    """Protocol -> what the names of its figures begin with."""
    return {identity: _SHORT.get(identity, identity.replace("/", ".")) for identity in PROTOCOLS}


def figures_of(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Every figure of a row of results under its name; None where it could not be measured."""
    figures: dict[str, float | None] = {}
    if "nds" in row:
        content = {key: row[key] for key in _DETECTION_KEYS if key in row}
        figures |= dict(_walk(_SHORT["det/nusc-cvpr19"], content))
    for value in row.values():
        if isinstance(value, Mapping):
            for identity in value.keys() & PROTOCOLS.keys():
                if isinstance(value[identity], Mapping):
                    figures |= dict(_walk(prefixes()[identity], value[identity]))
    return figures


def _walk(prefix: str, content: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    for key, value in content.items():
        if _NO_FIGURE.match(str(key)) or isinstance(value, bool):
            continue
        word = _WORDS.get(key, str(key))
        if key in _BY_CLASS:
            for name, of_class in value.items():
                yield from ((f"{figure}.{name}", number) for figure, number in _walk(prefix, of_class))
        elif key in _SLICE_KEYS and isinstance(value, Mapping):
            yield from ((f"{name}@{key}", number) for name, number in _walk(prefix, value))
        elif isinstance(value, Mapping):
            yield from _walk(f"{prefix}.{word}" if word else prefix, value)
        elif value is None or isinstance(value, int | float):
            yield f"{prefix}.{word}", None if value is None else float(value)
