import math

import pytest
import torch
from fixtures.agents import GRID, WIDTH
from fixtures.planning_scenes import LEFT, batch_of, driven, scene, straight_route

from bevstack.planning.heads.anchor_features import AnchorFeatures, distance_to_line, look_up
from bevstack.planning.vehicle import NUSCENES_VEHICLE


def make_features() -> AnchorFeatures:
    torch.manual_seed(0)
    return AnchorFeatures(in_channels=WIDTH, channels=8, bev_channels=4, steps=6, vehicle=NUSCENES_VEHICLE)


def test_a_look_up_at_a_cell_centre_gives_that_cell_and_beyond_the_grid_nothing() -> None:
    features = torch.rand(1, 3, *GRID.shape_yx)
    points = torch.stack((GRID.centers_m()[5, 7], torch.tensor([100.0, 0.0]))).view(1, 1, 2, 2)
    found = look_up(features, GRID, points)[0, 0]
    torch.testing.assert_close(found[0], torch.cat((features[0, :, 5, 7], torch.ones(1))))
    assert found[1].abs().max() == 0


def test_the_distance_to_a_route_is_that_to_its_segments_up_to_its_end() -> None:
    line = straight_route(6)[None, 1:]
    known = torch.ones(1, 5, dtype=torch.bool)
    points = torch.tensor([[5.0, 1.5], [13.0, 4.0], [3.0, 0.0]]).view(1, 1, 3, 2)
    assert distance_to_line(points, line, known)[0, 0].tolist() == pytest.approx([1.5, 5.0, 0.0], abs=1e-2)
    known[:, 2:] = False
    assert distance_to_line(points, line, known)[0, 0, 0].item() == pytest.approx(math.hypot(1.0, 1.5), abs=1e-2)
    assert distance_to_line(points, line[:, :1], known[:, :1])[0, 0, 2].item() == pytest.approx(1.0, abs=1e-2)


def test_clearance_falls_where_an_agent_will_be_and_padding_is_nowhere() -> None:
    features, middle = make_features(), torch.tensor([[12.0, 0.0], [2.0, 0.0]]).view(1, 2, 1, 2).expand(1, 2, 6, 2)
    context = scene([[("car", 12.0, 0.0, 0.0, 8.0)]])
    clearance = features._clearance(context.agents, middle)[0]
    assert clearance[0, 0] < 0.2
    assert clearance[0, 0] < clearance[0, 1] < clearance[0, 2]
    assert clearance[1].min() == 1.0
    assert features._clearance(scene([[]]).agents, middle).min() == 1.0
    assert features._clearance(None, middle).min() == 1.0


def test_frames_of_a_batch_have_their_own_routes() -> None:
    features, poses = make_features(), torch.stack((driven(6.0), driven(6.0, curvature=0.05)))
    context = scene([[], []])
    batch = batch_of([LEFT, LEFT], routes=[straight_route(), straight_route(heading=0.5)])
    found = features(poses, features.reduced(context), context, batch)
    assert found.shape == (2, 2, 8)
    assert not torch.allclose(found[0], found[1])
