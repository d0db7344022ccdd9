"""Map and occupancy as the page shows them: cards, tables of classes, and the colours of the frame viewer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bevstack.data.bird_rasters import DRAW_ORDER, MAP_COLOURS, Colour, occupancy_colours
from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE
from bevstack.data.maps import MAP_CLASSES
from bevstack.report.confusion import confusion_chart

_FIGURES = {"mean_iou": "mIoU", "iou": "IoU-occupied"}
TITLES = {"map": "Map segmentation", "occupancy": "Occupancy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One number of the summary."""

    name: str
    short: str
    """The name as the head of a narrow column."""
    value: float | None
    hint: str
    protocol: str
    key: str
    """Where the number stands below its protocol in `metrics.json`."""
    figure: str
    """Its name in `bevstack compare`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Values of one protocol and one row of the results."""

    title: str
    protocol: str
    mean: float | None
    by_class: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseSection:
    """Everything about one task."""

    task: str
    title: str
    protocols: tuple[str, ...]
    num_frames: int
    cards: tuple[Card, ...]
    classes: tuple[tuple[str, str, str], ...]
    """Key, name and CSS colour of each class."""
    columns: tuple[Column, ...]
    confusion: str | None
    """SVG of what was taken for what; None where classes overlap."""
    note: str


def dense_sections(metrics: Mapping[str, Any] | None, objects: Mapping[str, Colour]) -> list[DenseSection]:
    """A section for each of map and occupancy that was scored; the first row of the results leads."""
    if metrics is None:
        return []
    results = metrics["results"]
    first = next(iter(results.values()))
    colours = {"map": MAP_COLOURS, "occupancy": occupancy_colours(objects)}
    return [_section(task, results, colours[task]) for task in TITLES if task in first]


def ground_kinds(objects: Mapping[str, Colour]) -> dict[str, Any]:
    """What the frame viewer needs to colour the rasters of both tasks."""
    names, voxels = list(MAP_CLASSES), occupancy_colours(objects)
    return {
        "map": {
            "classes": [{"name": _spaced(name), "rgb": MAP_COLOURS[name]} for name in names],
            "order": [names.index(name) for name in DRAW_ORDER],
        },
        "occupancy": {
            "classes": [{"name": _spaced(name), "rgb": voxels.get(name, (0, 0, 0))} for name in OCCUPANCY_CLASSES],
            "free": OCCUPANCY_FREE,
        },
    }


def _section(task: str, results: Mapping[str, Any], colours: Mapping[str, Colour]) -> DenseSection:
    first = next(iter(results.values()))[task]
    leading = next(iter(first))
    classes = tuple((name, _spaced(name), f"rgb{colours[name]}") for name in first[leading]["class_iou"])
    return DenseSection(
        task=task,
        title=TITLES[task],
        protocols=tuple(first),
        num_frames=first[leading]["num_frames"],
        cards=tuple(_cards(task, first)),
        classes=classes,
        columns=tuple(_columns(task, results)),
        confusion=_confusion(leading, first[leading]),
        note=_note(task, first),
    )


def _cards(task: str, first: Mapping[str, Any]) -> list[Card]:
    kind, short = TITLES[task].split()[0], {"map": "map", "occupancy": "occ"}[task]
    protocol, numbers = next(iter(first.items()))
    wanted = [("mean_iou", "mIoU", "mean IoU of the classes" + (", best thresholds" if task == "map" else ""))]
    if "iou" in numbers:
        wanted.append(("iou", "IoU", "occupied against free"))
    return [
        Card(
            name=f"{kind} {what}",
            short=f"{short} {what}",
            value=numbers[key],
            hint=hint,
            protocol=protocol,
            key=key,
            figure=f"{short}.{protocol.rpartition('/')[2]}.{_FIGURES[key]}",
        )  # fmt: skip
        for key, what, hint in wanted
    ]


def _columns(task: str, results: Mapping[str, Any]) -> list[Column]:
    """Every row under the leading protocol, then the first row under the others."""
    primary = next(iter(results))
    leading, *others = results[primary][task]
    chosen = [(row, leading) for row in results] + [(primary, protocol) for protocol in others]
    return [
        Column(
            title=row if protocol == leading else f"{row}, {protocol.rpartition('/')[2]}",
            protocol=protocol,
            mean=_either(results[row][task][protocol], "mean_iou", "mean_ap"),
            by_class=_either(results[row][task][protocol], "class_iou", "class_ap"),
        )
        for row, protocol in chosen
    ]


def _confusion(protocol: str, numbers: Mapping[str, Any]) -> str | None:
    if "confusion" not in numbers:
        return None
    names = [_spaced(name) for name in OCCUPANCY_CLASSES]
    return confusion_chart(f"Voxels that count by {protocol}", numbers["confusion"], names)


def _either(numbers: Mapping[str, Any], *keys: str) -> Any:
    """What a protocol calls by one of some names."""
    return next(numbers[key] for key in keys if key in numbers)


def _note(task: str, first: Mapping[str, Any]) -> str:
    numbers = next(iter(first.values()))
    absent = [_spaced(name) for name, value in numbers["class_iou"].items() if value is None]
    texts = ["Intersection over union, counted over all frames."]
    if "map/ap" in first:
        texts.append("The column ap is the average precision of cells, which needs no threshold.")
    if task == "map":
        chosen = {name: value for name, value in numbers["class_threshold"].items() if value is not None}
        listed = ", ".join(f"{_spaced(name)} {value:.2f}" for name, value in chosen.items())
        texts.append(f"Thresholds that suit each class best, chosen on this data: {listed}." if listed else "")
    if any(protocol.startswith("occ/rayiou") for protocol in first):
        texts.append("The column rayiou counts the first surface that each ray of a LiDAR meets instead of voxels.")
    if task == "occupancy" and numbers["mean_iou_of_labelled"] != numbers["mean_iou"]:
        texts.append(
            f"Classes that are predicted but nowhere in the labels count as zero; without them the mean is "
            f"{numbers['mean_iou_of_labelled']:.3f}."
        )
    if absent:
        texts.append(f"A dash: nothing of {', '.join(absent)} is in this data; such classes are not in the mean.")
    return " ".join(filter(None, texts))


def _spaced(name: str) -> str:
    return name.replace("_", " ")
