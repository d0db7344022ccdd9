"""A checkpoint at the wheel: the engine of training and of a vehicle, fed frame by frame, with its planner's plan."""

from collections.abc import Callable

from bevstack.engine import Session
from bevstack.sim.closed_loop.agents.protocol import DriveState
from bevstack.types.frame import Frame
from bevstack.types.scene import SceneEstimate
from bevstack.types.trajectory import Plan


class SessionAgent:
    """Implements `Agent`.

    Args:
        session: The engine, with a planner.
        name: In logs and tables.
        restrict: Thins each frame before the model sees it, to fewer sensors.

    Raises:
        ValueError: the engine has no planner.
    """

    needs_frames = True

    def __init__(
        self, session: Session, *, name: str, restrict: Callable[[Frame], Frame] = lambda frame: frame
    ) -> None:
        if session.planner is None:
            raise ValueError("an engine without a planner cannot drive: give the session one")
        self.session, self.name, self.restrict = session, name, restrict
        self.belief: SceneEstimate | None = None
        """What it believed at the last step, for pictures."""

    def begin(self, run: str) -> None:
        """Forget the last run."""
        self.session.reset()
        self.belief = None

    def act(self, frame: Frame | None, state: DriveState) -> Plan:
        """Perceive and plan.

        Raises:
            ValueError: there is no frame.
        """
        if frame is None:
            raise ValueError(f"the agent '{self.name}' was given no frame")
        self.belief = self.session.step(self.restrict(frame))
        assert self.belief.plan is not None
        return self.belief.plan
