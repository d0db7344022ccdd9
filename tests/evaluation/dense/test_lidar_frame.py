"""OpenOccupancy where the benchmark scores it, and rays from where the LiDAR stood, through the evaluation."""

import pickle

import numpy as np
import pytest
from fixtures.nuscenes_tiny import SCENE, SPLIT, T_EGO_LIDAR, token, write_tiny

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.images import ImageSize
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.data.occupancy import OPENOCCUPANCY_LIDAR_GRID, read_openoccupancy
from bevstack.evaluation.dense.lidar_frame import LidarFrame
from bevstack.evaluation.dense.tasks import DenseResults
from bevstack.types import OCC3D_GRID, Frame, Occupancy, SceneEstimate
from bevstack.types.errors import DatasetError

OFFICIAL, IN_EGO, OTHER_RAYS = "occ/openoccupancy", "occ/openoccupancy-in-ego", "occ/rayiou-other-grid"
CAR, WALL, ROAD = (OCCUPANCY_CLASSES.index(name) for name in ("car", "manmade", "driveable_surface"))


def labels_in_lidar() -> np.ndarray:
    """A plane, a wall across and a car, in the frame of the LiDAR (x right, y forward)."""
    dense = np.full(OPENOCCUPANCY_LIDAR_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    dense[40:470, 60:450, 15] = ROAD
    dense[100:400, 330, 16:36] = WALL
    dense[250:260, 290:312, 16:24] = CAR
    return dense


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> NuScenesFrames:
    """Two samples with labels of OpenOccupancy, the same around both."""
    root = write_tiny(tmp_path_factory.mktemp("openoccupancy") / "tiny")
    dense = labels_in_lidar()
    x, y, z = np.nonzero(dense != OCCUPANCY_FREE)
    noise = np.array([[39, 5, 5, 0]])
    rows = np.concatenate((np.column_stack((z, y, x, dense[x, y, z])), noise)).astype(np.int32)
    folder = root / "nuScenes-Occupancy-v0.1" / f"scene_{token('scene')}" / "occupancy"
    folder.mkdir(parents=True)
    for reading in ("LIDAR_TOP0", "LIDAR_TOP10"):
        np.save(folder / f"{token(reading)}.npy", rows)
    return NuScenesFrames(
        root=root, split=SPLIT, image_size=ImageSize(90, 160), occupancy="openoccupancy", missing="mask"
    )


def said_of(frame: Frame, semantics: np.ndarray) -> SceneEstimate:
    occupancy = Occupancy(semantics=semantics, grid=frame.annotations.occupancy.grid)
    return SceneEstimate(token=frame.token, timestamp_us=frame.timestamp_us, occupancy=occupancy)


def scores_of(frames: NuScenesFrames, semantics: np.ndarray, frame: Frame, *, with_lidar: bool = True) -> dict:
    dense = DenseResults(lidar=LidarFrame(frames.index) if with_lidar else None)
    dense.add(said_of(frame, semantics), frame.annotations)
    return dense.scores()["occupancy"]


def known(frame: Frame) -> np.ndarray:
    semantics = frame.annotations.occupancy.semantics
    return np.where(semantics == OCCUPANCY_IGNORE, OCCUPANCY_FREE, semantics).astype(np.uint8)


def test_labels_are_read_as_they_are_in_the_file(frames: NuScenesFrames) -> None:
    path = next((frames.root / "nuScenes-Occupancy-v0.1").rglob("*.npy"))
    labels = read_openoccupancy(path, sample_token="a")
    assert labels.grid == OPENOCCUPANCY_LIDAR_GRID and labels.lidar_mask.all() and labels.camera_mask.all()
    assert (labels.semantics == OCCUPANCY_IGNORE).sum() == 1 and labels.semantics[5, 5, 39] == OCCUPANCY_IGNORE
    np.testing.assert_array_equal(
        np.where(labels.semantics == OCCUPANCY_IGNORE, 17, labels.semantics), labels_in_lidar()
    )
    with pytest.raises(DatasetError, match="sample a: .*none.npy is missing"):
        read_openoccupancy(path.with_name("none.npy"), sample_token="a")


def test_the_official_score_leads_and_the_labels_as_prediction_reach_one(frames: NuScenesFrames) -> None:
    frame = frames[0]
    scores = scores_of(frames, known(frame), frame)
    assert list(scores) == [OFFICIAL, IN_EGO, OTHER_RAYS]
    assert [numbers["mean_iou"] for numbers in scores.values()] == [1.0, 1.0, 1.0]
    assert all(protocol == numbers["protocol"] for protocol, numbers in scores.items())
    # The labels are those of the file, not moved to `ego` and back: every voxel but the noise counts.
    assert np.sum(scores[OFFICIAL]["confusion"]) == labels_in_lidar().size - 1


def test_the_prediction_is_turned_into_the_frame_of_the_lidar(frames: NuScenesFrames) -> None:
    frame = frames[0]
    ahead = np.roll(known(frame), 5, axis=0)  # a metre forward: along y of the LiDAR
    official = scores_of(frames, ahead, frame)[OFFICIAL]
    assert official["class_iou"]["manmade"] == 0.0 and official["class_iou"]["car"] == pytest.approx(17 / 27)
    aside = np.roll(known(frame), 5, axis=1)  # a metre to the left: against x of the LiDAR
    official = scores_of(frames, aside, frame)[OFFICIAL]
    assert official["class_iou"]["manmade"] == pytest.approx(295 / 305)
    assert official["class_iou"]["car"] == pytest.approx(5 / 15)


def test_results_of_two_processes_are_those_of_one(frames: NuScenesFrames) -> None:
    lidar = LidarFrame(frames.index)
    whole, parts = DenseResults(lidar=lidar), [DenseResults(lidar=lidar), DenseResults(lidar=lidar)]
    for number, part in enumerate(parts):
        frame = frames[number]
        for results in (whole, part):
            results.add(said_of(frame, np.roll(known(frame), number, axis=0)), frame.annotations)
    merged = DenseResults()
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.scores() == whole.scores() and list(merged.scores()["occupancy"]) == [OFFICIAL, IN_EGO, OTHER_RAYS]
    assert merged.rasters == whole.rasters and merged.wrong_share == whole.wrong_share
    with pytest.raises(ValueError, match="is counted already"):
        merged.merge(parts[0])


def test_without_the_lidar_only_what_needs_none_is_scored(frames: NuScenesFrames) -> None:
    frame = frames[0]
    assert list(scores_of(frames, known(frame), frame, with_lidar=False)) == [IN_EGO]


def test_occ3d_labels_are_scored_by_voxels_and_by_rays_of_the_whole_scene(frames: NuScenesFrames) -> None:
    semantics = np.full(OCC3D_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    semantics[:, :, 2] = ROAD
    semantics[150, 80:120, 3:10] = WALL
    path = frames.root / "gts" / SCENE / frames.token(0) / "labels.npz"
    path.parent.mkdir(parents=True)
    seen = np.ones(semantics.shape, np.uint8)
    np.savez(path, semantics=semantics, mask_lidar=seen, mask_camera=seen)
    own = NuScenesFrames(
        root=frames.root, split=SPLIT, image_size=ImageSize(90, 160), occupancy="occ3d", missing="mask"
    )
    frame = own[0]
    thick = semantics.copy()
    thick[150:156, 80:120, 3:10] = WALL
    scores = scores_of(own, thick, frame)
    assert list(scores) == ["occ/occ3d-miou", "occ/occ3d-miou-lidar-mask", "occ/occ3d-miou-no-mask", "occ/rayiou"]
    assert scores["occ/occ3d-miou"]["class_iou"]["manmade"] == pytest.approx(1 / 6)
    assert scores["occ/rayiou"]["class_iou"]["manmade"] > 0.9
    origins = LidarFrame(own.index).origins(frame.token)
    np.testing.assert_allclose(origins, [T_EGO_LIDAR[:3, 3], T_EGO_LIDAR[:3, 3] + (5, 0, 0)], atol=1e-5)
