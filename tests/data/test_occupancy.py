"""Occupancy files of both formats into `ego`, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from fixtures.nuscenes_tiny import SCENE, SPLIT, T_EGO_LIDAR, Tables, token, write_tiny

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.images import ImageSize
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.data.occupancy import (
    OPENOCCUPANCY_LIDAR_GRID,
    occupancy_path,
    openoccupancy_in_lidar,
    read_occupancy,
)
from bevstack.geometry.transforms import from_quaternion
from bevstack.geometry.voxels import resample_nearest
from bevstack.types import OCC3D_GRID, OPENOCCUPANCY_GRID, OccupancyGrid, VoxelGrid
from bevstack.types.errors import DatasetError

CAR = OCCUPANCY_CLASSES.index("car")
SAMPLE = token("sample0")
T_EGO_LIDAR_REAL = from_quaternion(
    np.array([0.7077955119163518, -0.006492242056004365, 0.010646214713995808, -0.7063073142877817]),
    np.array([0.943713, 0.0, 1.84023]),
)
"""The mounting of LIDAR_TOP on a vehicle of nuScenes: tilted by about a degree."""


def tiny_frames(root: Path, **options: object) -> NuScenesFrames:
    return NuScenesFrames(**{"root": root, "split": SPLIT, "image_size": ImageSize(90, 160), **options})


def write_occ3d(root: Path, sample: str = SAMPLE, **changes: np.ndarray | None) -> Path:
    shape = OCC3D_GRID.shape_xyz
    arrays = {name: np.ones(shape, np.uint8) for name in ("semantics", "mask_lidar", "mask_camera")}
    arrays["semantics"] *= np.uint8(OCCUPANCY_FREE)
    arrays["semantics"][150, 100, 4] = CAR  # (20.2, 0.2, 0.8) m: the car of the tiny data set
    arrays["mask_camera"][0] = 0
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    path = root / "gts" / SCENE / sample / "labels.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def write_openoccupancy(path: Path, rows: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, rows)
    return path


def some_occupancy() -> np.ndarray:
    """A plane, a wall and a block, on the grid of the benchmark."""
    dense = np.full(OPENOCCUPANCY_LIDAR_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    dense[40:470, 60:450, 16] = 11
    dense[300, 100:400, 16:36] = 15
    dense[200:212, 330:342, 17:26] = CAR
    return dense


# -- reading ----------------------------------------------------------------------------------------------------------
def test_occ3d_labels_come_with_the_frame_as_they_are_in_the_file(tmp_path: Path) -> None:
    root = write_tiny(tmp_path / "tiny")
    for sample in ("sample0", "sample1"):
        write_occ3d(root, token(sample))
    frames = tiny_frames(root, occupancy="occ3d")
    occupancy = frames[0].annotations.occupancy
    assert occupancy.grid == OCC3D_GRID and occupancy.semantics.dtype == np.uint8
    assert np.argwhere(occupancy.semantics == CAR).tolist() == [[150, 100, 4]]
    assert not occupancy.camera_mask[0].any() and occupancy.camera_mask[1:].all() and occupancy.lidar_mask.all()
    assert frames.annotations(0).occupancy is None, "tables alone do not read files"
    assert tiny_frames(root)[0].annotations.occupancy is None
    assert tiny_frames(root, occupancy="occ3d", with_annotations=False)[0].annotations is None


@pytest.mark.parametrize("columns", [4, 7])
def test_a_voxel_of_openoccupancy_ahead_of_the_lidar_lies_ahead_of_the_vehicle(tmp_path: Path, columns: int) -> None:
    root = write_tiny(tmp_path / "tiny")
    # z, y, x, class: 10.1 m forward (lidar y), 4.1 m to the right (lidar x), 0.9 m below the LiDAR, which is 1.8 m up.
    voxel = [(-0.9 + 5) / 0.2, (10.1 + 51.2) / 0.2, (4.1 + 51.2) / 0.2]
    rows = np.array([[*np.floor(voxel), *[3.0] * (columns - 4), CAR], [0, 0, 0, *[0.0] * (columns - 4), 0]])
    layout = {"scene_name": SCENE, "scene_token": token("scene"), "sample_token": SAMPLE}
    path = occupancy_path("openoccupancy", **layout, lidar_token=token("LIDAR_TOP0"))
    assert path == f"nuScenes-Occupancy-v0.1/scene_{token('scene')}/occupancy/{token('LIDAR_TOP0')}.npy"
    write_openoccupancy(root / path, rows)
    occupancy = tiny_frames(root, occupancy="openoccupancy")[0].annotations.occupancy
    assert occupancy.grid == OPENOCCUPANCY_GRID
    (found,) = np.argwhere(occupancy.semantics == CAR)
    center = (found + 0.5) * 0.2 + OPENOCCUPANCY_GRID.low_m
    assert center == pytest.approx([11.1, -4.1, 0.9], abs=0.11)
    assert (occupancy.semantics[~occupancy.lidar_mask] == OCCUPANCY_IGNORE).all(), "beyond the grid of the file"
    assert 0.97 < occupancy.lidar_mask.mean() < 1.0
    assert (occupancy.semantics[occupancy.lidar_mask] == OCCUPANCY_IGNORE).sum() == 1, "the noise"


def test_noise_is_ignored_and_unlisted_voxels_are_free(tmp_path: Path) -> None:
    rows = np.array([[20, 256, 256, 0], [20, 256, 260, 16], [20, 256, 264, 1], [20, 256, 264, 4]], np.int32)
    path = write_openoccupancy(tmp_path / "a.npy", rows)
    occupancy = read_occupancy(path, "openoccupancy", sample_token=SAMPLE, T_ego_lidar=T_EGO_LIDAR)
    counts = np.bincount(occupancy.semantics[occupancy.lidar_mask], minlength=256)
    assert (counts[OCCUPANCY_IGNORE], counts[16], counts[1], counts[4]) == (1, 1, 0, 1), "the later row counts"
    assert counts[OCCUPANCY_FREE] == occupancy.lidar_mask.sum() - 3


# -- there and back ---------------------------------------------------------------------------------------------------
def through_ego(tmp_path: Path, dense: np.ndarray, T_ego_lidar: np.ndarray) -> tuple[OccupancyGrid, np.ndarray]:
    x, y, z = np.nonzero(dense != OCCUPANCY_FREE)
    rows = np.column_stack((z, y, x, dense[x, y, z])).astype(np.int32)
    path = write_openoccupancy(tmp_path / "there.npy", rows)
    in_ego = read_occupancy(path, "openoccupancy", sample_token=SAMPLE, T_ego_lidar=T_ego_lidar)
    return in_ego, openoccupancy_in_lidar(in_ego.semantics, T_ego_lidar)


def test_an_upright_lidar_loses_nothing_on_the_way_to_ego_and_back(tmp_path: Path) -> None:
    dense = some_occupancy()
    _, back = through_ego(tmp_path, dense, T_EGO_LIDAR)
    np.testing.assert_array_equal(back, dense)


def test_the_tilted_lidar_loses_few_voxels_on_the_way_to_ego_and_back(tmp_path: Path) -> None:
    dense = some_occupancy()
    in_ego, back = through_ego(tmp_path, dense, T_EGO_LIDAR_REAL)
    occupied = dense != OCCUPANCY_FREE
    kept = (back[occupied] == dense[occupied]).mean()
    overlap = (occupied & (back != OCCUPANCY_FREE)).sum() / (occupied | (back != OCCUPANCY_FREE)).sum()
    assert kept == pytest.approx(0.994, abs=0.002) and overlap == pytest.approx(0.982, abs=0.004)
    assert (in_ego.semantics == 11).sum() == pytest.approx((dense == 11).sum(), rel=1e-3), "no hole in the ground"


def test_classes_that_nobody_predicts_outside_are_free_or_as_asked() -> None:
    semantics = np.full(OPENOCCUPANCY_GRID.shape_xyz, CAR, np.uint8)
    back = openoccupancy_in_lidar(semantics, T_EGO_LIDAR)
    assert set(np.unique(back).tolist()) == {CAR, OCCUPANCY_FREE} and (back == CAR).mean() > 0.97
    assert (openoccupancy_in_lidar(semantics, T_EGO_LIDAR, outside=OCCUPANCY_IGNORE) == OCCUPANCY_IGNORE).any()


def test_resampling_by_the_identity_changes_nothing_and_grids_are_checked() -> None:
    grid = VoxelGrid(x_range_m=(-2.0, 2.0), y_range_m=(0.0, 2.0), z_range_m=(-1.0, 1.0), voxel_m=0.5)
    values = np.random.default_rng(0).integers(0, 9, grid.shape_xyz).astype(np.uint8)
    np.testing.assert_array_equal(resample_nearest([values], grid, grid, np.eye(4), [0])[0], values)
    with pytest.raises(ValueError, match="does not lie on a grid"):
        resample_nearest([values[1:]], grid, grid, np.eye(4), [0])
    with pytest.raises(ValueError, match="1 arrays need as many outside values"):
        resample_nearest([values], grid, grid, np.eye(4), [])


# -- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"semantics": np.zeros((200, 200, 15), np.uint8)}, r"semantics is uint8 of shape \(200, 200, 15\)"),
        ({"mask_camera": None}, "there is no array 'mask_camera"),
        ({"semantics": np.full((200, 200, 16), 18, np.uint8)}, "class 18 is none of 0 to 17"),
        ({"semantics": np.full((200, 200, 16), OCCUPANCY_IGNORE, np.uint8)}, "no voxel has a label"),
        ({name: np.zeros((200, 200, 16), np.uint8) for name in ("mask_camera", "mask_lidar")}, "no voxel has a label"),
        ({"semantics": np.zeros((200, 200, 16), np.float32)}, "semantics is float32"),
    ],
)
def test_a_damaged_occ3d_file_is_named_with_its_sample(tmp_path: Path, changes: dict, message: str) -> None:
    root = write_tiny(tmp_path / "tiny")
    write_occ3d(root, **changes)
    with pytest.raises(DatasetError, match=f"sample {SAMPLE}: .*labels.npz is damaged, .*{message}"):
        tiny_frames(root, occupancy="occ3d")[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((5, 3), np.int32), r"rows of 4 or 7 numbers are needed, not int32 of \(5, 3\)"),
        (np.zeros((0, 4), np.int32), "it lists no voxel"),
        (np.array([[40, 0, 0, 1]]), "indices along z run from 40 to 40, outside of 0 to 39"),
        (np.array([[0, -1, 0, 1]]), "indices along y"),
        (np.array([[0, 0, 0, 17]]), "classes run from 17 to 17"),
        (np.array([["a", "b", "c", "d"]]), "rows of 4 or 7 numbers"),
    ],
)
def test_a_damaged_openoccupancy_file_is_named_with_its_sample(tmp_path: Path, rows: np.ndarray, message: str) -> None:
    path = write_openoccupancy(tmp_path / "a.npy", rows)
    with pytest.raises(DatasetError, match=f"sample {SAMPLE}: .*a.npy is damaged, {message}"):
        read_occupancy(path, "openoccupancy", sample_token=SAMPLE, T_ego_lidar=T_EGO_LIDAR)


@pytest.mark.parametrize("layout", ["occ3d", "openoccupancy"])
def test_a_truncated_file_is_named(tmp_path: Path, layout: str) -> None:
    path = write_occ3d(tmp_path)
    if layout == "openoccupancy":
        path = write_openoccupancy(tmp_path / "a.npy", np.ones((999, 4), np.int32))
    content = path.read_bytes()
    for keep in (0, 40, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:keep])
        with pytest.raises(DatasetError, match=f"sample {SAMPLE}: .*{path.name} is damaged, it is no complete"):
            read_occupancy(path, layout, sample_token=SAMPLE, T_ego_lidar=T_EGO_LIDAR)


@pytest.mark.parametrize("layout", ["occ3d", "openoccupancy"])
def test_a_missing_file_is_an_error_or_left_out_and_counted(tmp_path: Path, layout: str) -> None:
    root = write_tiny(tmp_path / "tiny")
    with pytest.raises(DatasetError, match=f"{layout} label of sample {SAMPLE}: .* is missing"):
        tiny_frames(root, occupancy=layout)[0]
    tolerant = tiny_frames(root, occupancy=layout, missing="mask")
    assert tolerant[0].annotations.occupancy is None and tolerant.num_missing == {f"{layout} label": 1}
    with pytest.raises(DatasetError, match=f"sample {SAMPLE}: .* is missing: unpack"):
        read_occupancy(root / "none", layout, sample_token=SAMPLE, T_ego_lidar=T_EGO_LIDAR)


@pytest.mark.parametrize("change", [{"size": [0.0, 4.5, 1.6]}, {"translation": [float("nan"), 0.0, 0.0]}])
def test_a_box_that_cannot_be_true_is_named_by_its_token(tmp_path: Path, change: dict[str, list[float]]) -> None:
    def edit(tables: Tables) -> None:
        tables["sample_annotation"][0] |= change

    frames = tiny_frames(write_tiny(tmp_path / "tiny", edit=edit))
    with pytest.raises(DatasetError, match=f"annotation {token('car0')} in .*sample_annotation.json has translation"):
        frames[0]
