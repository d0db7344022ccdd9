"""What runs around a model in an evaluation: trackers, forecasts and planners, whichever fit."""

from types import SimpleNamespace
from typing import Any

import pytest

from bevstack.evaluation.full_session import full_session, plans_with_ego_status
from bevstack.planning.rule_planner import RulePlanner
from bevstack.planning.selector import LearnedPlanner


class Checkpoint:
    """A checkpoint of a model that finds nothing; it has learned to plan or not."""

    def __init__(self, *, plans: bool) -> None:
        self.model = SimpleNamespace(behaviour={"planning": None} if plans else {})

    def session(self, device: str, tracker: Any, **around: Any) -> SimpleNamespace:
        return SimpleNamespace(tracker=tracker, **around)


def made(*, plans: bool, is_whole: bool = True, planner: Any = None) -> Any:
    return full_session(Checkpoint(plans=plans), "cpu", is_whole=is_whole, planner=planner)  # type: ignore[arg-type]


def test_rules_plan_for_a_model_that_has_not_learned_to() -> None:
    session = made(plans=False)
    assert isinstance(session.planner, RulePlanner)
    assert session.tracker is not None and session.forecaster is not None
    assert isinstance(made(plans=True).planner, LearnedPlanner)
    assert isinstance(made(plans=True, planner="rule").planner, RulePlanner)
    assert made(plans=True, planner="none").planner is None


def test_with_gaps_between_the_frames_nothing_is_followed_or_planned() -> None:
    session = made(plans=True, is_whole=False)
    assert session.tracker is None and session.planner is None and session.forecaster is not None


def test_a_model_that_cannot_plan_is_not_asked_to() -> None:
    with pytest.raises(ValueError, match="has not learned to plan"):
        made(plans=False, planner="learned")
    with pytest.raises(ValueError, match="planner 'rules' is none of rule, learned, proposal, none"):
        made(plans=False, planner="rules")


def test_only_the_bare_proposal_of_a_model_that_is_not_told_is_made_without_the_vehicles_own_motion() -> None:
    def knows(planner: str, *, sees: bool, told: bool) -> bool:
        head = SimpleNamespace(conditions=SimpleNamespace(status=object() if sees else None))
        session = made(plans=True, planner=planner)
        session.ego_status, session.model = told, SimpleNamespace(behaviour={"planning": head})
        return plans_with_ego_status(session)

    assert knows("rule", sees=False, told=False) and knows("learned", sees=False, told=False)
    assert knows("proposal", sees=True, told=True)
    assert not knows("proposal", sees=True, told=False) and not knows("proposal", sees=False, told=True)
