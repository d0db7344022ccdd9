"""The ego vehicle of a closed loop: follows plans or obeys commands, one control step at a time."""

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.ego.kinematic import KinematicBicycle
from bevstack.sim.ego.latency import ControlLatency
from bevstack.sim.ego.lqr import LqrParams, LqrTracker
from bevstack.sim.ego.motion import Command, VehicleModel, VehicleState
from bevstack.sim.ego.reference import Reference
from bevstack.types.trajectory import Plan

CONTROL_STEP_S = 0.1
"""Between two commands of the tracker."""


class EgoVehicle:
    """State, model, tracker and latency in one.

    Args:
        state: At the beginning.
        vehicle: Its size and limits.
        model: What moves it; a kinematic bicycle where not given.
        tracker: What follows plans. Where not given, NAVSIM's regulators with the plan's own acceleration fed forward:
            an emergency stop is a stop at the plan's deceleration.
        latency_s: Between command and effect.
    """

    def __init__(
        self,
        state: VehicleState,
        *,
        vehicle: VehicleParams = NUSCENES_VEHICLE,
        model: VehicleModel | None = None,
        tracker: LqrTracker | None = None,
        latency_s: float = 0.0,
    ) -> None:
        self.state, self.vehicle = state, vehicle
        self.model: VehicleModel = model or KinematicBicycle(vehicle=vehicle)
        self.tracker = tracker or LqrTracker(vehicle=vehicle, params=LqrParams(feeds_forward=True))
        self.latency = ControlLatency(delay_s=latency_s)
        self._now_s = 0.0
        self._reference: Reference | None = None
        self._planned_at_s = 0.0
        self._command = Command()

    def follow(self, plan: Plan, *, planned_from: VehicleState | None = None, age_s: float = 0.0) -> None:
        """Follow a plan from now on, a stop plan like any other.

        Args:
            plan: In the ego frame of the state that it was made from.
            planned_from: That state; the present one where not given.
            age_s: How long ago that was.

        Raises:
            ValueError: the plan is empty or not finite.
        """
        self._reference = Reference.of(plan.trajectory, planned_from or self.state)
        self._planned_at_s = self._now_s - age_s

    def obey(self, command: Command) -> None:
        """Follow no plan but a command, until told otherwise."""
        self._reference, self._command = None, command

    def advance(self, dt_s: float = CONTROL_STEP_S, friction: float = 1.0) -> VehicleState:
        """Drive on for a control step; the state after it.

        Raises:
            ValueError: the time or the friction is not positive, a command not finite.
        """
        if self._reference is not None:
            age_s = self._now_s - self._planned_at_s
            self._command = self.tracker.command(self.state, self._reference, age_s)
        self.latency.give(self._command, self._now_s)
        end_s = round(self._now_s + dt_s, 9)
        while self._now_s < end_s:
            command = self.latency.at(self._now_s)
            until_s = self.latency.changes_before(end_s)
            self.state = self.model.step(self.state, command, until_s - self._now_s, friction)
            self._now_s = until_s
        return self.state
