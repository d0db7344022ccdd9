"""Does text help, and which? The plan of the runs that answer it.

Models that let a cue into the features in different ways are trained beside the same model without language, with and
without ego status, on the same data with the same seeds. What they learned is then scored with other texts than those
of the training: older, absent, wrong. A model that is no worse with a wrong text does not read it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from bevstack.build import CONFIG_FOLDER, compose, data_location
from bevstack.data.cue_cache import MANIFEST_NAME, CueCache, cue_folder
from bevstack.perception.language.captioners import ZERO_SHOT
from bevstack.training.fit import flat_weights
from bevstack.training.planned_runs import PlannedRun, Scoring, Variant, named_overrides, plan_runs
from bevstack.training.tasks import tasks_of
from bevstack.types.errors import did_you_mean

GROUP = "ablation"
FRESH, LIVE, ABSENT = "fresh", "live", "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A text that a model is given while it is scored."""

    name: str
    words: tuple[str, ...]
    """Options of `bevstack eval`."""
    meaning: str

    @property
    def folder(self) -> str:
        """Where the results are, inside a run."""
        return f"eval/{self.name}"


def _stale(seconds: str) -> Condition:
    return Condition(name=f"stale-{seconds}s", words=("--cue-age", seconds), meaning=f"the cue of {seconds} s before")


CONDITIONS = (
    Condition(name=FRESH, words=("--cue-age", "0"), meaning="the cue of the frame itself, from the cache"),
    Condition(
        name=LIVE, words=("--live-cues", ZERO_SHOT), meaning="made on the way: the cue of the frame before, refined"
    ),
    _stale("0.5"),
    _stale("2"),
    _stale("10"),
    Condition(name=ABSENT, words=("--no-cues",), meaning="no text"),
    Condition(name="wrong", words=("--wrong-cues", "0"), meaning="the cue of a frame of another scene, as if fresh"),
)
"""The model is told the age of an old cue. The frames at the start of a scene have no cue so old, and go without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AblatedModel:
    """A variant, and what it is held against."""

    variant: Variant
    form: str | None
    """How text comes into the features; None where the model reads none."""
    ego_status: bool
    baseline: str | None
    """The variant without language that is given the same ego status; None where there is none."""
    without_ego: str | None
    """The variant with the same form and no ego status, of one that has it; None where there is none."""

    def conditions(self, chosen: Sequence[Condition]) -> tuple[Condition, ...]:
        """Those that it is scored under: a model without language needs only one."""
        if self.form is not None:
            return tuple(chosen)
        return (Condition(name=ABSENT, words=(), meaning="no text"),)


def models_of(overrides: Sequence[str], experiment: str, names: Sequence[str] = ()) -> list[AblatedModel]:
    """What an experiment is varied in.

    Args:
        overrides: `experiment=NAME` and whatever holds for all.
        experiment: the name.
        names: variants to take; all where there is none.

    Raises:
        ValueError: nothing is known to compare for the experiment, or there is no such variant.
    """
    known = named_overrides(GROUP, experiment)
    if not known:
        there = ", ".join(sorted(file.stem for file in (CONFIG_FOLDER / GROUP).glob("*.yaml")))
        raise ValueError(f"there is no configs/{GROUP}/{experiment}.yaml that says what to compare; there are: {there}")
    chosen = _chosen(names, tuple(known), "variant")
    configs = {name: compose([*overrides, *known[name]]) for name in chosen}
    kinds = {name: (_form(config), _has_ego_status(config)) for name, config in configs.items()}

    def first(form: str | None, ego_status: bool) -> str | None:
        return next((name for name, kind in kinds.items() if kind == (form, ego_status)), None)

    return [
        AblatedModel(
            variant=Variant(
                name=name,
                overrides=tuple(known[name]),
                tasks=tasks_of(flat_weights(configs[name].loss_weights)),
            ),
            form=form,
            ego_status=ego_status,
            baseline=None if form is None else first(None, ego_status),
            without_ego=first(form, False) if ego_status else None,
        )
        for name, (form, ego_status) in kinds.items()
    ]


def conditions_of(names: Sequence[str] = (), captioner: str = ZERO_SHOT) -> tuple[Condition, ...]:
    """The conditions of these names, in their own order.

    Args:
        names: where there is none, all that compare with the cached text.
        captioner: who wrote that. Another one says other things, and is not asked to speak live unless it is named.

    Raises:
        ValueError: there is no such condition.
    """
    chosen = _chosen(names, tuple(condition.name for condition in CONDITIONS), "condition")
    is_same = names or captioner.partition(":")[0] == ZERO_SHOT
    return tuple(of for of in CONDITIONS if of.name in chosen and (is_same or of.name != LIVE))


def captioner_of_cues(overrides: Sequence[str], experiment: str) -> str:
    """Who wrote the cues of the held-out data.

    Raises:
        ValueError: there are none.
    """
    config = compose(overrides)
    root = data_location(config, "val")[0]
    if config.data.cues.name is None:
        raise ValueError(f"{experiment} has no cues to vary: give data.cues.name=NAME")
    return CueCache(_existing_cues(str(root), str(config.data.cues.name))).settings.captioner


def _existing_cues(root: str, name: str) -> Path:
    folder = cue_folder(root, name)
    if not (folder / MANIFEST_NAME).is_file():
        raise ValueError(f"there are no cues in {folder}: make them with bevstack cues make {root}")
    return folder


def plan(
    overrides: Sequence[str],
    models: Sequence[AblatedModel],
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    out: Path,
    *,
    limit: int | None = None,
) -> list[PlannedRun]:
    """Every run, scored under its conditions. Cues that were made again make other runs.

    Args:
        overrides: `experiment=NAME`, `data.root=...` and whatever holds for all.
        models: from `models_of`.
        conditions: from `conditions_of`.
        seeds: one run of every model for each.
        out: runs go to `out/runs`.
        limit: frames that an evaluation will use.

    Raises:
        ValueError: a data set lacks the cues that a model is to read.
    """
    by_variant = {model.variant: model for model in models}

    def scorings(variant: Variant) -> list[Scoring]:
        own = by_variant[variant].conditions(conditions)
        always = ("--frames", "0", "--figures-only", *(() if limit else ("--planner", "learned")))
        return [Scoring(folder=condition.folder, words=(*always, *condition.words)) for condition in own]

    variants = [model.variant for model in models]
    return plan_runs(overrides, variants, seeds, out, limit=limit, scorings=scorings, identity=_cue_hash)


def _chosen(names: Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {what} '{name}'{did_you_mean(name, known)}; there are {', '.join(known)}")
    return tuple(name for name in known if name in names) if names else tuple(known)


def _form(config: DictConfig) -> str | None:
    language = config.model.get("language")
    return None if language is None else str(language.form)


def _has_ego_status(config: DictConfig) -> bool:
    planning = (config.model.get("behaviour") or {}).get("planning")
    return bool(planning is not None and planning.get("ego_status"))


def _cue_hash(config: DictConfig) -> str:
    """Identity of the cues that a model reads, in training and in scoring; empty for a model that reads none."""
    if _form(config) is None:
        return ""
    digest = hashlib.sha256()
    for root in (data_location(config, "train")[0], data_location(config, "val")[0]):
        folder = _existing_cues(str(root), str(config.data.cues.name))
        for file in sorted([folder / MANIFEST_NAME, *folder.glob("*.parquet")]):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
