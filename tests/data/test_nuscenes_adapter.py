import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fixtures.nuscenes_tiny import (
    CAMERA_LEAD_US,
    IMAGE_WIDTH,
    K_CAM,
    POST_GLOBAL,
    SCENE,
    SPEED_MPS,
    SPLIT,
    START_US,
    T_ego_camera,
    T_global_ego_at,
    Tables,
    token,
    write_tiny,
)
from fixtures.real_frame import SAMPLE_TOKEN, real_frame_root, real_info
from shapely.geometry import MultiPoint, box

from bevstack.data.class_names import CAMERA_NAMES, DETECTION_CLASSES
from bevstack.data.images import ImageSize
from bevstack.data.nuscenes import NuScenesFrames, motion_from_past
from bevstack.data.nuscenes_boxes import boxes_in_ego
from bevstack.geometry.boxes import corners, points_in_boxes
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import from_xy_yaw, rigid_inverse, transform_points
from bevstack.types.boxes import BoxIndex
from bevstack.types.errors import CalibrationError, DatasetError

SIZE = ImageSize(90, 160)


def tiny_frames(root: Path, **options: object) -> NuScenesFrames:
    return NuScenesFrames(**{"root": root, "split": SPLIT, "image_size": SIZE, **options})


@pytest.fixture
def frames(tmp_path: Path) -> NuScenesFrames:
    return tiny_frames(write_tiny(tmp_path / "tiny"))


# -- known values -----------------------------------------------------------------------------------------------------
def test_a_frame_carries_its_names_and_its_lidar_time(frames: NuScenesFrames) -> None:
    frame = frames[1]
    assert len(frames) == 2 and frame.token == token("sample1") and frame.scene_name == SCENE
    assert frame.timestamp_us == START_US + 500_000
    assert frame.location == "boston-seaport" and frame.description == "One car ahead, night"
    assert tuple(camera.name for camera in frame.cameras) == CAMERA_NAMES


def test_the_car_is_twenty_metres_ahead_and_drives_forward(frames: NuScenesFrames) -> None:
    annotations = frames[0].annotations
    assert annotations is not None
    row = annotations.boxes.rows[0]
    assert DETECTION_CLASSES[annotations.boxes.class_index[0]] == "car"
    assert row[: BoxIndex.YAW] == pytest.approx([20.0, 0.0, 0.8, 4.5, 1.8, 1.6], abs=1e-5)
    assert row[BoxIndex.YAW :] == pytest.approx([0.0, 5.0, 0.0], abs=1e-5)


def test_left_of_the_vehicle_is_positive_y(frames: NuScenesFrames) -> None:
    annotations = frames[0].annotations
    assert annotations is not None
    assert annotations.boxes.centers[1] == pytest.approx([10.0, 5.0, 0.9], abs=1e-5)
    assert np.isnan(annotations.boxes.velocities[1]).all(), "a single annotation has no velocity"


def test_categories_outside_of_the_classes_are_left_out(frames: NuScenesFrames) -> None:
    annotations = frames[0].annotations
    assert annotations is not None
    assert annotations.tokens == (token("car0"), token("walker0"))
    assert annotations.instance_tokens == (token("car"), token("walker"))
    assert annotations.num_lidar_points.tolist() == [30, 0] and annotations.visibility.tolist() == [4, 4]
    assert annotations.attribute_index.tolist() == [5, -1]


def test_the_motion_of_the_vehicle_between_exposure_and_lidar_is_in_the_camera_transform(
    frames: NuScenesFrames,
) -> None:
    camera = frames[0].cameras[0]
    moved = np.eye(4)
    moved[0, 3] = -SPEED_MPS * CAMERA_LEAD_US * 1e-6  # exposed 20 ms, 0.2 m earlier
    assert camera.T_ego_cam == pytest.approx(moved @ T_ego_camera("CAM_FRONT"), abs=1e-7)
    assert camera.timestamp_us == START_US - CAMERA_LEAD_US


def test_a_pixel_of_the_car_ahead_lands_on_the_car(frames: NuScenesFrames) -> None:
    frame = frames[0]
    camera = frame.cameras[0]
    assert camera.K_cam == pytest.approx(np.array(K_CAM))
    center = np.array([[20.0, 0.0, 0.8]])
    pixels, depth = project(camera.K_cam, transform_points(rigid_inverse(camera.T_ego_cam), center))
    # 20 m less the camera's 0.5 m plus the 0.2 m that the vehicle drove; 0.7 m under the camera's height.
    assert depth[0] == pytest.approx(19.7, abs=1e-6)
    assert pixels[0] == pytest.approx([79.5, 44.5 + 80 * 0.7 / 19.7], abs=1e-5)


def test_a_smaller_picture_keeps_the_projection_on_the_same_spot(tmp_path: Path) -> None:
    frames = tiny_frames(write_tiny(tmp_path), image_size=ImageSize(40, 80))
    camera = frames[0].cameras[0]
    assert camera.rgb.shape == (40, 80, 3)
    center = transform_points(rigid_inverse(camera.T_ego_cam), np.array([[20.0, 0.0, 0.8]]))
    full = np.array([79.5, 44.5 + 80 * 0.7 / 19.7])
    half = (full + 0.5) / 2 - 0.5 - (0, 5)  # halved about pixel corners, five rows cut off the top
    assert project(camera.K_cam, center)[0][0] == pytest.approx(half, abs=1e-5)


def test_sweeps_of_the_moving_vehicle_fall_on_one_point_and_the_roof_is_gone(frames: NuScenesFrames) -> None:
    lidar = frames[1].lidar
    assert lidar is not None and lidar.num_sweeps == 10 and len(lidar.points_ego) == 10
    expected = transform_points(rigid_inverse(T_global_ego_at(START_US + 500_000)), POST_GLOBAL[None])[0]
    assert lidar.points_ego[:, :3] == pytest.approx(np.tile(expected, (10, 1)), abs=1e-4)
    assert sorted(lidar.points_ego[:, 4].tolist()) == pytest.approx([0.05 * i for i in range(10)], abs=1e-6)


def test_the_ego_state_knows_the_past_only(frames: NuScenesFrames) -> None:
    first, second = frames[0].ego, frames[1].ego
    assert np.isnan(first.speed_mps) and np.isnan(first.yaw_rate_radps)
    assert second.speed_mps == pytest.approx(SPEED_MPS, abs=1e-6)
    assert second.acceleration_mps2 == pytest.approx(0.0, abs=1e-4)
    assert second.T_global_ego == pytest.approx(T_global_ego_at(START_US + 500_000))


def test_motion_of_a_known_curve_is_recovered() -> None:
    step_s = 1e-4
    time = np.arange(0.0, 0.5 + step_s, step_s)
    speeds, yaw = 8.0 - 1.5 * time, -0.3 * time  # backwards in time
    x, y = -np.cumsum(speeds * np.cos(yaw)) * step_s, -np.cumsum(speeds * np.sin(yaw)) * step_s
    every = slice(0, len(time), 500)
    ages = time[every]
    poses = np.stack([from_xy_yaw(*map(float, pose)) for pose in zip(x[every], y[every], yaw[every])])
    speed, acceleration, yaw_rate = motion_from_past(poses, ages)
    assert speed == pytest.approx(8.0, abs=0.02)
    assert acceleration == pytest.approx(1.5, abs=0.02)
    assert yaw_rate == pytest.approx(0.3, abs=1e-6)


# -- options ----------------------------------------------------------------------------------------------------------
def test_cameras_and_lidar_can_be_left_out(tmp_path: Path) -> None:
    root = write_tiny(tmp_path)
    assert tiny_frames(root, num_sweeps=0)[0].lidar is None
    only_front = tiny_frames(root, cameras=("CAM_FRONT",), with_annotations=False)[0]
    assert [camera.name for camera in only_front.cameras] == ["CAM_FRONT"] and only_front.annotations is None
    with pytest.raises(DatasetError, match=r"no sensor CAM_FRNT \(did you mean CAM_FRONT"):
        tiny_frames(root, cameras=("CAM_FRNT",))


def test_a_negative_number_of_sweeps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_sweeps=-1"):
        tiny_frames(tmp_path, num_sweeps=-1)


def test_frames_are_found_by_token_and_by_scene(frames: NuScenesFrames) -> None:
    assert frames.index_of(token("sample1")) == 1 and frames.token(1) == token("sample1")
    assert frames.frames_of_scene(SCENE) == range(2) and frames.frames_of_scene("scene-0001") == range(0)
    with pytest.raises(DatasetError, match="no sample"):
        frames.index_of("f" * 32)
    with pytest.raises(IndexError):
        frames[2]


def test_a_frame_source_travels_to_a_worker_as_a_few_bytes(frames: NuScenesFrames) -> None:
    packed = pickle.dumps(frames)
    assert len(packed) < 5000
    assert pickle.loads(packed)[1].token == frames[1].token


def test_a_data_set_without_annotations_gives_frames_without_them(tmp_path: Path) -> None:
    def edit(tables: Tables) -> None:
        tables["sample_annotation"], tables["instance"] = [], []

    assert tiny_frames(write_tiny(tmp_path, edit=edit))[0].annotations is None


# -- missing and damaged ----------------------------------------------------------------------------------------------
def test_a_missing_picture_is_an_error_that_names_file_and_remedy(frames: NuScenesFrames) -> None:
    (frames.index.root / "samples/CAM_BACK/0.jpg").unlink()
    with pytest.raises(DatasetError, match=r"CAM_BACK of sample .*samples/CAM_BACK/0.jpg is missing; .*data check"):
        frames[0]


def test_a_missing_picture_can_be_left_out_and_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = tiny_frames(write_tiny(tmp_path), missing="mask")
    (tmp_path / "samples/CAM_BACK/0.jpg").unlink()
    assert [camera.name for camera in frames[0].cameras] == [name for name in CAMERA_NAMES if name != "CAM_BACK"]
    assert frames.num_missing["CAM_BACK"] == 1 and "CAM_BACK" in caplog.text


def test_a_missing_sweep_is_an_error_or_left_out(tmp_path: Path) -> None:
    root = write_tiny(tmp_path)
    (root / "sweeps/LIDAR_TOP/7.pcd.bin").unlink()
    with pytest.raises(DatasetError, match="sweeps/LIDAR_TOP/7.pcd.bin is missing"):
        tiny_frames(root)[1]
    lidar = tiny_frames(root, missing="mask")[1].lidar
    assert lidar is not None and lidar.num_sweeps == 9


def test_an_empty_lidar_file_is_an_error_that_names_it_or_left_out(tmp_path: Path) -> None:
    root = write_tiny(tmp_path / "tiny")
    (root / "samples/LIDAR_TOP/0.pcd.bin").write_bytes(b"")
    with pytest.raises(DatasetError, match=f"LIDAR_TOP of sample {token('sample0')}: .*0.pcd.bin is empty"):
        tiny_frames(root)[0]
    assert tiny_frames(root, missing="mask")[0].lidar is None


def test_a_sample_without_any_sensor_left_is_named(tmp_path: Path) -> None:
    root = write_tiny(tmp_path / "tiny")
    (root / "samples/LIDAR_TOP/0.pcd.bin").unlink()
    for name in CAMERA_NAMES:
        (root / f"samples/{name}/0.jpg").unlink()
    with pytest.raises(DatasetError, match=f"sample {token('sample0')} has neither a camera picture nor LiDAR"):
        tiny_frames(root, missing="mask")[0]
    assert tiny_frames(root, cameras=(), num_sweeps=0)[0].annotations is not None, "labels alone can be asked for"


def test_old_sweeps_do_not_pass_for_a_missing_key_sweep(tmp_path: Path) -> None:
    root = write_tiny(tmp_path)
    (root / "samples/LIDAR_TOP/10.pcd.bin").unlink()
    assert tiny_frames(root, missing="mask")[1].lidar is None


@pytest.mark.parametrize("name", ["samples/CAM_FRONT/1.jpg", "samples/LIDAR_TOP/10.pcd.bin"])
def test_a_truncated_file_is_named(frames: NuScenesFrames, name: str) -> None:
    path = frames.index.root / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DatasetError, match=name):
        frames[1]


def test_a_picture_of_another_size_than_its_calibration_is_refused(tmp_path: Path) -> None:
    def edit(tables: Tables) -> None:
        for record in tables["sample_data"]:
            record["width"] *= 2

    with pytest.raises(CalibrationError, match=f"is {IMAGE_WIDTH} pixels wide.*for {2 * IMAGE_WIDTH}"):
        tiny_frames(write_tiny(tmp_path, edit=edit))[0]


def test_a_nan_pose_is_named_when_its_frame_is_read(tmp_path: Path) -> None:
    def edit(tables: Tables) -> None:
        pose = next(pose for pose in tables["ego_pose"] if pose["token"] == token("LIDAR_TOP10"))
        pose["translation"][1] = float("nan")

    frames = tiny_frames(write_tiny(tmp_path, edit=edit))
    frames[0]
    with pytest.raises(CalibrationError, match=token("LIDAR_TOP10")):
        frames[1]


# -- real data --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def real_frames(nuscenes_real: Path, tmp_path_factory: pytest.TempPathFactory) -> NuScenesFrames:
    root, version, split = real_frame_root(nuscenes_real, tmp_path_factory.mktemp("real") / "nuscenes")
    return NuScenesFrames(root=root, version=version, split=split, image_size=ImageSize(900, 1600))


def test_points_in_the_real_boxes_are_as_many_as_annotated(real_frames: NuScenesFrames) -> None:
    frame = real_frames[0]
    index = real_frames.index
    assert frame.token == SAMPLE_TOKEN and frame.lidar is not None
    every = np.arange(index.num_annotations)
    boxes = boxes_in_ego(index, every, rigid_inverse(frame.ego.T_global_ego))
    inside = points_in_boxes(frame.lidar.points_ego, boxes).sum(axis=1)
    assert len(boxes) == 69
    assert (inside == index["annotation_num_lidar_points"][every]).sum() >= 61


def test_real_boxes_project_onto_the_right_pixels(real_frames: NuScenesFrames, nuscenes_real: Path) -> None:
    frame, index = real_frames[0], real_frames.index
    rows = boxes_in_ego(index, np.arange(index.num_annotations), rigid_inverse(frame.ego.T_global_ego))
    errors = []
    for camera in frame.cameras:
        T_cam_ego = rigid_inverse(camera.T_ego_cam)
        corners_cam = transform_points(T_cam_ego, corners(rows).reshape(-1, 3).astype(np.float64))
        pixels, depth = (array.reshape(len(rows), 8, -1) for array in project(camera.K_cam, corners_cam))
        centers_cam = transform_points(T_cam_ego, rows[:, :3].astype(np.float64))
        for known in real_info(nuscenes_real)["cam_instances"][camera.name]:
            distance = np.linalg.norm(centers_cam - known["bbox_3d"][:3], axis=1)
            row = int(np.argmin(distance))
            assert distance[row] < 0.05
            if (depth[row] > 0).all():
                hull = MultiPoint(pixels[row]).convex_hull.intersection(box(0, 0, 1600, 900))
                errors.append(np.abs(np.array(hull.bounds) - known["bbox"]).max())
    assert len(errors) >= 80
    # The published 2D boxes were computed from float32 transforms; far corners of near boxes move by a few pixels.
    assert np.median(errors) < 1.0 and np.percentile(errors, 95) < 3.0


@pytest.fixture(scope="module")
def mini_val(nuscenes_real: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("mini_val") / "nuscenes"
    root.mkdir()
    shutil.copytree(nuscenes_real / "mini_val" / "derived_tables" / "v1.0-mini", root / "v1.0-mini")
    (root / "maps").symlink_to(nuscenes_real / "maps")
    yield root


def test_every_pose_box_and_velocity_of_mini_val_is_the_devkits(mini_val: Path) -> None:
    from nuscenes import NuScenes
    from nuscenes.eval.common.utils import quaternion_yaw
    from pyquaternion import Quaternion

    devkit = NuScenes("v1.0-mini", str(mini_val), verbose=False)
    frames = NuScenesFrames(root=mini_val, split="mini_val", image_size=ImageSize(256, 704), cameras=(), num_sweeps=0)
    index = frames.index
    assert len(frames) == 81
    for position in range(len(frames)):
        sample = devkit.get("sample", frames.token(position))
        lidar = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
        pose = devkit.get("ego_pose", lidar["ego_pose_token"])
        rotation = Quaternion(pose["rotation"])
        frame = frames[position]
        assert frame.ego.T_global_ego[:3, 3].tolist() == pose["translation"]
        assert frame.ego.T_global_ego[:3, :3] == pytest.approx(rotation.rotation_matrix, abs=1e-12)
        rows = list(index.annotation_rows(int(frames.sample_rows[position])))
        assert [index.annotation_tokens[row] for row in rows] == sample["anns"]
        velocity = np.array([devkit.box_velocity(name) for name in sample["anns"]]).reshape(-1, 3)
        assert np.array_equal(index["annotation_velocity"][rows], velocity, equal_nan=True), "bit for bit"
        boxes = boxes_in_ego(index, np.array(rows), rigid_inverse(frame.ego.T_global_ego))
        for row, box_global in zip(boxes, devkit.get_boxes(lidar["token"])):
            box_global.translate(-np.array(pose["translation"]))
            box_global.rotate(rotation.inverse)
            assert row[:3] == pytest.approx(box_global.center, abs=1e-4)
            assert row[3:6] == pytest.approx(box_global.wlh[[1, 0, 2]], abs=1e-6)
            turn = row[BoxIndex.YAW] - quaternion_yaw(box_global.orientation)
            assert np.cos(turn) == pytest.approx(1.0, abs=1e-10)


def test_camera_and_sweep_geometry_of_mini_val_is_the_devkits(mini_val: Path) -> None:
    from nuscenes import NuScenes
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    def matrix(record: dict) -> np.ndarray:
        return transform_matrix(record["translation"], Quaternion(record["rotation"]))

    devkit = NuScenes("v1.0-mini", str(mini_val), verbose=False)
    index = NuScenesFrames(root=mini_val, split="mini_val", image_size=ImageSize(256, 704)).index
    for sample in range(0, index.num_samples, 5):
        record = devkit.get("sample", index.sample_tokens[sample])
        rows = [index.key_data_row(sample, name) for name in CAMERA_NAMES]
        readings = [devkit.get("sample_data", record["data"][name]) for name in CAMERA_NAMES]
        sweep = devkit.get("sample_data", record["data"]["LIDAR_TOP"])
        for row in index.sweep_rows(sample, 10):
            assert index.data_tokens[row] == sweep["token"] and index.data_paths[row] == sweep["filename"]
            rows.append(row)
            readings.append(sweep)
            sweep = devkit.get("sample_data", sweep["prev"]) if sweep["prev"] else {"token": "end"}
        poses, mountings = index.T_global_ego(rows), index.T_ego_sensor(rows)
        for place, reading in enumerate(readings):
            calibration = devkit.get("calibrated_sensor", reading["calibrated_sensor_token"])
            assert poses[place] == pytest.approx(matrix(devkit.get("ego_pose", reading["ego_pose_token"])), abs=1e-12)
            assert mountings[place] == pytest.approx(matrix(calibration), abs=1e-12)
            if calibration["camera_intrinsic"]:
                assert index.K_sensor(rows[place]).tolist() == calibration["camera_intrinsic"]


def test_speed_and_yaw_rate_agree_with_the_vehicle_bus(mini_val: Path, nuscenes_real: Path) -> None:
    bus = np.genfromtxt(nuscenes_real / "can_bus" / "scene-0916_vehicle_monitor_excerpt.csv", delimiter=",", names=True)
    frames = NuScenesFrames(root=mini_val, split="mini_val", image_size=ImageSize(256, 704), cameras=(), num_sweeps=0)
    speed_errors, yaw_errors = [], []
    for position in frames.frames_of_scene("scene-0916"):
        time_us = frames.index["sample_timestamp_us"][frames.sample_rows[position]]
        ego = frames.ego(position)
        if np.isnan(ego.speed_mps) or not bus["utime"][0] <= time_us <= bus["utime"][-1]:
            continue
        speed_errors.append(ego.speed_mps - np.interp(time_us, bus["utime"], bus["vehicle_speed_kmh"]) / 3.6)
        yaw_errors.append(ego.yaw_rate_radps - np.radians(np.interp(time_us, bus["utime"], bus["yaw_rate_dps"])))
    assert len(speed_errors) > 20
    assert np.abs(np.mean(speed_errors)) < 0.2 and np.std(speed_errors) < 0.3
    assert np.median(np.abs(yaw_errors)) < 0.03
