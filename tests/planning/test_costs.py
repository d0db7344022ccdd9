import math

import pytest
import torch
from fixtures.planning_scenes import NAN, driven

from bevstack.planning.costs import CostWeights, RuleCosts, Surroundings, divider_depth, values_at
from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.types import BevGrid

GRID = BevGrid(x_range_m=(-10.0, 40.0), y_range_m=(-20.0, 20.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
OUTLINE_CELLS = NUSCENES_VEHICLE.length_m * NUSCENES_VEHICLE.width_m / 0.25
COSTS = RuleCosts(spacing_m=0.1)


def painted(x_m: tuple[float, float], y_m: tuple[float, float]) -> torch.Tensor:
    centers = GRID.centers_m()
    inside_x = (centers[..., 0] > x_m[0]) & (centers[..., 0] < x_m[1])
    return (inside_x & (centers[..., 1] > y_m[0]) & (centers[..., 1] < y_m[1])).float()


def around(**parts: torch.Tensor) -> Surroundings:
    occupancy = parts.pop("occupancy", None)
    return Surroundings(
        occupancy=None if occupancy is None else occupancy.expand(1, 6, -1, -1), grid=GRID, map_grid=GRID, **parts
    )


def terms(poses: torch.Tensor, surroundings: Surroundings, costs: RuleCosts = COSTS) -> dict[str, torch.Tensor]:
    return costs.terms(poses.view(1, 1, *poses.shape[-2:]), surroundings)


def test_an_empty_scene_costs_nothing_but_progress() -> None:
    found = terms(driven(5.0), Surroundings())
    assert all(found[name].abs().max() == 0 for name in found if name != "progress")
    assert found["progress"].item() == pytest.approx(-15.0)


def test_a_wholly_occupied_footprint_costs_its_cells_and_the_enlarged_one_its_speed_too() -> None:
    found = terms(driven(5.0), around(occupancy=painted((-10, 40), (-20, 20))))
    assert found["safety"][0, 0].tolist() == pytest.approx([OUTLINE_CELLS] * 6)
    enlarged = (NUSCENES_VEHICLE.length_m + 2) * (NUSCENES_VEHICLE.width_m + 2) / 0.25
    assert found["speed_safety"][0, 0].tolist() == pytest.approx([5.0 * enlarged] * 6, rel=1e-3)


def test_an_obstacle_beside_the_vehicle_is_near_but_not_under_it() -> None:
    found = terms(driven(5.0), around(occupancy=painted((-10, 40), (1.0, 1.5))))
    assert found["safety"].abs().max() == 0
    assert found["speed_safety"].min() > 0


def test_the_outline_turns_with_the_vehicle_unless_told_not_to() -> None:
    across = torch.tensor([[10.0, 0.0, math.pi / 2]]).expand(6, 3)
    wall = around(occupancy=painted((9.0, 11.0), (2.0, 3.0)))
    assert terms(across, wall)["safety"].min() > 5
    assert terms(across, wall, RuleCosts(turns_outline=False))["safety"].max() == 0
    behind = around(occupancy=painted((12.0, 13.0), (-1.0, 1.0)))
    assert terms(across, behind)["safety"].max() == 0
    assert terms(across, behind, RuleCosts(turns_outline=False))["safety"].min() > 5


def test_headway_counts_what_is_ahead_on_drivable_ground() -> None:
    front = NUSCENES_VEHICLE.front_ahead_m
    standing = driven(0.0)
    blocked = painted((front + 4.9, front + 6.9), (-5.0, 5.0))
    found = terms(standing, around(occupancy=blocked))["headway"][0, 0, 0]
    assert found == pytest.approx(2.0 * NUSCENES_VEHICLE.width_m / 0.25, rel=0.06)
    kerb = around(occupancy=blocked, drivable=1 - painted((-10, 40), (-20, 20))[None])
    assert terms(standing, kerb)["headway"].max() == 0
    far = around(occupancy=painted((front + 10.5, 40), (-5.0, 5.0)))
    assert terms(standing, far)["headway"].max() == 0


def test_ground_that_is_not_drivable_costs_by_its_area_and_what_is_beyond_the_map_nothing() -> None:
    half = around(drivable=painted((-10, 40), (0.0, 20))[None])
    found = terms(driven(5.0), half)["off_road"][0, 0]
    assert found.tolist() == pytest.approx([OUTLINE_CELLS / 2] * 6, rel=0.06)
    beyond = driven(5.0) + torch.tensor([100.0, 0.0, 0.0])
    assert terms(beyond, half)["off_road"].max() == 0


def test_a_divider_costs_the_square_of_how_far_the_centre_is_within_a_metre() -> None:
    line = around(divider=painted((-10, 40), (0.5, 1.0))[None])
    for side, expected in ((0.75, 1.0), (0.25, 0.25), (-0.25, 0.0), (3.0, 0.0)):
        poses = driven(5.0) + torch.tensor([0.0, side, 0.0])
        assert terms(poses, line)["divider"].unique().tolist() == pytest.approx([expected])


def test_depth_into_a_divider_is_scaled_by_how_likely_it_is() -> None:
    depth = divider_depth(0.5 * painted((0, 1), (0.0, 0.5))[None], GRID)
    assert depth.max() == 0.5
    assert (depth > 0).sum() < 40


def test_comfortable_driving_costs_nothing_and_hard_braking_its_square() -> None:
    assert terms(driven(8.0, acceleration=-1.0), Surroundings())["comfort"].item() == 0
    steady = terms(driven(15.0, acceleration=-4.0), Surroundings())["comfort"].item()
    assert steady == pytest.approx(1.0, abs=0.01)
    turning = terms(driven(8.0, curvature=0.0625), Surroundings())["comfort"].item()
    assert turning == pytest.approx((8.0 * 8.0 * 0.0625 - 3.0) ** 2, rel=0.05)  # a chord is shorter than its arc


def test_comfort_does_not_look_at_differences_with_unknown_steps() -> None:
    poses = driven(8.0).clone()
    poses[3:] = 0
    known = torch.tensor([[True] * 3 + [False] * 3])
    found = COSTS.terms(poses.view(1, 1, 6, 3), Surroundings(), known)
    assert found["comfort"].item() == 0
    assert found["progress"].item() == pytest.approx(-12.0)


def test_progress_is_the_way_left_to_the_target_less_the_way_made() -> None:
    target = Surroundings(target_ego=torch.tensor([[30.0, 0.0]]))
    assert terms(driven(5.0), target)["progress"].item() == pytest.approx(15.0 - 15.0)
    unknown = Surroundings(target_ego=torch.full((1, 2), NAN))
    assert terms(driven(5.0), unknown)["progress"].item() == pytest.approx(-15.0)


def test_weighted_costs_are_the_weighted_sum_cut_at_the_limit() -> None:
    surroundings = around(occupancy=painted((10, 12), (-2.0, 2.0)), drivable=painted((-10, 8), (-20, 20))[None])
    poses = driven(3.0)
    found = terms(poses, surroundings)
    weights = CostWeights(safety=2.0, speed_safety=0.0, headway=0.5, divider=1.0, off_road=0.1)
    steps, whole = RuleCosts(spacing_m=0.1, weights=weights)(poses.view(1, 1, 6, 3), surroundings)
    expected = 2.0 * found["safety"] + 0.5 * found["headway"] + 0.1 * found["off_road"]
    torch.testing.assert_close(steps, expected.clamp(max=100.0))
    torch.testing.assert_close(whole, 0.5 * found["progress"])
    assert RuleCosts(limit=1.0)(poses.view(1, 1, 6, 3), surroundings)[0].max() == 1.0


def test_frames_of_a_batch_have_their_own_surroundings() -> None:
    occupancy = torch.stack((painted((-10, 40), (-20, 20)), torch.zeros(GRID.shape_yx)))[:, None].expand(-1, 6, -1, -1)
    poses = driven(5.0).expand(2, 1, 6, 3)
    found = COSTS.terms(poses, Surroundings(occupancy=occupancy, grid=GRID))
    assert found["safety"][0].min() > 0
    assert found["safety"][1].max() == 0


def test_a_step_is_looked_up_in_its_own_raster() -> None:
    raster = torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, *GRID.shape_yx)
    points = torch.zeros(1, 1, 6, 1, 2)
    assert values_at(raster, GRID, points, outside=9.0)[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert values_at(raster, GRID, points + 100, outside=9.0).unique().tolist() == [9.0]
