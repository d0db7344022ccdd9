"""Which found object is which annotated one, and how far its predicted motion is off: the two end-to-end conventions.

They differ in all they do, see `motion_epa`. What is kept of each found object is enough to score any choice of scenes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32, Int64
from scipy.optimize import linear_sum_assignment

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.motion.columns import MotionColumns, MotionTruth
from bevstack.geometry.transforms import rigid_inverse, transform_points

GROUPS = ("car", "pedestrian")
"""What both conventions report; "car" stands for several classes."""
MATCH_M, MISS_M = 2.0, 2.0
NUM_MODES = 6

_UNIAD_RANGE_M = (50.0, 40.0)
_VAD_MIN_SCORE = 0.6
_VAD_TRUE_RANGE_M, _VAD_FOUND_RANGE_M = (15.0, 30.0), (20.0, 35.0)
"""Along x (right) and y (ahead) of the LiDAR."""
_FORBIDDEN_M = 1e6
_IGNORED = len(GROUPS)
"""Group of the classes that VAD matches but does not report."""
_UNIAD_GROUP = {
    "pedestrian": 1,
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle", "motorcycle", "bicycle"), 0),
}
_VAD_GROUP = {
    "pedestrian": 1,
    **dict.fromkeys(("car", "truck", "bus", "trailer"), 0),
    **dict.fromkeys(("motorcycle", "bicycle"), _IGNORED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionMatches:
    """What matching made of S samples with P found objects that count. Parts of a set join to the set."""

    scene: Int64[np.ndarray, " S"]
    num_objects: Int64[np.ndarray, "S 2"]
    """By group: annotated objects that count."""
    num_predictable: Int64[np.ndarray, "S 2"]
    """Those of them that could be hit at all: enough of their future is known."""
    sample_index: Int32[np.ndarray, " P"]
    """Ascending."""
    group: Int8[np.ndarray, " P"]
    """Of the matched object, else of the found one."""
    score: Float64[np.ndarray, " P"]
    is_matched: Bool[np.ndarray, " P"]
    is_hit: Bool[np.ndarray, " P"]
    min_ade_m: Float64[np.ndarray, " P"]
    """NaN where nothing is matched, or too little of the future is known; likewise below."""
    min_fde_m: Float64[np.ndarray, " P"]
    is_missed: Float64[np.ndarray, " P"]
    """1 or 0."""

    def of_scene(self, scene: int) -> "MotionMatches":
        """Those of one scene."""
        chosen = np.flatnonzero(self.scene == scene)
        rows = np.isin(self.sample_index, chosen)
        columns = {name: getattr(self, name)[rows] for name in _PER_FOUND}
        columns["sample_index"] = np.searchsorted(chosen, columns["sample_index"]).astype(np.int32)
        return MotionMatches(**{name: getattr(self, name)[chosen] for name in _PER_SAMPLE}, **columns)

    def by_scene(self) -> dict[int, "MotionMatches"]:
        """Scene row -> its matches."""
        return {scene: self.of_scene(scene) for scene in dict.fromkeys(self.scene.tolist())}

    def drawn(self, scene_weight: Int64[np.ndarray, " G"]) -> "MotionMatches":
        """Each scene (by its number) as often as its weight says; found objects all stand with the first copy."""
        copies = scene_weight[self.scene]
        samples = np.repeat(np.arange(len(copies)), copies)
        rows = np.repeat(np.arange(len(self.score)), copies[self.sample_index])
        columns = {name: getattr(self, name)[rows] for name in _PER_FOUND}
        columns["sample_index"] = (np.cumsum(copies) - copies)[columns["sample_index"]].astype(np.int32)
        return MotionMatches(**{name: getattr(self, name)[samples] for name in _PER_SAMPLE}, **columns)

    @classmethod
    def join(cls, parts: Sequence["MotionMatches"]) -> "MotionMatches":
        """All together, in the order given; at least one."""
        joined = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        firsts = np.cumsum([0, *(len(part.scene) for part in parts)])
        shifted = [part.sample_index + first for part, first in zip(parts, firsts, strict=False)]
        joined["sample_index"] = np.concatenate(shifted).astype(np.int32)
        return cls(**joined)


_PER_SAMPLE = ("scene", "num_objects", "num_predictable")
_PER_FOUND = tuple(field.name for field in fields(MotionMatches) if field.name not in _PER_SAMPLE)


def match_uniad(predictions: MotionColumns, truth: MotionTruth) -> MotionMatches:
    """UniAD: six seconds, greedy by score within each group, every found object in range counts.

    Raises:
        ValueError: samples differ, or something ends before six seconds.
    """
    found, true = _sides(predictions, truth, _UNIAD_GROUP, num_steps=12)
    has_points = truth.num_lidar_points + truth.num_radar_points > 0
    limit = np.array(_UNIAD_RANGE_M)

    def in_range(side: "_Side") -> np.ndarray:
        away = side.center[:, :2] - truth.T_global_ego[side.sample, :2, 3]
        return np.hypot(away[:, 0], away[:, 1]) < limit[side.group]

    found, true = found.where(in_range(found)), true.where(has_points[true.row] & in_range(true))
    partner, is_hit = np.full(len(found.row), -1), np.zeros(len(found.row), bool)
    for own, theirs in _by_sample(found, true, len(truth.sample_tokens)):
        distance = _distance(found, own, true, theirs)
        order = np.lexsort((np.arange(len(own)), found.score[own]))[::-1]
        partner[own] = _greedy(distance, order, np.ones(distance.shape, bool), theirs)
        near = _final_distance(found.paths[own], true.paths[theirs, 0], true.is_known[theirs]) < MISS_M
        is_hit[own] = _greedy(distance, order, near, theirs) >= 0
    ade, fde, missed = _errors(found, true, partner)
    return _matches(found, true, truth, partner, is_hit, (ade, fde, missed), true.is_known.any(axis=1))


def match_vad(predictions: MotionColumns, truth: MotionTruth) -> MotionMatches:
    """VAD: three seconds, one optimal assignment of all moving classes, found objects of a score above 0.6.

    Raises:
        ValueError: samples differ, or something ends before three seconds.
    """
    found, true = _sides(predictions, truth, _VAD_GROUP, num_steps=6)
    T_lidar_global = rigid_inverse(truth.T_global_lidar)

    def in_range(side: "_Side", limit_m: tuple[float, float]) -> np.ndarray:
        in_lidar = transform_points(T_lidar_global[side.sample], side.center[:, None])[:, 0, :2]
        return (np.abs(in_lidar) < limit_m).all(axis=1)

    found = found.where((found.score > _VAD_MIN_SCORE) & in_range(found, _VAD_FOUND_RANGE_M))
    true = true.where((truth.num_lidar_points[true.row] > 0) & in_range(true, _VAD_TRUE_RANGE_M))
    partner = np.full(len(found.row), -1)
    for own, theirs in _by_sample(found, true, len(truth.sample_tokens)):
        distance = _distance(found, own, true, theirs, within_groups=False)
        rows, columns = linear_sum_assignment(np.where(distance > MATCH_M, _FORBIDDEN_M, distance))
        near = distance[rows, columns] <= MATCH_M
        partner[own[rows[near]]] = theirs[columns[near]]
    ade, fde, _ = _errors(found, true, partner)
    is_whole = true.is_known.all(axis=1)
    fde = np.where((partner >= 0) & is_whole[partner] if len(is_whole) else False, fde, np.nan)
    missed = np.where(np.isnan(fde), np.nan, fde > MISS_M)
    return _matches(found, true, truth, partner, fde <= MISS_M, (ade, fde, missed), is_whole, only_predictable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """Found or annotated objects, with what matching looks at."""

    row: np.ndarray
    """Row in the columns that they come from."""
    sample: np.ndarray
    group: np.ndarray
    center: np.ndarray
    """(N, 3) in `global`."""
    score: np.ndarray
    paths: np.ndarray
    """(N, K, T, 2): the modes of found ones, the one past of annotated ones."""
    is_known: np.ndarray
    """(N, T)."""

    def where(self, mask: np.ndarray) -> "_Side":
        return _Side(**{field.name: getattr(self, field.name)[mask] for field in fields(self)})


def _sides(
    predictions: MotionColumns, truth: MotionTruth, group_of: dict[str, int], num_steps: int
) -> tuple[_Side, _Side]:
    """Both sides, without the classes that have no group."""
    boxes, futures = predictions.boxes, truth.futures
    if boxes.sample_tokens != truth.sample_tokens:
        raise ValueError("predictions and truth must have the same samples in the same order: select() gives them")
    for name, steps in (("predictions", predictions.trajectories.shape[2]), ("truth", futures.is_known.shape[1])):
        if steps < num_steps:
            raise ValueError(f"the {name} have {steps} steps; this protocol looks {num_steps} steps (2 Hz) ahead")
    group = np.array([group_of.get(name, -1) for name in DETECTION_CLASSES])
    found = _Side(
        row=np.arange(len(boxes)),
        sample=boxes.sample_index,
        group=group[boxes.class_index],
        center=boxes.translation,
        score=boxes.score,
        paths=predictions.most_probable(NUM_MODES)[:, :, :num_steps],
        is_known=np.ones((len(boxes), num_steps), bool),
    )
    true = _Side(
        row=np.arange(len(futures)),
        sample=truth.sample_index,
        group=group[truth.class_index],
        center=truth.positions,
        score=np.zeros(len(futures)),
        paths=futures.positions_global[:, None, :num_steps, :2],
        is_known=futures.is_known[:, :num_steps],
    )
    return found.where(found.group >= 0), true.where(true.group >= 0)


def _by_sample(found: _Side, true: _Side, num_samples: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of the found and of the annotated objects of each sample that has both."""
    firsts = [np.searchsorted(side.sample, np.arange(num_samples + 1)) for side in (found, true)]
    for sample in range(num_samples):
        own, theirs = (np.arange(first[sample], first[sample + 1]) for first in firsts)
        if len(own) and len(theirs):
            yield own, theirs


def _distance(
    found: _Side, own: np.ndarray, true: _Side, theirs: np.ndarray, *, within_groups: bool = True
) -> np.ndarray:
    """Distances (F, G) of centres seen from above; infinite between groups."""
    distance = np.linalg.norm(found.center[own, None, :2] - true.center[None, theirs, :2], axis=-1)
    if within_groups:
        distance[found.group[own][:, None] != true.group[theirs]] = np.inf
    return distance


def _greedy(distance: np.ndarray, order: np.ndarray, is_allowed: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Each in turn takes the nearest object that is still free, if it is near enough and allowed; names of those."""
    left, taken = distance.copy(), np.full(len(distance), -1)
    for own in order:
        nearest = int(np.argmin(left[own]))
        if left[own, nearest] < MATCH_M and is_allowed[own, nearest]:
            taken[own] = names[nearest]
            left[:, nearest] = np.inf
    return taken


def _final_distance(modes: np.ndarray, paths: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Distances (F, G) of modes (F, K, T, 2) to paths (G, T, 2) at the last known step; infinite where none is."""
    last = _last_known(is_known)
    ends = paths[np.arange(len(paths)), last]
    away = np.linalg.norm(modes[:, :, last] - ends, axis=-1).min(axis=1)
    return np.where(is_known.any(axis=1), away, np.inf)


def _last_known(is_known: np.ndarray) -> np.ndarray:
    return is_known.shape[1] - 1 - np.argmax(is_known[:, ::-1], axis=1)


def _errors(found: _Side, true: _Side, partner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least ADE and FDE over the known steps, and whether every mode is off by more than 2 m somewhere (1 or 0).

    NaN for objects without a partner or whose partner's future is not known at all.
    """
    out = np.full((3, len(partner)), np.nan)
    rows = np.flatnonzero(partner >= 0)
    rows = rows[true.is_known[partner[rows]].any(axis=1)]
    known = true.is_known[partner[rows]]
    distance = np.linalg.norm(found.paths[rows] - true.paths[partner[rows]], axis=-1)  # (M, K, T)
    counted = np.where(known[:, None], distance, 0.0)
    out[0, rows] = (counted.sum(axis=-1) / known.sum(axis=1)[:, None]).min(axis=1, initial=np.inf)
    out[1, rows] = counted[np.arange(len(rows)), :, _last_known(known)].min(axis=1, initial=np.inf)
    out[2, rows] = counted.max(axis=-1, initial=0.0).min(axis=1, initial=np.inf) > MISS_M
    return out[0], out[1], out[2]


def _matches(
    found: _Side,
    true: _Side,
    truth: MotionTruth,
    partner: np.ndarray,
    is_hit: np.ndarray,
    errors: tuple[np.ndarray, np.ndarray, np.ndarray],
    is_predictable: np.ndarray,
    *,
    only_predictable: bool = False,
) -> MotionMatches:
    shape = (len(truth.sample_tokens), len(GROUPS) + 1)
    num_predictable = np.zeros(shape, np.int64)
    np.add.at(num_predictable, (true.sample[is_predictable], true.group[is_predictable]), 1)
    num_objects = num_predictable.copy()
    if not only_predictable:
        np.add.at(num_objects, (true.sample[~is_predictable], true.group[~is_predictable]), 1)
    is_matched = partner >= 0
    group = found.group.copy()
    group[is_matched] = true.group[partner[is_matched]]
    counted = group < len(GROUPS)
    return MotionMatches(
        scene=truth.sample_scene,
        num_objects=num_objects[:, : len(GROUPS)],
        num_predictable=num_predictable[:, : len(GROUPS)],
        sample_index=found.sample[counted].astype(np.int32),
        group=group[counted].astype(np.int8),
        score=found.score[counted],
        is_matched=is_matched[counted],
        is_hit=is_hit[counted],
        min_ade_m=errors[0][counted],
        min_fde_m=errors[1][counted],
        is_missed=errors[2][counted],
    )
