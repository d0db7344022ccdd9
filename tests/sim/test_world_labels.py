"""The labels of a world agree with one another: both occupancy formats, boxes and the vector map."""

from pathlib import Path

import numpy as np
import pytest
from fixtures.worlds import tiny_world  # noqa: F401 - a fixture

from bevstack.cli.sim import OCCUPANCY, _with_format_named
from bevstack.data.augment_world import move_world, world_map
from bevstack.data.class_names import DETECTION_CLASSES, OCCUPANCY_CLASSES, OCCUPANCY_FREE
from bevstack.data.images import ImageSize
from bevstack.data.labels import LabelledFrames
from bevstack.data.loader import class_balanced_indices, classes_of_frames
from bevstack.data.map_labels import MapLabeller
from bevstack.data.maps import MAP_CLASSES
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.geometry.boxes import points_in_boxes
from bevstack.types import OCC3D_GRID, BevGrid, Frame, OccupancyGrid

ROAD = OCCUPANCY_CLASSES.index("driveable_surface")
CELLS = BevGrid(x_range_m=(-40.0, 40.0), y_range_m=(-40.0, 40.0), z_range_m=(-5.0, 3.0), cell_m=0.4)


def frames_of(root: Path, layout: str | None) -> NuScenesFrames:
    return NuScenesFrames(
        root=root, split="worlds", image_size=ImageSize(64, 176), occupancy=layout, cameras=(), num_sweeps=1
    )


def centers_m() -> np.ndarray:
    axes = [low + (np.arange(n) + 0.5) * 0.4 for low, n in zip(OCC3D_GRID.low_m, OCC3D_GRID.shape_xyz, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def occupancy_of(frame: Frame) -> OccupancyGrid:
    assert frame.annotations is not None and frame.annotations.occupancy is not None
    return frame.annotations.occupancy


def test_both_formats_describe_the_same_world(tiny_world: Path) -> None:  # noqa: F811
    coarse = occupancy_of(frames_of(tiny_world, "occ3d")[0])
    fine = occupancy_of(frames_of(tiny_world, "openoccupancy")[0])
    part = fine.semantics[56:456, 56:456, 11:39] != OCCUPANCY_FREE  # of the fine grid: eight voxels for each coarse one
    pooled = part.reshape(200, 2, 200, 2, 14, 2).any(axis=(1, 3, 5))
    occupied = coarse.semantics[:, :, :14] != OCCUPANCY_FREE
    assert (occupied & pooled).sum() / (occupied | pooled).sum() > 0.75
    counts = [np.bincount(grid.semantics[grid.lidar_mask], minlength=18)[1:17] for grid in (coarse, fine)]
    assert ((counts[0] > 50) <= (counts[1] > 0)).all(), "the same classes"


def test_vehicles_are_filled_with_their_class(tiny_world: Path) -> None:  # noqa: F811
    frames, centers = frames_of(tiny_world, "occ3d"), centers_m().reshape(-1, 3)
    right = total = 0
    for index in range(0, len(frames), 3):
        annotations = frames[index].annotations
        for row, class_index in zip(annotations.boxes.rows, annotations.boxes.class_index, strict=True):
            name = DETECTION_CLASSES[class_index]
            if name in ("car", "truck", "bus") and np.abs(row[:2]).max() < 33:
                inside = points_in_boxes(centers, row[None])[0]
                right += (annotations.occupancy.semantics.reshape(-1)[inside] == OCCUPANCY_CLASSES.index(name)).sum()
                total += inside.sum()
    assert total > 300 and right / total > 0.8


@pytest.mark.parametrize("G_ego", [np.eye(4), world_map(rotation_rad=0.6, scale=0.95, flip_y=True)])
def test_road_voxels_lie_on_the_drivable_area_of_the_map(tiny_world: Path, G_ego: np.ndarray) -> None:  # noqa: F811
    labeller = MapLabeller(root=tiny_world, grid=CELLS)
    for index in range(0, 9, 3):
        frame = labeller(move_world(frames_of(tiny_world, "occ3d")[index], G_ego))
        road = (occupancy_of(frame).semantics == ROAD).any(axis=2).T
        on_map = frame.annotations.map_masks.masks[list(MAP_CLASSES).index("drivable_area")]
        assert road.sum() > 1000 and (road & on_map).sum() / road.sum() > 0.95


def test_frames_for_evaluation_carry_the_labels_of_all_three_tasks(tiny_world: Path) -> None:  # noqa: F811
    source = frames_of(tiny_world, "occ3d")
    frames = LabelledFrames(source, [MapLabeller(root=source.root, grid=CELLS)])
    annotations = frames[4].annotations
    assert len(annotations.boxes) and annotations.map_masks.masks.any() and annotations.occupancy is not None
    assert frames.source.token(4) == frames[4].token


def test_classes_are_balanced_over_labelled_frames(tiny_world: Path) -> None:  # noqa: F811
    source = frames_of(tiny_world, None)
    frames = LabelledFrames(source, [MapLabeller(root=source.root, grid=CELLS)])
    classes = classes_of_frames(frames)
    assert classes == classes_of_frames(source)
    drawn = class_balanced_indices(classes, np.random.default_rng(0))
    assert set(drawn.tolist()) <= set(range(len(frames)))


def test_the_option_alone_means_occ3d_and_does_not_swallow_the_folder() -> None:
    assert _with_format_named(["make", "--occupancy", "worlds/a"]) == ["make", "--occupancy=occ3d", "worlds/a"]
    assert _with_format_named(["make", "a", "--occupancy"]) == ["make", "a", "--occupancy=occ3d"]
    assert _with_format_named(["make", "--occupancy", "both", "a"]) == ["make", "--occupancy", "both", "a"]
    assert OCCUPANCY["both"] == ("occ3d", "openoccupancy")


def test_every_frame_of_a_world_has_the_route_that_it_follows(tiny_world: Path) -> None:  # noqa: F811
    frames = NuScenesFrames(root=tiny_world, split="worlds", image_size=ImageSize(8, 8), cameras=(), num_sweeps=0)
    for k in range(len(frames)):
        route = frames.inputs(k).route
        assert route is not None
        # Both axles are on the path: the vehicle is abeam of the first waypoint by centimetres and heads for the next.
        assert np.abs(route.waypoints_ego[0]).max() < 0.3 and route.waypoints_ego[1, 0] > 1.8
    assert frames.routes.num_off_route == 0
