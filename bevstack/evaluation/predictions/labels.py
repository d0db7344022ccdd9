"""Labels to score a file of predictions with: those that its model learned from, or those of the grids in the file."""

from pathlib import Path
from typing import Any

import yaml

from bevstack.data.available_labels import has_map, has_occupancy
from bevstack.data.index import open_index
from bevstack.data.labels import Labeller
from bevstack.data.map_labels import MapLabeller
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.data.occupancy import OccupancyFormat
from bevstack.evaluation.checkpoint import LabelledData, frames_to_view
from bevstack.evaluation.predictions.files import PredictionFile
from bevstack.evaluation.predictions.predicted import Task
from bevstack.types.bev import OCC3D_GRID, OPENOCCUPANCY_GRID, BevGrid, VoxelGrid

_FORMAT_OF_GRID: dict[VoxelGrid, OccupancyFormat] = {OCC3D_GRID: "occ3d", OPENOCCUPANCY_GRID: "openoccupancy"}


def data_to_score(file: PredictionFile, root: str | Path, version: str | None, split: str | None) -> LabelledData:
    """Frames of a data set with the labels that a file is scored with.

    Args:
        file: The open file.
        root: Folder of the data set.
        version: Version folder; may be left out where there is only one.
        split: Split; by default the one that the file was made on, if the data set has it.

    Raises:
        DatasetError: the data set is not usable, or version or split is not clear.
    """
    index = open_index(root, version, progress=True)
    made_on = file.meta.data.get("split")
    frames = frames_to_view(root, index.version, split or (made_on if made_on in index.splits() else None))
    grids = _grids(file)
    without: dict[str, str] = {}
    labellers: tuple[Labeller, ...] = ()
    occupancy = _FORMAT_OF_GRID.get(grids["occupancy"]) if "occupancy" in grids else None
    if "occupancy" in grids and occupancy is None:
        without["occupancy"] = f"no labels lie on the grid of {file.path}, {grids['occupancy']}"
    elif occupancy is not None and not has_occupancy(frames.index, frames.split, occupancy):
        without["occupancy"] = f"no {occupancy} labels of split '{frames.split}' below {frames.root}"
    if "map" in grids and not has_map(frames.index, frames.split):
        folder = frames.root / "maps" / "expansion"
        without["map"] = f"no map of the locations of split '{frames.split}' in {folder}"
    elif "map" in grids:
        labellers = _map_labellers(file, frames, grids["map"])
    if occupancy is not None and "occupancy" not in without:
        frames = frames_to_view(root, frames.index.version, frames.split, occupancy=occupancy)
    return LabelledData(frames=frames, labellers=labellers, without_labels=without)


def label_frames(data: LabelledData) -> NuScenesFrames:
    """The frames of a data set with their labels alone: no picture or point is read."""
    return NuScenesFrames(
        root=data.frames.root,
        version=data.frames.index.version,
        split=data.frames.split,
        image_size=data.frames.image_size,
        num_sweeps=0,
        cameras=(),
        occupancy=data.frames.occupancy,
        missing="error",
    )


def _grids(file: PredictionFile) -> dict[Task, Any]:
    """Grids of maps and occupancy, from the first sample."""
    tasks: list[Task] = [task for task in ("map", "occupancy") if task in file.tasks]
    first = next(iter(file.parts(*tasks)), None) if tasks else None
    found = {task: getattr(first, task) for task in tasks if first is not None}
    return {task: grids[0].grid for task, grids in found.items() if grids}


def _map_labellers(file: PredictionFile, frames: NuScenesFrames, grid: BevGrid) -> tuple[Labeller, ...]:
    """Masks on the grid of the file, drawn as its model's configuration says.

    Only plain words are taken from the configuration: a file of somebody else must not choose what is run.
    """
    try:
        said = yaml.safe_load(file.meta.config) or {}
        drawn = (said.get("labels") or {}).get("map") or {}
        options = {name: str(drawn[name]) for name in ("method", "compat") if name in drawn}
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise ValueError(f"{file.path}: meta field 'config' is no configuration ({error})") from error
    return (MapLabeller(root=frames.root, grid=grid, **options),)  # type: ignore[arg-type]
