"""Raster collisions as released, exact rectangles, and the edge of the road: what each finds and what it misses."""

import cv2
import numpy as np
import pytest
import shapely
from fixtures.planned_drives import boxes_at, future_of, left_turn_poses, plans_of, straight_poses
from hypothesis import given
from hypothesis import strategies as st
from shapely import affinity

from bevstack.data.maps import VectorMap
from bevstack.evaluation.planning.boundary import leaves_drivable_area, score_boundary, sum_boundary
from bevstack.evaluation.planning.obstacles import OTHER, PEDESTRIAN, VEHICLE, BoxesByStep
from bevstack.evaluation.planning.placement import headings_of, place_expert, place_plan
from bevstack.evaluation.planning.polygon import AGENT_GROUPS, polygon_hits, score_polygon, sum_polygon
from bevstack.evaluation.planning.raster import RASTER_RULES, raster_hits

NONE = BoxesByStep.of(np.zeros(0, np.int64), np.zeros((0, 5)), np.zeros(0, np.int8), 1)


def rectangle(x: float, y: float, length: float, width: float, yaw: float) -> shapely.Polygon:
    flat = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
    return affinity.translate(affinity.rotate(flat, yaw, origin=(0, 0), use_radians=True), x, y)


# ---------------------------------------------------------------- the trap


def test_a_quarter_turn_next_to_a_wall_is_found_by_rectangles_and_missed_by_the_raster() -> None:
    """The turned car's bonnet is in the wall; the raster still holds the car as it was before the turn."""
    future = future_of(left_turn_poses())
    plan = place_plan(plans_of(left_turn_poses()), future)
    wall_in_ego = (8.0, 8.0 + 1.0 + 2.3, 0.4, 6.0, np.pi / 2)  # across the end of the way, 0.24 m deep in the bonnet
    agents = boxes_at(1, (0, 5, wall_in_ego, VEHICLE))
    assert polygon_hits(plan.boxes_ego[:, 1:], agents)[0, 0].tolist() == [False] * 5 + [True]
    # The same wall in the LiDAR's frame: x = -y of ego, y = x of ego - 1 m.
    wall_in_lidar = boxes_at(1, (0, 5, (-wall_in_ego[1], 7.0, 0.4, 6.0, 0.0), VEHICLE))
    for protocol in ("plan/uniad", "plan/vad"):
        assert not raster_hits(plan.path_lidar[None], wall_in_lidar, RASTER_RULES[protocol]).any()
    assert not raster_hits(plan.path_lidar[None], agents, RASTER_RULES["plan/stp3"]).any()


# ---------------------------------------------------------------- raster


def naive_raster(path: np.ndarray, obstacles: BoxesByStep, protocol: str) -> np.ndarray:
    """Every cell of every step, as the definition reads: draw all boxes, move all 32 cells, look."""
    centers = -49.75 + 0.5 * np.arange(200)
    rows = np.flatnonzero((centers > 0.5 - 2.042) & (centers < 0.5 + 2.042))
    columns = np.flatnonzero(np.abs(centers) < 0.925)
    assert len(rows) * len(columns) == 32
    hits = np.zeros(6, bool)
    for step in range(6):
        drawn = np.zeros((200, 200), np.uint8)
        for box in obstacles.boxes[obstacles.first[step] : obstacles.first[step + 1]]:
            corners = shapely.get_coordinates(rectangle(*box))[:4]
            if protocol == "plan/stp3":
                corners = corners[:, ::-1]
            if protocol == "plan/vad":
                corners = corners * (1, -1)
            cv2.fillPoly(drawn, [np.round((corners + 50) * 2).astype(np.int32)], (1,))
        right, forward = (float(np.float32(part)) for part in path[step])
        for row in rows:
            for column in columns:
                r, c = row + 2 * forward, column + 2 * (-right if protocol == "plan/stp3" else right)
                r = 200 - r if protocol == "plan/vad" else r
                hits[step] |= bool(drawn[min(max(int(r), 0), 199), min(max(int(c), 0), 199)])
    return hits


@pytest.mark.parametrize("protocol", RASTER_RULES)
def test_the_raster_is_the_one_of_its_definition(protocol: str) -> None:
    rng = np.random.default_rng(1)
    found = 0
    for trial in range(60):
        count = int(rng.integers(1, 30))
        path = np.cumsum(rng.normal((0, 3), (1, 4), (6, 2)), axis=0)
        path = np.round(path * 2) / 2 if trial % 4 == 0 else path  # on the edges of cells
        slot = rng.integers(0, 6, count)
        near = path[slot] if protocol != "plan/stp3" else path[slot][:, ::-1] * (1, -1)
        spread = (
            near + rng.uniform(-6, 6, (count, 2)),
            rng.uniform(0.3, 8, (count, 2)),
            rng.uniform(-4, 4, (count, 1)),
        )
        obstacles = BoxesByStep.of(slot, np.concatenate(spread, axis=1), np.zeros(count), 1)
        hits = raster_hits(path[None, None], obstacles, RASTER_RULES[protocol])[0, 0]
        assert hits.tolist() == naive_raster(path, obstacles, protocol).tolist()
        found += hits.sum()
    assert 40 < found < 320


def test_plans_together_equal_plans_alone_and_no_obstacle_is_no_hit() -> None:
    rng = np.random.default_rng(2)
    paths = rng.normal((0, 8), 4, (5, 3, 6, 2))
    slot = rng.integers(0, 18, 90)
    boxes = np.concatenate((rng.normal((0, 8), 6, (90, 2)), rng.uniform(0.5, 5, (90, 3))), axis=1)
    obstacles = BoxesByStep.of(slot, boxes, np.zeros(90), 3)
    rule = RASTER_RULES["plan/uniad"]
    together = raster_hits(paths, obstacles, rule)
    assert together.any() and not together.all()
    for plan in range(5):
        np.testing.assert_array_equal(raster_hits(paths[plan : plan + 1], obstacles, rule)[0], together[plan])
    for frame in range(3):
        alone = raster_hits(paths[:, frame : frame + 1], obstacles.of_frames(np.array([frame])), rule)
        np.testing.assert_array_equal(alone[:, 0], together[:, frame])
    assert not raster_hits(paths[:, :1], NONE, rule).any()


# ---------------------------------------------------------------- exact rectangles


@given(
    vehicle=st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-4, 4)),
    other=st.tuples(st.floats(-4, 4), st.floats(-4, 4), st.floats(0.3, 6), st.floats(0.3, 3), st.floats(-4, 4)),
)
def test_rectangles_touch_where_their_polygons_intersect(
    vehicle: tuple[float, ...], other: tuple[float, float, float, float, float]
) -> None:
    own = (vehicle[0], vehicle[1], 4.084, 1.85, vehicle[2])
    a, b = rectangle(*own), rectangle(*other)
    hits = polygon_hits(np.full((1, 6, 5), own), boxes_at(1, (0, 2, other, OTHER)))
    assert not hits[:2].any() and not hits[2, 0, [0, 1, 3, 4, 5]].any()
    if a.distance(b) > 1e-9 or a.intersection(b).area > 1e-9:  # not on the very edge, where rounding decides
        assert hits[2, 0, 2] == a.intersects(b)


def test_groups_hold_each_other_and_a_collision_stays_until_the_end() -> None:
    future = future_of(straight_poses(4.0))
    plan = place_plan(plans_of(straight_poses(4.0)), future)

    def ahead(step: int) -> tuple[float, float, float, float, float]:
        return (*plan.boxes_ego[0, step + 1, :2], 1.0, 1.0, 0.3)

    agents = boxes_at(1, (0, 1, ahead(1), PEDESTRIAN), (0, 3, ahead(3), VEHICLE), (0, 0, ahead(0), OTHER))
    scores = score_polygon(sum_polygon(polygon_hits(plan.boxes_ego[:, 1:], agents), future))
    at = {name: [scores.collision_at[name].at_1s, scores.collision_at[name].at_2s] for name in AGENT_GROUPS}
    assert at == {"vehicles": [0, 1], "vehicles_and_pedestrians": [1, 1], "all_annotated": [1, 1]}
    until = [scores.collision_until[name] for name in AGENT_GROUPS]
    assert [(one.at_1s, one.at_2s, one.at_3s) for one in until] == [(0, 1, 1), (1, 1, 1), (1, 1, 1)]


def test_steps_without_a_future_are_neither_hit_nor_counted() -> None:
    future = future_of(straight_poses(4.0, 2), num_known=(6, 2))
    plan = place_plan(plans_of(straight_poses(4.0, 2)), future)
    box = (*plan.boxes_ego[1, 6, :2], 1.0, 1.0, 0.0)
    scores = score_polygon(sum_polygon(polygon_hits(plan.boxes_ego[:, 1:], boxes_at(2, (1, 5, box, VEHICLE))), future))
    assert scores.num_frames == 2 and scores.collision_until["vehicles"].at_3s == 0.0


# ---------------------------------------------------------------- placing the vehicle


def test_the_box_lies_half_a_metre_ahead_of_the_lidar_along_the_motion() -> None:
    poses = left_turn_poses()
    boxes = place_plan(plans_of(poses[..., :2]), future_of(poses)).boxes_ego
    np.testing.assert_allclose(boxes[0, 0], (1.5, 0.0, 4.084, 1.85, 0.0), atol=1e-9)
    # The direction between two points of a circle as far before as after is that of the circle in the middle.
    np.testing.assert_allclose(boxes[0, 1:6, 4], poses[0, :5, 2], atol=1e-9)
    ahead = boxes[0, 1:, :2] - poses[0, :, :2]
    np.testing.assert_allclose(np.linalg.norm(ahead, axis=1), 1.5)
    np.testing.assert_allclose(np.arctan2(ahead[:, 1], ahead[:, 0]), boxes[0, 1:, 4])


def test_a_vehicle_that_stands_or_backs_up_keeps_its_heading() -> None:
    still, back = np.zeros((1, 6, 2)), -straight_poses(2.0)[..., :2]
    for way in (still, back):
        np.testing.assert_allclose(headings_of(way, np.zeros((1, 2))), 0.0, atol=1e-12)
    turn_and_stop = np.concatenate((left_turn_poses()[..., :2], np.repeat(left_turn_poses()[:, -1:, :2], 6, axis=1)), 1)
    assert headings_of(turn_and_stop, np.zeros((1, 2)))[0, -1] == pytest.approx(np.pi / 2, abs=0.15)


# ---------------------------------------------------------------- the edge of the road


def road(*areas: shapely.Polygon) -> VectorMap:
    return VectorMap("road", (100.0, 100.0), {"drivable_area": list(areas)})


def left_at(step_from: int) -> np.ndarray:
    """Straight on, and 3 m to the left from a step on."""
    poses = straight_poses(4.0)
    poses[0, step_from:, 1] = 3.0
    return poses


def test_a_plan_that_leaves_the_road_has_left_it_from_then_on() -> None:
    future = future_of(straight_poses(4.0))
    lane = road(shapely.box(-10, -2, 20, 2), shapely.box(20.001, -2, 60, 2))
    plans = (plans_of(straight_poses(4.0)), plans_of(left_at(2)))
    boxes = np.stack([place_plan(plan, future).boxes_ego for plan in plans])
    is_outside, is_inside_now = leaves_drivable_area(boxes, future, [lane])
    assert is_inside_now.tolist() == [True]
    assert not is_outside[0].any()  # the hair-wide gap between the two areas is no kerb
    assert is_outside[1, 0, 2:].all() and not is_outside[1, 0, 0]
    scores = score_boundary(sum_boundary(is_outside[1], is_inside_now, future))
    assert (scores.leaves_until.at_2s, scores.leaves_until.at_3s) == (1.0, 1.0)


def test_a_vehicle_that_is_not_on_the_road_now_is_not_counted() -> None:
    future = future_of(straight_poses(4.0, 2), scenes=(0, 1))
    boxes = place_expert(future).boxes_ego[None]
    maps = [road(shapely.box(-10, -2, 60, 2)), road(shapely.box(5, -2, 60, 2))]
    is_outside, is_inside_now = leaves_drivable_area(boxes, future, maps)
    scores = score_boundary(sum_boundary(is_outside[0], is_inside_now, future))
    assert is_inside_now.tolist() == [True, False] and scores.num_frames == 1
    assert scores.leaves_until.mean == 0.0
    nowhere = road(shapely.box(900, 900, 901, 901))
    outside, inside = leaves_drivable_area(boxes, future, [nowhere, nowhere])
    assert outside.all() and not inside.any()
    assert score_boundary(sum_boundary(outside[0], inside, future)).leaves_until.at_1s is None


def test_a_hole_in_the_road_is_no_road() -> None:
    future = future_of(straight_poses(4.0))
    island = shapely.box(11.9, -0.1, 12.1, 0.1)  # within the vehicle, touching none of its corners
    ring = shapely.box(-10, -5, 60, 5).difference(island)
    is_outside, _ = leaves_drivable_area(place_expert(future).boxes_ego[None], future, [road(ring)])
    assert is_outside[0, 0].tolist() == [False, False, False, False, True, True]
