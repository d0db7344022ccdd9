"""A Kalman filter of constant velocity for many objects at once: place and velocity over ground, axes apart.

The two axes do not influence each other, so that each object has one 2 x 2 covariance (of place and velocity) for both.
Kalman, A New Approach to Linear Filtering and Prediction Problems, 1960; white-noise acceleration as in Bar-Shalom et
al., Estimation with Applications to Tracking and Navigation, 2001, section 6.2.

Letters: N objects.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionNoise:
    """How far objects depart from constant velocity, and measurements from the truth.

    Raises:
        ValueError: a value that is not positive.
    """

    acceleration_mps2: float = 2.0
    """Standard deviation of the acceleration, constant for a second."""
    place_m: float = 0.4
    """Of a measured centre along each axis."""
    velocity_mps: float = 1.0
    """Of a measured velocity along each axis."""
    unknown_velocity_mps: float = 10.0
    """Of the velocity of a new object that was measured without one."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")


@dataclass(slots=True, kw_only=True)
class MotionStates:
    """What is believed of each object."""

    place_m: Float[np.ndarray, "N 2"]
    velocity_mps: Float[np.ndarray, "N 2"]
    covariance: Float[np.ndarray, "N 2 2"]
    """Of (place, velocity) along either axis."""

    @classmethod
    def of_measurements(
        cls, place_m: Float[np.ndarray, "N 2"], velocity_mps: Float[np.ndarray, "N 2"], noise: MotionNoise
    ) -> "MotionStates":
        """New objects; a velocity that is NaN starts at zero and wide open."""
        known = np.isfinite(velocity_mps).all(axis=1)
        spread = np.where(known, noise.velocity_mps, noise.unknown_velocity_mps)
        covariance = np.zeros((len(place_m), 2, 2))
        covariance[:, 0, 0], covariance[:, 1, 1] = noise.place_m**2, spread**2
        return cls(
            place_m=place_m.astype(np.float64),
            velocity_mps=np.where(known[:, None], velocity_mps, 0.0),
            covariance=covariance,
        )

    def after(self, dt_s: float, noise: MotionNoise) -> "MotionStates":
        """The states `dt_s` later, if nothing is measured."""
        step = np.array(((1.0, dt_s), (0.0, 1.0)))
        drift = noise.acceleration_mps2**2 * np.array(((dt_s**3 / 3, dt_s**2 / 2), (dt_s**2 / 2, dt_s)))
        return MotionStates(
            place_m=self.place_m + dt_s * self.velocity_mps,
            velocity_mps=self.velocity_mps.copy(),
            covariance=step @ self.covariance @ step.T + drift,
        )

    def updated(
        self,
        rows: np.ndarray,
        place_m: Float[np.ndarray, "M 2"],
        velocity_mps: Float[np.ndarray, "M 2"],
        noise: MotionNoise,
    ) -> "MotionStates":
        """The states after the objects in `rows` were measured; a velocity that is NaN was not measured."""
        place, velocity, covariance = self.place_m.copy(), self.velocity_mps.copy(), self.covariance.copy()
        known = np.isfinite(velocity_mps).all(axis=1)
        for chosen, measured in ((known, (0, 1)), (~known, (0,))):
            own = rows[chosen]
            if not len(own):
                continue
            before = covariance[own]
            spread = np.diag((noise.place_m**2, noise.velocity_mps**2))[np.ix_(measured, measured)]
            seen = before[:, list(measured)][:, :, list(measured)]
            gain = before[:, :, list(measured)] @ np.linalg.inv(seen + spread)
            apart = np.stack((place_m[chosen] - place[own], velocity_mps[chosen] - velocity[own]), axis=1)  # (M, 2, xy)
            change = gain @ apart[:, list(measured)]
            place[own] += change[:, 0]
            velocity[own] += change[:, 1]
            covariance[own] = before - gain @ before[:, list(measured)]
        return MotionStates(place_m=place, velocity_mps=velocity, covariance=covariance)

    def take(self, rows: np.ndarray) -> "MotionStates":
        """Some of the objects."""
        return MotionStates(
            place_m=self.place_m[rows], velocity_mps=self.velocity_mps[rows], covariance=self.covariance[rows]
        )

    def joined(self, other: "MotionStates") -> "MotionStates":
        """These objects, then the others."""
        return MotionStates(
            place_m=np.concatenate((self.place_m, other.place_m)),
            velocity_mps=np.concatenate((self.velocity_mps, other.velocity_mps)),
            covariance=np.concatenate((self.covariance, other.covariance)),
        )
