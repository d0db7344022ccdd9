"""Motion of found objects: detection and prediction scored together, in the two conventions of the literature.

`motion/epa-uniad` (Hu et al., UniAD, CVPR 2023, section 4, and its evaluation code): six seconds. All vehicle classes
are "car", found within 50 m; pedestrians within 40 m. Found objects are matched greedily by score to annotated ones of
their group closer than 2 m. minADE and minFDE are those of the best of six modes over the steps that are annotated; MR
is the share of matches of which every mode is more than 2 m off somewhere.

`motion/epa-vad` (Jiang et al., VAD, ICCV 2023, and its evaluation code): three seconds, 15 m to the sides and 30 m
ahead and behind. "car" is car, truck, bus and trailer; found objects of a score above 0.6 are assigned all at once,
whatever their classes. Objects count whose three seconds are annotated; minFDE and MR (minFDE above 2 m) are over them.

EPA = (hits - 0.5 false) / objects (Gu et al., ViP3D, CVPR 2023). In UniAD a hit is found in a greedy matching of its
own, in which only pairs with a minFDE below 2 m match; in VAD it is a match with a minFDE of at most 2 m.

Traps. Errors are over matched objects only and improve when hard ones are missed: quote EPA. EPA falls with every box
in the file: UniAD's own files hold the tracks above its threshold, one with 500 boxes a frame scores far below zero.
UniAD counts objects without an annotated future, which nobody can hit: `epa_ceiling` says how much is to be had. Its
published code also books no error at all for them and averages errors over recall; `min_ade_as_published_m` and the
like do the same, while `min_ade_m` is the mean over the matches whose future is known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bevstack.evaluation.motion.columns import MotionColumns, MotionTruth
from bevstack.evaluation.motion.matching import GROUPS, MotionMatches, match_uniad, match_vad

UNIAD = "motion/epa-uniad"
VAD = "motion/epa-vad"
MATCHERS: Mapping[str, Callable[[MotionColumns, MotionTruth], MotionMatches]] = {UNIAD: match_uniad, VAD: match_vad}

_FALSE_WEIGHT = 0.5
_MIN_RECALL, _NUM_RECALLS = 0.1, 101


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScores:
    """The numbers of one group; None where nothing was measured."""

    num_objects: int
    num_found: int
    num_matched: int
    num_false: int
    num_hits: int
    epa: float | None
    epa_ceiling: float | None
    """Share of the objects that could be hit."""
    recall: float | None
    """Matched objects among all; where MR and errors come from."""
    min_ade_m: float | None
    min_fde_m: float | None
    miss_rate: float | None
    min_ade_as_published_m: float | None
    """By the authors' code; for UniAD another average, see the module."""
    min_fde_as_published_m: float | None
    miss_rate_as_published: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpaScores:
    """The numbers of one convention."""

    protocol: str
    num_samples: int
    mean_epa: float | None
    """Of the two groups."""
    groups: dict[str, GroupScores]
    """"car" (several classes, see the module) and "pedestrian"."""


def score(matches: MotionMatches, protocol: str) -> EpaScores:
    """The numbers of some matched samples.

    Raises:
        ValueError: the protocol is neither of the two.
    """
    if protocol not in MATCHERS:
        raise ValueError(f"protocol '{protocol}' is none of {', '.join(MATCHERS)}")
    groups = {name: _group_scores(matches, number, protocol) for number, name in enumerate(GROUPS)}
    known = [each.epa for each in groups.values() if each.epa is not None]
    return EpaScores(
        protocol=protocol,
        num_samples=len(matches.scene),
        mean_epa=float(np.mean(known)) if known else None,
        groups=groups,
    )


def score_with_baselines(
    predictions: Mapping[str, MotionColumns], truth: MotionTruth, protocol: str
) -> dict[str, EpaScores]:
    """Row name -> numbers: the given predictions, then the boxes of the first with the motions that need no model.

    Raises:
        ValueError: there are no predictions, or as `score` and the matching of the protocol.
    """
    if not predictions:
        raise ValueError("baselines move the found boxes: at least one set of predictions is needed")
    rows = {**predictions, **next(iter(predictions.values())).baselines()}
    if protocol not in MATCHERS:
        raise ValueError(f"protocol '{protocol}' is none of {', '.join(MATCHERS)}")
    return {name: score(MATCHERS[protocol](each, truth), protocol) for name, each in rows.items()}


def _group_scores(matches: MotionMatches, number: int, protocol: str) -> GroupScores:
    own = matches.group == number
    is_matched = matches.is_matched[own]
    num_objects = int(matches.num_objects[:, number].sum())
    num_predictable = int(matches.num_predictable[:, number].sum())
    num_matched, num_hits = int(is_matched.sum()), int(matches.is_hit[own].sum())
    num_false = int(own.sum()) - num_matched
    errors = {name: getattr(matches, name)[own] for name in ("min_ade_m", "min_fde_m", "is_missed")}
    means = {name: _known_mean(values) for name, values in errors.items()}
    published = means
    if protocol == UNIAD:
        published = {
            name: _mean_over_recall(np.nan_to_num(values[is_matched]), is_matched, matches.score[own], num_objects)
            for name, values in errors.items()
        }
    return GroupScores(
        num_objects=num_objects,
        num_found=int(own.sum()),
        num_matched=num_matched,
        num_false=num_false,
        num_hits=num_hits,
        epa=(num_hits - _FALSE_WEIGHT * num_false) / num_objects if num_objects else None,
        epa_ceiling=num_predictable / num_objects if num_objects else None,
        recall=num_matched / num_objects if num_objects and protocol == UNIAD else None,
        min_ade_m=means["min_ade_m"],
        min_fde_m=means["min_fde_m"],
        miss_rate=means["is_missed"],
        min_ade_as_published_m=published["min_ade_m"],
        min_fde_as_published_m=published["min_fde_m"],
        miss_rate_as_published=published["is_missed"],
    )


def _known_mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _mean_over_recall(
    errors: np.ndarray, is_matched: np.ndarray, score_of: np.ndarray, num_objects: int
) -> float | None:
    """The average of the detection benchmark: running means over the matches by score, over the recalls above 0.1.

    Args:
        errors: Of the matched ones, in the order of `is_matched`.
        is_matched: Of all found ones.
        score_of: Of all found ones.
        num_objects: Annotated ones.
    """
    if not num_objects or not is_matched.any():
        return None
    order = np.lexsort((np.arange(len(score_of)), score_of))[::-1]
    matched, ranked = is_matched[order], score_of[order]
    recalls = np.linspace(0, 1, _NUM_RECALLS)
    confidence = np.interp(recalls, np.cumsum(matched) / num_objects, ranked, right=0)
    by_score = np.full(len(order), np.nan)
    by_score[is_matched] = errors
    errors_ranked = by_score[order][matched]
    running = np.cumsum(errors_ranked) / np.arange(1, len(errors_ranked) + 1)
    curve = np.interp(confidence[::-1], ranked[matched][::-1], running[::-1])[::-1]
    reached = np.flatnonzero(confidence)
    first, last = round(100 * _MIN_RECALL) + 1, int(reached[-1]) if len(reached) else 0
    return float(curve[first : last + 1].mean()) if last >= first else 1.0
