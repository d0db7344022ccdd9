"""What is known of a run or a weights file: configuration, versions, data, weights by part, metrics."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf
from torch import Tensor

from bevstack.training.run_folder import RunFolder
from bevstack.weights_file import RUN_WEIGHTS, newest_checkpoint, read_weights

METRICS_FILES = ("eval/metrics.json", "metrics.json")
VERSIONS_FILE = "versions.json"
_VERSION_KEYS = ("bevstack_version", "git_commit", "torch_version", "python")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Everything that two runs can be compared by. What is not there is empty, never made up."""

    name: str
    config: Mapping[str, Any]
    """`a.b.c` -> value, resolved."""
    versions: Mapping[str, str]
    """Packages, Python, bevstack, git commit."""
    data_hash: str
    step: int | None
    class_names: tuple[str, ...]
    weights: Mapping[str, Tensor]
    metrics: Mapping[str, float]
    """Row and name joined by dots -> number."""
    protocols: tuple[str, ...]
    evaluated_on: str
    """Hash of the data behind the metrics."""


def read_run(path: str | Path) -> RunFacts:
    """Read a run folder, a weights file, a checkpoint, or `demo`; of a folder whatever is in it.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: a file is damaged or of another kind.
    """
    folder = Path(path) if Path(path).is_dir() else None
    tensors: Mapping[str, Tensor] = {}
    metadata: Mapping[str, str] = {}
    if folder is None or (folder / RUN_WEIGHTS).is_file() or newest_checkpoint(folder):
        _, tensors, metadata = read_weights(path)
    described = _json(folder / VERSIONS_FILE) if folder else {}
    if folder is not None and (not metadata or (folder / "config.yaml").is_file()):
        config = _flat(OmegaConf.to_container(RunFolder(folder).read_config(), resolve=True))
    else:
        config = _flat(yaml.safe_load(metadata["config"]))
    metrics = next((_json(folder / name) for name in METRICS_FILES if folder and (folder / name).is_file()), {})
    versions = {key: str(described.get(key) or metadata.get(key) or "") for key in _VERSION_KEYS}
    return RunFacts(
        name=str(path),
        config=config,
        versions={**{k: v for k, v in versions.items() if v}, **described.get("packages", {})},
        data_hash=str(described.get("data_hash") or metadata.get("data_hash") or ""),
        step=int(metadata["step"]) if metadata.get("step") else None,
        class_names=tuple(json.loads(metadata.get("class_names", "[]"))),
        weights=tensors,
        metrics={k: float(v) for k, v in _flat(metrics.get("results", {})).items() if _is_number(v)},
        protocols=tuple(metrics.get("protocols", ())),
        evaluated_on=str(metrics.get("data", {}).get("hash", "")),
    )


def parts_of(tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Part of a model (two levels of names: `encoders.camera`, `heads.detection`) -> its tensors, in their order."""
    parts: dict[str, list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            words = name.split(".")
            parts[".".join(words[:2]) if words[0] in ("encoders", "heads", "behaviour") else words[0]].append(name)
    return dict(parts)


def norm_of(tensors: Mapping[str, Tensor], names: list[str]) -> float:
    """Euclidean norm of several tensors together, in float64."""
    return float(sum(float(tensors[name].double().square().sum()) for name in names) ** 0.5)


def distance_of(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: list[str]) -> float | None:
    """Norm of the difference of two sets of tensors; None where names or shapes differ."""
    if any(name not in a or name not in b or a[name].shape != b[name].shape for name in names):
        return None
    differences = {name: a[name].to(torch.float64) - b[name].to(torch.float64) for name in names}
    return norm_of(differences, names)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): write it again or take it away") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold an object: write it again or take it away")
    return content


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted path; lists are leaves, empty branches too."""
    if not isinstance(node, dict) or not node:
        return {prefix.rstrip("."): node} if prefix else {}
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= _flat(value, f"{prefix}{key}.")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
