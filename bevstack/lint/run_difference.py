"""`bevstack explain-diff`: what differs between two runs, in the order in which it is likely to matter.

Causes (data, configuration, versions, seed) come first, effects (weights, metrics) after them. The order of causes is
that of experience with detectors of this kind: other data or other input explains a difference before any weight of a
loss does, and a worker more or less explains none.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bevstack.lint.run_facts import RunFacts, distance_of, norm_of, parts_of

ABSENT = "absent"

GROUPS: tuple[tuple[str, str, int, str], ...] = (
    ("data", r"data\.(val_)?(version|split)$|data\.(train|val)_split|data\.frames", 95, "other frames"),
    ("data", r"input\.", 90, "another input: run `bevstack lint`"),
    ("data", r"data\.class_balanced", 70, "other frames more often"),
    ("data", r"(grid|map_grid|occupancy_grid|labels)(\.|$)", 80, "another part of the world, or other labels"),
    ("data", r"data\.(val_)?root$", 15, "a folder; the data hash says whether the content differs"),
    ("data", r"data\.", 60, "other data"),
    ("model", r"model\..*(score_threshold|nms_iou|max_detections|min_points)", 72, "what counts as an object"),
    ("model", r"model\..*checkpoint$", 3, "memory only"),
    ("model", r"init_from$", 78, "other weights to start from"),
    ("model", r"model\.", 75, "another network"),
    ("loss", r"(loss_weights|balance)(\.|$)", 55, "other weights of the terms"),
    ("augment", r"augment\.", 50, "other training frames"),
    ("optim", r"optim\.", 65, "another course of the optimiser"),
    ("trainer", r"trainer\.(max_epochs|max_steps|batch_size|accumulate|ema.*)", 68, "more or fewer steps or samples"),
    ("trainer", r"trainer\.precision", 30, "another arithmetic"),
    ("trainer", r"trainer\.", 5, "how, not what, is computed"),
    ("seed", r"seed$", 40, "the noise of one run: compare several seeds before believing a difference"),
    ("other", r"", 1, "a name or a folder"),
)
"""(group, pattern of the configuration key, weight, why it matters); the first that fits counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that was not the same."""

    group: str
    key: str
    a: Any
    b: Any
    weight: int
    """How likely it matters, 0 to 100."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDifference:
    """The weights of one part of the model."""

    part: str
    parameters_a: int
    parameters_b: int
    norm_a: float | None
    """None where the run does not have the part; likewise `norm_b`."""
    norm_b: float | None
    relative_distance: float | None
    """Norm of the difference over the norm of the first; None where the parts cannot be subtracted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDifference:
    """One number of the evaluation."""

    name: str
    a: float | None
    b: float | None
    difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDifference:
    """All of it, each list with what matters most first."""

    a: str
    b: str
    causes: tuple[Cause, ...]
    weights: tuple[PartDifference, ...]
    metrics: tuple[MetricDifference, ...]
    warnings: tuple[str, ...]
    """Why numbers are not comparable, where they are not."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def explain(a: RunFacts, b: RunFacts) -> RunDifference:
    """What differs between two runs."""
    comparable = set(a.protocols) == set(b.protocols)
    warnings = []
    if not comparable:
        warnings.append(
            f"the metrics follow different protocols ({', '.join(a.protocols) or 'none'} and "
            f"{', '.join(b.protocols) or 'none'}) and are not compared"
        )
    if a.evaluated_on and b.evaluated_on and a.evaluated_on != b.evaluated_on:
        warnings.append("the metrics were measured on different data: their difference says little about the runs")
    return RunDifference(
        a=a.name,
        b=b.name,
        causes=tuple(sorted((*_of_config(a, b), *_of_record(a, b)), key=lambda cause: (-cause.weight, cause.key))),
        weights=_of_weights(a, b),
        metrics=_of_metrics(a.metrics, b.metrics) if comparable else (),
        warnings=tuple(warnings),
    )


def _of_config(a: RunFacts, b: RunFacts) -> list[Cause]:
    causes = []
    ours, theirs = _folded(a.config, b.config), _folded(b.config, a.config)
    for key in sorted({*ours, *theirs}):
        values = ours.get(key, ABSENT), theirs.get(key, ABSENT)
        if values[0] == values[1]:
            continue
        group, _, weight, why = next(row for row in GROUPS if re.match(row[1], key))
        causes.append(Cause(group=group, key=key, a=values[0], b=values[1], weight=weight, why=why))
    return causes


def _folded(config: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with every branch that the other one lacks as a single entry: its class and its settings."""
    branches = {key[:k] for key in other for k in _ends(key)[:-1]}
    folded: dict[str, Any] = {}
    lacking: dict[str, dict[str, Any]] = {}
    for key, value in config.items():
        first = next((key[:k] for k in _ends(key) if key[:k] not in branches), key)
        if first == key:
            folded[key] = value
        else:
            lacking.setdefault(first, {})[key[len(first) + 1 :]] = value
    return folded | {key: _branch_text(entries) for key, entries in lacking.items()}


def _ends(key: str) -> list[int]:
    """Where the names of a dotted path end."""
    return [k for k, letter in enumerate(key) if letter == "."] + [len(key)]


def _branch_text(entries: Mapping[str, Any]) -> str:
    name = str(entries.get("_target_", "")).rpartition(".")[2]
    settings = ", ".join(f"{key}={value}" for key, value in entries.items() if key not in ("_target_", "_partial_"))
    return f"{name}({settings})"


def _of_record(a: RunFacts, b: RunFacts) -> list[Cause]:
    causes = []

    def note(group: str, key: str, ours: Any, theirs: Any, weight: int, why: str) -> None:
        if ours != theirs:
            causes.append(Cause(group=group, key=key, a=ours, b=theirs, weight=weight, why=why))

    note("data", "data hash", a.data_hash or ABSENT, b.data_hash or ABSENT, 100, "trained on other data")
    note("data", "class names", list(a.class_names), list(b.class_names), 99, "outputs mean other classes")
    note("trainer", "optimiser steps", a.step, b.step, 69, "trained for longer or shorter")
    for name in sorted({*a.versions, *b.versions}):
        weight = {"git_commit": 45, "bevstack_version": 44, "torch_version": 20, "torch": 20, "spconv": 18}.get(name, 8)
        why = "other code" if weight > 40 else "another library, which may round or behave otherwise"
        note("versions", name, a.versions.get(name, ABSENT), b.versions.get(name, ABSENT), weight, why)
    return causes


def _of_weights(a: RunFacts, b: RunFacts) -> tuple[PartDifference, ...]:
    parts_a, parts_b = parts_of(a.weights), parts_of(b.weights)
    found = []
    for part in sorted({*parts_a, *parts_b}):
        names_a, names_b = parts_a.get(part, []), parts_b.get(part, [])
        distance = distance_of(a.weights, b.weights, names_a) if names_a and set(names_a) == set(names_b) else None
        norm_a = norm_of(a.weights, names_a) if names_a else None
        norm_b = norm_of(b.weights, names_b) if names_b else None
        if distance == 0.0:
            continue
        found.append(
            PartDifference(
                part=part,
                parameters_a=sum(a.weights[name].numel() for name in names_a),
                parameters_b=sum(b.weights[name].numel() for name in names_b),
                norm_a=norm_a,
                norm_b=norm_b,
                relative_distance=None if distance is None else distance / max(norm_a or 0.0, 1e-12),
            )
        )
    return tuple(sorted(found, key=lambda item: -1e9 if item.relative_distance is None else -item.relative_distance))


def _of_metrics(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[MetricDifference, ...]:
    found = []
    for name in {*a, *b}:
        ours, theirs = a.get(name), b.get(name)
        if ours == theirs:
            continue
        difference = None if ours is None or theirs is None else theirs - ours
        found.append(MetricDifference(name=name, a=ours, b=theirs, difference=difference))
    return tuple(sorted(found, key=lambda item: (_rank(item.name), -abs(item.difference or 0.0), item.name)))


def _rank(name: str) -> int:
    """Headline numbers first, then means, then single classes; counts and times last."""
    last = name.rpartition(".")[2]
    if last in ("nds", "mean_ap", "mean_iou", "amota", "miou", "rayiou"):
        return 0
    if re.search(r"(^|\.)(num_\w+|matched|missed|false|seconds_per_frame|score_threshold)(\.|$)", name):
        return 3
    return 1 if re.search(r"(^|\.)(errors|mean_\w+|f1)(\.|$)", name) else 2
