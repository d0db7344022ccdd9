"""What every task keeps of an evaluation: statistics by scene, from which its numbers follow for any choice of scenes.

Numbers in `metrics.json`, numbers merged from several processes, and numbers that a bootstrap draws are all made from
the same statistics by the same code. Detection, map and occupancy have their own kind (`DetectionStatistics`,
`DenseStatistics`); every further task has one that is a `TaskStatistics`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np

Numbers = dict[str, dict[str, Any]]
"""Protocol -> its numbers as JSON."""

BASELINES = "baselines"
"""Where the numbers of a protocol keep those of predictions that need no model: name -> numbers."""


class TaskStatistics(Protocol):
    """A task of G scenes. Implementations are dataclasses of arrays, texts and numbers: a file can hold them."""

    task: ClassVar[str]
    """Key of the numbers in a row of `metrics.json`."""

    @property
    def scene_names(self) -> tuple[str, ...]:
        """The scenes, in the order of their weights."""

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """The numbers where each scene counts some whole number of times.

        Args:
            scene_weight: (G); None takes each scene once and adds the baselines.
        """

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Statistics of different scenes in one, in the order given; the numbers are those of the whole.

        Raises:
            ValueError: there is no part, or two of them hold the same scene.
        """


def joined_scene_names(parts: Sequence[TaskStatistics]) -> tuple[str, ...]:
    """The scenes of all parts, in their order.

    Raises:
        ValueError: there is no part, or two of them hold the same scene.
    """
    if not parts:
        raise ValueError("there are no statistics to merge; give those of at least one part")
    names = tuple(name for part in parts for name in part.scene_names)
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"scene {name} is in two of the statistics; merge those of different scenes")
        seen.add(name)
    return names


def whole_weights(scene_weight: np.ndarray) -> np.ndarray:
    """Weights of scenes as whole numbers.

    Raises:
        ValueError: one is negative or no whole number.
    """
    weights = np.rint(scene_weight).astype(np.int64)
    if (weights < 0).any() or not np.array_equal(weights, scene_weight):
        raise ValueError(f"scene_weight {scene_weight} must be whole numbers of 0 or more: how often each scene counts")
    return weights


def with_baselines(by_name: dict[str, dict[str, Any]], row: str) -> dict[str, Any]:
    """The numbers of a row, with those of all others as its baselines where there are any."""
    others = {name: numbers for name, numbers in by_name.items() if name != row}
    return {**by_name[row], **({BASELINES: others} if others else {})}
