"""Maps or occupancy as a folder (or a zip of it) with an array for each sample, `SAMPLE_TOKEN.npz`.

Occupancy is the submission of the Occ3D-nuScenes challenge (Tian et al., NeurIPS 2023): one unnamed array of classes,
uint8 (200, 200, 16), axes x, y, z in `ego`, 0 to 16 and 17 for free. On another grid the folder also has a `meta.json`:

    {"format": "bevstack-occupancy-1", "grid": {"x_range_m": [-51.2, 51.2], "y_range_m": [-51.2, 51.2],
     "z_range_m": [-3.2, 4.8], "voxel_m": 0.2}}

Maps have an array `probabilities`, float32 (6, Y, X), classes in the order of `classes`, and always a `meta.json`:

    {"format": "bevstack-map-1", "classes": ["drivable_area", "ped_crossing", "walkway", "stop_line", "carpark_area",
     "divider"], "grid": {"x_range_m": [-50, 50], "y_range_m": [-50, 50], "z_range_m": [-5, 3], "cell_m": 0.5}}

Row 0 of a map is to the right of the vehicle, column 0 behind it, in `ego`. `meta.json` may have the fields of official
submissions (`use_camera`, ...) too.
"""

import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.data.class_names import OCCUPANCY_CLASSES
from bevstack.data.maps import MAP_CLASSES
from bevstack.evaluation.predictions.predicted import Predicted, Task
from bevstack.evaluation.predictions.store import PredictionMeta
from bevstack.types.bev import OCC3D_GRID, BevGrid, VoxelGrid
from bevstack.types.scene import MapSegmentation, Occupancy

META_FILE = "meta.json"
MAP_FORMAT, OCCUPANCY_FORMAT = "bevstack-map-1", "bevstack-occupancy-1"
_ARRAY = "probabilities"
_KINDS: dict[Task, str] = {"map": "map folder", "occupancy": "Occ3D submission"}


class DenseFolder:
    """An open folder; arrays are read and checked one at a time.

    Args:
        path: The folder, or a zip of it.

    Raises:
        ValueError: it is neither kind of folder, or its `meta.json` is not as it should be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._root = array_root(self.path)
        self._files = {
            file.name.removesuffix(".npz"): file
            for file in sorted(self._root.iterdir(), key=lambda file: file.name)
            if file.name.endswith(".npz")
        }
        self.sample_tokens = tuple(self._files)
        said = self._read_meta()
        form = said.get("format", OCCUPANCY_FORMAT)
        if form not in (MAP_FORMAT, OCCUPANCY_FORMAT) or not (self._files or said):
            raise ValueError(
                f"{self.path} is no folder of predictions: it needs SAMPLE_TOKEN.npz files and, but for Occ3D "
                f"submissions, a {META_FILE} whose field 'format' is '{MAP_FORMAT}' or '{OCCUPANCY_FORMAT}'"
            )
        self.task: Task = "map" if form == MAP_FORMAT else "occupancy"
        self.tasks: tuple[Task, ...] = (self.task,)
        self.kind = _KINDS[self.task]
        self._grid = self._checked_grid(said)
        try:
            self.meta = PredictionMeta(
                sensors={name: value for name, value in said.items() if name.startswith("use_")},
                model={"name": str(self.path)},
            )
        except ValueError as error:
            raise ValueError(f"{self.path}/{META_FILE}: {error}") from error

    def read(self, *tasks: Task) -> Predicted:
        """All samples; large.

        Raises:
            ValueError: as `parts`.
        """
        return Predicted.concatenate(self.parts(*tasks))

    def parts(self, *tasks: Task) -> Iterator[Predicted]:
        """One sample after the other.

        Raises:
            ValueError: a file is damaged, of another shape, or holds what cannot be; the message names file and sample.
        """
        if any(task != self.task for task in tasks):
            raise ValueError(f"{self.path} holds {self.task}, not {', '.join(tasks)}")
        for token, file in self._files.items():
            with file.open("rb") as opened:
                array = self._array(token, opened)
            if self.task == "map":
                found: Any = {"map": (MapSegmentation(probabilities=self._map(token, array), grid=self._grid),)}
            else:
                found = {"occupancy": (Occupancy(semantics=self._semantics(token, array), grid=self._grid),)}
            yield Predicted(sample_tokens=(token,), **found)

    def _read_meta(self) -> dict[str, Any]:
        file = self._root / META_FILE
        if not file.is_file():
            return {}
        try:
            said = json.loads(file.read_bytes())
        except ValueError as error:
            raise ValueError(f"{self.path}/{META_FILE} is not JSON ({error})") from error
        if not isinstance(said, dict):
            raise ValueError(f"{self.path}/{META_FILE} is {said!r}; it must be an object with fields")
        return said

    def _checked_grid(self, said: dict[str, Any]) -> Any:
        if self.task == "map" and said.get("classes") != list(MAP_CLASSES):
            raise ValueError(f"{self.path}/{META_FILE}: field 'classes' is {said.get('classes')}, not {[*MAP_CLASSES]}")
        if self.task == "occupancy" and "grid" not in said:
            return OCC3D_GRID
        try:
            return (BevGrid if self.task == "map" else VoxelGrid)(**said["grid"])
        except (KeyError, TypeError, ValueError) as error:
            found = said.get("grid")
            raise ValueError(f"{self.path}/{META_FILE}: field 'grid' is {found}, which is no grid ({error})") from error

    def _array(self, token: str, opened: Any) -> np.ndarray:
        try:
            with np.load(opened) as archive:
                names = archive.files
                wanted = _ARRAY if self.task == "map" else names[0]
                return archive[wanted]
        except KeyError as error:
            raise self._fault(token, _ARRAY, f"is missing; the file has {', '.join(names)}") from error
        except (OSError, EOFError, ValueError, IndexError, zipfile.BadZipFile, zlib.error) as error:
            field = _ARRAY if self.task == "map" else "occupancy"
            raise self._fault(token, field, f"cannot be read, the file is damaged ({error})") from error

    def _map(self, token: str, array: np.ndarray) -> np.ndarray:
        shape = (len(MAP_CLASSES), *self._grid.shape_yx)
        if array.shape != shape or array.dtype.kind != "f":
            raise self._fault(token, _ARRAY, f"is {array.dtype} of shape {array.shape}, not float of {shape}")
        if not (array.min() >= 0 and array.max() <= 1):
            raise self._fault(token, _ARRAY, f"runs from {array.min()} to {array.max()}, not within 0 to 1")
        return array.astype(np.float32, copy=False)

    def _semantics(self, token: str, array: np.ndarray) -> np.ndarray:
        if array.shape != self._grid.shape_xyz or array.dtype.kind not in "ui":
            allowed = f"not classes of {self._grid.shape_xyz}"
            raise self._fault(token, "occupancy", f"is {array.dtype} of shape {array.shape}, {allowed}")
        last = len(OCCUPANCY_CLASSES) - 1
        if array.min() < 0 or array.max() > last:
            raise self._fault(token, "occupancy", f"has classes {array.min()} to {array.max()}, not within 0 to {last}")
        return array.astype(np.uint8, copy=False)

    def _fault(self, token: str, field: str, what: str) -> ValueError:
        return ValueError(f"{self.path}: sample {token} ({token}.npz): field '{field}' {what}")


def write_dense_folder(path: str | Path, task: Task, parts: Iterable[Predicted], meta: PredictionMeta) -> Path:
    """Write a folder, complete or not at all; one sample is in memory at a time if `parts` brings one.

    Raises:
        ValueError: something is at `path` already, or a part lacks the task.
    """
    path = Path(path)
    if path.exists():
        raise ValueError(f"{path} exists already: name a folder that does not")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    grid: Any = None
    try:
        for part in parts:
            found: Sequence[Any] | None = getattr(part, task)
            if found is None:
                raise ValueError(f"sample {part.sample_tokens[0]} has no field '{task}'")
            for token, each in zip(part.sample_tokens, found, strict=True):
                grid = each.grid
                if task == "map":
                    np.savez_compressed(fresh / f"{token}.npz", **{_ARRAY: each.probabilities})
                else:
                    np.savez_compressed(fresh / f"{token}.npz", each.semantics)
        if task == "map" or grid != OCC3D_GRID:
            form = MAP_FORMAT if task == "map" else OCCUPANCY_FORMAT
            classes = {"classes": list(MAP_CLASSES)} if task == "map" else {}
            said = {"format": form, **classes, "grid": asdict(grid) if grid else None, **meta.sensors}
            (fresh / META_FILE).write_text(json.dumps(said, indent=2))
        fresh.chmod(0o755)
        fresh.rename(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return path


def array_root(path: Path) -> Any:
    """The folder with the arrays: the one given, or the only one inside it. A `zipfile.Path` where it is a zip."""
    try:
        root: Any = path if path.is_dir() else zipfile.Path(path)
        inside = list(root.iterdir())
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is neither a folder nor a whole zip file ({error})") from error
    folders = [each for each in inside if each.is_dir()]
    has_files = any(each.name.endswith(".npz") or each.name == META_FILE for each in inside)
    return folders[0] if len(folders) == 1 and not has_files else root
