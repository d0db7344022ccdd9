"""Ground-truth paste: points, pictures, occupancy and boxes tell the same story afterwards."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from fixtures.planned_frames import planned_frame
from fixtures.scenes import empty_road, one_car_ahead, scene_of

from bevstack.build import compose, instantiate
from bevstack.data.class_names import DETECTION_CLASSES, OCCUPANCY_CLASSES, OCCUPANCY_FREE
from bevstack.data.loader import FrameDataset, SampleKey
from bevstack.data.object_database_build import write_object_database
from bevstack.data.object_images import corner_pixels
from bevstack.data.object_paste import PER_CLASS, ObjectPaste
from bevstack.geometry.boxes import bev_iou, points_in_boxes
from bevstack.types.bev import OCC3D_GRID
from bevstack.types.errors import DatasetError
from bevstack.types.frame import OccupancyGrid, PointIndex

ROAD = OCCUPANCY_CLASSES.index("driveable_surface")
CAR_RED = (200, 40, 40)
OBJECTS = [
    ("car", 10.0, 0.0, 0.0, 5.0),
    ("car", 18.0, -5.0, 1.0, 0.0),
    ("truck", -14.0, 4.0, 3.0, 2.0),
    ("pedestrian", 5.0, 6.0, -1.5, 1.5),
    ("pedestrian", 9.0, -4.0, 0.3, 0.0),
]


def _centers():
    axes = [
        low + (np.arange(count) + 0.5) * OCC3D_GRID.voxel_m
        for low, count in zip(OCC3D_GRID.low_m, OCC3D_GRID.shape_xyz, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)


def _with_occupancy(frame):
    """Road at the height of the wheels, objects solid, nothing observed."""
    semantics = np.full(OCC3D_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    semantics[:, :, 2] = ROAD
    centers = _centers().reshape(-1, 3)
    boxes = frame.annotations.boxes
    for row, class_index in zip(boxes.rows, boxes.class_index, strict=True):
        inside = points_in_boxes(centers, row[None])[0].reshape(semantics.shape)
        semantics[inside] = OCCUPANCY_CLASSES.index(DETECTION_CLASSES[class_index])
    nothing = np.zeros(OCC3D_GRID.shape_xyz, bool)
    occupancy = OccupancyGrid(semantics=semantics, camera_mask=nothing, lidar_mask=nothing.copy(), grid=OCC3D_GRID)
    return replace(frame, annotations=replace(frame.annotations, occupancy=occupancy))


def _paste(path, **settings):
    return ObjectPaste(database=path, **settings)


def _pasted(frame, before=0):
    return frame.annotations.boxes.rows[before:], frame.annotations.boxes.class_index[before:]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Objects of one frame, with voxels."""
    out = tmp_path_factory.mktemp("paste") / "objects"
    write_object_database([_with_occupancy(scene_of(OBJECTS))], out)
    return out


@pytest.fixture(scope="module")
def bare_database(tmp_path_factory):
    """The same objects without voxels, each twice."""
    out = tmp_path_factory.mktemp("paste") / "bare"
    write_object_database([scene_of(OBJECTS), scene_of(OBJECTS)], out)
    return out


# -- labels stay consistent -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", ["database", "bare_database"])
def test_points_and_occupancy_of_pasted_objects_are_in_their_boxes(which, request):
    paste = _paste(request.getfixturevalue(which))
    frame = paste(_with_occupancy(empty_road()), np.random.default_rng(0))
    rows, classes = _pasted(frame)
    assert sorted(DETECTION_CLASSES[i] for i in classes) == ["car", "car", "pedestrian", "pedestrian", "truck"]
    inside = points_in_boxes(frame.lidar.points_ego, rows, margin_m=1e-3).sum(axis=1)
    assert (inside >= frame.annotations.num_lidar_points).all() and (inside >= 5).all()
    occupancy, centers = frame.annotations.occupancy, _centers().reshape(-1, 3)
    for row, class_index in zip(rows, classes, strict=True):
        near = points_in_boxes(centers, row[None], margin_m=0.2)[0].reshape(occupancy.semantics.shape)
        own = near & (occupancy.semantics == OCCUPANCY_CLASSES.index(DETECTION_CLASSES[class_index]))
        assert own.any()
        assert occupancy.camera_mask[own].all() and occupancy.lidar_mask[own].all()


def test_pasted_occupancy_is_that_of_the_frame_it_came_from(database):
    source = _with_occupancy(scene_of(OBJECTS)).annotations.occupancy.semantics
    pasted = _paste(database)(_with_occupancy(empty_road()), np.random.default_rng(0)).annotations.occupancy.semantics
    np.testing.assert_array_equal(pasted, source)


def test_what_was_in_a_pasted_box_is_gone_but_for_the_road(database):
    frame = _with_occupancy(empty_road())
    semantics = frame.annotations.occupancy.semantics.copy()
    semantics[:, :, 3:8] = OCCUPANCY_CLASSES.index("vegetation")
    occupancy = replace(frame.annotations.occupancy, semantics=semantics)
    hedge = np.array([[10.3, 0.3, 1.0, 7.0, 0.0]], np.float32)
    lidar = replace(frame.lidar, points_ego=np.concatenate((frame.lidar.points_ego, hedge)))
    frame = replace(frame, lidar=lidar, annotations=replace(frame.annotations, occupancy=occupancy))
    pasted = _paste(database)(frame, np.random.default_rng(0))
    rows, _ = _pasted(pasted)
    inside = points_in_boxes(_centers().reshape(-1, 3), rows).any(axis=0).reshape(semantics.shape)
    after = pasted.annotations.occupancy.semantics
    assert not (after[inside] == OCCUPANCY_CLASSES.index("vegetation")).any()
    assert (after[~inside & (semantics == ROAD)] == ROAD).mean() > 0.99
    assert not (pasted.lidar.points_ego[:, PointIndex.INTENSITY] == 7.0).any()


def test_annotations_of_pasted_objects_are_complete_and_their_tokens_unique(database):
    frame = _paste(database)(one_car_ahead(40.0), np.random.default_rng(0))
    annotations = frame.annotations
    count = len(annotations.boxes)
    assert count > 1
    for name in ("attribute_index", "tokens", "instance_tokens", "num_lidar_points", "num_radar_points", "visibility"):
        assert len(getattr(annotations, name)) == count
    assert len(set(annotations.tokens)) == count
    rows, classes = _pasted(frame, before=1)
    car = rows[classes == DETECTION_CLASSES.index("car")][0]
    assert np.hypot(car[7], car[8]) == pytest.approx(5.0) or np.hypot(car[7], car[8]) == pytest.approx(0.0)


def test_pasted_objects_have_no_known_future_and_the_others_keep_theirs(database):
    frame = planned_frame()
    before = frame.annotations.agent_futures_ego
    after = _paste(database)(frame, np.random.default_rng(0)).annotations
    assert after.agent_futures_ego.shape == (len(after.boxes), *before.shape[1:]) and len(after.boxes) > len(before)
    np.testing.assert_array_equal(after.agent_futures_ego[: len(before)], before)
    assert np.isnan(after.agent_futures_ego[len(before) :]).all()


def test_the_frame_itself_stays_as_it_is(database):
    frame = _with_occupancy(empty_road())
    copies = frame.lidar.points_ego.copy(), [c.rgb.copy() for c in frame.cameras]
    semantics = frame.annotations.occupancy.semantics.copy()
    _paste(database)(frame, np.random.default_rng(0))
    assert (frame.lidar.points_ego == copies[0]).all() and (frame.annotations.occupancy.semantics == semantics).all()
    assert all((camera.rgb == rgb).all() for camera, rgb in zip(frame.cameras, copies[1], strict=True))


# -- what is drawn ----------------------------------------------------------------------------------------------------
def test_nothing_is_pasted_onto_anything(bare_database):
    target = scene_of([("truck", 10.0, 1.0, 0.4, 0.0), ("pedestrian", 5.2, 6.1, 0.0, 0.0)])
    num_pasted = 0
    for seed in range(8):
        frame = _paste(bare_database)(target, np.random.default_rng(seed))
        rows = frame.annotations.boxes.rows
        overlap = bev_iou(rows, rows)
        np.fill_diagonal(overlap, 0.0)
        assert overlap.max() == 0.0
        num_pasted += len(rows) - 2
    assert num_pasted > 0


def test_frames_are_filled_up_to_so_many_of_a_class(database):
    target = scene_of([("car", -30.0, 0.0, 0.0, 0.0)])
    frame = _paste(database, per_class={"car": 2, "pedestrian": 0, "truck": 1})(target, np.random.default_rng(0))
    counts = np.bincount(_pasted(frame)[1], minlength=10)
    assert counts.tolist() == [2, 1] + [0] * 8


def test_the_same_seed_pastes_the_same_and_another_one_something_else(database):
    paste = _paste(database, per_class={"car": 1, "pedestrian": 1})
    first, again = (paste(empty_road(), np.random.default_rng(4)) for _ in range(2))
    assert first.annotations.tokens == again.annotations.tokens
    assert (first.lidar.points_ego == again.lidar.points_ego).all()
    assert all((a.rgb == b.rgb).all() for a, b in zip(first.cameras, again.cameras, strict=True))
    drawn = {paste(empty_road(), np.random.default_rng(seed)).annotations.tokens for seed in range(12)}
    assert len(drawn) > 1


def test_objects_with_too_few_points_are_not_drawn(database):
    frame = _paste(database, min_points=100_000)(empty_road(), np.random.default_rng(0))
    assert not len(frame.annotations.boxes)


def test_only_sweeps_that_the_frame_has_are_pasted(tmp_path):
    source = one_car_ahead()
    old = source.lidar.points_ego.copy()
    old[:, PointIndex.AGE_S] = 0.3
    both = np.concatenate((source.lidar.points_ego, old))
    write_object_database([replace(source, lidar=replace(source.lidar, points_ego=both))], tmp_path / "objects")
    paste, target = _paste(tmp_path / "objects"), empty_road()
    now = paste(target, np.random.default_rng(0))
    assert now.lidar.points_ego[:, PointIndex.AGE_S].max() == 0.0
    aged = target.lidar.points_ego.copy()
    aged[0, PointIndex.AGE_S] = 0.45
    longer = paste(replace(target, lidar=replace(target.lidar, points_ego=aged)), np.random.default_rng(0))
    count = [len(frame.lidar.points_ego) for frame in (now, longer)]
    assert count[1] - count[0] == source.annotations.num_lidar_points[0]


# -- pictures ---------------------------------------------------------------------------------------------------------
def _red_rectangle(camera):
    red = np.abs(camera.rgb.astype(int) - CAR_RED).max(axis=-1) < 40
    v, u = np.nonzero(red)
    return np.array([u.min(), v.min(), u.max(), v.max()])


def _box_rectangle(camera, row):
    pixels = corner_pixels(camera.K_cam, camera.T_ego_cam, row[None])[0][0]
    return np.concatenate((pixels.min(axis=0), pixels.max(axis=0)))


def _front_car_paste(tmp_path, **settings):
    write_object_database([one_car_ahead(10.0)], tmp_path / "objects")
    return _paste(tmp_path / "objects", mix_up=1.0, **settings)


def test_a_patch_lands_on_the_projected_box(tmp_path):
    paste = _front_car_paste(tmp_path)
    frame = paste(empty_road(), np.random.default_rng(0))
    error = _red_rectangle(frame.cameras[0]) - _box_rectangle(frame.cameras[0], frame.annotations.boxes.rows[0])
    assert np.abs(error).max() < 1.6
    untouched = empty_road().cameras[3].rgb
    assert (frame.cameras[3].rgb == untouched).all()


def test_a_patch_lands_on_the_projected_box_of_another_camera(tmp_path):
    paste, target = _front_car_paste(tmp_path), empty_road()
    camera = target.cameras[0]
    A_img = np.array([[1.4, 0.0, -20.0], [0.0, 1.3, -18.0], [0.0, 0.0, 1.0]])
    T_ego_cam = camera.T_ego_cam.copy()
    T_ego_cam[:3, 3] += (0.2, -0.15, 0.1)
    moved = replace(camera, K_cam=A_img @ camera.K_cam, T_ego_cam=T_ego_cam)
    frame = paste(replace(target, cameras=(moved, *target.cameras[1:])), np.random.default_rng(0))
    error = _red_rectangle(frame.cameras[0]) - _box_rectangle(frame.cameras[0], frame.annotations.boxes.rows[0])
    assert np.abs(error).max() < 2.1


def test_what_is_nearer_stays_in_front(tmp_path):
    write_object_database([one_car_ahead(20.0)], tmp_path / "objects")
    target = scene_of([("truck", 9.0, 1.5, 0.0, 0.0)])
    frame = _paste(tmp_path / "objects", mix_up=1.0)(target, np.random.default_rng(0))
    assert len(frame.annotations.boxes) == 2
    before, after = target.cameras[0], frame.cameras[0]
    pixels = corner_pixels(before.K_cam, before.T_ego_cam, target.annotations.boxes.rows)[0][0]
    truck = np.zeros(before.rgb.shape[:2], np.uint8)
    cv2.fillConvexPoly(truck, cv2.convexHull(pixels.round().astype(np.int32)), 1)
    changed = (before.rgb != after.rgb).any(axis=-1)
    assert changed.any() and not (changed & truck.astype(bool)).any()


def test_mix_up_is_the_weight_of_the_patch(tmp_path):
    write_object_database([one_car_ahead(10.0)], tmp_path / "objects")
    pixels = {}
    for mix_up in (0.0, 0.5, 1.0):
        frame = _paste(tmp_path / "objects", mix_up=mix_up)(empty_road(), np.random.default_rng(0))
        u0, v0, u1, v1 = _box_rectangle(frame.cameras[0], frame.annotations.boxes.rows[0]).astype(int)
        pixels[mix_up] = frame.cameras[0].rgb[(v0 + v1) // 2, (u0 + u1) // 2].astype(float)
    np.testing.assert_allclose(pixels[0.5], (pixels[0.0] + pixels[1.0]) / 2, atol=1.0)
    assert np.abs(pixels[1.0] - CAR_RED).max() < 12


# -- frames that lack something ---------------------------------------------------------------------------------------
def test_frames_without_a_sensor_or_labels_are_served(database):
    paste, rng = _paste(database), np.random.default_rng(0)
    frame = _with_occupancy(empty_road())
    no_cameras = paste(replace(frame, cameras=()), rng)
    assert len(no_cameras.annotations.boxes) == 5 and not no_cameras.cameras
    no_lidar = paste(replace(frame, lidar=None), rng)
    assert len(no_lidar.annotations.boxes) > 0 and no_lidar.lidar is None
    no_occupancy = paste(empty_road(), rng)
    assert len(no_occupancy.annotations.boxes) == 5 and no_occupancy.annotations.occupancy is None
    unlabelled = replace(frame, annotations=None)
    assert paste(unlabelled, rng) is unlabelled


def test_without_lidar_only_what_a_camera_sees_is_pasted(database):
    target = empty_road()
    frame = _paste(database)(replace(target, lidar=None, cameras=target.cameras[:1]), np.random.default_rng(0))
    rows, _ = _pasted(frame)
    assert len(rows) and (rows[:, 0] > 0).all()


def test_an_empty_database_changes_nothing(tmp_path):
    write_object_database([empty_road()], tmp_path / "objects")
    frame = one_car_ahead()
    assert _paste(tmp_path / "objects")(frame, np.random.default_rng(0)) is frame


# -- settings ---------------------------------------------------------------------------------------------------------
class _OneFrame:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return empty_road()


def test_paste_is_off_from_its_last_epoch_on_wherever_a_run_resumes(database):
    dataset = FrameDataset(_OneFrame(), [_paste(database, last_epoch=3)], seed=1)
    pasted = [len(dataset[SampleKey(epoch, 0)].annotations.boxes) for epoch in range(5)]
    assert [count > 0 for count in pasted] == [True, True, True, False, False]
    resumed = FrameDataset(_OneFrame(), [_paste(database, last_epoch=3)], seed=1)
    assert [len(resumed[SampleKey(epoch, 0)].annotations.boxes) for epoch in (2, 3)] == pasted[2:4]
    forever = FrameDataset(_OneFrame(), [_paste(database)], seed=1)
    assert len(forever[SampleKey(1000, 0)].annotations.boxes) > 0


def test_the_config_pastes_first_and_says_how_to_make_a_database(database):
    with pytest.raises(Exception, match="bevstack data objects"):
        instantiate(compose(["experiment=fusion_nuscenes", "augment=paste"]), "augment")
    parts = instantiate(
        compose(["experiment=fusion_nuscenes", "augment=paste", f"augment.paste.database={database}"]), "augment"
    )
    assert next(iter(parts)) == "paste" and isinstance(parts["paste"], ObjectPaste)
    assert dict(parts["paste"].per_class) == dict(PER_CLASS)
    assert "paste" not in instantiate(compose(["experiment=fusion_nuscenes"]), "augment")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_class": {"caar": 1}}, "caar"),
        ({"per_class": {"car": -1}}, "at least 0"),
        ({"mix_up": 1.5}, "mix_up=1.5"),
        ({"min_points": 0}, "min_points=0"),
        ({"last_epoch": -1}, "last_epoch=-1"),
    ],
)
def test_settings_out_of_range_are_named(database, settings, message):
    with pytest.raises(ValueError, match=message):
        _paste(database, **settings)


def test_a_missing_database_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(DatasetError, match=r"bevstack data objects ROOT --split SPLIT --out .*nowhere"):
        _paste(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="bevstack data objects"):
        _paste(None)
