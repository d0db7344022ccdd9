"""A trained model made ready to be scored: the frames that it reads, and one session for each choice of sensors."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from bevstack.build import (
    Config,
    LoadedModel,
    build_frames,
    build_labellers,
    instantiate,
    key_paths,
    load_model,
    override_keys,
)
from bevstack.data.available_labels import has_map, has_occupancy
from bevstack.data.class_names import CAMERA_NAMES
from bevstack.data.cued_frames import CuedFrames
from bevstack.data.images import ImageSize
from bevstack.data.index import open_index
from bevstack.data.labels import LabelledFrames, Labeller
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.data.occupancy import OccupancyFormat
from bevstack.engine import CueSource, Session
from bevstack.evaluation.modality import MODALITIES, Modality
from bevstack.evaluation.splits import choose_split
from bevstack.model import DrivingModel
from bevstack.perception.tracking.forecast import Forecaster
from bevstack.perception.tracking.tracker import Tracker
from bevstack.types.interfaces import Planner

_LABEL_KEYS = {"map": "labels.map", "occupancy": "input.occupancy"}
"""Where a configuration says which labels were learned from."""

VIEW_WIDTH_PX = 704
"""Width of the pictures in a report that no model asks a size for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledData:
    """Frames of a data set with what a model can be scored on."""

    frames: NuScenesFrames
    labellers: tuple[Labeller, ...]
    """What adds the labels that are drawn rather than read."""
    without_labels: dict[str, str]
    """"map" or "occupancy" -> why the data has no labels of it."""

    @property
    def labelled(self) -> LabelledFrames[NuScenesFrames]:
        """The frames with all labels."""
        return LabelledFrames(self.frames, self.labellers)


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
        """Frames of a data set as this model reads them; of the labels, only boxes.

        Raises:
            DatasetError: the data set is not usable, or version or split is not clear.
        """
        return self._frames(root, version, split, self._without("input.occupancy"))

    def labelled_data(self, root: str | Path, version: str | None, split: str | None) -> LabelledData:
        """Frames of a data set as this model reads them, with every label that it learned from and the data has.

        Raises:
            DatasetError: as `frames`.
        """
        index = open_index(root, version, progress=True)
        chosen = choose_split(index, split)
        learned = {task: self._value(key) for task, key in _LABEL_KEYS.items()}
        without = {
            task: f"the weights do not say of which kind their labels were ({_LABEL_KEYS[task]})"
            for task, value in learned.items()
            if value is None
        }
        if learned["occupancy"] is not None and not has_occupancy(index, chosen, learned["occupancy"]):
            without["occupancy"] = f"no {learned['occupancy']} labels of split '{chosen}' below {index.root}"
        if learned["map"] is not None and not has_map(index, chosen):
            without["map"] = f"no map of the locations of split '{chosen}' in {index.root / 'maps' / 'expansion'}"
        config = self._without(*(_LABEL_KEYS[task] for task in without))
        frames = self._frames(root, index.version, chosen, config)
        return LabelledData(frames=frames, labellers=build_labellers(config, frames), without_labels=without)

    def _value(self, key: str) -> Any:
        """What the configuration has under a path; None where it has no such key."""
        node: Any = self.config
        for name in key.split("."):
            node = None if node is None else node.get(name)
        return node

    def _without(self, *keys: str) -> Config:
        """The configuration with some keys null, where it has them."""
        known = key_paths(self.config)
        return override_keys(self.config, [f"{key}=null" for key in keys if key in known])

    def _frames(self, root: str | Path, version: str | None, split: str | None, config: Config) -> NuScenesFrames:
        index = open_index(root, version, progress=True)
        chosen = choose_split(index, split)
        frames = build_frames(config, "val", root=root, version=index.version, split=chosen)
        data = frames.source if isinstance(frames, CuedFrames) else frames
        if not isinstance(data, NuScenesFrames):
            raise ValueError(f"the official metrics need a data set in nuScenes format, not {type(data).__name__}")
        return cast(NuScenesFrames, frames)  # cued frames have everything that the data set has

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

    def session(
        self,
        device: str,
        tracker: Tracker | None = None,
        *,
        forecaster: Forecaster | None = None,
        planner: Planner | None = None,
        cues: CueSource = "cached",
        ego_status: bool = True,
    ) -> Session:
        """An engine for this model, with tracks, forecasts and plans where it is given what makes them."""
        return Session(
            self.model,
            device=device,
            camera_names=self.cameras,
            image_size=self.image_size,
            tracker=tracker,
            forecaster=forecaster,
            planner=planner,
            cues=cues,
            ego_status=ego_status,
        )


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Load weights and read what they need as input.

    Args:
        path: what `bevstack.build.load_model` accepts: a weights file, a checkpoint, a run folder, or `demo`.
    """
    return checkpoint_of(load_model(path), str(path))


def checkpoint_of(loaded: LoadedModel, name: str) -> Checkpoint:
    """A loaded model with what its configuration says about its input; `name` is for the record."""
    settings = instantiate(loaded.config, "input")
    model = loaded.model
    description = {key: value for key, value in loaded.metadata.items() if key not in ("config", "class_names")}
    return Checkpoint(
        model=model,  # type: ignore[arg-type]
        config=loaded.config,
        image_size=settings["image_size"],
        cameras=tuple(settings.get("cameras", CAMERA_NAMES)),
        num_sweeps=int(settings.get("num_sweeps", 10)),
        description={
            "name": name,
            "parameters": sum(p.numel() for p in model.parameters()),
            "weights_sha256": _sha256(model),
            **description,
        },
    )


def _sha256(model: torch.nn.Module) -> str:
    """Of names and values of all tensors: the same for the same weights, in whatever file they came."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def frames_to_view(
    root: str | Path, version: str | None, split: str | None, *, occupancy: OccupancyFormat | None = None
) -> NuScenesFrames:
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
        occupancy=occupancy,
        missing="mask",
    )


def choose_device(name: str | None, rank: int = 0) -> str:
    """The device asked for, else a GPU where there is one: processes on one machine share its GPUs out."""
    if name or not torch.cuda.is_available():
        return name or "cpu"
    return f"cuda:{rank % torch.cuda.device_count()}" if torch.cuda.device_count() > 1 else "cuda"


def _view_size(sizes: Any, rows: Sequence[int]) -> ImageSize:
    """Pictures of `VIEW_WIDTH_PX`, or of their own width where that is smaller, in their own proportions."""
    known = [(int(sizes[row, 0]), int(sizes[row, 1])) for row in rows if row >= 0 and sizes[row, 0] > 0]
    width, height = known[0] if known else (1600, 900)
    view_width = min(width, VIEW_WIDTH_PX)
    return ImageSize(height=round(height * view_width / width), width=view_width)
