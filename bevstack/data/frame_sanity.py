"""Do boxes and points belong together? A wrong frame, axis, angle or height leaves a trace that can be counted.

A box that is right is full of points and has few around it. So each common fault is undone in turn: the boxes are
rotated back, mirrored back, raised by half their height and so on, and the points inside are counted against those in a
shell around the box, relative to points strewn evenly (a box that lies in the road is no better than chance). The
hypothesis under which the boxes fit clearly best is the fault; where nothing fits clearly better, or too few boxes hold
points, the detector says so instead of guessing.

What cannot be seen this way: a heading that is wrong by 180 degrees (a box is its own image then), sizes that are wrong
by a few per cent, and any fault of velocities, classes or attributes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, no_type_check

import numba
import numpy as np
from jaxtyping import Float, Float64, Int64

from bevstack.geometry.boxes import transform_boxes
from bevstack.geometry.transforms import rigid_inverse, wrap_angle
from bevstack.types.boxes import BoxIndex

AS_THEY_ARE = "as they are"

SHELL_M = 0.6
"""Width of the shell around a box in which a right box has few points."""
GROUND_M = 0.25
"""Height above and below the bottom of a box in which points are the ground's and count neither way."""
PRIOR_POINTS = 3.0
"""Points that a box must outweigh: with fewer, its score says little."""
MIN_POINTS = 5
"""A box tells something if it has so many points under some hypothesis."""
MIN_BOXES = 8
"""Fewer telling boxes are too little evidence."""
MIN_FIT = 0.2
"""Mean score below which boxes and points do not fit, whatever is tried."""
MIN_GAIN = 0.03
"""How much better than the boxes as they are a fault must explain the points, in mean score."""
MIN_DEVIATIONS = 3.0
"""The same in standard errors over boxes."""
FREE_PARAMETER_COST = 0.02
"""What a hypothesis with a number to choose has to be better by than one without."""
Z_OFFSETS_M = (-2.0, -1.5, -1.0, -0.75, -0.5, 0.5, 0.75, 1.0, 1.5, 2.0)
_LONG_M = 3.0
_ELONGATED = 1.3

Correction = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One fault, and what undoes it."""

    fault: str
    detail: str
    """Which of several forms of the fault; empty where there is one."""
    undo: Correction
    """Box rows as they were given -> as they should have been."""
    has_free_parameter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameVerdict:
    """What the points say about the boxes."""

    status: Literal["fits", "fault", "unclear"]
    fault: str | None
    """Name of the fault; None where there is none or it is unclear."""
    detail: str
    """Which form of the fault, or why it is unclear."""
    num_boxes: int
    """Boxes that tell something."""
    fit: float | None
    """Mean score of the boxes as they are, 0 by chance, 1 at best; None without evidence."""
    best_fit: float | None
    """The same after undoing the fault."""
    deviations: float | None
    """By how many standard errors over boxes undoing the fault is better."""
    undecided: tuple[str, ...] = ()
    """Faults that these boxes and points cannot rule out: undone, they would fit about as well."""

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        evidence = f"{self.num_boxes} boxes with points"
        if self.status == "unclear":
            return f"unclear: {self.detail} ({evidence})"
        if self.status == "fits":
            open_ends = f"; not ruled out by so few: {', '.join(self.undecided)}" if self.undecided else ""
            return f"boxes and points fit (score {self.fit:.2f}, {evidence}){open_ends}"
        detail = f", {self.detail}" if self.detail else ""
        return f"{self.fault}{detail}: undone, the score rises from {self.fit:.2f} to {self.best_fit:.2f} ({evidence})"


class FrameSanity:
    """Collects the evidence of one frame after the other, and decides over all of them.

    One frame is often enough; ten leave little doubt.
    """

    def __init__(self) -> None:
        self._hypotheses: tuple[Hypothesis, ...] = ()
        self._scores: list[np.ndarray] = []
        self._votes_swapped: list[np.ndarray] = []

    def add(
        self,
        rows: Float[np.ndarray, "N 9"],
        points: Float[np.ndarray, "M _"],
        other_frames: Mapping[str, Float[np.ndarray, "4 4"]] | None = None,
    ) -> None:
        """Take one frame.

        Args:
            rows: boxes as in `BoxIndex`, meant to be in `ego`.
            points: x, y, z first, meant to be in `ego`; the key sweep alone is best, since it is not smeared.
            other_frames: name of a frame with which `ego` may have been confused -> T_ego_other; the same names in
                every call.

        Raises:
            ValueError: a box is not finite or has no size, or the names of frames change.
        """
        _check(rows)
        hypotheses = hypotheses_of(other_frames or {})
        if self._hypotheses and _names(hypotheses) != _names(self._hypotheses):
            raise ValueError("other_frames must have the same names for every frame that is added")
        self._hypotheses = hypotheses
        if not len(rows):
            return
        given = rows.astype(np.float64)
        cloud = np.ascontiguousarray(points[np.isfinite(points[:, :3]).all(axis=1), :3], np.float64)
        undone = [hypothesis.undo(given) for hypothesis in hypotheses]
        counts = np.stack([count_points(cloud, boxes) for boxes in undone])  # (hypotheses, N, 2)
        telling = counts[..., 0].max(axis=0) >= MIN_POINTS
        self._scores.append(np.stack([_score(c, boxes) for c, boxes in zip(counts, undone, strict=True)])[:, telling])
        self._votes_swapped.append(_votes_swapped(given))

    def merge(self, other: "FrameSanity") -> None:
        """Take the evidence that another one has collected.

        Raises:
            ValueError: the two were given different frames to confuse `ego` with.
        """
        if self._hypotheses and other._hypotheses and _names(self._hypotheses) != _names(other._hypotheses):
            raise ValueError("the evidence was collected with different other_frames")
        self._hypotheses = self._hypotheses or other._hypotheses
        self._scores += other._scores
        self._votes_swapped += other._votes_swapped

    def verdict(self) -> FrameVerdict:
        """What all frames so far say together."""
        scores = np.concatenate(self._scores, axis=1) if self._scores else np.zeros((1, 0))
        num_boxes = scores.shape[1]
        if num_boxes < MIN_BOXES:
            return _unclear(f"too little evidence, at least {MIN_BOXES} boxes with points are needed", num_boxes)
        means = scores.mean(axis=1)
        handicap = FREE_PARAMETER_COST * np.array([h.has_free_parameter for h in self._hypotheses])
        best = int(np.argmax(means - handicap))
        gain = scores[best] - scores[0]
        error = gain.std(ddof=1) / np.sqrt(num_boxes)
        deviations = float(gain.mean() / error) if error > 0 else 0.0
        fit, best_fit = float(means[0]), float(means[best])
        if best_fit < MIN_FIT:
            return _unclear(
                f"boxes and points fit under no hypothesis (best score {best_fit:.2f}): they may be of different "
                "frames, or of a frame that is not among those tried",
                num_boxes,
            )
        is_fault = best != 0 and gain.mean() >= MIN_GAIN and deviations >= MIN_DEVIATIONS
        if not is_fault and fit < MIN_FIT:
            return _unclear(f"boxes fit badly (score {fit:.2f}), but no fault explains it clearly", num_boxes)
        chosen = self._hypotheses[best] if is_fault else None
        return FrameVerdict(
            status="fault" if chosen else "fits",
            fault=self._name(chosen) if chosen else None,
            detail=chosen.detail if chosen else "",
            num_boxes=num_boxes,
            fit=fit,
            best_fit=best_fit,
            deviations=deviations,
            undecided=() if chosen else self._undecided(scores),
        )

    def _undecided(self, scores: np.ndarray) -> tuple[str, ...]:
        """Faults whose undoing is not clearly worse than leaving the boxes as they are."""
        loss = scores[0] - scores[1:]
        error = np.maximum(loss.std(axis=1, ddof=1) / np.sqrt(loss.shape[1]), 1e-12)
        close = loss.mean(axis=1) < MIN_DEVIATIONS * error
        return tuple(
            dict.fromkeys(h.fault for h, is_close in zip(self._hypotheses[1:], close, strict=True) if is_close)
        )

    def scores(self) -> dict[str, float]:
        """Mean score of every hypothesis, best first; empty without evidence."""
        if not self._scores or not sum(part.shape[1] for part in self._scores):
            return {}
        means = np.concatenate(self._scores, axis=1).mean(axis=1)
        names = _names(self._hypotheses)
        return {names[k]: float(means[k]) for k in np.argsort(-means, kind="stable")}

    def _name(self, hypothesis: Hypothesis) -> str:
        """To the points, length and width exchanged is a heading off by 90 degrees; the shapes of boxes tell which."""
        if hypothesis.fault != "w/l swapped":
            return hypothesis.fault
        votes = np.concatenate(self._votes_swapped)
        return "w/l swapped" if not len(votes) or votes.mean() > 0.5 else "heading off by 90 degrees"


def _names(hypotheses: Sequence[Hypothesis]) -> list[str]:
    return [f"{h.fault}, {h.detail}" if h.detail else h.fault for h in hypotheses]


def hypotheses_of(other_frames: Mapping[str, Float[np.ndarray, "4 4"]]) -> tuple[Hypothesis, ...]:
    """Every fault that is tried; the first is none."""
    found = [Hypothesis(fault=AS_THEY_ARE, detail="", undo=np.copy)]
    for angle, detail in ((90, "left"), (-90, "right")):
        found.append(Hypothesis(fault="rotated by 90 degrees", detail=f"to the {detail}", undo=_planar(-angle, 1)))
    found += [
        Hypothesis(fault="rotated by 180 degrees", detail="", undo=_planar(180, 1)),
        Hypothesis(fault="mirrored", detail="left and right exchanged", undo=_planar(0, -1)),
        Hypothesis(fault="mirrored", detail="front and back exchanged", undo=_planar(180, -1)),
        Hypothesis(fault="x and y exchanged", detail="", undo=_planar(90, -1)),
        Hypothesis(fault="x and y exchanged", detail="both negative", undo=_planar(-90, -1)),
        Hypothesis(fault="w/l swapped", detail="", undo=_swapped),
        Hypothesis(fault="heading clockwise", detail="", undo=_with_yaw(np.negative)),
        Hypothesis(fault="degrees for radians", detail="", undo=_with_yaw(np.radians)),
        Hypothesis(fault="radians taken for degrees", detail="", undo=_with_yaw(np.degrees)),
        Hypothesis(fault="bottom instead of centre", detail="", undo=_raised(0.5)),
        Hypothesis(fault="top instead of centre", detail="", undo=_raised(-0.5)),
    ]
    for name, T_ego_other in other_frames.items():
        T_other_ego = rigid_inverse(np.asarray(T_ego_other, np.float64))
        found.append(Hypothesis(fault=f"{name} instead of ego frame", detail="", undo=_moved(T_ego_other)))
        found.append(Hypothesis(fault=f"ego instead of {name} frame", detail="", undo=_moved(T_other_ego)))
    for offset_m in Z_OFFSETS_M:
        detail = f"about {abs(offset_m):g} m too {'high' if offset_m > 0 else 'low'}"
        found.append(Hypothesis(fault="z offset", detail=detail, undo=_lifted(-offset_m), has_free_parameter=True))
    return tuple(found)


def count_points(points: Float[np.ndarray, "M 3"], rows: Float[np.ndarray, "N 9"]) -> Int64[np.ndarray, "N 2"]:
    """For each box the points inside, and those in the shell of `SHELL_M` around it; near its bottom none count."""
    heading = np.stack((np.cos(rows[:, BoxIndex.YAW]), np.sin(rows[:, BoxIndex.YAW])), axis=1)
    half = rows[:, BoxIndex.LENGTH : BoxIndex.HEIGHT + 1] * 0.5
    return _count(points, np.ascontiguousarray(rows[:, :3]), half, heading, SHELL_M, GROUND_M)


def _score(counts: Int64[np.ndarray, "N 2"], rows: Float[np.ndarray, "N 9"]) -> Float64[np.ndarray, " N"]:
    """1 where all points are inside and many, 0 where as many are inside as of points strewn evenly on the ground."""
    inside, shell = counts[:, 0], counts[:, 1]
    length, width = rows[:, BoxIndex.LENGTH], rows[:, BoxIndex.WIDTH]
    by_chance = length * width / ((length + 2 * SHELL_M) * (width + 2 * SHELL_M))
    share = inside / (inside + shell + PRIOR_POINTS)
    return np.maximum((share - by_chance) / (1 - by_chance), -1.0)


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _count(points, centers, half, heading, shell, ground):
    out = np.zeros((len(centers), 2), np.int64)
    for k in range(len(centers)):
        reach = np.hypot(half[k, 0], half[k, 1]) + 1.5 * shell
        for i in range(len(points)):
            dx, dy = points[i, 0] - centers[k, 0], points[i, 1] - centers[k, 1]
            dz = points[i, 2] - centers[k, 2]
            if abs(dx) > reach or abs(dy) > reach or abs(dz) > half[k, 2] + shell:
                continue
            if abs(dz + half[k, 2]) < min(ground, half[k, 2]):
                continue
            along = abs(dx * heading[k, 0] + dy * heading[k, 1]) - half[k, 0]
            across = abs(dy * heading[k, 0] - dx * heading[k, 1]) - half[k, 1]
            outside = max(along, across, abs(dz) - half[k, 2])
            if outside <= 0:
                out[k, 0] += 1
            elif outside <= shell:
                out[k, 1] += 1
    return out


def _planar(degrees: int, handedness: int) -> Correction:
    """Left and right exchanged where `handedness` is -1, then turned counter-clockwise about z."""

    def undo(rows: np.ndarray) -> np.ndarray:
        c, s = np.round(np.cos(np.radians(degrees))), np.round(np.sin(np.radians(degrees)))
        out = rows.copy()
        x, y = rows[:, BoxIndex.X], handedness * rows[:, BoxIndex.Y]
        out[:, BoxIndex.X], out[:, BoxIndex.Y] = c * x - s * y, s * x + c * y
        out[:, BoxIndex.YAW] = wrap_angle(handedness * rows[:, BoxIndex.YAW] + np.radians(degrees))
        return out

    return undo


def _swapped(rows: np.ndarray) -> np.ndarray:
    out = rows.copy()
    out[:, [BoxIndex.LENGTH, BoxIndex.WIDTH]] = rows[:, [BoxIndex.WIDTH, BoxIndex.LENGTH]]
    return out


def _with_yaw(change: Callable[[np.ndarray], np.ndarray]) -> Correction:
    def undo(rows: np.ndarray) -> np.ndarray:
        out = rows.copy()
        out[:, BoxIndex.YAW] = wrap_angle(change(rows[:, BoxIndex.YAW]))
        return out

    return undo


def _raised(share: float) -> Correction:
    def undo(rows: np.ndarray) -> np.ndarray:
        out = rows.copy()
        out[:, BoxIndex.Z] += share * rows[:, BoxIndex.HEIGHT]
        return out

    return undo


def _lifted(offset_m: float) -> Correction:
    def undo(rows: np.ndarray) -> np.ndarray:
        out = rows.copy()
        out[:, BoxIndex.Z] += offset_m
        return out

    return undo


def _moved(T_target_source: np.ndarray) -> Correction:
    def undo(rows: np.ndarray) -> np.ndarray:
        return transform_boxes(np.asarray(T_target_source, np.float64), rows)

    return undo


def _votes_swapped(rows: np.ndarray) -> np.ndarray:
    """For each box that is long and clearly elongated, whether it is wider than long: no real vehicle is."""
    length, width = rows[:, BoxIndex.LENGTH], rows[:, BoxIndex.WIDTH]
    longer, shorter = np.maximum(length, width), np.minimum(length, width)
    tall_enough = rows[:, BoxIndex.HEIGHT] > 0.3 * shorter  # not a barrier seen as a plank
    return (width > length)[(longer > _LONG_M) & (longer > _ELONGATED * shorter) & tall_enough]


def _check(rows: np.ndarray) -> None:
    geometry = rows[:, : BoxIndex.YAW + 1]
    usable = np.isfinite(geometry).all(axis=1) & (rows[:, BoxIndex.LENGTH : BoxIndex.YAW] > 0).all(axis=1)
    if not usable.all():
        wrong = int(np.flatnonzero(~usable)[0])
        raise ValueError(
            f"box {wrong} is {rows[wrong].tolist()}: a box needs a finite centre and yaw and a positive size; "
            "leave it out"
        )


def _unclear(reason: str, num_boxes: int) -> FrameVerdict:
    return FrameVerdict(
        status="unclear", fault=None, detail=reason, num_boxes=num_boxes, fit=None, best_fit=None, deviations=None
    )
