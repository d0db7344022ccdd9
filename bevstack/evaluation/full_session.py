"""A model with everything that can run around it, so that an evaluation says something of every task.

Tracks need every frame of a scene, and planning is scored on whole splits only: with gaps between the frames there are
neither. Objects of a model that does not forecast go on at their velocity. Planners think without a clock: what they
decide does not depend on how busy the machine is.
"""

from typing import Literal, get_args

from bevstack.engine import CueSource, Session
from bevstack.evaluation.checkpoint import Checkpoint
from bevstack.perception.tracking.forecast import ConstantVelocityForecaster
from bevstack.perception.tracking.tracker import Tracker
from bevstack.planning.first_proposal import FirstProposal
from bevstack.planning.rule_planner import RulePlanner
from bevstack.planning.selector import LearnedPlanner
from bevstack.types.interfaces import Planner

PlannerChoice = Literal["rule", "learned", "proposal", "none"]
PLANNERS: tuple[PlannerChoice, ...] = get_args(PlannerChoice)
_PROPOSES = "planning"
"""The part of the second stage that proposes where to drive."""


def full_session(
    checkpoint: Checkpoint,
    device: str,
    *,
    is_whole: bool,
    planner: PlannerChoice | None,
    cues: CueSource = "cached",
    ego_status: bool = True,
) -> Session:
    """An engine that tracks, forecasts and plans.

    Args:
        checkpoint: The model.
        device: Where it runs.
        is_whole: Whether it sees every frame of its scenes.
        planner: Who plans; None is the model where it has learned to, else the rules.
        cues: Where a model that reads text has it from, see `Session`.
        ego_status: Whether the model may see the vehicle's own motion; planners always do, but for a bare proposal.

    Raises:
        ValueError: the model has not learned to plan, but is asked to.
    """
    return checkpoint.session(
        device,
        Tracker() if is_whole else None,
        forecaster=ConstantVelocityForecaster(),
        planner=_planner(checkpoint, planner) if is_whole else None,
        cues=cues,
        ego_status=ego_status,
    )


def _planner(checkpoint: Checkpoint, choice: PlannerChoice | None) -> Planner | None:
    proposes = _PROPOSES in checkpoint.model.behaviour
    choice = choice or ("learned" if proposes else "rule")
    if choice not in PLANNERS:
        raise ValueError(f"planner '{choice}' is none of {', '.join(PLANNERS)}")
    if choice in ("learned", "proposal") and not proposes:
        raise ValueError(
            "this model has not learned to plan (no model.behaviour.planning): choose --planner rule, or none"
        )
    rules = RulePlanner(clock=_no_clock)
    learned = LearnedPlanner(rules=rules, clock=_no_clock)
    return {"none": None, "rule": rules, "learned": learned, "proposal": FirstProposal()}[choice]


def plans_with_ego_status(session: Session) -> bool:
    """Whether what plans knows the vehicle's own motion: all do but the bare proposal of a model that is not told."""
    if not isinstance(session.planner, FirstProposal):
        return True
    conditions = getattr(session.model.behaviour[_PROPOSES], "conditions", None)
    return session.ego_status and getattr(conditions, "status", None) is not None


def _no_clock() -> float:
    return 0.0
