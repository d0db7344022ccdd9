"""The four ways to the model - training, evaluation, export, runtime - walked with the probe, each by its own code.

train    configuration -> `build_frames` and `build_loader`, augmentations left out (they are declared, see below)
eval     weights file -> `Checkpoint.labelled_data` and `Checkpoint.session`, and boxes written as a submission
export   configuration text inside the weights file -> the parts rebuilt from it, batches in validation order
runtime  weights file -> frames without annotations -> `Session.step`, whose batch is caught before the model
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from bevstack.build import (
    Config,
    LoadedModel,
    build_frames,
    build_loader,
    instantiate,
    key_paths,
    override_keys,
    portable_yaml,
    without_pretrained,
)
from bevstack.data.augment import Augmentation
from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.collate import collate
from bevstack.evaluation.checkpoint import Checkpoint, checkpoint_of
from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.evaluation.modality import restrict
from bevstack.geometry.boxes import transform_boxes
from bevstack.geometry.transforms import from_quaternion, rigid_inverse, yaw_of
from bevstack.lint import probe
from bevstack.lint.card import AllowedDifference, Fact, PreprocessingCard
from bevstack.lint.measure_boxes import class_order, measure_boxes
from bevstack.lint.measure_cameras import measure_cameras
from bevstack.lint.measure_lidar import measure_lidar
from bevstack.lint.measure_model import measure_backbone, measure_grids
from bevstack.types.batch import Batch, Labels
from bevstack.types.boxes import Boxes3D
from bevstack.types.frame import Frame
from bevstack.types.scene import Detections, SceneEstimate
from bevstack.weights_file import describe

_TOUCHES = {
    "ImageAugmentation": ("crop", "normalisation"),
    "WorldAugmentation": ("axes", "yaw", "ranges", "ego_motion"),
    "SensorDropout": ("sweeps", "camera_order"),
    "ObjectPaste": ("sweeps",),
}
"""What the augmentations of the package change on purpose."""

_READ_ELSEWHERE = ("labels", "input.occupancy")
"""Labels with files of their own, which the probe has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a weights file says to those who run it."""

    config: Config
    class_names: tuple[str, ...]

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "Deployed":
        """Of the metadata of a weights file.

        Raises:
            ValueError: its configuration is not a mapping.
        """
        config = OmegaConf.create(metadata["config"])
        if not isinstance(config, DictConfig):
            raise ValueError("the configuration inside the weights is not a mapping; were they written by bevstack?")
        names = json.loads(metadata.get("class_names", json.dumps(DETECTION_CLASSES)))
        return cls(config=config, class_names=tuple(names))

    @classmethod
    def from_config(cls, config: Config) -> "Deployed":
        """What would be written to a weights file by a run of this configuration."""
        return cls.from_metadata(describe(portable_yaml(config), step=0, data_hash=""))


class _Catcher(nn.Module):
    """Stands in for a model and keeps the batch that it is given."""

    language = None

    def __init__(self) -> None:
        super().__init__()
        self.batch: Batch | None = None

    def step(self, batch: Batch, memory: Any = None) -> tuple[dict[str, Any], Any]:
        """Keep the batch."""
        self.batch = batch
        return {}, memory

    def decode(self, outputs: Mapping[str, Any], batch: Batch) -> list[SceneEstimate]:
        """Nothing was seen."""
        return [SceneEstimate(token=t, timestamp_us=int(us)) for t, us in zip(batch.tokens, batch.timestamps_us)]


def cards_of(config: Config, deployed: Deployed, root: Path) -> tuple[PreprocessingCard, ...]:
    """The cards of all four paths.

    Args:
        config: what training uses.
        deployed: what everything after training uses.
        root: the probe data set.

    Raises:
        ValueError: a configuration cannot be built.
    """
    trained, shipped = _probed(config), _probed(deployed.config)
    model = _model_facts(trained)
    shipped_model = model if _parts(trained) == _parts(shipped) else _model_facts(shipped)
    checkpoint = checkpoint_of(LoadedModel(model=_Catcher(), config=shipped, metadata={}), "probe")  # type: ignore[arg-type]
    return (
        _card("train", *_loaded(_without_augmentation(trained), "train", root), model, DETECTION_CLASSES),
        _evaluation_card(checkpoint, shipped_model, deployed.class_names, root),
        _card("export", _loaded(shipped, "val", root)[0], None, shipped_model, deployed.class_names),
        _card("runtime", _stepped(checkpoint, shipped, root), None, shipped_model, deployed.class_names),
    )


def allowed_differences(config: Config) -> tuple[AllowedDifference, ...]:
    """What training does on purpose and the other paths do not, by the names of the configuration."""
    found = []
    parts: Any = OmegaConf.to_container(OmegaConf.create(config.get("augment") or {}), resolve=True)
    for name, part in parts.items():
        if part is None:
            continue
        settings = ", ".join(f"{key}={value}" for key, value in part.items() if key not in ("_target_", "_partial_"))
        kind = str(part.get("_target_", "?")).rpartition(".")[2]
        found.append(
            AllowedDifference(
                name=f"augment.{name}", path="train", detail=f"{kind}({settings})", touches=_TOUCHES.get(kind, ())
            )
        )
    if config.data.get("class_balanced"):
        found.append(
            AllowedDifference(
                name="data.class_balanced", path="train", detail="every class is drawn equally often", touches=()
            )
        )
    return tuple(found)


def augmentations_of(config: Config) -> dict[str, Augmentation]:
    """Those of training that can be made without files of their own; a paste without its database is left out."""
    parts: Any = OmegaConf.to_container(OmegaConf.create(config.get("augment") or {}), resolve=True)
    return {
        f"augment.{name}": instantiate(config, f"augment.{name}")
        for name, part in parts.items()
        if part is not None and "database" not in part
    }


def training_frame(config: Config, root: Path) -> Frame:
    """The probe's frame as training reads it, before augmentation."""
    frames = build_frames(_probed(config), "train", root=root, version=probe.VERSION, split=probe.SPLIT)
    return frames[len(frames) - 1]


# -- the four paths ---------------------------------------------------------------------------------------------------
def _loaded(config: Config, part: Any, root: Path) -> tuple[Batch, Labels | None]:
    frames = build_frames(config, part, root=root, version=probe.VERSION, split=probe.SPLIT)
    for batch, labels in build_loader(config, frames, part, batch_size=1):
        if int(batch.timestamps_us[0]) == probe.REFERENCE_US:
            return batch, labels
    raise ValueError(f"the frames of {config.data.frames._target_} do not have the probe's reference time")


def _stepped(checkpoint: Checkpoint, config: Config, root: Path) -> Batch:
    frames = build_frames(config, "val", root=root, version=probe.VERSION, split=probe.SPLIT, with_annotations=False)
    return _caught(checkpoint, frames[len(frames) - 1])


def _evaluation_card(
    checkpoint: Checkpoint, model: Mapping[str, Fact | None], class_names: Sequence[str], root: Path
) -> PreprocessingCard:
    frames = checkpoint.labelled_data(root, probe.VERSION, probe.SPLIT).labelled
    frame = frames[len(frames) - 1]
    batch = _caught(checkpoint, restrict(frame, checkpoint.modalities(None)[0]))
    _, labels = collate([frame], checkpoint.cameras, checkpoint.image_size)
    card = _card("eval", batch, labels, model, class_names)
    written = _written()
    facts = {name: _both(card.facts[name], written.get(name)) for name in card.facts}
    facts["axes"] = _both(card.facts["axes"], written["axes_boxes"])
    return PreprocessingCard(path="eval", facts=facts)


def _both(read: Fact | None, written: Fact | None) -> Fact | None:
    """A fact of the labels; where submissions are written in another way, both ways."""
    if read is None or written is None:
        return read
    return {
        aspect: value
        if written.get(aspect, value) == value
        else f"{value} as read, {written[aspect]} as written to submissions"
        for aspect, value in read.items()
    }


def _caught(checkpoint: Checkpoint, frame: Frame) -> Batch:
    session = checkpoint.session("cpu")
    session.step(frame)
    batch = session.model.batch
    assert isinstance(batch, Batch)
    return batch


def _written() -> Mapping[str, Fact | None]:
    """The probe's boxes as predictions, written to the submission format and read back by its own definition."""
    rows = np.zeros((len(DETECTION_CLASSES), 9))
    rows[:, :7] = list(probe.boxes_ego().values())
    classes = np.arange(len(rows))
    detections = Detections(
        boxes=Boxes3D(rows=rows.astype(np.float32), class_index=classes),
        scores=np.linspace(0.9, 0.5, len(rows)).astype(np.float32),
        attribute_index=np.full(len(rows), -1),
    )
    T_global_ego = probe.T_global_ego_at(0.0)
    records = to_records("probe", detections, T_global_ego)
    read = np.zeros((len(records), 9))
    for row, record in zip(read, records, strict=True):
        width, length, height = record["size"]
        heading = yaw_of(from_quaternion(np.array(record["rotation"], np.float64), np.zeros(3)))
        row[:7] = (*record["translation"], length, width, height, heading)
    names = [record["detection_name"] for record in records]
    return measure_boxes(
        transform_boxes(rigid_inverse(T_global_ego), read), np.array([DETECTION_CLASSES.index(name) for name in names])
    )


# -- from a batch to a card -------------------------------------------------------------------------------------------
def _card(
    path: str, batch: Batch, labels: Labels | None, model: Mapping[str, Fact | None], class_names: Sequence[str]
) -> PreprocessingCard:
    lidar, cameras = measure_lidar(batch), measure_cameras(batch)
    boxes: dict[str, Fact | None] = {"class_order": class_order(class_names)}
    if labels is not None:
        rows, classes = labels.boxes_ego[0].numpy(), labels.class_index[0].numpy()
        boxes = measure_boxes(rows.astype(np.float64), classes, class_names)
    facts: dict[str, Fact | None] = {
        "sweeps": lidar["sweeps"],
        "sweep_time_sign": lidar["sweep_time_sign"],
        "ego_motion": _joined(lidar["ego_motion_lidar"], cameras["ego"]),
        "axes": _joined(lidar["axes_points"], boxes.get("axes_boxes"), cameras["axes"]),
        "yaw": boxes.get("yaw"),
        "box_layout": boxes.get("box_layout"),
        "ranges": _joined(model["grids"], lidar["extent"]),
        "class_order": boxes.get("class_order"),
        "image_size": cameras["image_size"],
        "crop": cameras["crop"],
        "channel_order": cameras["channel_order"],
        "normalisation": _joined(model["normalisation"] if cameras["image_size"] else None, lidar["intensity"]),
        "camera_order": cameras["camera_order"],
    }
    return PreprocessingCard(path=path, facts=facts)


def _joined(*facts: Fact | None) -> Fact | None:
    present = [fact for fact in facts if fact is not None]
    return {aspect: value for fact in present for aspect, value in fact.items()} if present else None


def _model_facts(config: Config) -> dict[str, Fact | None]:
    """Of the encoders as they are built, and of the heads as they would be: no weights are loaded."""
    bare = without_pretrained(config)
    with torch.random.fork_rng(devices=[]):
        encoders = instantiate(bare, "model.encoders")
    backbones = [encoder.backbone for encoder in encoders.values() if hasattr(encoder, "backbone")]
    return {
        "normalisation": measure_backbone(backbones[0]) if backbones else None,
        "grids": measure_grids({"encoders": encoders, "heads": instantiate(bare, "model.heads")}),
    }


def _parts(config: Config) -> Any:
    return OmegaConf.to_container(config.model, resolve=True)


def _probed(config: Config) -> Config:
    """The configuration with what the probe has no labels for left out."""
    known = key_paths(config)
    return override_keys(config, [f"{key}=null" for key in _READ_ELSEWHERE if key in known])


def _without_augmentation(config: Config) -> Config:
    known = key_paths(config)
    names = [f"augment.{name}=null" for name in map(str, config.get("augment") or {})]
    balanced = ["data.class_balanced=false"] if "data.class_balanced" in known else []
    return override_keys(config, [*names, *balanced])
