"""The one place where Hydra configuration becomes objects, and where models are saved and loaded with it.

Below this file there are only objects; above it only names of experiments and overrides. A part that is set to `null`
is dropped here and nowhere else.
"""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

import bevstack
from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.types import FrameSource
from bevstack.types.errors import CalibrationError, DatasetError
from bevstack.weights_file import describe, read_weights, write_weights

CONFIG_FOLDER = Path(__file__).parent / "configs"
Part = Literal["train", "val"]

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
            raise ValueError(f"there is no key '{key}' in the stored configuration{_nearest(key, known)}")
        OmegaConf.update(changed, key, OmegaConf.from_dotlist([f"value={value}"])["value"])
    return changed


def key_paths(config: DictConfig) -> tuple[str, ...]:
    """Every `a.b.c` path of a configuration, branches included."""
    found: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        if isinstance(node, DictConfig):
            for key in node:
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
        return f"choose an experiment: experiment=NAME with NAME one of {names}"
    if isinstance(error, MissingConfigException) and isinstance(error.missing_cfg_file, str):
        group, _, choice = error.missing_cfg_file.rpartition("/")
        options = sorted(error.options or ())
        return f"{group} has no '{choice}'{_nearest(choice, options)}; there are: {', '.join(options)}"
    wrong = _failing_override(overrides, config_name) if isinstance(error, ConfigCompositionException) else None
    if wrong is not None:
        known = _known_keys(overrides, config_name)
        return f"there is no key '{wrong}'{_nearest(wrong, known)}; keys look like trainer.max_epochs=10"
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


def _nearest(wrong: str, valid: Iterable[str]) -> str:
    """' (did you mean a, b?)'; a key that only lacks its section is found by its last word."""
    choices = list(valid)
    last_word = [key for key in choices if key.rpartition(".")[2] == wrong.rpartition(".")[2]]
    close = list(dict.fromkeys([*last_word, *difflib.get_close_matches(wrong, choices, n=3, cutoff=0.6)]))[:3]
    return f" (did you mean {', '.join(close)}?)" if close else ""


# ---------------------------------------------------------------- objects


def instantiate(config: DictConfig, key: str, **more: Any) -> Any:
    """Build the object that `config.key` describes; `null` entries are dropped first.

    Raises:
        ValueError: a value is missing or refused; the message carries the full key.
        DatasetError: raised unchanged by a data set that is not usable.
    """
    node = OmegaConf.select(config, key)
    if node is None:
        raise ValueError(f"the configuration has no '{key}'")
    try:
        # The parent link stays, so that ${grid} and friends resolve; dropping nulls needs a copy of the whole tree.
        whole = config.copy()
        _drop_nulls(OmegaConf.select(whole, key))
        return hydra.utils.instantiate(OmegaConf.select(whole, key), **more, _convert_="object")
    except HydraException as error:
        cause = error.__cause__ or error
        if isinstance(cause, (DatasetError, CalibrationError)):
            raise cause from error
        raise ValueError(f"config key {_failing_key(error, key)}: {' '.join(str(cause).split())}") from error
    except OmegaConfBaseException as error:
        raise ValueError(f"config key {error.full_key or key}: {' '.join(str(error).split())}") from error


def _failing_key(error: Exception, key: str) -> str:
    last_line = str(error).rstrip().rpartition("\n")[2]
    return last_line.partition("full_key: ")[2] or key


def _drop_nulls(node: Any) -> None:
    """Remove parts that are switched off (`model.encoders.camera: null`) from a tree of targets, in place.

    Only members of plain dictionaries of parts are dropped: an argument of a class that is null stays null.
    """
    if isinstance(node, DictConfig):
        for key in list(node):
            child = node._get_node(key)
            if child is not None and child._is_none() and "_target_" not in node:
                OmegaConf.set_struct(node, False)
                del node[key]
            else:
                _drop_nulls(child)
    elif isinstance(node, ListConfig):
        for child in node._content if isinstance(node._content, list) else ():
            _drop_nulls(child)


def build_model(config: DictConfig) -> nn.Module:
    """The model that `config.model` describes, freshly initialised."""
    return instantiate(config, "model")


def build_frames(
    config: DictConfig,
    part: Part = "val",
    *,
    root: str | Path | None = None,
    version: str | None = None,
    split: str | None = None,
    with_annotations: bool = True,
) -> FrameSource:
    """The frames of one part of the configured data, or of another data set as this model needs them.

    Args:
        config: a composed configuration; `input` says what the model reads (image size, sweeps, cameras).
        part: which half of `config.data` to use.
        root: folder of another data set in place of `config.data`'s; `version` and `split` likewise.
        version: version folder such as `v1.0-mini`.
        split: split name such as `mini_val`.
        with_annotations: False leaves ground truth out.

    Raises:
        ValueError: no root is configured. DatasetError: the data set is not usable.
    """
    data = config.data
    prefix = "" if part == "train" else "val_"
    chosen_root = root or _required_path(data, f"{prefix}root")
    settings = instantiate(config, "input")
    return instantiate(
        config,
        "data.frames",
        root=Path(chosen_root),
        version=version or data[f"{prefix}version"],
        split=split or data[f"{part}_split"],
        with_annotations=with_annotations,
        **settings,
    )


def _required_path(data: DictConfig, key: str) -> str:
    if OmegaConf.is_missing(data, key) or not data[key]:
        raise ValueError(f"data.{key} is not set: give the folder of the data set, data.{key}=FOLDER")
    return str(data[key])


# ---------------------------------------------------------------- weights


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in evaluation mode with the configuration that it was trained with."""

    model: nn.Module
    config: DictConfig
    metadata: dict[str, str]
    """What the file says about itself: versions, commit, data hash, training step, class names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """Which tensors of a model were filled from a file, and which were left as initialised."""

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    """Not in the file."""
    reshaped: tuple[str, ...]
    """In the file with another shape; left as initialised."""
    unused: tuple[str, ...]
    """In the file only."""

    def lines(self) -> list[str]:
        """One line for each part of the model: how many of its tensors came from the file."""
        parts: dict[str, list[int]] = {}
        for names, is_loaded in ((self.loaded, 1), (self.fresh, 0), (self.reshaped, 0)):
            for name in names:
                counts = parts.setdefault(_part_of(name), [0, 0])
                counts[0] += is_loaded
                counts[1] += 1
        lines = []
        for part, (got, total) in sorted(parts.items()):
            state = "loaded" if got == total else "fresh" if got == 0 else f"partly loaded, {got} of {total} tensors"
            lines.append(f"  {part}: {state}")
        lines += [f"  {name}: another shape in the file, left fresh" for name in self.reshaped]
        unused = sorted({_part_of(name) for name in self.unused})
        return lines + ([f"  not used from the file: {', '.join(unused)}"] if unused else [])


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
    model = build_model(config)
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


def load_matching(model: nn.Module, path: str | Path) -> TransferReport:
    """Fill the tensors of a model that a file has under the same name and shape; leave the others as they are.

    For training in stages: LiDAR first, then fusion from the LiDAR weights; and for fine-tuning.

    Raises:
        ValueError: not one tensor fits.
    """
    file, tensors, _ = read_weights(path)
    own = model.state_dict()
    common = [name for name in own if name in tensors]
    loaded = [name for name in common if own[name].shape == tensors[name].shape]
    if not loaded:
        raise ValueError(f"{file} has no tensor in common with this model; is it the right file?")
    model.load_state_dict({**own, **{name: tensors[name].to(own[name].dtype) for name in loaded}})
    return TransferReport(
        loaded=tuple(loaded),
        fresh=tuple(name for name in own if name not in tensors),
        reshaped=tuple(name for name in common if name not in loaded),
        unused=tuple(sorted(set(tensors) - set(own))),
    )


def portable_yaml(config: DictConfig) -> str:
    """The resolved configuration as text, without folders that exist on one machine only."""
    portable = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(portable, DictConfig)
    for key in ("root", "val_root"):
        if "data" in portable and key in portable.data:
            portable.data[key] = "???"
    for key in ("run_root", "resume", "init_from"):
        portable.pop(key, None)
    return OmegaConf.to_yaml(portable)


def _part_of(name: str) -> str:
    """`encoders.camera` of `encoders.camera.backbone.0.weight`, `fuser` of `fuser.conv.weight`."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] in ("encoders", "heads") else words[0]


def _some(names: Iterable[str], count: int = 4) -> str:
    chosen = sorted(names)
    return ", ".join(chosen[:count]) + (f" and {len(chosen) - count} more" if len(chosen) > count else "")
