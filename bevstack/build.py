"""The one place where Hydra configuration becomes objects, and where models are saved and loaded with it.

Below this file there are only objects; above it only names of experiments and overrides. A part that is set to `null`
is dropped here and nowhere else.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import hydra.utils
import numpy as np
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

import bevstack
from bevstack.data.class_names import CAMERA_NAMES, DETECTION_CLASSES
from bevstack.data.cue_cache import find_cue_cache
from bevstack.data.cued_frames import CuedFrames
from bevstack.data.labels import LabelledFrames, Labeller
from bevstack.data.loader import FrameLoader, classes_of_frames, make_loader
from bevstack.model import DrivingModel
from bevstack.types import FrameSource
from bevstack.types.errors import did_you_mean
from bevstack.weights_file import describe, read_weights, write_weights

CONFIG_FOLDER = Path(__file__).parent / "configs"
Config = DictConfig
"""A composed configuration, under a name for those who hand it on without reading it."""

Part = Literal["train", "val"]
_MARKS = ("_target_", "_partial_")
_TENSOR_FILES = (".npz", ".safetensors", ".pt", ".pth", ".ckpt")

# ---------------------------------------------------------------- configuration


def experiment_names() -> tuple[str, ...]:
    """Every experiment that ships with the package."""
    return tuple(sorted(path.stem for path in (CONFIG_FOLDER / "experiment").glob("*.yaml")))


def compose(overrides: Sequence[str] = (), *, config_name: str = "train") -> DictConfig:
    """Compose the configuration as the command line does.

    Args:
        overrides: Hydra overrides, `experiment=NAME` first of all, then `key.path=value`.
        config_name: the root file in `configs/`.

    Raises:
        ValueError: an override names no experiment, group or key; one line with the nearest valid ones.
    """
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("bevstack.configs", version_base="1.3"):
        try:
            config = hydra.compose(config_name, overrides=list(overrides))
            OmegaConf.to_container(config, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(_explanation(error, overrides, config_name)) from error
    return config


def override_keys(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A copy of a stored configuration with `key.path=value` overrides, for example of a run that is resumed.

    Raises:
        ValueError: a key is not in the configuration; one line with the nearest valid ones.
    """
    changed = config.copy()
    known = key_paths(config)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or key not in known:
            raise ValueError(f"there is no key '{key}' in the stored configuration{did_you_mean(key, known)}")
        OmegaConf.update(changed, key, OmegaConf.from_dotlist([f"value={value}"])["value"])
    return changed


def key_paths(config: DictConfig) -> tuple[str, ...]:
    """Every `a.b.c` path of a configuration, branches included."""
    found: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        if isinstance(node, DictConfig):
            for key in map(str, node):
                found.append(f"{prefix}{key}")
                if not OmegaConf.is_missing(node, key):
                    walk(node._get_node(key), f"{prefix}{key}.")

    walk(config, "")
    return tuple(found)


def config_yaml(config: DictConfig) -> str:
    """The resolved configuration as YAML text; a value that is still missing stays `???`."""
    return OmegaConf.to_yaml(config, resolve=True)


def _explanation(error: Exception, overrides: Sequence[str], config_name: str) -> str:
    """One line that says which override is wrong and what it might have been."""
    text = str(error)
    names = ", ".join(experiment_names())
    if "You must specify 'experiment'" in text:
        similar = [key for key in (item.partition("=")[0] for item in overrides) if did_you_mean(key, ["experiment"])]
        typo = f" ('{similar[0]}' is no key)" if similar else ""
        return f"choose an experiment{typo}: experiment=NAME with NAME one of {names}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = sorted(map(str, error.options or ()))
        return f"{group} has no '{choice}'{did_you_mean(choice, options)}; there are: {', '.join(options)}"
    wrong = _failing_override(overrides, config_name) if isinstance(error, ConfigCompositionException) else None
    if wrong is not None:
        known = _known_keys(overrides, config_name)
        return f"there is no key '{wrong}'{did_you_mean(wrong, known)}; keys look like trainer.max_epochs=10"
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' is not key=value; examples: trainer.max_epochs=10  model.encoders.camera=null"
    return " ".join(text.split())


def _failing_override(overrides: Sequence[str], config_name: str) -> str | None:
    """The key of the first override that does not compose after those before it; None where all do."""
    accepted: list[str] = [text for text in overrides if text.startswith("experiment=")]
    for override in overrides:
        if override in accepted:
            continue
        try:
            hydra.compose(config_name, overrides=[*accepted, override])
        except HydraException:
            return override.lstrip("+~").partition("=")[0]
        accepted.append(override)
    return None


def _known_keys(overrides: Sequence[str], config_name: str) -> list[str]:
    """Keys and config groups of the configuration that the experiment alone gives."""
    experiment = [text for text in overrides if text.startswith("experiment=")]
    groups = [path.name for path in CONFIG_FOLDER.iterdir() if path.is_dir() and not path.name.startswith("_")]
    return [*groups, *key_paths(hydra.compose(config_name, overrides=experiment))] if experiment else groups


# ---------------------------------------------------------------- objects


def instantiate(config: DictConfig, key: str, **more: Any) -> Any:
    """Build what `config.key` describes: a `_target_` is called with its other entries, innermost first.

    As Hydra's own, with `_partial_: true` for parts that still lack an argument, but: lists become tuples, which shared
    facts need to be immutable; entries that are `null` are left out of plain dictionaries of parts; and an error names
    the full key.

    Raises:
        ValueError: a value is missing or refused.
        DatasetError: raised unchanged by a data set that is not usable.
    """
    try:
        node = OmegaConf.to_container(OmegaConf.select(config, key), resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"config key {getattr(error, 'full_key', None) or key}: {reason}") from error
    return _built(node, key, more)


def _built(node: Any, key: str, more: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return tuple(_built(item, f"{key}[{index}]", {}) for index, item in enumerate(node))
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {name: _built(item, f"{key}.{name}", {}) for name, item in node.items() if item is not None}
    arguments = {name: _built(item, f"{key}.{name}", {}) for name, item in node.items() if name not in _MARKS}
    try:
        target = hydra.utils.get_object(node["_target_"])
        if node.get("_partial_"):
            return functools.partial(target, **arguments, **more)
        return target(**arguments, **more)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"config key {key}: {' '.join(str(error).split())}") from error


def build_model(config: DictConfig, *, pretrained: bool = True) -> DrivingModel:
    """The model that `config.model` describes, freshly initialised.

    Args:
        config: a composed or stored configuration.
        pretrained: False leaves out weights that a part would load by itself (`weights: imagenet`), for a model that
            gets all its tensors from a file afterwards.
    """
    return instantiate(config if pretrained else without_pretrained(config), "model")


def without_pretrained(config: DictConfig) -> DictConfig:
    """A copy in which no part of the model loads weights by itself."""
    config = config.copy()
    for key in _weights_keys(config):
        OmegaConf.update(config, key, None)
    return config


def _weights_keys(config: DictConfig) -> list[str]:
    """Where a part of the model says what it loads by itself."""
    return [key for key in key_paths(config) if key.startswith("model.") and key.endswith(".weights")]


def build_frames(
    config: DictConfig,
    part: Part = "val",
    *,
    root: str | Path | None = None,
    version: str | None = None,
    split: str | None = None,
    with_annotations: bool = True,
    labelled: bool = False,
) -> FrameSource:
    """The frames of one part of the configured data, or of another data set as this model needs them.

    Args:
        config: a composed configuration; `input` says what the model reads (image size, sweeps, cameras), `data.cues`
            which cues come with it.
        part: which half of `config.data` to use.
        root: folder of another data set in place of `config.data`'s, with its own `version` and `split`.
        version: version folder such as `v1.0-mini`.
        split: split name such as `mini_val`.
        with_annotations: False leaves ground truth out.
        labelled: True adds the labels of `config.labels` too, for evaluation: the frames then come as `LabelledFrames`,
            with the data set itself as its `source`. A loader labels by itself, after augmentation.

    Raises:
        ValueError: no root is configured, or the cues carry answers of this split. DatasetError: the data set is not
            usable.
    """
    if root is None:
        root, own_version, own_split = data_location(config, part)
        version, split = version or own_version, split or own_split
    frames = instantiate(
        config,
        "data.frames",
        root=Path(root),
        version=version,
        split=split,
        with_annotations=with_annotations,
        **instantiate(config, "input"),
    )
    cues = config.data.get("cues")
    if cues is not None and cues.name is not None:
        cache = find_cue_cache(root, cues.name)
        frames = CuedFrames(frames, cache, age_s=float(cues.age_s), wrong_seed=cues.wrong_seed)
    return LabelledFrames(frames, build_labellers(config, frames)) if labelled else frames


def build_labellers(config: DictConfig, source: FrameSource) -> tuple[Labeller, ...]:
    """What `config.labels` describes, for the frames of this source; nothing where there is no such group.

    Raises:
        ValueError: the source is no data set with a folder, in which the labellers look.
    """
    if OmegaConf.select(config, "labels") is None:
        return ()
    parts = instantiate(config, "labels").values()
    root = getattr(source, "root", None)
    if parts and root is None:
        raise ValueError(f"labels need frames from a data set with a folder (root), {type(source).__name__} has none")
    return tuple(part(root=root, missing=getattr(source, "missing", "error")) for part in parts)


def build_loader(
    config: DictConfig,
    source: FrameSource,
    part: Part = "val",
    *,
    batch_size: int,
    num_workers: int = 0,
    num_replicas: int | None = None,
    rank: int | None = None,
    pin_memory: bool = False,
) -> FrameLoader:
    """Batches of frames from `build_frames`, labelled; for training shuffled, augmented, and full batches only.

    Args:
        config: `augment`, `labels`, `seed`, `input` and `data` are read.
        source: the frames.
        part: "val" gives every frame once, in order, as it is.
        batch_size: frames a batch of this process.
        num_workers: loading processes.
        num_replicas: training processes that share the frames; None asks torch.distributed. `rank` likewise.
        rank: this process among them.
        pin_memory: for copies to a GPU.

    Raises:
        ValueError: a model with a memory would be trained without a past.
    """
    is_training = part == "train"
    num_history = int(config.data.get("num_history", 0))
    if is_training and num_history == 0 and OmegaConf.select(config, "model.memory") is not None:
        raise ValueError(
            "model.memory would be trained on frames without a past: set data.num_history=3 (or whatever the memory "
            "keeps), or leave it out with model.memory=null"
        )
    settings = instantiate(config, "input")
    return make_loader(
        source,
        batch_size=batch_size,
        augmentations=tuple(instantiate(config, "augment").values()) if is_training else (),
        labellers=build_labellers(config, source),
        shuffle=is_training,
        seed=int(config.seed),
        num_workers=num_workers,
        image_size=settings["image_size"],
        camera_names=tuple(settings.get("cameras", CAMERA_NAMES)),
        frame_classes=_frame_classes(source) if is_training and config.data.get("class_balanced") else None,
        num_history=num_history,
        history_step=int(config.data.get("history_step", 1)),
        num_replicas=num_replicas,
        rank=rank,
        drop_last=is_training,
        pin_memory=pin_memory,
    )


def _frame_classes(source: FrameSource) -> list[tuple[int, ...]]:
    """Classes in each frame; from the tables alone where the source can, which is a thousand times faster."""
    annotations = getattr(source, "annotations", None)
    if annotations is None:
        return classes_of_frames(source)
    return [tuple(np.unique(annotations(index).boxes.class_index).tolist()) for index in range(len(source))]


def data_location(config: DictConfig, part: Part) -> tuple[str, str, str]:
    """(root, version, split) of one part of the configured data; validation without a root of its own shares one.

    Raises:
        ValueError: the root is not set.
    """
    data = config.data
    shares_root = not OmegaConf.is_missing(data, "val_root") and data.val_root is None
    key = "root" if part == "train" or shares_root else "val_root"
    if OmegaConf.is_missing(data, key) or not data[key]:
        raise ValueError(f"data.{key} is not set: give the folder of the data set, data.{key}=FOLDER")
    return str(data[key]), str(data["version" if part == "train" else "val_version"]), str(data[f"{part}_split"])


# ---------------------------------------------------------------- weights


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in evaluation mode with the configuration that it was trained with."""

    model: DrivingModel
    config: DictConfig
    metadata: dict[str, str]
    """What the file says about itself: versions, commit, data hash, training step, class names."""


def save_weights(
    path: str | Path,
    model: nn.Module,
    config: DictConfig,
    *,
    step: int = 0,
    data_hash: str = "",
    half: bool = False,
) -> Path:
    """Write a model and its configuration to one safetensors file, complete or not at all.

    Args:
        path: the file; an older one is replaced only when the new one is complete.
        model: its state dict is stored.
        config: stored as YAML text, without folders that exist on one machine only.
        step: optimizer steps taken.
        data_hash: identity of the training data.
        half: store floating point tensors as float16 (half the size; loading restores float32).
    """
    metadata = describe(portable_yaml(config), step=step, data_hash=data_hash)
    return write_weights(path, model.state_dict(), metadata, half=half)


def load_model(path: str | Path) -> LoadedModel:
    """Build the model of a weights file from the configuration inside it and fill every tensor.

    Args:
        path: a `.safetensors` file, a `.ckpt` checkpoint (its averaged weights), a run folder, or `demo` for the
            weights that ship with the package.

    Raises:
        ValueError: the file is of another kind, or its tensors are not exactly those of the model.
        FileNotFoundError: there is no such file.
    """
    file, tensors, metadata = read_weights(path)
    config = OmegaConf.create(metadata["config"])
    if not isinstance(config, DictConfig):
        raise ValueError(f"{file}: the configuration inside is not a mapping; was it written by bevstack?")
    model = build_model(config, pretrained=False)
    own = model.state_dict()
    wrong = [
        f"missing {_some(set(own) - set(tensors))}" if set(own) - set(tensors) else "",
        f"unexpected {_some(set(tensors) - set(own))}" if set(tensors) - set(own) else "",
        *(f"{k} is {tuple(tensors[k].shape)} instead of {tuple(own[k].shape)}" for k in own
          if k in tensors and tensors[k].shape != own[k].shape),
    ]  # fmt: skip
    if any(wrong):
        raise ValueError(
            f"{file} does not fit its own configuration: {'; '.join(filter(None, wrong))}; it was written by bevstack "
            f"{metadata.get('bevstack_version', '?')}, this is {bevstack.__version__}"
        )
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()}, strict=True)
    names = json.loads(metadata.get("class_names", json.dumps(DETECTION_CLASSES)))
    if tuple(names) != DETECTION_CLASSES:
        raise ValueError(f"{file} was trained for the classes {names}, not for {list(DETECTION_CLASSES)}")
    return LoadedModel(model=model.eval(), config=config, metadata=metadata)


def portable_yaml(config: DictConfig) -> str:
    """The resolved configuration as text, without folders that exist on one machine only."""
    portable = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(portable, DictConfig)
    for key in ("root", "val_root"):
        if "data" in portable and key in portable.data:
            portable.data[key] = "???"
    for key in ("run_root", "resume", "init_from"):
        portable.pop(key, None)
    for key in _weights_keys(portable):
        if Path(str(OmegaConf.select(portable, key))).suffix in _TENSOR_FILES:
            OmegaConf.update(portable, key, None)  # what was read from it is among the model's own tensors
    return OmegaConf.to_yaml(portable)


def _some(names: Iterable[str], count: int = 4) -> str:
    chosen = sorted(names)
    return ", ".join(chosen[:count]) + (f" and {len(chosen) - count} more" if len(chosen) > count else "")
