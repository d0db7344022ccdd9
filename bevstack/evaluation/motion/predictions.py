"""Predicted motions of named objects as columns, and the file of the nuScenes prediction challenge.

The file is a JSON list with an entry for each object and key frame: `instance`, `sample` (tokens), `prediction` (modes
x steps x 2, metres in the `global` frame) and `probabilities` (one for each mode).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float64, Int64

MAX_MODES = 25
NUM_STEPS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionPredictions:
    """N objects with up to K modes of T steps."""

    instance_tokens: tuple[str, ...]
    sample_tokens: tuple[str, ...]
    trajectories: Float64[np.ndarray, "N K T 2"]
    """(x, y) in metres in the `global` frame, step k at (k + 1) / 2 s; NaN in modes that an object does not have."""
    probabilities: Float64[np.ndarray, "N K"]
    """NaN in modes that an object does not have."""
    num_modes: Int64[np.ndarray, " N"]

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(set(lengths.values())) > 1 or self.trajectories.shape[:2] != self.probabilities.shape:
            raise ValueError(f"columns must be of one length and number of modes, they are {lengths}")
        own = np.arange(self.probabilities.shape[1]) < self.num_modes[:, None]
        finite = np.isfinite(self.trajectories).all(axis=(2, 3)) & np.isfinite(self.probabilities)
        if (own & ~finite).any():
            row = int(np.argmax((own & ~finite).any(axis=1)))
            raise ValueError(
                f"the motion of instance {self.instance_tokens[row]} in sample {self.sample_tokens[row]} has a value "
                "that is no finite number"
            )

    def __len__(self) -> int:
        return len(self.num_modes)

    @classmethod
    def of(
        cls,
        instance_tokens: Sequence[str],
        sample_tokens: Sequence[str],
        modes: Sequence[np.ndarray],
        probabilities: Sequence[np.ndarray],
    ) -> "MotionPredictions":
        """From the modes (K, T, 2) and probabilities (K,) of each object; K may differ, T may not."""
        num_modes = np.array([len(each) for each in modes], np.int64)
        most, num_steps = max(num_modes, default=1), modes[0].shape[1] if len(modes) else NUM_STEPS
        trajectories = np.full((len(modes), most, num_steps, 2), np.nan)
        padded = np.full((len(modes), most), np.nan)
        for row, (own, weights) in enumerate(zip(modes, probabilities, strict=True)):
            trajectories[row, : len(own)], padded[row, : len(own)] = own, weights
        return cls(
            instance_tokens=tuple(instance_tokens),
            sample_tokens=tuple(sample_tokens),
            trajectories=trajectories,
            probabilities=padded,
            num_modes=num_modes,
        )

    def to_records(self) -> list[dict[str, Any]]:
        """The entries of the challenge's file."""
        return [
            {
                "instance": self.instance_tokens[row],
                "sample": self.sample_tokens[row],
                "prediction": self.trajectories[row, :count].tolist(),
                "probabilities": self.probabilities[row, :count].tolist(),
            }
            for row, count in enumerate(self.num_modes.tolist())
        ]

    @classmethod
    def from_records(cls, records: Any, *, source: str = "the predictions") -> "MotionPredictions":
        """Checked columns of the challenge's entries.

        Raises:
            ValueError: an entry is malformed; the message names the entry and the field.
        """
        if not isinstance(records, list):
            raise ValueError(f"{source} must be a list of entries, it is {type(records).__name__}")
        modes, probabilities = [], []
        seen: set[tuple[str, str]] = set()
        for number, record in enumerate(records):
            place = f"{source}: entry {number}"
            key = _tokens(record, place)
            place += f" (instance {key[0]}, sample {key[1]})"
            if key in seen:
                raise ValueError(f"{place} is there twice")
            seen.add(key)
            modes.append(_modes(record.get("prediction"), place))
            probabilities.append(_probabilities(record.get("probabilities"), len(modes[-1]), place))
        tokens = list(zip(*((record["instance"], record["sample"]) for record in records), strict=True)) or [(), ()]
        return cls.of(tokens[0], tokens[1], modes, probabilities)


def read_motion_predictions(path: str | Path) -> MotionPredictions:
    """Read a file of the prediction challenge.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not whole, or an entry is malformed; the message names file, entry and field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of predictions {path}")
    try:
        records = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); was it written to the end?") from error
    return MotionPredictions.from_records(records, source=str(path))


def write_motion_predictions(path: str | Path, predictions: MotionPredictions) -> None:
    """Write the file of the prediction challenge; numbers are read back to the last bit."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(predictions.to_records()))


def _tokens(record: Any, place: str) -> tuple[str, str]:
    if not isinstance(record, dict):
        raise ValueError(f"{place} must be an object with fields, it is {record!r}")
    for field in ("instance", "sample"):
        if not isinstance(record.get(field), str):
            raise ValueError(f"{place}: field '{field}' is {record.get(field)!r}; it must be a token")
    return record["instance"], record["sample"]


def _modes(value: Any, place: str) -> np.ndarray:
    modes = _numbers(value, f"{place}: field 'prediction'")
    if modes.ndim != 3 or modes.shape[1:] != (NUM_STEPS, 2) or not 1 <= len(modes) <= MAX_MODES:
        raise ValueError(
            f"{place}: field 'prediction' has shape {modes.shape}; it must be 1 to {MAX_MODES} modes x {NUM_STEPS} "
            "steps (6 s, 2 Hz) x 2"
        )
    return modes


def _probabilities(value: Any, num_modes: int, place: str) -> np.ndarray:
    probabilities = _numbers(value, f"{place}: field 'probabilities'")
    if probabilities.shape != (num_modes,):
        raise ValueError(f"{place}: field 'probabilities' has shape {probabilities.shape} for {num_modes} modes")
    if (probabilities < 0).any():
        raise ValueError(f"{place}: field 'probabilities' has {probabilities.min()}; none may be negative")
    return probabilities


def _numbers(value: Any, place: str) -> np.ndarray:
    try:
        numbers = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place} is no array of numbers: {str(value)[:80]}") from error
    if value is None or not np.isfinite(numbers).all():
        raise ValueError(f"{place} has a value that is no finite number")
    return numbers
