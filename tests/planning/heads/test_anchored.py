import functools
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

from bevstack.planning.heads.anchored import AnchoredOutput, AnchoredPlanner
from bevstack.planning.heads.refinement import DiffusionRefiner
from bevstack.planning.path_motion import wrapped
from bevstack.planning.vocabulary import Vocabulary
from bevstack.types.context import SceneContext

SIZE = 49
TERMS = {"choice", "collision", "off_road", "refinement", "mode"}
FUTURES = {LEFT: driven(5.0, curvature=0.08), STRAIGHT: driven(9.0), RIGHT: driven(5.0, curvature=-0.08)}
diffusion = functools.partial(DiffusionRefiner, num_refined=16)


def make_planner(**changes: object) -> AnchoredPlanner:
    torch.manual_seed(0)
    options = {"in_channels": WIDTH, "agent_channels": WIDTH, "channels": 32, "bev_channels": 8, "num_modes": 10}
    return AnchoredPlanner(**{**options, "vocabulary": Vocabulary(size=SIZE), "map_grid": GRID, **changes})


def values(output: AnchoredOutput) -> list[torch.Tensor]:
    return [output.choice, output.rules, output.refined, output.refined_logits]


@pytest.mark.parametrize("refiner", [None, diffusion])
def test_a_batch_of_two_is_two_of_one(refiner: object) -> None:
    planner = shaken(make_planner(refiner=refiner, ego_status=True))
    context, batch = two_frames()
    together = planner(context, batch)
    for index in range(2):
        alone = planner(frame_of(context, index), frame_of_batch(batch, index))
        assert torch.equal(alone.refined_index[0], together.refined_index[index])
        for one, both in zip(values(alone), values(together), strict=True):
            torch.testing.assert_close(one[0], both[index], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("refiner", [None, diffusion])
def test_plans_come_best_first_with_speeds_and_headings_of_their_points(refiner: object) -> None:
    planner = shaken(make_planner(refiner=refiner))
    for proposals in planner.decode(planner(*two_frames())):
        assert len(proposals) == 10
        assert proposals.planner == "anchored"
        assert (proposals.scores[:-1] >= proposals.scores[1:]).all()
        poses, speeds = torch.from_numpy(proposals.poses_ego), torch.from_numpy(proposals.speeds_mps)
        moved = torch.diff(poses[..., :2], dim=1)
        middle = (speeds[:, 1:] + speeds[:, :-1]) / 2
        assert (moved.norm(dim=-1) / 0.5 - middle.abs()).abs().max() < 3.0
        moves = (moved.norm(dim=-1) > 1.0) & (middle > 0)
        turn = wrapped(torch.atan2(moved[..., 1], moved[..., 0]) - (poses[:, 1:, 2] + poses[:, :-1, 2]) / 2)
        assert turn[moves].abs().quantile(0.9) < 0.2


def test_an_untrained_planner_proposes_its_vocabulary() -> None:
    planner = make_planner().eval()
    proposals = planner.decode(planner(*two_frames()))[0]
    gaps = (torch.from_numpy(proposals.poses_ego)[:, None, :, :2] - planner.vocabulary.poses[..., :2]).abs()
    assert gaps.amax(dim=(2, 3)).amin(dim=1).max() == 0


def test_without_ego_status_nothing_of_it_is_seen() -> None:
    planner = shaken(make_planner(ego_status=False))
    context, batch = two_frames()
    first = values(planner(context, batch))
    for status in (None, torch.tensor([[20.0, 3.0, 1.0], [0.0, 0.0, 0.0]])):
        for one, other in zip(first, values(planner(context, replace(batch, ego_status=status))), strict=True):
            assert torch.equal(one, other)


def test_with_ego_status_it_counts_and_unknown_parts_are_no_numbers() -> None:
    planner = shaken(make_planner(ego_status=True))
    context, batch = two_frames()
    fast = planner(context, replace(batch, ego_status=torch.tensor([[15.0, 0.0, 0.1], [NAN, 0.0, NAN]])))
    assert not torch.equal(planner(context, batch).choice[0], fast.choice[0])
    assert all(value.isfinite().all() for value in values(fast))
    unknown = planner(context, replace(batch, ego_status=torch.full((2, 3), NAN)))
    none = planner(context, replace(batch, ego_status=None))
    assert torch.equal(unknown.choice, none.choice)


def test_ego_status_dropout_hides_it_in_training_only() -> None:
    planner = shaken(make_planner(ego_status=True, status_dropout=1.0))
    context, batch = two_frames()
    hidden = planner(context, replace(batch, ego_status=None)).choice
    planner.train()
    assert torch.equal(planner(context, batch).choice, hidden)
    planner.eval()
    assert not torch.equal(planner(context, batch).choice, hidden)


def test_a_scene_with_nothing_but_features_is_enough() -> None:
    planner = shaken(make_planner(agent_channels=0))
    context, batch = two_frames()
    bare = SceneContext(bev=context.bev)
    empty = replace(batch, route_command=None, route_ego=None, ego_status=None)
    output = planner(bare, empty)
    assert all(value.isfinite().all() for value in values(output))
    assert len(planner.decode(output)) == 2


def test_route_cue_agents_and_map_all_count() -> None:
    planner = shaken(make_planner())
    context, batch = two_frames()
    seen = planner(context, batch).choice[0]
    assert batch.route_ego is not None
    changed = {
        "route": planner(context, replace(batch, route_ego=batch.route_ego * torch.tensor([0.7, 1.0]))),
        "command": planner(context, replace(batch, route_command=torch.tensor([RIGHT, -1]))),
        "limit": planner(context, replace(batch, speed_limit_mps=torch.tensor([5.0, NAN]))),
        "cue": planner(replace(context, cue_embedding=torch.ones(2, WIDTH)), batch),
        "agents": planner(scene([[], []]), batch),
        "map": planner(scene([CAR_AHEAD, []], with_map=False), batch),
    }
    for name, output in changed.items():
        assert not torch.equal(output.choice[0], seen), name


def test_diffusion_is_deterministic_when_driving_and_random_in_training() -> None:
    planner = shaken(make_planner(refiner=diffusion))
    context, batch = two_frames()
    torch.manual_seed(1)
    first = planner(context, batch)
    torch.manual_seed(2)
    assert torch.equal(planner(context, batch).refined, first.refined)
    assert first.refined.shape[1] == 16
    planner.train()
    assert planner(context, batch).refined.shape[1] == SIZE
    assert not torch.equal(planner(context, batch).refined, planner(context, batch).refined)


@pytest.mark.parametrize("refiner", [None, diffusion])
def test_frames_without_a_future_contribute_nothing(refiner: object) -> None:
    planner = shaken(make_planner(refiner=refiner))
    context, batch = two_frames()
    road = torch.ones(GRID.shape_yx, dtype=torch.bool)
    alone = planner.loss(
        planner(frame_of(context, 0), frame_of_batch(batch, 0)),
        labels_of([FUTURES[LEFT]], frames=[CAR_AHEAD], drivable=road),
    )
    both = planner.loss(
        planner(context, batch), labels_of([FUTURES[LEFT], None], frames=[CAR_AHEAD, CAR_AHEAD], drivable=road)
    )
    assert alone.keys() == both.keys() == TERMS
    for name in TERMS:
        torch.testing.assert_close(alone[name], both[name], atol=1e-4, rtol=1e-4)
    nothing = planner.loss(planner(context, batch), labels_of([None, None]))
    assert all(value.item() == 0 for value in nothing.values())


def test_unknown_steps_are_not_errors_of_zero() -> None:
    planner = make_planner().eval()
    context, batch = frame_of(scene([[], []]), 0), batch_of([STRAIGHT])
    half = FUTURES[STRAIGHT].clone()
    half[2:] = NAN
    longer = half.clone()
    longer[2:] = torch.tensor([500.0, 0.0, 0.0])
    output = planner(context, batch)
    known, far = (planner.loss(output, labels_of([future])) for future in (half, longer))
    padded = half[:2]
    assert planner.loss(output, labels_of([torch.cat((padded, torch.full((4, 3), NAN)))])) == known
    assert far["refinement"] > 10 * known["refinement"] > 0
    assert all(value.isfinite() for value in known.values())


def test_a_planner_that_is_right_has_next_to_no_loss() -> None:
    planner = make_planner(temperature_m=0.05).eval()
    output = planner(frame_of(scene([[], []]), 0), batch_of([STRAIGHT]))
    expert = 17
    choice = torch.full((1, SIZE), -40.0)
    choice[0, expert] = 40.0
    perfect = replace(output, choice=choice, rules=torch.full_like(output.rules, -20.0))
    road = torch.ones(GRID.shape_yx, dtype=torch.bool)
    terms = planner.loss(perfect, labels_of([planner.vocabulary.poses[expert]], drivable=road))
    assert all(value.item() < 1e-3 for value in terms.values()), terms


@pytest.mark.parametrize(("refiner", "error_m"), [(None, 0.7), (diffusion, 1.2)])
def test_a_planner_learns_that_the_command_decides(refiner: object, error_m: float) -> None:
    planner = make_planner(refiner=refiner).train()
    commands = [LEFT, STRAIGHT, RIGHT]
    context, batch = scene([[], [], []]), batch_of(commands)
    labels = labels_of([FUTURES[command] for command in commands])
    optimizer = torch.optim.Adam(planner.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        torch.stack(list(planner.loss(planner(context, batch), labels).values())).sum().backward()
        optimizer.step()
    planner.eval()
    for command, proposals in zip(commands, planner.decode(planner(context, batch)), strict=True):
        error = torch.from_numpy(proposals.poses_ego)[0, :, :2] - FUTURES[command][:, :2]
        assert error.norm(dim=-1).mean() < error_m


def test_weights_alone_restore_a_planner() -> None:
    planner = shaken(make_planner())
    other = make_planner(vocabulary=Vocabulary(size=SIZE)).eval()
    other.vocabulary.poses.zero_()
    other.load_state_dict(planner.state_dict())
    context, batch = two_frames()
    assert torch.equal(planner(context, batch).refined, other(context, batch).refined)


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="channels=30"):
        make_planner(channels=30)
    with pytest.raises(ValueError, match="num_modes=0"):
        make_planner(num_modes=0)
