"""`bevstack lint`: the cards of all paths of an experiment, a run or a weights file, and what differs between them."""

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bevstack.build import Config, compose, experiment_names, override_keys
from bevstack.lint.augmentation import check_augmentation
from bevstack.lint.card import AllowedDifference, Difference, PreprocessingCard, compare
from bevstack.lint.paths import Deployed, allowed_differences, augmentations_of, cards_of, training_frame
from bevstack.lint.probe import write_probe
from bevstack.training.run_folder import RunFolder
from bevstack.types.errors import did_you_mean
from bevstack.weights_file import RUN_WEIGHTS, SHIPPED, newest_checkpoint, read_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class LintReport:
    """What was found about one configuration."""

    name: str
    cards: tuple[PreprocessingCard, ...]
    differences: tuple[Difference, ...]
    """Unexplained ones."""
    allowed: tuple[AllowedDifference, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "name": self.name,
            "cards": {card.path: dict(card.facts) for card in self.cards},
            "differences": [asdict(difference) for difference in self.differences],
            "allowed": [asdict(allowed) for allowed in self.allowed],
        }


def lint(config: Config, deployed: Deployed | None = None, *, name: str = "") -> LintReport:
    """Walk every path with the probe and compare.

    Args:
        config: what training uses.
        deployed: what evaluation, export and runtime use; None takes what a run of `config` would write.
        name: for the report.

    Raises:
        ValueError: a configuration cannot be built or read.
        DatasetError: the reader of a path cannot read the probe.
    """
    root = Path(_probe_folder().name) / "probe"
    cards = cards_of(config, deployed or Deployed.from_config(config), root)
    frame = training_frame(config, root)
    of_augmentation = tuple(
        difference
        for key, augmentation in augmentations_of(config).items()
        for difference in check_augmentation(key, augmentation, frame)
    )
    return LintReport(
        name=name,
        cards=cards,
        differences=compare(cards) + of_augmentation,
        allowed=allowed_differences(config),
    )


@functools.cache
def _probe_folder() -> tempfile.TemporaryDirectory:
    """The probe data set: written once, gone with the process."""
    folder = tempfile.TemporaryDirectory(prefix="bevstack-probe-")
    write_probe(Path(folder.name) / "probe")
    return folder


def lint_named(target: str, overrides: Sequence[str] = (), *, weights: str | None = None) -> LintReport:
    """`lint` of what a user names.

    Args:
        target: an experiment, a run folder, a weights file or checkpoint, or `demo`.
        overrides: `key.path=value` for the training side.
        weights: what evaluation, export and runtime take their configuration from; by default the target's own.

    Raises:
        ValueError: there is nothing of that name.
        FileNotFoundError: there are no such weights.
    """
    deployed = Deployed.from_metadata(read_weights(weights)[2]) if weights else None
    if target in experiment_names():
        return lint(compose([f"experiment={target}", *overrides]), deployed, name=target)
    folder = Path(target)
    if folder.is_dir():
        config = RunFolder(folder).read_config()
        if deployed is None and ((folder / RUN_WEIGHTS).exists() or newest_checkpoint(folder)):
            deployed = Deployed.from_metadata(read_weights(folder)[2])
    elif folder.is_file() or target in SHIPPED:
        own = Deployed.from_metadata(read_weights(target)[2])
        config, deployed = own.config, deployed or own
    else:
        hint = did_you_mean(target, experiment_names())
        raise ValueError(f"'{target}' is no experiment, run folder or weights file{hint}")
    config = OmegaConf.create(OmegaConf.to_container(config))  # type: ignore[assignment]
    return lint(override_keys(config, overrides), deployed, name=target)
