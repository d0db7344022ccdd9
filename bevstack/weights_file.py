"""A trained model in one file: tensors and text, never code.

safetensors with the metadata of `DESCRIPTION_KEYS`, or a training checkpoint, of which the averaged weights are taken.
What the configuration text means is the business of `bevstack.build`.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import bevstack
from bevstack.data.class_names import DETECTION_CLASSES

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
SHIPPED = ("demo", "detection")
"""Names of the weights in that folder: three tasks, and the detection network that they were started from."""
WEIGHTS_FORMAT = "bevstack-weights-1"
RUN_WEIGHTS = "weights.safetensors"
"""Name of the averaged weights in a run folder."""

DESCRIPTION_KEYS = (
    "format",
    "config",
    "class_names",
    "data_hash",
    "step",
    "bevstack_version",
    "git_commit",
    "torch_version",
)


def describe(config_text: str, *, step: int, data_hash: str) -> dict[str, str]:
    """The metadata of a weights file; all values are text, as safetensors wants it."""
    return {
        "format": WEIGHTS_FORMAT,
        "config": config_text,
        "class_names": json.dumps(DETECTION_CLASSES),
        "data_hash": data_hash,
        "step": str(step),
        **versions(),
    }


def write_weights(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, half: bool = False
) -> Path:
    """Write tensors and their description, complete or not at all.

    Args:
        path: the file; an older one is replaced only when the new one is complete.
        tensors: a state dict.
        metadata: from `describe`.
        half: store floating point tensors as float16 (half the size; loading restores the model's own type).

    Raises:
        ValueError: a tensor is not finite, or a value does not fit into float16.
    """
    path = Path(path)
    stored = {}
    for name, tensor in tensors.items():
        kept = (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous().clone()
        if kept.is_floating_point() and not bool(torch.isfinite(kept).all()):
            raise ValueError(f"{name} is not finite{' as float16' if half else ''}: {path} is not written")
        stored[name] = kept
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(stored, temporary, metadata=dict(metadata))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def read_weights(path: str | Path) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    """(file, tensors, metadata) of a weights file, a checkpoint, a run folder, or `demo`: the shipped weights.

    Raises:
        ValueError: the file is damaged or of another kind.
        FileNotFoundError: there is no such file.
    """
    file = weights_path(path)
    if file.suffix == ".ckpt":
        content = read_checkpoint(file)["bevstack"]
        return file, content["averaged"], content["metadata"]
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged or not a safetensors file ({error}): copy or pack it again") from error
    if metadata.get("format") != WEIGHTS_FORMAT:
        raise ValueError(f"{file} was not written by bevstack: its metadata has no format '{WEIGHTS_FORMAT}'")
    return file, load_file(file), metadata


def read_checkpoint(file: Path) -> dict:
    """The content of a training checkpoint: tensors and plain Python values only.

    Raises:
        ValueError: the file is damaged, holds anything else, or was not written by this project.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, torch.serialization.pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file} is damaged or not a checkpoint ({reason}): use an earlier one") from error
    if not isinstance(content, dict) or "bevstack" not in content:
        raise ValueError(f"{file} is not a bevstack checkpoint: it carries no configuration")
    return content


def weights_path(path: str | Path) -> Path:
    """The file that a path stands for; of a run folder the final weights, else the newest checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    if str(path) in SHIPPED:
        file = WEIGHTS_FOLDER / f"{path}.safetensors"
    else:
        file = Path(path)
        if file.is_dir():
            newest = newest_checkpoint(file)
            file = file / RUN_WEIGHTS if (file / RUN_WEIGHTS).exists() or newest is None else newest
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no weights file {file}; give a .safetensors, a .ckpt, a run folder, "
            f"or one of {', '.join(SHIPPED)}"
        )
    return file


def newest_checkpoint(run: Path) -> Path | None:
    """The latest checkpoint of a run folder, by the step in its name; None where there is none."""
    return max((run / "checkpoints").glob("step*.ckpt"), default=None)


def versions() -> dict[str, str]:
    """Version of the package, git commit of the source tree ('' outside one), version of torch."""
    root = Path(__file__).resolve().parents[1]
    commit = ""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {"bevstack_version": bevstack.__version__, "git_commit": commit, "torch_version": str(torch.__version__)}
