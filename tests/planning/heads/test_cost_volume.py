from dataclasses import replace

import pytest
import torch
from fixtures.agents import GRID, WIDTH, frame_of
from fixtures.planning_scenes import (
    CAR_AHEAD,
    LEFT,
    NAN,
    RIGHT,
    STRAIGHT,
    batch_of,
    driven,
    frame_of_batch,
    labels_of,
    scene,
    shaken,
    two_frames,
)

from bevstack.planning.costs import RuleCosts
from bevstack.planning.expert import Expert
from bevstack.planning.heads.cost_volume import CostVolumeOutput, CostVolumePlanner, MarginSettings, max_margin
from bevstack.planning.sampling import TrajectorySampler
from bevstack.types.context import SceneContext

PAPER = MarginSettings(of="trajectory", limit_m2=float("inf"), hardest=1)
TERMS = {"max_margin", "refinement", "speed"}


def make_planner(**changes: object) -> CostVolumePlanner:
    torch.manual_seed(0)
    options = {"in_channels": WIDTH, "agent_channels": WIDTH, "channels": 16, "hidden": 32, "num_proposals": 10}
    parts = {"sampler": TrajectorySampler(candidates=60), "costs": RuleCosts(spacing_m=0.8), "map_grid": GRID}
    return CostVolumePlanner(**{**options, **parts, **changes}).eval()


def values(output: CostVolumeOutput) -> list[torch.Tensor]:
    return [output.poses, output.volume, output.costs, output.refined, output.speed_mps]


def test_a_batch_of_two_is_two_of_one() -> None:
    planner = shaken(make_planner(ego_status=True))
    context, batch = two_frames()
    together = planner(context, batch)
    for index in range(2):
        alone = planner(frame_of(context, index), frame_of_batch(batch, index))
        for one, both in zip(values(alone), values(together), strict=True):
            torch.testing.assert_close(one[0], both[index], atol=1e-3, rtol=1e-4)


def test_the_expert_costs_nothing_when_it_is_cheaper_than_all_by_their_distance() -> None:
    expert = Expert.of(labels_of([driven(5.0)]), steps=6)
    distance = torch.tensor([[[4.0] * 6, [9.0] * 6]])
    zero = torch.zeros(1, 3, 6)
    whole = torch.tensor([[0.0, 4.0, 9.0]])
    for settings in (PAPER, MarginSettings(hardest=1)):
        assert max_margin(zero, whole, distance, expert, settings).item() == pytest.approx(0, abs=1e-5)
        less = whole - torch.tensor([[0.0, 0.0, 2.5]])
        assert max_margin(zero, less, distance, expert, settings).item() == pytest.approx(2.5)
        dear = zero.clone()
        dear[:, 0, 2] = 7.0
        assert max_margin(dear, whole, distance, expert, settings).item() == pytest.approx(7.0)
    assert max_margin(zero, less, distance, expert).item() == pytest.approx(2.5 / 2)


def test_step_costs_earn_the_margin_only_where_it_stands_inside_the_hinge() -> None:
    expert = Expert.of(labels_of([driven(5.0)]), steps=6)
    distance, whole = torch.full((1, 1, 6), 12.0), torch.zeros(1, 2)
    steps = torch.tensor([0.0, 2.0]).view(1, 2, 1).expand(1, 2, 6)
    assert max_margin(steps, whole, distance, expert).item() == pytest.approx(0, abs=1e-5)
    assert max_margin(steps, whole, distance, expert, PAPER).item() == pytest.approx(12.0)
    assert max_margin(steps / 2, whole, distance, expert).item() == pytest.approx(6.0)
    far = max_margin(0 * steps, whole, 100 * distance, expert).item()
    assert far == pytest.approx(MarginSettings().limit_m2)


def test_steps_that_are_not_known_have_no_margin() -> None:
    half = driven(5.0).clone()
    half[3:] = NAN
    expert = Expert.of(labels_of([half]), steps=6)
    steps, distance = torch.zeros(1, 2, 6), torch.full((1, 1, 6), 1.0)
    steps[:, 0, 4] = 50.0
    distance[..., 3:] = 1000.0
    for settings in (PAPER, MarginSettings()):
        assert max_margin(steps, torch.zeros(1, 2), distance, expert, settings).item() == pytest.approx(1.0)


def test_an_obstacle_on_the_way_turns_the_choice_elsewhere() -> None:
    planner = make_planner(costs=RuleCosts(spacing_m=0.4))
    bare = scene([[], []], with_map=False)
    parked = [("car", x, y, 0.0, 0.0) for x in range(11, 80, 4) for y in range(-8, 9, 2)]
    wall = scene([[(name, float(x), float(y), yaw, speed) for name, x, y, yaw, speed in parked], []], with_map=False)
    batch = batch_of([STRAIGHT, STRAIGHT])
    freely, blocked = (planner(context, batch).chosen[0, -1, 0] for context in (bare, wall))
    assert freely > 20.0
    assert blocked < 9.0


def test_without_ego_status_nothing_of_it_is_seen() -> None:
    planner = shaken(make_planner(ego_status=False))
    context, batch = two_frames()
    first = values(planner(context, batch))
    for status in (None, torch.tensor([[20.0, 3.0, 1.0], [0.0, 0.0, 0.0]])):
        for one, other in zip(first, values(planner(context, replace(batch, ego_status=status))), strict=True):
            assert torch.equal(one, other)


def test_with_ego_status_candidates_start_at_the_present_speed_where_it_is_known() -> None:
    planner = make_planner(ego_status=True)
    context, batch = two_frames()
    fast = replace(batch, ego_status=torch.tensor([[14.0, NAN, 0.1], [NAN, NAN, NAN]]))
    output = planner(context, fast)
    assert output.poses[0, ::2, 0, :2].norm(dim=-1).min() > 6.0
    guess = planner(context, replace(batch, ego_status=None))
    torch.testing.assert_close(output.poses[1], guess.poses[1])
    assert all(value.isfinite().all() for value in values(output))


def test_plans_come_best_first_the_refined_one_ahead() -> None:
    planner = shaken(make_planner())
    output = planner(*two_frames())
    for frame, proposals in enumerate(planner.decode(output)):
        assert len(proposals) == 10
        assert proposals.planner == "cost_volume"
        assert (proposals.scores[:-1] >= proposals.scores[1:]).all()
        torch.testing.assert_close(torch.from_numpy(proposals.poses_ego[0, :, :2]), output.refined[frame])
        torch.testing.assert_close(torch.from_numpy(proposals.poses_ego[1, :, :2]), output.chosen[frame])
        assert (proposals.speeds_mps[1:] > -0.5).all()


def test_frames_without_a_future_contribute_nothing() -> None:
    planner = shaken(make_planner())
    context, batch = two_frames()
    future, road = driven(5.0, curvature=0.05), torch.ones(GRID.shape_yx, dtype=torch.bool)
    alone = planner.loss(
        planner(frame_of(context, 0), frame_of_batch(batch, 0)),
        labels_of([future], frames=[CAR_AHEAD], drivable=road),
    )
    both = planner.loss(
        planner(context, batch), labels_of([future, None], frames=[CAR_AHEAD, CAR_AHEAD], drivable=road)
    )
    assert alone.keys() == both.keys() == TERMS
    for name in TERMS:
        torch.testing.assert_close(alone[name], both[name], atol=1e-3, rtol=1e-4)
    nothing = planner.loss(planner(context, batch), labels_of([None, None]))
    assert all(value.item() == 0 for value in nothing.values())


def test_a_sideways_error_weighs_ten_times_one_along_the_way() -> None:
    planner = make_planner()
    output = planner(frame_of(scene([[], []]), 0), batch_of([STRAIGHT]))
    expert = driven(5.0)
    errors = [
        planner.loss(replace(output, refined=expert[None, :, :2] + torch.tensor(offset)), labels_of([expert]))
        for offset in ((2.0, 0.0), (0.0, 2.0))
    ]
    assert errors[1]["refinement"] == pytest.approx(10 * errors[0]["refinement"].item())


def test_a_scene_with_nothing_but_features_is_enough() -> None:
    planner = shaken(make_planner(agent_channels=0))
    context, batch = two_frames()
    output = planner(SceneContext(bev=context.bev), replace(batch, route_command=None, route_ego=None, ego_status=None))
    assert all(value.isfinite().all() for value in values(output))
    terms = planner.loss(output, labels_of([driven(5.0)] * 2))
    assert all(value.isfinite() for value in terms.values())


def test_a_planner_learns_that_the_command_decides() -> None:
    planner = make_planner(sampler=TrajectorySampler(candidates=90), channels=32, hidden=64).train()
    futures = {LEFT: driven(5.0, curvature=0.08), STRAIGHT: driven(9.0), RIGHT: driven(5.0, curvature=-0.08)}
    context, batch = scene([[], [], []], with_map=False), batch_of(list(futures))
    labels = labels_of(list(futures.values()))
    optimizer = torch.optim.Adam(planner.parameters(), lr=5e-3)
    weights = {"max_margin": 0.05, "refinement": 1.0, "speed": 0.2}
    for _ in range(80):
        optimizer.zero_grad()
        terms = planner.loss(planner(context, batch), labels)
        torch.stack([weights[name] * value for name, value in terms.items()]).sum().backward()
        optimizer.step()
    planner.eval()
    for future, proposals in zip(futures.values(), planner.decode(planner(context, batch)), strict=True):
        error = torch.from_numpy(proposals.poses_ego)[0, :, :2] - future[:, :2]
        assert error.norm(dim=-1).mean() < 1.0
