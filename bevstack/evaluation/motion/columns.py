"""Found objects with their predicted motions, and annotated ones with what they did: the two sides of `motion/epa-*`.

All coordinates are those of the nuScenes `global` frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float64, Int32, Int64

from bevstack.data.class_names import CLASS_OF_CATEGORY, DETECTION_CLASSES, LIDAR_NAME
from bevstack.data.index import DatasetIndex
from bevstack.evaluation.motion.agent_future import STEP_S, AgentFutures, agent_futures
from bevstack.evaluation.motion.baselines import CONSTANT_VELOCITY, COPY_LAST, EMPTY, constant_velocity, copy_last
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.types.errors import DatasetError


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionColumns:
    """N found boxes with K modes of T steps each."""

    boxes: BoxColumns
    trajectories: Float64[np.ndarray, "N K T 2"]
    """(x, y) in metres in the `global` frame, step k at (k + 1) / 2 s after the key frame."""
    probabilities: Float64[np.ndarray, "N K"]
    """Of the modes of one box; need not add up to 1."""

    def __post_init__(self) -> None:
        shape = self.trajectories.shape
        if len(shape) != 4 or shape[0] != len(self.boxes) or shape[3] != 2 or self.probabilities.shape != shape[:2]:
            raise ValueError(
                f"trajectories {shape} and probabilities {self.probabilities.shape} must be (N, K, T, 2) and (N, K) "
                f"for {len(self.boxes)} boxes"
            )
        if shape[0] and not shape[1]:
            raise ValueError("a box needs at least one mode; standing still is one")
        finite = np.isfinite(self.trajectories).all(axis=(1, 2, 3)) & np.isfinite(self.probabilities).all(axis=1)
        if not finite.all():
            token = self.boxes.sample_tokens[self.boxes.sample_index[int(np.argmin(finite))]]
            raise ValueError(f"the motion of a box of sample {token} has a value that is no finite number")

    def most_probable(self, num_modes: int) -> Float64[np.ndarray, "N M T 2"]:
        """The trajectories of at most so many modes, best first; of equal ones the earlier comes first."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :num_modes]
        return np.take_along_axis(self.trajectories, best[:, :, None, None], axis=1)

    def take(self, rows: np.ndarray) -> "MotionColumns":
        """Some boxes of the same samples: a mask, or row numbers whose samples ascend."""
        return MotionColumns(
            boxes=self.boxes.take(rows), trajectories=self.trajectories[rows], probabilities=self.probabilities[rows]
        )

    def select(self, sample_tokens: Sequence[str]) -> "MotionColumns":
        """The boxes of some samples, in the order given.

        Raises:
            ValueError: a sample is missing; one without objects needs an empty list.
        """
        chosen = self.boxes.select(sample_tokens)
        place = {token: number for number, token in enumerate(self.boxes.sample_tokens)}
        first = self.boxes.sample_first
        rows = list(chain.from_iterable(range(first[place[t]], first[place[t] + 1]) for t in sample_tokens))
        return MotionColumns(boxes=chosen, trajectories=self.trajectories[rows], probabilities=self.probabilities[rows])

    def baselines(self) -> dict[str, "MotionColumns"]:
        """The same boxes moving on at their own velocity, and standing still; and no boxes at all."""
        num_steps = self.trajectories.shape[2]
        here, certain = self.boxes.translation[:, :2], np.ones((len(self.boxes), 1))
        onward = constant_velocity(here, self.boxes.velocity, num_steps=num_steps, step_s=STEP_S)
        still = copy_last(here, num_steps=num_steps)
        nothing = MotionColumns(
            boxes=self.boxes.take(np.zeros(len(self.boxes), bool)),
            trajectories=np.zeros((0, 1, num_steps, 2)),
            probabilities=np.zeros((0, 1)),
        )
        return {
            CONSTANT_VELOCITY: MotionColumns(boxes=self.boxes, trajectories=onward, probabilities=certain),
            COPY_LAST: MotionColumns(boxes=self.boxes, trajectories=still, probabilities=certain),
            EMPTY: nothing,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionTruth:
    """M annotated boxes of the ten detection classes, and where they went."""

    sample_tokens: tuple[str, ...]
    sample_scene: Int64[np.ndarray, " S"]
    """Row of each sample's scene in the index."""
    T_global_ego: Float64[np.ndarray, "S 4 4"]
    """The vehicle at the LiDAR key frame."""
    T_global_lidar: Float64[np.ndarray, "S 4 4"]
    sample_index: Int32[np.ndarray, " M"]
    """Which sample; ascending."""
    class_index: Int64[np.ndarray, " M"]
    """Index into `DETECTION_CLASSES`."""
    num_lidar_points: Int64[np.ndarray, " M"]
    num_radar_points: Int64[np.ndarray, " M"]
    futures: AgentFutures

    @property
    def positions(self) -> Float64[np.ndarray, "M 3"]:
        """Box centres now."""
        return self.futures.T_global_agent[:, :3, 3]

    @property
    def sample_first(self) -> Int64[np.ndarray, " S+1"]:
        """Boxes of sample s are the rows from `sample_first[s]` to `sample_first[s + 1] - 1`."""
        return np.searchsorted(self.sample_index, np.arange(len(self.sample_tokens) + 1))


def read_motion_truth(index: DatasetIndex, sample_tokens: Sequence[str], *, horizon_s: float = 6.0) -> MotionTruth:
    """The annotated boxes of some samples with their futures.

    Raises:
        DatasetError: a sample does not exist or has no LiDAR key frame, which says where the vehicle is.
        CalibrationError: a pose is not usable.
        ValueError: see `agent_futures`.
    """
    samples = [index.sample_row(token) for token in sample_tokens]
    class_of = np.array([_class_of(name) for name in index.categories], np.int64)
    ranges = [index.annotation_rows(sample) for sample in samples]
    rows = np.array(list(chain.from_iterable(ranges)), np.int64)
    own = np.repeat(np.arange(len(samples), dtype=np.int32), [len(each) for each in ranges])
    classes = class_of[index["instance_category"][index["annotation_instance"][rows]]] if len(rows) else rows
    rows, own, classes = rows[classes >= 0], own[classes >= 0], classes[classes >= 0]
    readings = [_lidar_reading(index, sample) for sample in samples]
    T_global_ego = index.T_global_ego(readings)
    points = {
        name: index[f"annotation_num_{name}_points"][rows].astype(np.int64) if len(rows) else rows
        for name in ("lidar", "radar")
    }
    return MotionTruth(
        sample_tokens=tuple(sample_tokens),
        sample_scene=index["sample_scene"][samples].astype(np.int64),
        T_global_ego=T_global_ego,
        T_global_lidar=T_global_ego @ index.T_ego_sensor(readings),
        sample_index=own,
        class_index=classes,
        num_lidar_points=points["lidar"],
        num_radar_points=points["radar"],
        futures=agent_futures(index, rows, horizon_s=horizon_s),
    )


def _lidar_reading(index: DatasetIndex, sample: int) -> int:
    row = index.key_data_row(sample, LIDAR_NAME)
    if row < 0:
        raise DatasetError(f"sample {index.sample_tokens[sample]} in {index.folder} has no {LIDAR_NAME} key frame")
    return row


def _class_of(category: str) -> int:
    name = CLASS_OF_CATEGORY.get(category)
    return -1 if name is None else DETECTION_CLASSES.index(name)
