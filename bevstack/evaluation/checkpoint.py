"""A trained model made ready to be scored: the frames that it reads, and one session for each choice of sensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bevstack.build import Config, build_frames, instantiate, load_model
from bevstack.data.class_names import CAMERA_NAMES
from bevstack.data.images import ImageSize
from bevstack.data.index import open_index
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.engine import Session
from bevstack.evaluation.modality import MODALITIES, Modality
from bevstack.evaluation.nuscenes_tables import choose_split
from bevstack.model import DrivingModel

VIEW_WIDTH_PX = 704
"""Width of the pictures in a report that no model asks a size for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model with the inputs that it was trained for."""

    model: DrivingModel
    config: Config
    image_size: ImageSize
    cameras: tuple[str, ...]
    num_sweeps: int
    description: dict[str, Any]
    """For the record: file, versions, training step, number of parameters."""

    def frames(self, root: str | Path, version: str | None, split: str | None) -> NuScenesFrames:
        """Frames of a data set as this model reads them.

        Raises:
            DatasetError: the data set is not usable, or version or split is not clear.
        """
        index = open_index(root, version, progress=True)
        chosen = choose_split(index, split)
        frames = build_frames(self.config, "val", root=root, version=index.version, split=chosen)
        if not isinstance(frames, NuScenesFrames):
            raise ValueError(f"the official metrics need a data set in nuScenes format, not {type(frames).__name__}")
        return frames

    def modalities(self, choice: str | None) -> tuple[Modality, ...]:
        """Rows to evaluate: all three for "all", else the one that is named, else what the model was made for.

        Raises:
            ValueError: the model lacks a sensor that the choice needs.
        """
        own: tuple[Modality, ...] = MODALITIES if self.cameras and self.num_sweeps else ("camera",)
        if not self.cameras:
            own = ("lidar",)
        if choice == "all":
            return own
        if choice is None:
            return own[:1]
        for modality in own:
            if modality == choice:
                return (modality,)
        raise ValueError(f"modality '{choice}' does not fit this model; it has: {', '.join(own)}")

    def session(self, device: str) -> Session:
        """An engine for this model."""
        return Session(self.model, device=device, camera_names=self.cameras, image_size=self.image_size)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Load weights and read what they need as input.

    Args:
        path: what `bevstack.build.load_model` accepts: a weights file, a checkpoint, a run folder, or `demo`.
    """
    loaded = load_model(path)
    settings = instantiate(loaded.config, "input")
    model = loaded.model
    description = {key: value for key, value in loaded.metadata.items() if key not in ("config", "class_names")}
    return Checkpoint(
        model=model,  # type: ignore[arg-type]
        config=loaded.config,
        image_size=settings["image_size"],
        cameras=tuple(settings.get("cameras", CAMERA_NAMES)),
        num_sweeps=int(settings.get("num_sweeps", 10)),
        description={"name": str(path), "parameters": sum(p.numel() for p in model.parameters()), **description},
    )


def frames_to_view(root: str | Path, version: str | None, split: str | None) -> NuScenesFrames:
    """Frames of a data set in a size fit for viewing, for scoring without a model: whole pictures, key sweep only."""
    index = open_index(root, version, progress=True)
    cameras = [name for name in CAMERA_NAMES if name in index.channels]
    size = _view_size(index["data_size"], [index.key_data_row(0, name) for name in cameras])
    return NuScenesFrames(
        root=root,
        version=index.version,
        split=choose_split(index, split),
        image_size=size,
        num_sweeps=1,
        cameras=cameras,
        missing="mask",
    )


def choose_device(name: str | None) -> str:
    """The device asked for, else the GPU where there is one."""
    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def _view_size(sizes: Any, rows: Sequence[int]) -> ImageSize:
    """Pictures of `VIEW_WIDTH_PX`, or of their own width where that is smaller, in their own proportions."""
    known = [(int(sizes[row, 0]), int(sizes[row, 1])) for row in rows if row >= 0 and sizes[row, 0] > 0]
    width, height = known[0] if known else (1600, 900)
    view_width = min(width, VIEW_WIDTH_PX)
    return ImageSize(height=round(height * view_width / width), width=view_width)
