"""The metrics of an evaluation as text on one screen."""

from collections.abc import Mapping, Sequence
from typing import Any

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.protocols import protocol

_TITLES = {"map": "map segmentation", "occupancy": "occupancy"}
_OTHER_TASKS = ("tracking", "map_lines", "lidarseg", "motion", "planning", "instance", "driving-qa")
"""Keys of a row whose protocols are shown by their headline number."""
_HEADLINES = ("mean_iou", "mean_ap")
_MEANS = {
    "mean_iou": "mIoU",
    "mean_ap": "mAP of cells",
    "mean_iou_of_labelled": "mIoU of labelled classes",
    "iou": "IoU",
}
"""Means of the classes of a map or of occupancy; a protocol has some of them."""


def table(content: Mapping[str, Any]) -> str:
    """All tasks of `metrics.json`, each under its protocol."""
    data, results = content["data"], content["results"]
    part = "" if data["num_frames"] == data["num_frames_of_split"] else f" of {data['num_frames_of_split']}"
    lines = [f"{data['version']} {data['split']}, {data['num_frames']}{part} frames"]
    if "nds" in next(iter(results.values())):
        lines += ["", *_detection(content["protocols"][0], results)]
    for task in _TITLES:
        if all(task in row for row in results.values()):
            lines += ["", *_dense(task, results)]
        elif task in content["not_scored"]:
            lines += ["", f"{_TITLES[task]} is predicted but not scored: {content['not_scored'][task]}"]
    lines += _other_tasks(results)
    lines += ["", *(f"{t} is not scored: {why}" for t, why in content["not_scored"].items() if t not in _TITLES)]
    return "\n".join(lines).rstrip()


def _detection(identity: str, results: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{identity:<20}{'NDS':>7}{'mAP':>7}{'mATE':>8}{'mASE':>7}{'mAOE':>7}{'mAVE':>7}{'mAAE':>7}{'s/frame':>9}",
    ]
    for name, row in results.items():
        errors, seconds = row["errors"], row["seconds_per_frame"]
        numbers = "".join(f"{errors[key]:>7.3f}" for key in ("mASE", "mAOE", "mAVE", "mAAE"))
        time = "-" if seconds is None else f"{seconds:.2f}"
        lines.append(f"{name:<20}{row['nds']:>7.3f}{row['mean_ap']:>7.3f}{errors['mATE']:>8.3f}{numbers}{time:>9}")
    names = list(results)
    lines += ["", f"{'AP':<22}{'boxes':>7}" + "".join(f"{name:>12}" for name in names) + f"   ({names[0]}) ATE    AOE"]
    first = results[names[0]]
    for name in DETECTION_CLASSES:
        errors = first["class_errors"][name]
        values = "".join(f"{results[row]['class_ap'][name]:>12.3f}" for row in names)
        pad = " " * (len(names[0]) + 3)
        count = first["num_ground_truth"][name]
        lines.append(f"{name:<22}{count:>7}{values}{pad}{_cell(errors['ATE'], 7)}{_cell(errors['AOE'], 7)}")
    absent = [name for name, count in first["num_ground_truth"].items() if count == 0]
    if absent:
        lines.append(f"no box of {', '.join(absent)} counts in this data: the protocol scores them AP 0 and errors 1")
    return lines


def _dense(task: str, results: Mapping[str, Any]) -> list[str]:
    """Means of the first protocol and its classes, then the means of the others; a column for each row of results."""
    names = list(results)
    first = results[names[0]][task]
    leading, *others = first
    lines = [f"{_TITLES[task]:<34}" + "".join(f"{name:>12}" for name in names)]
    for key, text in _MEANS.items():
        if key in first[leading]:
            title = f"{leading} {text}" if key in _HEADLINES else f"  {text}"
            lines.append(f"{title:<34}{_values(results, names, task, leading, key)}")
    for name in first[leading]["class_iou"]:
        values = "".join(_cell(results[row][task][leading]["class_iou"][name], 12) for row in names)
        lines.append(f"    {name:<30}{values}")
    absent = [name for name, value in first[leading]["class_iou"].items() if value is None]
    if absent:
        lines.append(f"  nothing of {', '.join(absent)} is in this data: not in the mean")
    for identity in others:
        for key in (key for key in _HEADLINES if key in first[identity]):
            lines.append(f"{f'{identity} {_MEANS[key]}':<34}{_values(results, names, task, identity, key)}")
    return lines


def _other_tasks(results: Mapping[str, Any]) -> list[str]:
    """The headline of every further protocol, with its baselines below it."""
    lines: list[str] = []
    for name, row in results.items():
        for task in _OTHER_TASKS:
            for identity, numbers in row.get(task, {}).items():
                info = protocol(identity)
                lines += ["", f"{identity} ({info.title}): {info.headline}"]
                rows = {name: numbers, **numbers.get("baselines", {})}
                if task == "planning":
                    lines += _plans(rows, info.headline)
                else:
                    lines += [f"  {each:<24}{_headline(of, info.headline)}" for each, of in rows.items()]
    return lines


def _plans(rows: Mapping[str, Any], key: str) -> list[str]:
    """Each plan with what it was given, then what its headline hides: missing steps, and the frames that turn."""
    given = {name: "ego status" if of["uses_ego_status"] else "" for name, of in rows.items()}
    lines = [f"  {name:<24}{given[name]:<10}{_headline(of, key)}" for name, of in rows.items()]
    known = f"{key}_known"
    is_flattered = any(of[known] != of[key] for of in rows.values() if known in of)
    exact, which = (known, ", over the steps that exist") if is_flattered else (key, "")
    if is_flattered:
        lines += [f"  all frames{which}", *(f"    {name:<32}{_headline(of, exact)}" for name, of in rows.items())]
    turning = {name: of["turning"] for name, of in rows.items() if of.get("turning")}
    count = max((of["num_frames"] for of in turning.values()), default=0)
    if count:
        lines += [f"  turning frames ({count}){which}"]
        lines += [f"    {name:<32}{_headline(of, exact)}" for name, of in turning.items()]
    return lines


def _headline(numbers: Mapping[str, Any], key: str) -> str:
    """A number, or one for each horizon, group or count of modes."""
    groups = numbers.get("groups", {})
    value = numbers[key] if key in numbers else {name: of.get(key) for name, of in groups.items()}
    if not isinstance(value, Mapping):
        return _cell(value, 10)
    single = {name: each.get("mean") if isinstance(each, Mapping) else each for name, each in value.items()}
    return "".join(f"   {name.removeprefix('at_')}{_cell(each, 7)}" for name, each in single.items())


def _values(results: Mapping[str, Any], names: Sequence[str], task: str, identity: str, key: str) -> str:
    return "".join(_cell(results[name][task][identity][key], 12) for name in names)


def _cell(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.3f}"
