"""Future instances as a folder (or a zip of it) with an array for each sample, `SAMPLE_TOKEN.npz`, and a `meta.json`.

    {"format": "bevstack-instances-1", "use_camera": true, "use_lidar": false}

Each file has `instances`, whole numbers (5, 200, 200): the identity of the vehicle in each cell of `GRID`, 0 for none,
in the present key frame and the four that follow, all in the level frame of the vehicle now; row 0 is to its right,
column 0 behind it. A system that predicts vehicle cells apart from identities adds `vehicles`, bool of the same shape.
Samples that the protocol does not ask for (`present_samples`) may be there and are not looked at.
"""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.data.index import DatasetIndex
from bevstack.evaluation.dense.folder import META_FILE, array_root
from bevstack.evaluation.dense.instance_statistics import InstanceStatistics
from bevstack.evaluation.dense.instance_truth import GRID, NUM_FUTURE, present_samples
from bevstack.evaluation.predictions.predicted import Predicted, Task
from bevstack.evaluation.predictions.store import PredictionMeta

INSTANCE_FORMAT = "bevstack-instances-1"
KIND = "future instances"
_SHAPE = (NUM_FUTURE + 1, *GRID.shape_yx)
_IDENTITIES, _VEHICLES = "instances", "vehicles"


class InstanceFolder:
    """An open folder; arrays are read and checked one at a time. It fills no field of `Predicted`.

    Args:
        path: The folder, or a zip of it; `is_instances` says whether it is one.

    Raises:
        ValueError: its `meta.json` names a sensor by something else than true or false.
    """

    kind = KIND
    tasks: tuple[Task, ...] = ()

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._root = array_root(self.path)
        files = sorted(self._root.iterdir(), key=lambda file: file.name)
        self._files = {file.name.removesuffix(".npz"): file for file in files if file.name.endswith(".npz")}
        self.sample_tokens = tuple(self._files)
        said = _meta_of(self._root)
        try:
            sensors = {name: value for name, value in said.items() if name.startswith("use_")}
            self.meta = PredictionMeta(sensors=sensors, model={"name": str(self.path)})
        except ValueError as error:
            raise ValueError(f"{self.path}/{META_FILE}: {error}") from error

    def read(self, *tasks: Task) -> Predicted:
        """The samples; nothing of any task.

        Raises:
            ValueError: a task is asked for.
        """
        if tasks:
            raise ValueError(f"{self.path} holds {self.kind}, not {', '.join(tasks)}")
        return Predicted(sample_tokens=self.sample_tokens)

    def parts(self, *tasks: Task) -> Iterator[Predicted]:
        """As `read`, in one part."""
        yield self.read(*tasks)

    def sequence(self, token: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Identities (5, 200, 200) of one sample, and its vehicle cells where the file has them.

        Raises:
            ValueError: the sample is missing, or its file is damaged or holds something else; names file and field.
        """
        if token not in self._files:
            raise ValueError(f"{self.path}: sample {token} is missing; where no vehicle is found, all cells are 0")
        try:
            with self._files[token].open("rb") as opened, np.load(opened) as archive:
                arrays = {name: archive[name] for name in (_IDENTITIES, _VEHICLES) if name in archive.files}
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise self._fault(token, _IDENTITIES, f"cannot be read, the file is damaged ({error})") from error
        if _IDENTITIES not in arrays:
            raise self._fault(token, _IDENTITIES, "is missing")
        identities, vehicles = arrays[_IDENTITIES], arrays.get(_VEHICLES)
        if identities.shape != _SHAPE or identities.dtype.kind not in "ui":
            what = f"is {identities.dtype} of shape {identities.shape}, not whole numbers of {_SHAPE}"
            raise self._fault(token, _IDENTITIES, what)
        if identities.min() < 0:
            raise self._fault(token, _IDENTITIES, f"has the identity {identities.min()}; vehicles count from 1")
        if vehicles is not None and (vehicles.shape != _SHAPE or vehicles.dtype != bool):
            raise self._fault(token, _VEHICLES, f"is {vehicles.dtype} of shape {vehicles.shape}, not bool of {_SHAPE}")
        return identities.astype(np.int64), vehicles

    def _fault(self, token: str, field: str, what: str) -> ValueError:
        return ValueError(f"{self.path}: sample {token} ({token}.npz): field '{field}' {what}")


def is_instances(path: str | Path) -> bool:
    """Whether a folder or zip says that it holds future instances."""
    try:
        return _meta_of(array_root(Path(path))).get("format") == INSTANCE_FORMAT
    except ValueError:
        return False


def count_folder(
    folder: InstanceFolder, row: str, index: DatasetIndex, split: str, sample_tokens: Sequence[str]
) -> InstanceStatistics:
    """Compare the sequences of those samples that the protocol asks for with what happened.

    Raises:
        ValueError: one of them is missing or not sound.
        DatasetError: a box of the data set is damaged.
    """
    asked = {index.sample_tokens[int(sample)] for sample in present_samples(index, split)}
    tokens = [token for token in sample_tokens if token in asked]
    return InstanceStatistics.of(((token, *folder.sequence(token)) for token in tokens), row, index, sample_tokens)


def write_instances(path: str | Path, sequences: Mapping[str, np.ndarray], sensors: Mapping[str, bool]) -> Path:
    """Write a folder of identities by sample token.

    Raises:
        ValueError: a sequence does not lie on `GRID`, or the folder exists.
    """
    path = Path(path)
    if path.exists():
        raise ValueError(f"{path} exists already: name a folder that does not")
    for token, identities in sequences.items():
        if identities.shape != _SHAPE:
            raise ValueError(f"sample {token}: identities of shape {identities.shape} must have {_SHAPE}")
    path.mkdir(parents=True)
    for token, identities in sequences.items():
        np.savez_compressed(path / f"{token}.npz", **{_IDENTITIES: identities})
    (path / META_FILE).write_text(json.dumps({"format": INSTANCE_FORMAT, **sensors}, indent=2))
    return path


def _meta_of(root: Any) -> dict[str, Any]:
    file = root / META_FILE
    try:
        said = json.loads(file.read_bytes()) if file.is_file() else {}
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
