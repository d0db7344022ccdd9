"""Where each object may be, as turned rectangles on one clock: along its forecast modes, else as it moves now.

Letters: N rows of detections and tracks, A agents, F futures of agents, K modes, T times.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.types.boxes import BoxIndex
from bevstack.types.scene import MotionForecasts, SceneEstimate

CHECK_STEP_S = 0.2
"""Fine enough that two ordinary vehicles at city speed cannot pass through each other between two steps."""
CHECK_TIMES_S = CHECK_STEP_S * np.arange(41)
"""0 to 8 s: the longest plan and the braking after it."""

STANDING_CLASSES = ("traffic_cone", "barrier")
_STANDING_MPS = 0.3
"""Slower objects stand: measured velocities of parked cars are not exactly zero."""
_MIN_CHORD_M = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BeliefRules:
    """Which parts of a scene a planner believes.

    Raises:
        ValueError: a value out of its range.
    """

    min_score: float = 0.3
    """Objects below are not there."""
    min_mode_probability: float = 0.15
    """Forecast modes below are not followed; the likeliest always is."""
    extrapolation_s: float = 4.0
    """For how long objects without a forecast are believed to go on as they are."""
    min_height_m: float = 0.3
    """Bottom of the band in which voxels are obstacles: a kerb is none."""
    min_road_probability: float = 0.4

    def __post_init__(self) -> None:
        for name in ("min_score", "min_mode_probability", "min_road_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1]")
        if not self.extrapolation_s >= 0 or not np.isfinite(self.min_height_m):
            raise ValueError(
                f"extrapolation_s={self.extrapolation_s} must be 0 or more, min_height_m={self.min_height_m} finite"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AgentFutures:
    """Futures of A agents, one or several each, at `CHECK_TIMES_S`, in `ego` at reference time."""

    boxes: Float[np.ndarray, "F T 5"]
    """Centre x, y, length, width, heading."""
    num_known: Int[np.ndarray, " F"]
    """Steps of which anything is believed."""
    agent: Int[np.ndarray, " F"]
    """Whose future it is."""
    probability: Float[np.ndarray, " F"]
    names: tuple[str, ...]
    """Of the agents: class and identity, or the row of the detection without tracks."""
    is_person: Bool[np.ndarray, " A"]

    def __len__(self) -> int:
        return len(self.agent)

    def speeds(self, future: int) -> Float[np.ndarray, "T 2"]:
        """Velocity (vx, vy) at each time."""
        return np.gradient(self.boxes[future, :, :2], CHECK_STEP_S, axis=0)

    def describe(self, future: int) -> str:
        """The agent's name, and how likely this future is where there are others."""
        name = self.names[int(self.agent[future])]
        share = float(self.probability[future])
        return name if share >= 1.0 else f"{name} (forecast of {share:.0%})"


def futures_of(
    scene: SceneEstimate, rules: BeliefRules, own: Float[np.ndarray, "5"]
) -> tuple[AgentFutures, tuple[str, ...]]:
    """The futures of a scene's objects, and notes on what was left out.

    Args:
        scene: Tracks give identities, and stand for objects that this frame did not see.
        rules: What is believed.
        own: The vehicle's rectangle now: an object whose centre lies in it is a mistake.
    """
    rows, class_index, scores, identity, motion_row = _rows(scene)
    believed = scores >= rules.min_score
    columns = (BoxIndex.X, BoxIndex.Y, BoxIndex.LENGTH, BoxIndex.WIDTH, BoxIndex.YAW)
    place = rows[:, columns]
    is_usable = np.isfinite(place).all(axis=1) & (place[:, 2:4] > 0).all(axis=1)
    is_usable &= (class_index >= 0) & (class_index < len(DETECTION_CLASSES))
    inside = is_usable & _inside(place, own)
    notes = _counted(believed & ~is_usable, "with numbers that are not finite or no sizes")
    notes += _counted(believed & inside, "inside the vehicle itself")
    chosen = np.flatnonzero(believed & is_usable & ~inside)
    motion, words = _usable_motion(scene)
    notes += words
    agent, mode, probability = _modes(motion, motion_row[chosen], rules)
    path, num_known = _paths(rows[chosen], class_index[chosen], motion, motion_row[chosen], agent, mode, rules)
    boxes = np.empty((len(agent), len(CHECK_TIMES_S), 5))
    boxes[..., :2] = path
    boxes[..., 2:4] = place[chosen][agent, None, 2:4]
    boxes[..., 4] = _headings(path, place[chosen][agent, 4])
    names = tuple(f"{DETECTION_CLASSES[class_index[row]]} {identity[row]}" for row in chosen)
    is_person = class_index[chosen] == DETECTION_CLASSES.index("pedestrian")
    futures = AgentFutures(
        boxes=boxes, num_known=num_known, agent=agent, probability=probability, names=names, is_person=is_person
    )
    return futures, notes


def _rows(scene: SceneEstimate) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Box rows, classes, scores, identities, and the row of forecasts (-1 where none): detections, then tracks that
    this frame did not see.
    """
    parts = []
    tracks = scene.tracks
    if scene.detections is not None:
        found = scene.detections
        count = len(found)
        rows, identity = found.boxes.rows.astype(np.float64), np.arange(count)
        if tracks is not None:
            seen = (tracks.detection_index >= 0) & (tracks.detection_index < count)
            into = tracks.detection_index[seen]
            rows[into, BoxIndex.VX :] = tracks.boxes.rows[seen, BoxIndex.VX :]
            identity[into] = tracks.identity[seen]
        parts.append((rows, found.boxes.class_index, found.scores, identity, np.arange(count)))
    if tracks is not None:
        unseen = tracks.detection_index < 0 if scene.detections is not None else np.ones(len(tracks), bool)
        nothing = np.full(int(unseen.sum()), -1)
        rows = tracks.boxes.rows[unseen].astype(np.float64)
        parts.append((rows, tracks.boxes.class_index[unseen], tracks.scores[unseen], tracks.identity[unseen], nothing))
    if not parts:
        none = np.zeros(0, np.int64)
        return np.zeros((0, 9)), none, np.zeros(0), none, none
    rows, class_index, scores, identity, motion_row = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, class_index, scores, identity, motion_row


def _inside(place: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Centres within the vehicle's own rectangle, which is not turned."""
    offset = np.abs(place[:, :2] - own[:2])
    return (offset[:, 0] < own[2] / 2) & (offset[:, 1] < own[3] / 2)


def _counted(is_left_out: np.ndarray, why: str) -> tuple[str, ...]:
    count = int(is_left_out.sum())
    return (f"{count} object{'s' if count > 1 else ''} {why}: left out",) if count else ()


def _usable_motion(scene: SceneEstimate) -> tuple[MotionForecasts | None, tuple[str, ...]]:
    motion = scene.motion
    if motion is None or not len(motion):
        return None, ()
    count = -1 if scene.detections is None else len(scene.detections)
    if len(motion) != count or len(motion.trajectories_ego) != count or motion.dt_s <= 0:
        return None, (f"forecasts of {len(motion)} objects do not belong to {max(count, 0)} detections: left out",)
    return motion, ()


def _modes(
    motion: MotionForecasts | None, motion_row: np.ndarray, rules: BeliefRules
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Agent, mode and probability of every future; mode -1 goes on as the agent moves now."""
    count = len(motion_row)
    if motion is None:
        return np.arange(count), np.full(count, -1), np.ones(count)
    has_forecast = motion_row >= 0
    share = np.nan_to_num(motion.probabilities[motion_row.clip(0)].astype(np.float64))
    finite = np.isfinite(motion.trajectories_ego).all(axis=(2, 3))[motion_row.clip(0)]
    share = np.where(finite & has_forecast[:, None], share, -1.0)
    is_best = np.arange(share.shape[1]) == share.argmax(axis=1)[:, None]
    agent, mode = np.nonzero((share >= 0) & ((share >= rules.min_mode_probability) | is_best))
    alone = np.setdiff1d(np.arange(count), agent)
    return (
        np.concatenate((agent, alone)),
        np.concatenate((mode, np.full(len(alone), -1))),
        np.concatenate((share[agent, mode], np.ones(len(alone)))),
    )


def _paths(
    rows: np.ndarray,
    class_index: np.ndarray,
    motion: MotionForecasts | None,
    motion_row: np.ndarray,
    agent: np.ndarray,
    mode: np.ndarray,
    rules: BeliefRules,
) -> tuple[np.ndarray, np.ndarray]:
    """Centres (F, T, 2), and how many steps of each are believed."""
    velocity = np.nan_to_num(rows[:, BoxIndex.VX :], nan=0.0, posinf=0.0, neginf=0.0)
    standing = [DETECTION_CLASSES.index(name) for name in STANDING_CLASSES]
    stands = np.isin(class_index, standing) | (np.linalg.norm(velocity, axis=1) < _STANDING_MPS)
    velocity[stands] = 0.0
    center = rows[agent, : BoxIndex.Z]
    path = center[:, None] + velocity[agent, None] * CHECK_TIMES_S[:, None]
    extrapolated = 1 + int(rules.extrapolation_s / CHECK_STEP_S + 1e-6)
    num_known = np.where(stands[agent], len(CHECK_TIMES_S), min(extrapolated, len(CHECK_TIMES_S)))
    follows = np.flatnonzero(mode >= 0)
    if motion is not None and len(follows):
        steps = motion.trajectories_ego[motion_row[agent[follows]], mode[follows]].astype(np.float64)
        way = np.concatenate((center[follows, None], steps), axis=1)
        position = np.minimum(CHECK_TIMES_S / motion.dt_s, way.shape[1] - 1)
        low = np.minimum(position.astype(np.int64), way.shape[1] - 2)
        share = (position - low)[:, None]
        path[follows] = (1 - share) * way[:, low] + share * way[:, low + 1]
        known = 1 + int((way.shape[1] - 1) * motion.dt_s / CHECK_STEP_S + 1e-6)
        num_known[follows] = min(known, len(CHECK_TIMES_S))
    return path, num_known


def _headings(path: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Direction of motion (F, T) over the second around each time; where it is too short the box's own heading."""
    reach = round(0.5 / CHECK_STEP_S)
    index = np.arange(path.shape[1])
    chord = path[:, (index + reach).clip(max=path.shape[1] - 1)] - path[:, (index - reach).clip(min=0)]
    moved = np.linalg.norm(chord, axis=2) >= _MIN_CHORD_M
    return np.where(moved, np.arctan2(chord[..., 1], chord[..., 0]), yaw[:, None])
