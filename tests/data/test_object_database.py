"""The object database: what is cut out of a data set, and what happens to damaged or unfinished ones."""

import json
import pickle

import numpy as np
import pytest
from fixtures.worlds import tiny_world  # noqa: F401

from bevstack.data.class_names import OCCUPANCY_CLASSES
from bevstack.data.images import ImageSize
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.data.object_database import MANIFEST_NAME, ObjectDatabase
from bevstack.data.object_database_build import build_object_database
from bevstack.geometry.boxes import box_pose, points_in_boxes
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import inverse, transform_points
from bevstack.types.errors import DatasetError


def _frames(root, **changes):
    settings = {"num_sweeps": 2, "image_size": ImageSize(128, 352), "occupancy": "occ3d"} | changes
    return NuScenesFrames(root=root, split="worlds", **settings)


class _Interrupted(NuScenesFrames):
    """Stops in the second scene."""

    def __getitem__(self, index):
        if index == 4:
            raise KeyboardInterrupt
        return super().__getitem__(index)


@pytest.fixture(scope="module")
def built(tiny_world, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("objects") / "objects"
    summary = build_object_database(_frames(tiny_world), out)
    assert not summary.was_there and len(summary.database) > 50
    return out


def _copy(built, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in built.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_every_object_with_enough_points_is_there_with_all_of_them(tiny_world, built):  # noqa: F811
    frames, database = _frames(tiny_world, cameras=()), ObjectDatabase(built)
    expected = []
    for frame in frames:
        inside = points_in_boxes(frame.lidar.points_ego, frame.annotations.boxes.rows).sum(axis=1)
        expected += inside[inside >= 5].tolist()
    # A point in two boxes goes to the first.
    assert len(expected) - 2 <= len(database) <= len(expected)
    assert database.num_points.sum() == pytest.approx(sum(expected), rel=0.01)
    assert sum(database.class_counts().values()) == len(database)


def test_points_patches_and_voxels_fit_the_box(built):
    database = ObjectDatabase(built)
    num_patches = num_voxels = 0
    for row in range(0, len(database), 3):
        item = database[row]
        half = item.box[3:6] / 2 + 1e-3
        assert len(item.points_box) >= 5 and (np.abs(item.points_box[:, :3]) <= half).all()
        assert item.points_box[:, 4].min() >= 0 and item.points_box[:, 3].max() <= 255
        for patch in item.patches:
            center_cam = transform_points(inverse(patch.T_ego_cam), item.box[None, :3].astype(np.float64))
            pixel = project(patch.K_cam, center_cam)[0][0] - patch.corner_px
            height, width = patch.rgb.shape[:2]
            is_cut = (
                (patch.corner_px == 0).any() or patch.corner_px[0] + width == 352 or patch.corner_px[1] + height == 128
            )
            assert is_cut or ((pixel > 0) & (pixel < (width, height))).all()
            num_patches += 1
        assert (np.abs(item.voxels_box) <= half + item.voxel_m).all()
        num_voxels += len(item.voxels_box)
    assert database[0].voxel_m == pytest.approx(0.4)
    assert num_patches > 10 and num_voxels > 10


def test_voxels_are_those_of_the_label_file(tiny_world, built):  # noqa: F811
    frame, database = _frames(tiny_world, cameras=())[0], ObjectDatabase(built)
    grid = frame.annotations.occupancy.grid
    near = [row for row in range(len(database)) if database.box(row).tolist() in frame.annotations.boxes.rows.tolist()]
    checked = 0
    for row in near:
        item = database[row]
        cells = (transform_points(box_pose(item.box), item.voxels_box.astype(np.float64)) - grid.low_m) / grid.voxel_m
        np.testing.assert_allclose(cells % 1, 0.5, atol=1e-3)
        found = frame.annotations.occupancy.semantics[tuple(np.floor(cells).astype(int).T)]
        assert {OCCUPANCY_CLASSES[i] for i in found} <= {list(database.class_counts())[item.class_index]}
        checked += len(found)
    assert checked > 10


def test_an_interrupted_build_goes_on_and_ends_the_same(tiny_world, built, tmp_path):  # noqa: F811
    out = tmp_path / "objects"
    frames = _Interrupted(
        root=tiny_world, split="worlds", num_sweeps=2, image_size=ImageSize(128, 352), occupancy="occ3d"
    )
    with pytest.raises(KeyboardInterrupt):
        build_object_database(frames, out)
    assert not out.exists() and len(list((tmp_path / "objects.partial").glob("scene-*"))) == 1
    build_object_database(_frames(tiny_world), out)
    assert not (tmp_path / "objects.partial").exists()
    for file in built.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_database_is_not_made_twice_nor_over_something_else(tiny_world, built, tmp_path):  # noqa: F811
    assert build_object_database(_frames(tiny_world), built).was_there
    with pytest.raises(DatasetError, match="other data or settings"):
        build_object_database(_frames(tiny_world, num_sweeps=1), built)
    (tmp_path / "notes.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(DatasetError, match="no object database"):
            build_object_database(_frames(tiny_world), tmp_path, force=force)
    with pytest.raises(ValueError, match="LiDAR"):
        build_object_database(_frames(tiny_world, num_sweeps=0), tmp_path / "new")


def test_workers_open_the_pages_instead_of_getting_copies(built):
    database = ObjectDatabase(built)
    message = pickle.dumps(database)
    assert len(message) < 500
    assert (pickle.loads(message)[0].points_box == database[0].points_box).all()


def test_damaged_and_other_versions_are_named(built, tmp_path):
    copy = _copy(built, tmp_path)
    file = copy / "points.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match="points.npy is damaged"):
        ObjectDatabase(copy)
    file.unlink()
    with pytest.raises(DatasetError, match="points.npy is missing"):
        ObjectDatabase(copy)
    file.write_bytes(whole)
    (copy / "box.npy").write_bytes((copy / "class_index.npy").read_bytes())
    with pytest.raises(DatasetError, match="box.npy is damaged: int8"):
        ObjectDatabase(copy)
    manifest = json.loads((copy / MANIFEST_NAME).read_text())
    (copy / MANIFEST_NAME).write_text(json.dumps(manifest | {"schema": 0}))
    with pytest.raises(DatasetError, match="schema 0, needed is 1"):
        ObjectDatabase(copy)


def test_a_damaged_picture_is_named_when_it_is_drawn(built, tmp_path):
    copy = _copy(built, tmp_path)
    pixels = np.load(copy / "patch_jpeg.npy")
    np.save(copy / "patch_jpeg.npy", np.zeros_like(pixels))
    database = ObjectDatabase(copy)
    with pytest.raises(DatasetError, match="patch_jpeg.npy: patch"):
        for row in range(len(database)):
            database[row]
    with pytest.raises(IndexError):
        database[len(database)]
