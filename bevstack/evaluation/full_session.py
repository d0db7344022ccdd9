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
from bevstack.planning.rule_planner import RulePlanner
from bevstack.planning.selector import LearnedPlanner
from bevstack.types.interfaces import Planner

PlannerChoice = Literal["rule", "learned", "none"]
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
) -> Session:
    """An engine that tracks, forecasts and plans.

    Args:
        checkpoint: The model.
        device: Where it runs.
        is_whole: Whether it sees every frame of its scenes.
        planner: Who plans; None is the model where it has learned to, else the rules.
        cues: Where a model that reads text has it from, see `Session`.

    Raises:
        ValueError: the model has not learned to plan, but is asked to.
    """
    return checkpoint.session(
        device,
        Tracker() if is_whole else None,
        forecaster=ConstantVelocityForecaster(),
        planner=_planner(checkpoint, planner) if is_whole else None,
        cues=cues,
    )


def _planner(checkpoint: Checkpoint, choice: PlannerChoice | None) -> Planner | None:
    proposes = _PROPOSES in checkpoint.model.behaviour
    choice = choice or ("learned" if proposes else "rule")
    if choice not in PLANNERS:
        raise ValueError(f"planner '{choice}' is none of {', '.join(PLANNERS)}")
    if choice == "learned" and not proposes:
        raise ValueError(
            "this model has not learned to plan (no model.behaviour.planning): choose --planner rule, or none"
        )
    rules = RulePlanner(clock=_no_clock)
    return {"none": None, "rule": rules, "learned": LearnedPlanner(rules=rules, clock=_no_clock)}[choice]


def _no_clock() -> float:
    return 0.0
