"""What a session believes of a frame as predictions: plans at the steps of the protocols, with what was asked for."""

import numpy as np
import pytest

from bevstack.evaluation.planning.file import NO_COMMAND
from bevstack.evaluation.predictions.predicted import Predicted
from bevstack.types.scene import SceneEstimate
from bevstack.types.trajectory import COMMANDS, Plan, Route, RouteCommand, Trajectory


def straight(speed_mps: float, dt_s: float, steps: int) -> Plan:
    times = dt_s * np.arange(1, steps + 1)
    poses = np.stack((speed_mps * times, np.zeros(steps), np.zeros(steps)), axis=1)
    trajectory = Trajectory(poses_ego=poses, speeds_mps=np.full(steps, speed_mps), dt_s=dt_s)
    return Plan(trajectory=trajectory, source="candidate", reasons=())


def estimate(token: str, plan: Plan | None) -> SceneEstimate:
    return SceneEstimate(token=token, timestamp_us=0, plan=plan)


@pytest.mark.parametrize(("dt_s", "steps"), [(0.1, 40), (0.5, 6), (0.25, 4)])
def test_a_plan_is_told_at_half_seconds_whatever_its_own_steps(dt_s: float, steps: int) -> None:
    route = Route(command=RouteCommand.LEFT, waypoints_ego=np.zeros((0, 2)), speed_limit_mps=np.nan)
    found = Predicted.of_estimate(estimate("a", straight(6.0, dt_s, steps)), np.eye(4), route)
    assert found.tasks == ("planning",) and found.planning is not None
    np.testing.assert_allclose(found.planning.poses[0, :, 0], 6.0 * 0.5 * np.arange(1, 7))
    np.testing.assert_allclose(found.planning.poses[0, :, 1:], 0.0, atol=1e-12)
    assert COMMANDS[found.planning.command_index[0]] == RouteCommand.LEFT
    assert (found.planning.uses_ego_status, found.planning.command_source, found.planning.frame) == (
        True,
        "route",
        "ego",
    )


def test_without_a_route_there_is_no_command_and_without_a_plan_nothing() -> None:
    frames = [Predicted.of_estimate(estimate(name, straight(3.0, 0.5, 6)), np.eye(4)) for name in "ab"]
    both = Predicted.concatenate(frames)
    assert both.planning is not None and both.planning.command_index.tolist() == [NO_COMMAND, NO_COMMAND]
    assert both.select(["b"]).planning.sample_tokens == ("b",)  # type: ignore[union-attr]
    assert Predicted.of_estimate(estimate("a", None), np.eye(4)).tasks == ()
