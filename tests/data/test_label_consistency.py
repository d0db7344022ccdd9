"""One random map of the world moves boxes, points, map masks and occupancy alike: what overlapped still overlaps."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from fixtures.labelled_scenes import (
    CROSSING_EGO,
    DRIVEABLE,
    FINE_CELLS,
    FINE_GRID,
    ROAD_EGO,
    WALKWAY_EGO,
    street,
    voxel_centers_m,
    write_street_map,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely import affinity

from bevstack.data.augment import WorldAugmentation
from bevstack.data.augment_occupancy import move_occupancy
from bevstack.data.augment_world import move_world, world_map
from bevstack.data.class_names import DETECTION_CLASSES, OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.map_labels import MapLabeller
from bevstack.data.maps import MAP_CLASSES
from bevstack.geometry.boxes import points_in_boxes
from bevstack.geometry.transforms import inverse, transform_points
from bevstack.types import OCC3D_GRID, Frame

STREET = street()
CENTERS = voxel_centers_m(FINE_GRID)
SHAPES = {"drivable_area": ROAD_EGO, "ped_crossing": CROSSING_EGO, "walkway": WALKWAY_EGO}

maps = st.builds(
    world_map,
    rotation_rad=st.floats(-np.pi, np.pi),
    scale=st.floats(0.8, 1.25),
    translation_m=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-0.9, 0.9)),
    flip_x=st.booleans(),
    flip_y=st.booleans(),
)
few = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def labeller(tmp_path_factory: pytest.TempPathFactory) -> MapLabeller:
    return MapLabeller(root=write_street_map(tmp_path_factory.mktemp("street")), grid=FINE_CELLS)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    assert a.any() and b.any()
    return float((a & b).sum() / (a | b).sum())


def filled_by_boxes(frame: Frame, name: str) -> np.ndarray:
    boxes = frame.annotations.boxes
    filled = np.zeros(FINE_GRID.shape_xyz, bool)
    for row in boxes.rows[boxes.class_index == DETECTION_CLASSES.index(name)]:
        near = np.abs(CENTERS[:, :, 0, :2] - row[:2]).max(axis=-1) < row[3]  # a box is never longer than its length
        filled[near] |= points_in_boxes(CENTERS[near].reshape(-1, 3), row[None])[0].reshape(-1, FINE_GRID.shape_xyz[2])
    return filled


@few
@given(maps)
def test_boxes_still_fill_the_voxels_of_their_class(G_ego: np.ndarray) -> None:
    moved = move_world(STREET, G_ego)
    for name in ("truck", "car"):
        of_class = moved.annotations.occupancy.semantics == OCCUPANCY_CLASSES.index(name)
        before = STREET.annotations.occupancy.semantics == OCCUPANCY_CLASSES.index(name)
        assert iou(filled_by_boxes(STREET, name), before) == 1.0
        assert iou(filled_by_boxes(moved, name), of_class) > (0.85 if name == "truck" else 0.75)


@few
@given(maps)
def test_the_drivable_area_of_the_map_still_covers_the_road_voxels(labeller: MapLabeller, G_ego: np.ndarray) -> None:
    for frame, least in ((STREET, 0.93), (move_world(STREET, G_ego), 0.9)):
        labels = labeller(frame).annotations
        road = (labels.occupancy.semantics == DRIVEABLE).any(axis=2).T  # (X, Y) -> (Y, X)
        on_map = labels.map_masks.masks[list(MAP_CLASSES).index("drivable_area")]
        hidden = np.isin(labels.occupancy.semantics, (3, 4, 10)).any(axis=2).T  # below an object
        assert iou(on_map & ~hidden, road & ~hidden) > least


@few
@given(maps)
def test_map_masks_are_the_moved_shapes_up_to_a_cell_at_their_outlines(
    labeller: MapLabeller, G_ego: np.ndarray
) -> None:
    masks = labeller(move_world(STREET, G_ego)).annotations.map_masks.masks
    x, y = np.moveaxis(FINE_CELLS.centers_m().numpy(), -1, 0)
    plane = [*G_ego[0, :2], *G_ego[1, :2], G_ego[0, 3], G_ego[1, 3]]
    for name, shape in SHAPES.items():
        moved = affinity.affine_transform(shape, plane)
        mask = masks[list(MAP_CLASSES).index(name)]
        surely_inside = shapely.contains_xy(moved.buffer(-1.5 * FINE_CELLS.cell_m), x, y)
        surely_outside = ~shapely.contains_xy(moved.buffer(1.5 * FINE_CELLS.cell_m), x, y)
        assert mask[surely_inside].all() and not mask[surely_outside].any()


@few
@given(maps)
def test_points_on_the_objects_still_lie_in_voxels_of_their_class(G_ego: np.ndarray) -> None:
    moved = move_world(STREET, G_ego)
    inside = points_in_boxes(moved.lidar.points_ego, moved.annotations.boxes.rows)
    np.testing.assert_array_equal(inside.sum(axis=1), STREET.annotations.num_lidar_points)
    boxes = moved.annotations.boxes
    for box, center, class_index in zip(inside, boxes.centers, boxes.class_index, strict=True):
        points = 0.75 * moved.lidar.points_ego[box, :3] + 0.25 * center  # faces are half a voxel uncertain
        index = np.floor((points - FINE_GRID.low_m) / FINE_GRID.voxel_m).astype(int)
        index = index[((index >= 0) & (index < FINE_GRID.shape_xyz)).all(axis=1)]
        found = moved.annotations.occupancy.semantics[tuple(index.T)]
        wanted = OCCUPANCY_CLASSES.index(DETECTION_CLASSES[class_index])
        known = found != OCCUPANCY_IGNORE
        assert (found[known] == wanted).mean() > 0.9


@few
@given(maps)
def test_every_voxel_comes_from_where_its_centre_was_or_is_unknown(G_ego: np.ndarray) -> None:
    before, after = STREET.annotations.occupancy, move_occupancy(STREET.annotations.occupancy, G_ego)
    origin = transform_points(inverse(G_ego), CENTERS.reshape(-1, 3)[::97])
    index = np.floor((origin - FINE_GRID.low_m) / FINE_GRID.voxel_m + 1e-9).astype(int)
    inside = ((index >= 0) & (index < FINE_GRID.shape_xyz)).all(axis=1)
    found = after.semantics.reshape(-1)[::97]
    assert (found[~inside] == OCCUPANCY_IGNORE).all() and not after.camera_mask.reshape(-1)[::97][~inside].any()
    expected = before.semantics[tuple(index[inside].T)]
    occupied = expected != OCCUPANCY_FREE
    assert (found[inside][occupied] == expected[occupied]).mean() > 0.999  # the rest: centres on a voxel's face


@pytest.mark.parametrize("flips", [{"flip_x": True}, {"flip_y": True}, {"flip_x": True, "flip_y": True}])
def test_a_mirror_mirrors_the_array_and_twice_gives_it_back(flips: dict[str, bool]) -> None:
    before = STREET.annotations.occupancy
    mask = np.random.default_rng(0).random(FINE_GRID.shape_xyz) < 0.5
    before = replace(before, camera_mask=mask)
    once = move_occupancy(before, world_map(**flips))
    axes = tuple(axis for axis, name in enumerate(("flip_x", "flip_y")) if name in flips)
    np.testing.assert_array_equal(once.semantics, np.flip(before.semantics, axes))
    np.testing.assert_array_equal(once.camera_mask, np.flip(mask, axes))
    twice = move_occupancy(once, world_map(**flips))
    np.testing.assert_array_equal(twice.semantics, before.semantics)


@pytest.mark.parametrize("scale", [0.8, 0.9, 0.93, 0.95, 0.999, 1.0])
def test_the_road_is_never_lost_when_the_world_shrinks(scale: float) -> None:
    occupancy = STREET.annotations.occupancy
    road = occupancy.semantics == DRIVEABLE
    occupancy = replace(occupancy, semantics=np.where(road, np.uint8(DRIVEABLE), np.uint8(OCCUPANCY_FREE)))
    for height_m in np.linspace(-0.3, 0.3, 13):
        moved = move_occupancy(occupancy, world_map(scale=scale, translation_m=(0.0, 0.0, height_m)))
        area = (moved.semantics == DRIVEABLE).any(axis=2).sum() / road.any(axis=2).sum()
        assert area == pytest.approx(scale**2, rel=0.02)


def test_a_map_that_tilts_the_ground_is_refused() -> None:
    tilt = np.eye(4)
    tilt[0, 2] = 0.1
    with pytest.raises(ValueError, match="tilts the ground"):
        move_occupancy(STREET.annotations.occupancy, tilt)


def test_the_masks_of_an_augmented_frame_are_drawn_anew(labeller: MapLabeller) -> None:
    labels = labeller(STREET)
    assert move_world(labels, world_map(flip_y=True)).annotations.map_masks is None
    again = labeller(move_world(labels, np.eye(4)))
    np.testing.assert_array_equal(again.annotations.map_masks.masks, labels.annotations.map_masks.masks)


def test_an_augmented_frame_of_the_benchmark_grid_has_labels_of_the_same_shape() -> None:
    frame = WorldAugmentation()(street(OCC3D_GRID), np.random.default_rng(0))
    occupancy = frame.annotations.occupancy
    assert occupancy.semantics.shape == OCC3D_GRID.shape_xyz and occupancy.camera_mask.dtype == bool
    assert (occupancy.semantics == OCCUPANCY_IGNORE).any() and (occupancy.semantics == DRIVEABLE).any()
