"""What an agent is: at every step it sees a frame, knows its own state and route, and decides where to drive.

Nothing has to inherit. A stack in other processes fits as well: it answers None while it has not decided yet, and a
`Command` where it steers by itself.

Time is simulated: an agent may think as long as it likes within a step, its wall time is measured and never has a say.
What it may not do is stay undecided: after None at `LoopRules.undecided_steps` steps in a row the run ends by timeout.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bevstack.planning.vehicle import VehicleParams
from bevstack.sim.closed_loop.course import Course
from bevstack.sim.closed_loop.world import DrivenWorld
from bevstack.sim.ego.motion import Command
from bevstack.types.frame import EgoState, Frame
from bevstack.types.trajectory import Plan, Route

Decision = Plan | Command | None
"""A plan from the state that it was asked at; a command to the actuators; or nothing new: the last one goes on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """What nobody in a real vehicle knows; for privileged agents."""

    world: DrivenWorld
    course: Course
    red_line: tuple[float, float] | None
    """Stop line of the next light that is red now, in the town's frame."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DriveState:
    """What an agent is told besides the sensors."""

    step: int
    time_s: float
    ego: EgoState
    """The vehicle now, as it measures itself."""
    route: Route
    vehicle: VehicleParams
    truth: Truth


class Agent(Protocol):
    """Who drives."""

    name: str
    """In logs and tables."""
    needs_frames: bool
    """Whether sensors have to be simulated for it."""

    def begin(self, run: str) -> None:
        """A new run: nothing of the last one may remain.

        Args:
            run: Its name, unique in a suite.
        """
        ...

    def act(self, frame: Frame | None, state: DriveState) -> Decision:
        """Decide; whatever it raises ends the run, with its message as the reason.

        Args:
            frame: What the sensors see, of reference time `state.time_s`; None where they are not simulated.
            state: What else it knows.
        """
        ...


AgentFactory = Callable[[], Agent]
"""Makes an agent; it can be pickled, so that every process makes its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRules:
    """When a run ends early.

    Raises:
        ValueError: a number is not positive.
    """

    undecided_steps: int = 10
    """So many steps without a decision are a second; then the agent is too slow."""
    blocked_s: float = 60.0
    """Who stands this long makes no progress."""
    hang_s: float = field(default=900.0)
    """Wall time after which a single step of the agent is broken off. Far above what any agent takes: it keeps a suite
    from waiting for ever, and is the only place where wall time has a say."""

    def __post_init__(self) -> None:
        if self.undecided_steps < 1 or not self.blocked_s > 0 or not self.hang_s > 0:
            raise ValueError(f"{self}: all of them must be positive")
