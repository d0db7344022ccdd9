"""Map masks and occupancy on their way from frames to batches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.labelled_scenes import FINE_CELLS, street, write_street_map
from fixtures.map_writer import MapWriter
from fixtures.scenes import one_car_ahead
from fixtures.training_runs import FrameList

from bevstack.data.augment import WorldAugmentation
from bevstack.data.class_names import OCCUPANCY_IGNORE
from bevstack.data.collate import collate
from bevstack.data.labels import LabelledFrames, Labeller
from bevstack.data.loader import FrameDataset, SampleKey, make_loader
from bevstack.data.map_labels import MapLabeller
from bevstack.data.maps import MAP_CLASSES
from bevstack.types import OCC3D_GRID, BevGrid, Frame, VoxelGrid
from bevstack.types.errors import DatasetError

SMALL_GRID = VoxelGrid(x_range_m=(-8.0, 8.0), y_range_m=(-8.0, 8.0), z_range_m=(-1.0, 5.4), voxel_m=0.4)
CELLS = BevGrid(x_range_m=(-20.0, 20.0), y_range_m=(-20.0, 20.0), z_range_m=(-5.0, 3.0), cell_m=0.5)


@pytest.fixture(scope="module")
def map_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_street_map(tmp_path_factory.mktemp("street"))


@pytest.fixture
def labeller(map_root: Path) -> MapLabeller:
    return MapLabeller(root=map_root, grid=CELLS)


# -- batches ----------------------------------------------------------------------------------------------------------
def test_labels_of_two_frames_are_those_of_one_and_one(labeller: MapLabeller) -> None:
    frames = [labeller(street(SMALL_GRID)), labeller(replace(street(SMALL_GRID), token="street-1"))]
    _, both = collate(frames)
    assert both is not None and both.map_masks is not None and both.occupancy is not None
    assert both.map_masks.shape == (2, len(MAP_CLASSES), *CELLS.shape_yx) and both.map_masks.dtype == torch.bool
    assert both.occupancy.shape == (2, *SMALL_GRID.shape_xyz) and both.occupancy.dtype == torch.uint8
    for b, frame in enumerate(frames):
        _, single = collate([frame])
        assert single is not None
        for name in ("map_masks", "map_valid", "occupancy", "occupancy_camera_mask", "occupancy_lidar_mask"):
            assert torch.equal(getattr(both, name)[b : b + 1], getattr(single, name)), name


def test_a_frame_without_labels_is_marked_and_cannot_be_learned_from(labeller: MapLabeller) -> None:
    _, labels = collate([one_car_ahead(), labeller(street(SMALL_GRID))])
    assert labels is not None and labels.map_masks is not None and labels.occupancy is not None
    assert labels.map_valid.tolist() == [False, True] and not labels.map_masks[0].any()
    assert (labels.occupancy[0] == OCCUPANCY_IGNORE).all()
    assert not labels.occupancy_camera_mask[0].any() and not labels.occupancy_lidar_mask[0].any()
    assert labels.occupancy_camera_mask[1].all()


def test_no_labels_at_all_are_none() -> None:
    _, labels = collate([one_car_ahead()])
    assert labels is not None
    assert labels.map_masks is None and labels.map_valid is None
    assert labels.occupancy is None and labels.occupancy_camera_mask is None


def test_labels_on_two_grids_are_refused_by_frame(map_root: Path, labeller: MapLabeller) -> None:
    other = replace(street(OCC3D_GRID), token="street-1")
    with pytest.raises(ValueError, match=r"occupancy of one batch .* frame street-0 has \(40, 40, 16\) .*street-1"):
        collate([street(SMALL_GRID), other])
    shifted = replace(SMALL_GRID, z_range_m=(-1.4, 5.0))
    with pytest.raises(ValueError, match="occupancy of one batch must lie on one grid"):
        collate([street(SMALL_GRID), street(shifted)])
    fine = MapLabeller(root=map_root, grid=FINE_CELLS)
    with pytest.raises(ValueError, match="map masks of one batch must lie on one grid"):
        collate([labeller(one_car_ahead()), fine(one_car_ahead())])


@pytest.mark.parametrize(("column", "value"), [(3, 0.0), (4, -1.0), (0, np.nan), (6, np.inf)])
def test_a_box_that_cannot_be_true_is_refused_with_its_token(column: int, value: float) -> None:
    frame = one_car_ahead()
    rows = frame.annotations.boxes.rows.copy()
    rows[0, column] = value
    broken = replace(frame.annotations, boxes=replace(frame.annotations.boxes, rows=rows))
    with pytest.raises(ValueError, match="frame frame-0: box frame-0-box-0 .* positive size"):
        collate([replace(frame, annotations=broken)])


# -- loading ----------------------------------------------------------------------------------------------------------
def test_masks_are_drawn_after_augmentation_at_the_augmented_pose(labeller: MapLabeller) -> None:
    dataset = FrameDataset(FrameList([street(SMALL_GRID)]), [WorldAugmentation()], 3, [labeller])
    frame = dataset[SampleKey(1, 0)]
    expected = labeller(replace(frame, annotations=replace(frame.annotations, map_masks=None)))
    np.testing.assert_array_equal(frame.annotations.map_masks.masks, expected.annotations.map_masks.masks)
    plain = FrameDataset(FrameList([street(SMALL_GRID)]), (), 3, [labeller])[0]
    assert (plain.annotations.map_masks.masks != frame.annotations.map_masks.masks).any()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_hands_out_labels_of_all_three_tasks(labeller: MapLabeller, num_workers: int) -> None:
    source = FrameList([street(SMALL_GRID, token=f"street-{index}") for index in range(2)])
    loader = make_loader(source, batch_size=2, labellers=[labeller], num_workers=num_workers)
    (_, labels), *_ = list(loader)
    assert labels is not None and labels.map_masks is not None and labels.occupancy is not None
    assert labels.map_valid.tolist() == [True, True] and len(labels.boxes_ego[0]) == 3


def test_labelled_frames_are_those_of_the_source_with_masks(labeller: MapLabeller) -> None:
    assert isinstance(labeller, Labeller)
    source = FrameList([street(SMALL_GRID)])
    frames = LabelledFrames(source, [labeller])
    assert len(frames) == 1 and frames.source is source
    assert frames[0].annotations.map_masks.masks.any()
    assert source[0].annotations.map_masks is None


# -- maps that are not there ------------------------------------------------------------------------------------------
def elsewhere(location: str) -> Frame:
    return replace(one_car_ahead(), location=location)


def test_a_location_without_a_map_is_an_error_or_left_out_and_counted(
    map_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DatasetError, match=r"moon\.json is missing"):
        MapLabeller(root=map_root, grid=CELLS)(elsewhere("moon"))
    tolerant = MapLabeller(root=map_root, grid=CELLS, missing="mask")
    frame = tolerant(elsewhere("moon"))
    assert frame.annotations.map_masks is None and tolerant.num_missing == {"moon": 1}
    assert "moon" in caplog.text and "frame-0" in caplog.text


def test_a_map_without_a_layer_is_named_with_the_layer(tmp_path: Path) -> None:
    writer = MapWriter()
    del writer.document["stop_line"]
    writer.write(tmp_path)
    with pytest.raises(DatasetError, match="map of boston-seaport .* has no layer stop_line"):
        MapLabeller(root=tmp_path, grid=CELLS)(one_car_ahead())
    tolerant = MapLabeller(root=tmp_path, grid=CELLS, missing="mask")
    assert tolerant(one_car_ahead()).annotations.map_masks is None


def test_an_empty_layer_is_no_missing_layer(tmp_path: Path) -> None:
    MapWriter().write(tmp_path)
    masks = MapLabeller(root=tmp_path, grid=CELLS)(one_car_ahead()).annotations.map_masks.masks
    assert masks.shape == (len(MAP_CLASSES), *CELLS.shape_yx) and not masks.any()


def test_a_frame_without_annotations_stays_as_it_is(labeller: MapLabeller) -> None:
    frame = replace(one_car_ahead(), annotations=None)
    assert labeller(frame) is frame
