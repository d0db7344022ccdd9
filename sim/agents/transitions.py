"""How a value changes over from one level to another: the shapes that OpenSCENARIO 1.x names.

`DynamicsShape` of ASAM OpenSCENARIO XML 1.x: the cubic one is 3 x^2 - 2 x^3, the sinusoidal one (1 - cos(pi x)) / 2;
both begin and end without a slope. A share is the part of the change's duration (or way) that has passed.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

TransitionShape = Literal["linear", "cubic", "sinusoidal", "step"]
SHAPES: tuple[TransitionShape, ...] = get_args(TransitionShape)

PEAK_SLOPE: dict[TransitionShape, float] = {"linear": 1.0, "cubic": 1.5, "sinusoidal": math.pi / 2, "step": math.inf}
"""The steepest slope of each shape, where a linear change has 1."""


def progress(shape: TransitionShape, share: float) -> float:
    """Which part of the change is done, 0 to 1; 0 before its begin and 1 after its end.

    Args:
        shape: A step is done from its begin on.
        share: Of the duration; any number.

    Raises:
        ValueError: the shape is unknown, or the share is NaN.
    """
    _check(shape, share)
    if share < 0:
        return 0.0
    if share >= 1 or shape == "step":
        return 1.0
    if shape == "linear":
        return share
    if shape == "cubic":
        return share * share * (3.0 - 2.0 * share)
    return 0.5 * (1.0 - math.cos(math.pi * share))


def slope(shape: TransitionShape, share: float) -> float:
    """Change of `progress` per share; 0 outside of the change and for a step.

    Raises:
        ValueError: the shape is unknown, or the share is NaN.
    """
    _check(shape, share)
    if not 0 <= share < 1 or shape == "step":
        return 0.0
    if shape == "linear":
        return 1.0
    if shape == "cubic":
        return 6.0 * share * (1.0 - share)
    return 0.5 * math.pi * math.sin(math.pi * share)


def duration_of(shape: TransitionShape, change: float, peak_rate: float) -> float:
    """How long a change takes that is nowhere steeper than a rate; 0 for a step.

    Args:
        shape: Of the change.
        change: From the first value to the last, either sign.
        peak_rate: Per second (or per metre: then this is a way).

    Raises:
        ValueError: the shape is unknown, or the rate is not positive.
    """
    _check(shape, change)
    if not peak_rate > 0:
        raise ValueError(f"peak_rate={peak_rate} must be positive; the sign of a change is that of its two values")
    return 0.0 if shape == "step" else PEAK_SLOPE[shape] * abs(change) / peak_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A value that leaves `first` at 0 and arrives at `last` after `duration`, in seconds or metres.

    Raises:
        ValueError: the shape is unknown, or the duration is negative or not finite.
    """

    shape: TransitionShape
    first: float
    last: float
    duration: float

    def __post_init__(self) -> None:
        _check(self.shape, self.duration)
        if not 0 <= self.duration < math.inf:
            raise ValueError(f"duration={self.duration} must be 0 or more, and finite")

    def value(self, passed: float) -> float:
        """The value after some time (or way); `first` before the begin, `last` after the end."""
        return self.first + (self.last - self.first) * progress(self.shape, self._share(passed))

    def rate(self, passed: float) -> float:
        """Change of the value per second (or metre)."""
        if self.duration == 0:
            return 0.0
        return (self.last - self.first) * slope(self.shape, self._share(passed)) / self.duration

    def is_done(self, passed: float) -> bool:
        """Whether the value has arrived."""
        return progress(self.shape, self._share(passed)) == 1.0

    def _share(self, passed: float) -> float:
        return passed / self.duration if self.duration else (1.0 if passed >= 0 else -1.0)


def _check(shape: str, number: float) -> None:
    if shape not in SHAPES:
        raise ValueError(f"shape={shape!r} is none of {', '.join(SHAPES)}")
    if math.isnan(number):
        raise ValueError("a transition needs numbers, not NaN")
