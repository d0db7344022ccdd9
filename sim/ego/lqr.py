"""Following a plan by two linear-quadratic regulators, one for the speed and one for the way.

As NAVSIM simulates plans (Dauner et al., NeurIPS 2024, after nuPlan's tracker): one constant acceleration and one
constant steering rate over a horizon of ten steps of 0.1 s, of which the vehicle drives the first step only. The speed
is to be the plan's at the end of the horizon; what remains there of lateral error, heading error and steering is
weighed against the steering rate.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import wrap_angle
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.ego.motion import Command, VehicleState
from bevstack.sim.ego.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class LqrParams:
    """Weights and horizon; the defaults are NAVSIM's.

    Raises:
        ValueError: a weight is negative, or the horizon empty.
    """

    speed_weight: float = 10.0
    acceleration_weight: float = 1.0
    lateral_weights: tuple[float, float, float] = (1.0, 10.0, 0.0)
    """Of lateral error, heading error and wheel angle."""
    steering_rate_weight: float = 1.0
    horizon_steps: int = 10
    step_s: float = 0.1
    stopping_speed_mps: float = 0.2
    """Where vehicle and plan are both slower, the vehicle is only brought to rest."""
    stopping_gain_per_s: float = 0.5
    standing_mps: float = 0.05
    """A slower plan stands: the brakes are held."""
    hold_braking_mps2: float = 1.0
    feeds_forward: bool = False
    """Whether the plan's own acceleration is applied and the regulator corrects the rest. NAVSIM does not: its vehicle
    brakes a tenth weaker than asked and comes to rest on an exponential tail, metres too late after hard braking."""
    feed_forward_s: float = 0.3
    """Over which the plan's acceleration is taken; about the lag of engine and brakes."""

    def __post_init__(self) -> None:
        weights = (self.speed_weight, *self.lateral_weights)
        if min(weights) < 0 or min(self.acceleration_weight, self.steering_rate_weight) <= 0:
            raise ValueError(f"weights of errors must be 0 or more and those of the controls positive: {self}")
        if self.horizon_steps < 1 or not 0 < self.step_s < math.inf or not 0 < self.feed_forward_s < math.inf:
            raise ValueError(
                f"horizon_steps={self.horizon_steps} must be at least 1, step_s={self.step_s} and "
                f"feed_forward_s={self.feed_forward_s} positive"
            )


class LqrTracker:
    """Turns plan and state into commands; it keeps no memory.

    Args:
        vehicle: Whose wheelbase and limits.
        params: Weights and horizon.
    """

    def __init__(self, *, vehicle: VehicleParams = NUSCENES_VEHICLE, params: LqrParams | None = None) -> None:
        self.vehicle, self.params = vehicle, params or LqrParams()

    def command(self, state: VehicleState, reference: Reference, age_s: float) -> Command:
        """What to ask of the vehicle `age_s` after the plan was made, within the vehicle's limits."""
        p = self.params
        ahead = reference.speed_at(age_s + p.horizon_steps * p.step_s)
        here = reference.speed_at(age_s)
        if state.speed_mps <= p.stopping_speed_mps and max(here, ahead) <= p.stopping_speed_mps:
            braking = p.stopping_gain_per_s * (ahead - state.speed_mps)
            return Command(acceleration_mps2=min(braking, -p.hold_braking_mps2) if ahead < p.standing_mps else braking)
        acceleration = self._acceleration(state.speed_mps, here, ahead, reference, age_s)
        return Command(
            acceleration_mps2=acceleration,
            steering_rate_radps=self._steering_rate(state, reference, age_s, acceleration),
        )

    def _acceleration(self, speed: float, here: float, ahead: float, reference: Reference, age_s: float) -> float:
        p = self.params
        horizon_s = p.horizon_steps * p.step_s
        gain = horizon_s * p.speed_weight / (horizon_s**2 * p.speed_weight + p.acceleration_weight)
        if p.feeds_forward:
            planned = (reference.speed_at(age_s + p.feed_forward_s) - here) / p.feed_forward_s
            wanted = planned + gain * (here - speed)
            if ahead < p.standing_mps and here < speed + p.stopping_speed_mps:
                # A plan that stops within the interval stops no softer than it did before.
                wanted = min(wanted, -speed / max(self._stops_in(reference, age_s), p.step_s))
        else:
            wanted = gain * (ahead - speed)
        return min(max(wanted, -self.vehicle.max_braking_mps2), self.vehicle.max_acceleration_mps2)

    def _stops_in(self, reference: Reference, age_s: float) -> float:
        standing = reference.times_s[reference.speeds_mps < self.params.standing_mps]
        later = standing[standing >= age_s - 1e-9]
        return float(later[0] - age_s) if len(later) else 0.0

    def _steering_rate(self, state: VehicleState, reference: Reference, age_s: float, acceleration: float) -> float:
        p = self.params
        times = age_s + p.step_s * np.arange(p.horizon_steps)
        speeds = np.maximum(state.speed_mps + acceleration * p.step_s * np.arange(p.horizon_steps), 0.0)
        bend = self.vehicle.max_curvature_per_m
        curvatures = np.clip(reference.curvatures_at(times, p.step_s), -bend, bend)
        kept, by_rate, by_bend = self._horizon(speeds, curvatures)
        left = kept @ self._errors(state, reference, age_s) + by_bend
        weights = np.array(p.lateral_weights)
        rate = -float(by_rate @ (weights * left)) / (float(by_rate @ (weights * by_rate)) + p.steering_rate_weight)
        limit = self.vehicle.max_steering_rate_radps
        return min(max(rate, -limit), limit)

    @staticmethod
    def _errors(state: VehicleState, reference: Reference, age_s: float) -> Float[np.ndarray, "3"]:
        """Lateral error (left positive), heading error, and the angle that the wheels are on their way to."""
        x, y, yaw = reference.poses_at(np.array((age_s,)))[0]
        lateral = -math.sin(yaw) * (state.x_m - x) + math.cos(yaw) * (state.y_m - y)
        return np.array((lateral, float(wrap_angle(state.yaw_rad - yaw)), state.demanded_steering_rad))

    def _horizon(
        self, speeds: Float[np.ndarray, " N"], curvatures: Float[np.ndarray, " N"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The parts of `errors at the end = kept @ errors + by_rate * rate + by_bend`, linear in small angles.

        The plan's curvature enters as the wheel angle that drives it, so that a steady bend has no error of its own.
        """
        step_s, wheelbase = self.params.step_s, self.vehicle.wheelbase_m
        kept, by_rate, by_bend = np.eye(3), np.zeros(3), np.zeros(3)
        angles = np.arctan(wheelbase * curvatures)
        for speed, angle in zip(speeds, angles):
            one = np.eye(3)
            one[0, 1], one[1, 2] = speed * step_s, speed * step_s / wheelbase
            kept, by_rate, by_bend = one @ kept, one @ by_rate, one @ by_bend
            by_rate[2] += step_s
            by_bend[1] -= speed * step_s * angle / wheelbase
        return kept, by_rate, by_bend
