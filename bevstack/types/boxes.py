"""Oriented boxes. One layout for ground truth, predictions and tensors; columns are named by `BoxIndex`."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float, Float32, Int64


class BoxIndex(IntEnum):
    """Columns of a box row: centre, size, heading, velocity. Metres, radians, metres per second."""

    X = 0
    Y = 1
    Z = 2
    LENGTH = 3
    WIDTH = 4
    HEIGHT = 5
    YAW = 6
    VX = 7
    VY = 8


BOX_COLUMNS = len(BoxIndex)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes3D:
    """N boxes in one frame of reference (`ego` at reference time unless a name says otherwise).

    z is the box *centre*. length is along the heading, width across it. yaw is counter-clockwise from x, in
    [-pi, pi). Velocity is that of the object over ground, expressed along the axes of the frame; NaN is unknown.
    """

    rows: Float32[np.ndarray, "N 9"]
    class_index: Int64[np.ndarray, " N"]
    """Index into `bevstack.data.class_names.DETECTION_CLASSES`."""

    def __post_init__(self) -> None:
        if self.rows.shape[1:] != (BOX_COLUMNS,) or len(self.rows) != len(self.class_index):
            raise ValueError(f"boxes {self.rows.shape} and classes {self.class_index.shape} must be (N, 9) and (N,)")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def centers(self) -> Float[np.ndarray, "N 3"]:
        """Box centres in metres."""
        return self.rows[:, BoxIndex.X : BoxIndex.Z + 1]

    @property
    def sizes(self) -> Float[np.ndarray, "N 3"]:
        """(length, width, height) in metres."""
        return self.rows[:, BoxIndex.LENGTH : BoxIndex.HEIGHT + 1]

    @property
    def yaws(self) -> Float[np.ndarray, " N"]:
        """Heading in radians."""
        return self.rows[:, BoxIndex.YAW]

    @property
    def velocities(self) -> Float[np.ndarray, "N 2"]:
        """(vx, vy) over ground in metres per second; NaN where unknown."""
        return self.rows[:, BoxIndex.VX : BoxIndex.VY + 1]

    @classmethod
    def empty(cls) -> "Boxes3D":
        """No boxes."""
        return cls(rows=np.zeros((0, BOX_COLUMNS), np.float32), class_index=np.zeros(0, np.int64))
