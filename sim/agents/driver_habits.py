"""How a driver accelerates behind others: the intelligent driver model with its usual habits.

Treiber, Hennecke, Helbing, Congested traffic states in empirical observations and microscopic simulations, Phys. Rev. E
62 (2000). Unless told otherwise a driver accelerates by 1.5 m/s2, brakes by 2 m/s2 and keeps 1.5 s and 2 m.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from bevstack.planning.idm import IdmParams, following

_TOP_SPEED_FLOOR_MPS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverHabits:
    """One driver.

    Raises:
        ValueError: the wished speed or the hardest braking is not positive.
    """

    idm: IdmParams = field(default_factory=lambda: IdmParams(headway_s=1.5))
    wished_mps: float = np.inf
    """Never faster than this; slower where the road says so."""
    max_braking_mps2: float = 8.0

    def __post_init__(self) -> None:
        if not self.wished_mps > 0 or not self.max_braking_mps2 > 0:
            raise ValueError(
                f"wished_mps={self.wished_mps} and max_braking_mps2={self.max_braking_mps2} must be positive"
            )

    def acceleration(self, speed: float, allowed: float, gap_m: float, lead_speed: float) -> float:
        """What the driver does now.

        Args:
            speed: Own, 0 or more.
            allowed: Highest speed of the road here.
            gap_m: Free distance ahead of the front bumper; infinite where nobody is ahead.
            lead_speed: Of who ends it.
        """
        wished = max(min(self.wished_mps, allowed), _TOP_SPEED_FLOOR_MPS)
        free = self.idm.acceleration_mps2 * (1.0 - (speed / wished) ** 4)
        # Above the wished speed the model alone would brake as for a wall.
        free = max(free, -self.idm.comfortable_braking_mps2)
        taken = following(speed, gap_m, max(lead_speed, 0.0), self._row()) if np.isfinite(gap_m) else 0.0
        return float(min(max(free + taken, -self.max_braking_mps2), self.idm.acceleration_mps2))

    def _row(self) -> Float[np.ndarray, "4"]:
        idm = self.idm
        return np.array(
            (idm.acceleration_mps2, idm.comfortable_braking_mps2, idm.headway_s, idm.standstill_gap_m), np.float64
        )


def advanced(speed: float, acceleration: float, dt_s: float) -> tuple[float, float]:
    """Speed after a time at constant acceleration, and the way; who brakes to a stop stays."""
    after = speed + acceleration * dt_s
    if after > 0:
        return after, 0.5 * (speed + after) * dt_s
    return 0.0, speed * speed / (-2 * acceleration) if acceleration < 0 else 0.0
