"""The folder of one run: everything needed to repeat it, to continue it and to judge it.

runs/<experiment>/<time>/
config.yaml       the resolved configuration
versions.json     packages, git commit, seed, identity of the data, command line
metrics.csv       losses by step
tensorboard/      the same for TensorBoard
checkpoints/      step*.ckpt, to resume from
weights.safetensors   the averaged weights, at the end
runs/latest           link to the newest run
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bevstack.build import config_yaml
from bevstack.weights_file import newest_checkpoint, versions

_PACKAGES = (
    "torch",
    "lightning",
    "hydra-core",
    "numpy",
    "numba",
    "spconv",
    "nuscenes-devkit",
    "opencv-python-headless",
)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run folder."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """Losses by step."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def read_config(self) -> DictConfig:
        """The stored configuration.

        Raises:
            ValueError: there is none.
        """
        if not self.config_file.is_file():
            raise ValueError(f"{self.path} is not a run folder: it has no config.yaml")
        config = OmegaConf.load(self.config_file)
        assert isinstance(config, DictConfig)
        OmegaConf.set_struct(config, True)
        return config

    def checkpoint_of(self, step: int) -> Path:
        """The checkpoint after that many steps."""
        return self.checkpoints / f"step{step:07d}.ckpt"

    def newest_checkpoint(self) -> Path:
        """What to resume from.

        Raises:
            ValueError: no checkpoint has been written yet.
        """
        found = newest_checkpoint(self.path)
        if found is None:
            raise ValueError(f"{self.path} has no checkpoint to resume from: start a new run")
        return found


def create_run_folder(root: str | Path, experiment: str, config: DictConfig, data_hash: str) -> RunFolder:
    """Make `root/experiment/time`, write what identifies the run, and point `root/latest` at it."""
    parent = Path(root) / experiment
    parent.mkdir(parents=True, exist_ok=True)
    path = _new_folder(parent / time.strftime("%Y%m%d-%H%M%S"))
    folder = RunFolder(path)
    folder.checkpoints.mkdir()
    folder.config_file.write_text(config_yaml(config))
    description = {
        **versions(),
        "python": platform.python_version(),
        "packages": {name: _version_of(name) for name in _PACKAGES},
        "seed": int(config.seed),
        "data_hash": data_hash,
        "command": sys.argv[1:],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    (path / "versions.json").write_text(json.dumps(description, indent=2) + "\n")
    _point_latest(Path(root) / "latest", path)
    return folder


def data_hash(root: str | Path, version: str, split: str) -> str:
    """Identity of a data set: the size and content of its small files and the size of its tables.

    Two copies of the same data in different places have the same hash. Sensor files are not read.
    """
    digest = hashlib.sha256(split.encode())
    folder = Path(root)
    for file in (folder / "world.json", folder / version / "splits.json"):
        if file.is_file():
            digest.update(file.name.encode() + file.read_bytes())
    for table in sorted((folder / version).glob("*.json")):
        digest.update(f"{table.name} {table.stat().st_size}".encode())
        with table.open("rb") as opened:
            digest.update(opened.read(1 << 16))
    return digest.hexdigest()[:16]


def _new_folder(wanted: Path) -> Path:
    """`wanted`, or `wanted-2`, `wanted-3` ... where another run began within the same second."""
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        candidate = wanted.with_name(wanted.name + suffix)
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        return candidate
    raise OSError(f"{wanted} and its numbered neighbours exist already: clear the folder {wanted.parent}")


def _point_latest(link: Path, target: Path) -> None:
    """Make `link` lead to `target`, replacing an older link in one step."""
    if link.exists() and not link.is_symlink():
        return  # a real folder of that name is the user's own
    temporary = link.with_name(f".{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    os.replace(temporary, link)


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
