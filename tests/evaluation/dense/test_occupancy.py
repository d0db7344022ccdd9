import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.occupancy import OPENOCCUPANCY_LIDAR_GRID
from bevstack.evaluation.dense.occupancy import (
    ALL_VOXELS,
    OCC3D,
    OCC3D_LIDAR_MASK,
    OCC3D_NO_MASK,
    OPENOCCUPANCY,
    OPENOCCUPANCY_IN_EGO,
    OccupancyScorer,
    OccupancyScores,
    count_voxels,
)
from bevstack.types.bev import OCC3D_GRID, OPENOCCUPANCY_GRID, VoxelGrid
from bevstack.types.frame import OccupancyGrid
from bevstack.types.scene import Occupancy

SMALL = VoxelGrid(x_range_m=(0.0, 4.0), y_range_m=(0.0, 1.0), z_range_m=(0.0, 1.0), voxel_m=1.0)
"""Four voxels in a row."""
CAR, ROAD = OCCUPANCY_CLASSES.index("car"), OCCUPANCY_CLASSES.index("driveable_surface")


def truth_of(semantics: np.ndarray, grid: VoxelGrid, camera: object = True, lidar: object = True) -> OccupancyGrid:
    masks = [np.broadcast_to(np.asarray(mask, bool), semantics.shape).copy() for mask in (camera, lidar)]
    return OccupancyGrid(semantics=semantics.astype(np.uint8), camera_mask=masks[0], lidar_mask=masks[1], grid=grid)


def predicted(semantics: np.ndarray, grid: VoxelGrid) -> Occupancy:
    return Occupancy(semantics=semantics.astype(np.uint8), grid=grid)


def row(*classes: int) -> np.ndarray:
    return np.array(classes).reshape(4, 1, 1)


def score(prediction: np.ndarray, truth: OccupancyGrid, protocol: str) -> OccupancyScores:
    scorer = OccupancyScorer()
    scorer.add(predicted(prediction, truth.grid), truth)
    return scorer.result()[protocol]


def random_frame(seed: int, grid: VoxelGrid = OCC3D_GRID) -> tuple[np.ndarray, OccupancyGrid]:
    rng = np.random.default_rng(seed)
    semantics = rng.integers(0, 18, grid.shape_xyz)
    noisy = np.where(rng.random(grid.shape_xyz) < 0.4, rng.integers(0, 18, grid.shape_xyz), semantics)
    semantics[rng.random(grid.shape_xyz) < 0.1] = OCCUPANCY_IGNORE
    masks = rng.random((2, *grid.shape_xyz)) < 0.5
    return noisy, truth_of(semantics, grid, masks[0], masks[1])


def test_the_truth_scores_one_and_an_empty_prediction_zero() -> None:
    _, truth = random_frame(0)
    copy = np.where(truth.semantics == OCCUPANCY_IGNORE, 3, truth.semantics)
    for protocol in (OCC3D, OCC3D_LIDAR_MASK, OCC3D_NO_MASK):
        best = score(copy, truth, protocol)
        assert best.mean_iou == best.iou == best.mean_iou_of_labelled == 1.0
        worst = score(np.full_like(copy, OCCUPANCY_FREE), truth, protocol)
        assert worst.mean_iou == worst.iou == 0.0


def test_the_numbers_of_four_voxels_are_those_counted_by_hand() -> None:
    truth = truth_of(row(CAR, CAR, ROAD, OCCUPANCY_FREE), SMALL)
    found = score(row(CAR, ROAD, ROAD, ROAD), truth, ALL_VOXELS)
    assert found.class_iou["car"] == pytest.approx(1 / 2) and found.class_iou["driveable_surface"] == pytest.approx(
        1 / 3
    )
    assert found.mean_iou == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found.iou == pytest.approx(3 / 4)
    assert found.class_share["car"] == 0.5 and found.class_share["free"] == 0.25


def test_the_confusion_says_what_each_labelled_voxel_was_taken_for() -> None:
    truth = truth_of(row(CAR, CAR, ROAD, OCCUPANCY_IGNORE), SMALL)
    confusion = np.array(score(row(CAR, ROAD, ROAD, ROAD), truth, ALL_VOXELS).confusion)
    assert confusion.shape == (18, 18) and confusion.sum() == 3
    assert confusion[CAR, CAR] == confusion[CAR, ROAD] == confusion[ROAD, ROAD] == 1


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 7), st.integers(1, 40))
def test_long_runs_and_grids_of_any_size_are_counted_as_by_bincount(seed: int, x: int, y: int, run: int) -> None:
    rng = np.random.default_rng(seed)
    grid = VoxelGrid(x_range_m=(0.0, float(x)), y_range_m=(0.0, float(y)), z_range_m=(0.0, 9.0), voxel_m=1.0)
    size = x * y * 9

    def in_runs(values: tuple[int, ...]) -> np.ndarray:
        return rng.choice(values, -(-size // run)).repeat(run)[:size].reshape(grid.shape_xyz)

    prediction, semantics = in_runs((0, CAR, 17)), in_runs((CAR, 17, OCCUPANCY_IGNORE))
    camera, lidar = in_runs((0, 1)), in_runs((0, 1))
    known = semantics != OCCUPANCY_IGNORE
    flat = ((camera + 2 * lidar) * 18 + semantics) * 18 + prediction
    expected = np.bincount(flat[known], minlength=4 * 18 * 18).reshape(4, 18, 18)
    found = count_voxels(predicted(prediction, grid), truth_of(semantics, grid, camera, lidar))
    np.testing.assert_array_equal(found, expected)


def test_a_class_that_is_nowhere_is_left_out_and_one_that_is_only_predicted_counts_as_zero() -> None:
    truth = truth_of(row(CAR, CAR, ROAD, OCCUPANCY_FREE), SMALL)
    found = score(row(CAR, CAR, ROAD, 0), truth, ALL_VOXELS)
    assert found.class_iou["bus"] is None and found.class_iou["others"] == 0.0
    assert found.mean_iou == pytest.approx(2 / 3) and found.mean_iou_of_labelled == 1.0


def test_unknown_voxels_do_not_count() -> None:
    truth = truth_of(row(CAR, OCCUPANCY_IGNORE, OCCUPANCY_IGNORE, OCCUPANCY_FREE), SMALL)
    found = score(row(CAR, ROAD, 0, OCCUPANCY_FREE), truth, ALL_VOXELS)
    assert found.mean_iou == found.iou == 1.0


def test_counts_agree_with_the_definition_within_each_mask() -> None:
    prediction, truth = random_frame(1)
    known = truth.semantics != OCCUPANCY_IGNORE
    for protocol, mask in (
        (OCC3D, truth.camera_mask),
        (OCC3D_LIDAR_MASK, truth.lidar_mask),
        (OCC3D_NO_MASK, np.ones_like(known)),
    ):
        t, p = truth.semantics[known & mask], prediction[known & mask]
        expected = [((t == k) & (p == k)).sum() / ((t == k) | (p == k)).sum() for k in range(OCCUPANCY_FREE)]
        found = score(prediction, truth, protocol)
        np.testing.assert_allclose(list(found.class_iou.values()), expected)
        assert found.mean_iou == pytest.approx(np.mean(expected)) and len(expected) == 17
        full = (t != OCCUPANCY_FREE, p != OCCUPANCY_FREE)
        assert found.iou == pytest.approx((full[0] & full[1]).sum() / (full[0] | full[1]).sum())


def test_the_set_is_counted_as_one_and_not_frame_by_frame() -> None:
    frames = [
        (row(CAR, OCCUPANCY_FREE, 17, 17), row(CAR, 17, 17, 17)),
        (row(17, 17, 17, 17), row(CAR, CAR, CAR, 17)),
    ]
    scorer = OccupancyScorer()
    for prediction, truth in frames:
        scorer.add(predicted(prediction, SMALL), truth_of(truth, SMALL))
    # One of four cars is found; the mean of the frames would be a half.
    assert scorer.result()[ALL_VOXELS].class_iou["car"] == pytest.approx(1 / 4) and scorer.num_frames == 2


def test_merged_scorers_equal_one_that_saw_all_frames() -> None:
    parts, whole = [OccupancyScorer(), OccupancyScorer(), OccupancyScorer()], OccupancyScorer()
    for seed, part in zip((2, 3), parts[1:], strict=True):
        prediction, truth = random_frame(seed)
        for scorer in (part, whole):
            scorer.add(predicted(prediction, OCC3D_GRID), truth)
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    assert parts[0].result() == whole.result() and parts[0].num_frames == 2


def test_each_grid_has_the_protocols_that_are_defined_on_it() -> None:
    assert OccupancyScorer().result() == {}
    expected = {
        OCC3D_GRID: [OCC3D, OCC3D_LIDAR_MASK, OCC3D_NO_MASK],
        OPENOCCUPANCY_LIDAR_GRID: [OPENOCCUPANCY],
        OPENOCCUPANCY_GRID: [OPENOCCUPANCY_IN_EGO],
        SMALL: [ALL_VOXELS],
    }
    for grid, protocols in expected.items():
        empty = np.full(grid.shape_xyz, OCCUPANCY_FREE, np.uint8)
        scorer = OccupancyScorer()
        scorer.add(predicted(empty, grid), truth_of(empty, grid))
        assert list(scorer.result()) == protocols
        assert all(found.mean_iou is None and found.iou is None for found in scorer.result().values())


def test_openoccupancy_has_sixteen_classes_and_takes_no_notice_of_masks() -> None:
    semantics = np.full(OPENOCCUPANCY_LIDAR_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    semantics[0, 0, :4] = CAR
    prediction = semantics.copy()
    prediction[0, 0, 0] = 0  # "others" is occupied, but no class of this benchmark
    found = score(prediction, truth_of(semantics, OPENOCCUPANCY_LIDAR_GRID, False, False), OPENOCCUPANCY)
    assert len(found.class_iou) == 16 and "others" not in found.class_iou
    assert found.mean_iou == pytest.approx(3 / 4) and found.iou == 1.0


def test_what_cannot_be_compared_is_refused() -> None:
    scorer = OccupancyScorer()
    truth = truth_of(row(CAR, CAR, ROAD, 17), SMALL)
    with pytest.raises(ValueError, match="labels of the model's format"):
        scorer.add(predicted(np.zeros(OCC3D_GRID.shape_xyz), OCC3D_GRID), truth)
    with pytest.raises(ValueError, match="class 99"):
        scorer.add(predicted(row(CAR, 99, ROAD, 17), SMALL), truth)
    with pytest.raises(ValueError, match="class 20"):
        scorer.add(predicted(row(CAR, CAR, ROAD, 17), SMALL), truth_of(row(CAR, 20, ROAD, 17), SMALL))
    assert scorer.num_frames == 0
    scorer.add(predicted(row(CAR, CAR, ROAD, 17), SMALL), truth)
    other = OccupancyScorer()
    prediction, frame = random_frame(4)
    other.add(predicted(prediction, OCC3D_GRID), frame)
    with pytest.raises(ValueError, match="one scorer for each"):
        scorer.merge(other)
