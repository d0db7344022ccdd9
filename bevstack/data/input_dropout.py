"""Inputs other than sensors that go missing in training, so that a model works without them. Each is an `Augmentation`.

A planner that is always given the vehicle's own speed learns to go on as it went and stops looking at the road (Zhai et
al., AD-MLP, 2023; Li et al., BEV-Planner, CVPR 2024); a model that is always given a cue cannot do without one.
"""

from dataclasses import dataclass, replace

import numpy as np

from bevstack.data.augment import check_probability
from bevstack.types.frame import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoStatusDropout:
    """Speed, acceleration and yaw rate become unknown (NaN), all three together; the pose stays.

    Args:
        probability: chance for each frame.

    Raises:
        ValueError: it is outside [0, 1].
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """The frame, perhaps without its status."""
        if rng.uniform() >= self.probability:
            return frame
        unknown = float("nan")
        ego = replace(frame.ego, speed_mps=unknown, acceleration_mps2=unknown, yaw_rate_radps=unknown)
        return replace(frame, ego=ego)


@dataclass(frozen=True, slots=True, kw_only=True)
class CueDropout:
    """The cue goes missing.

    Args:
        probability: chance for each frame.

    Raises:
        ValueError: it is outside [0, 1].
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """The frame, perhaps without its cue."""
        return replace(frame, cue=None) if rng.uniform() < self.probability else frame
