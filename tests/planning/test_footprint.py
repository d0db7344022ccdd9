import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapely import affinity
from shapely.geometry import Polygon, box

from bevstack.planning.footprint import outlines, placed, points_in_rectangle, rectangles_overlap
from bevstack.planning.vehicle import NUSCENES_VEHICLE

NUMBER = st.floats(-6.0, 6.0)


def polygon(row: list[float]) -> Polygon:
    x, y, length, width, yaw = row
    upright = box(-length / 2, -width / 2, length / 2, width / 2)
    return affinity.translate(affinity.rotate(upright, yaw, origin=(0, 0), use_radians=True), x, y)


@given(NUMBER, NUMBER, st.floats(0.0, 6.3), st.floats(0.0, 6.3), st.floats(0.5, 8.0))
def test_overlap_is_that_of_polygons(x: float, y: float, yaw: float, other_yaw: float, length: float) -> None:
    one, other = [0.0, 0.0, 4.0, 2.0, yaw], [x, y, length, 1.0, other_yaw]
    shared = polygon(one).intersection(polygon(other)).area
    found = bool(rectangles_overlap(torch.tensor(one), torch.tensor(other)))
    if not 0 < shared < 1e-4:
        assert found == (shared > 0)


def test_unknown_rectangles_overlap_nothing() -> None:
    here = torch.tensor([0.0, 0.0, 4.0, 2.0, 0.0])
    assert rectangles_overlap(here, here)
    assert not rectangles_overlap(here, torch.full((5,), float("nan")))


def test_outlines_are_those_of_the_vehicle() -> None:
    poses = np.array([(3.0, -2.0, 0.7), (0.0, 1.0, -3.0)])
    ours = outlines(torch.from_numpy(poses), NUSCENES_VEHICLE, 0.3).numpy()
    np.testing.assert_allclose(ours, NUSCENES_VEHICLE.rectangles(poses, 0.3))


def test_points_fill_a_rectangle_evenly() -> None:
    points = points_in_rectangle((0.0, -1.0), (3.0, 1.0), 0.5)
    assert len(points) == 6 * 4
    assert points.mean(dim=0).tolist() == pytest.approx([1.5, 0.0])
    assert points.amin(dim=0).tolist() == pytest.approx([0.25, -0.75])
    with pytest.raises(ValueError, match="spacing_m=0"):
        points_in_rectangle((0.0, 0.0), (1.0, 1.0), 0.0)


def test_points_turn_with_the_pose_unless_told_not_to() -> None:
    pattern, pose = torch.tensor([[2.0, 0.0]]), torch.tensor([1.0, 1.0, math.pi / 2])
    assert placed(pattern, pose)[0].tolist() == pytest.approx([1.0, 3.0])
    assert placed(pattern, pose, is_turned=False)[0].tolist() == pytest.approx([3.0, 1.0])
