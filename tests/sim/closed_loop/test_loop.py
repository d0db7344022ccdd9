"""The closed loop: who collides, determinism, and every way in which a run may end."""

import numpy as np
import pytest

from bevstack.sim.closed_loop.agents.constant_velocity import ConstantVelocityAgent, UnprotectedAgent
from bevstack.sim.closed_loop.agents.oracle import OracleAgent
from bevstack.sim.closed_loop.agents.protocol import LoopRules
from bevstack.sim.closed_loop.loop import drive
from bevstack.sim.closed_loop.stage import set_up
from bevstack.sim.scenario.catalogue import load_scenario
from bevstack.sim.scenario.variations import concrete


def stage(name="CCRs", **values):
    return set_up(concrete(load_scenario(name), values))


class Deciding:
    """An agent whose decisions a test makes."""

    name, needs_frames = "deciding", False

    def __init__(self, decide):
        self.decide = decide
        self.honest = ConstantVelocityAgent()

    def begin(self, run):
        self.honest.begin(run)

    def act(self, frame, state):
        return self.decide(self.honest.act(frame, state), state.step)


def test_constant_velocity_hits_a_standing_car_and_the_oracle_stops_before_it():
    blind, seeing = drive(stage(), ConstantVelocityAgent()), drive(stage(), OracleAgent())
    assert (blind.ending, seeing.ending) == ("collision", "duration")
    assert blind.ego_speeds_mps[-1] == pytest.approx(blind.ego_speeds_mps[0], abs=0.1)
    assert seeing.ego_speeds_mps[-1] < 0.2


def test_the_unprotected_agent_keeps_its_lane_through_a_turn_where_constant_velocity_leaves_it():
    scenario = concrete(load_scenario("CrossingBicycleFlow"))
    kept, left = (drive(set_up(scenario), agent) for agent in (UnprotectedAgent(), ConstantVelocityAgent()))
    assert "touched target" in kept.remark
    assert left.ending == "duration"
    assert abs(left.ego_poses[-1, 2] - left.ego_poses[0, 2]) < 0.01


def test_a_log_has_a_row_for_every_step_and_begins_before_anything_moved():
    log = drive(stage(), ConstantVelocityAgent())
    steps = len(log.ego_poses)
    assert len(log.step_seconds) == steps == len(log.plans) + 1
    assert all(len(actor.poses) == steps for actor in log.actors)
    assert tuple(log.ego_poses[0]) == stage().course.start.pose
    assert np.diff(log.times_s) == pytest.approx(0.1)


def test_an_agent_that_raises_ends_its_run_with_what_it_raised():
    def decide(plan, step):
        if step == 3:
            raise RuntimeError("out of memory")
        return plan

    log = drive(stage(), Deciding(decide))
    assert (log.ending, log.remark) == ("agent_error", "act: RuntimeError: out of memory")
    assert len(log.ego_poses) == len(log.plans) == 4
    assert log.plans[3] is None


def test_a_plan_that_is_not_finite_is_a_divergence():
    def decide(plan, step):
        plan.trajectory.poses_ego[0, 0] = np.nan if step == 2 else plan.trajectory.poses_ego[0, 0]
        return plan

    log = drive(stage(), Deciding(decide))
    assert log.ending == "diverged"
    assert "finite" in log.remark
    assert np.isfinite(log.ego_poses).all()


def test_an_agent_that_stays_undecided_runs_out_of_time_while_its_last_plan_goes_on():
    log = drive(stage(), Deciding(lambda plan, step: plan if step < 5 else None), rules=LoopRules(undecided_steps=7))
    assert log.ending == "timeout"
    assert len(log.ego_poses) == 5 + 7
    assert log.ego_speeds_mps[-1] == pytest.approx(log.ego_speeds_mps[0], abs=0.1)


def test_an_agent_that_decides_every_other_step_is_slow_but_not_too_slow():
    log = drive(stage(), Deciding(lambda plan, step: None if step % 2 else plan))
    assert log.ending == "collision"


def test_an_agent_that_hangs_is_broken_off():
    def decide(plan, step):
        while step == 1:
            pass
        return plan

    log = drive(stage(), Deciding(decide), rules=LoopRules(hang_s=0.3))
    assert log.ending == "timeout"
    assert "did not come back" in log.remark
