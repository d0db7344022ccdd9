import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.worlds import tiny_preset, tiny_world  # noqa: F401
from nuscenes import NuScenes
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.loaders import load_gt_of_sample_tokens
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import view_points

from bevstack.data.class_names import CAMERA_NAMES, DETECTION_CLASSES
from bevstack.geometry.boxes import points_in_boxes
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.sim.nuscenes_tables import LOCATIONS, SPLIT, VERSION, visibility_token
from bevstack.sim.nuscenes_writer import SceneRequest, SceneWriter, canvas_edge
from bevstack.sim.sensors.cameras import render_camera
from bevstack.sim.sensors.lidar import scan
from bevstack.sim.sensors.rig import NUSCENES_CAMERAS, T_EGO_LIDAR
from bevstack.types.boxes import BoxIndex


@pytest.fixture(scope="module")
def nusc(tiny_world):  # noqa: F811
    return NuScenes(VERSION, str(tiny_world), verbose=False)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    request = SceneRequest(index=1, seed=3, keyframes=2, preset=tiny_preset())
    return SceneWriter(tmp_path_factory.mktemp("scene"), request)


def test_ground_truth_as_predictions_scores_one_in_the_unmodified_devkit(nusc, tmp_path):
    truth = load_gt_of_sample_tokens(nusc, [row["token"] for row in nusc.sample], DetectionBox, verbose=False)
    assert {box.detection_name for box in truth.all if box.num_pts > 0} == set(DETECTION_CLASSES)
    results = {}
    for token in truth.sample_tokens:
        records = []
        for box in truth[token]:
            record = box.serialize() | {"detection_score": 1.0}
            record["velocity"] = np.nan_to_num(record["velocity"]).tolist()
            records.append(record)
        results[token] = records
    meta = {f"use_{name}": False for name in ("camera", "lidar", "radar", "map", "external")}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"meta": meta, "results": results}))
    evaluation = DetectionEval(
        nusc, config_factory("detection_cvpr_2019"), str(path), SPLIT, str(tmp_path / "out"), verbose=False
    )
    metrics, _ = evaluation.evaluate()
    assert metrics.mean_ap == pytest.approx(1.0)
    assert metrics.nd_score == pytest.approx(1.0)


def test_sweeps_accumulate_and_non_key_readings_belong_to_the_next_sample(nusc):
    sample = nusc.sample[1]
    cloud, times = LidarPointCloud.from_file_multisweep(nusc, sample, "LIDAR_TOP", "LIDAR_TOP", nsweeps=4)
    assert cloud.points.shape[1] > 50_000
    assert times.max() > 0.04
    for row in nusc.sample_data:
        assert row["timestamp"] <= nusc.get("sample", row["sample_token"])["timestamp"]
        if not row["is_key_frame"]:
            assert "LIDAR_TOP" in row["filename"]
            assert row["filename"].startswith("sweeps/")
    poses = [row["ego_pose_token"] for row in nusc.sample_data]
    assert len(set(poses)) == len(poses)
    assert all(pose["translation"][2] == 0 for pose in nusc.ego_pose)


def test_every_reading_chain_runs_through_all_its_readings_in_time(nusc):
    for scene in nusc.scene:
        first = nusc.get("sample", scene["first_sample_token"])
        token, count = first["data"]["LIDAR_TOP"], 0
        while nusc.get("sample_data", token)["prev"]:
            token = nusc.get("sample_data", token)["prev"]
        before = 0
        while token:
            row = nusc.get("sample_data", token)
            assert row["timestamp"] > before
            before, token, count = row["timestamp"], row["next"], count + 1
        assert count == 3 * tiny_preset().sweeps_per_keyframe


def test_cameras_expose_at_their_own_times_within_forty_five_milliseconds_of_the_keyframe(nusc):
    for sample in nusc.sample:
        times = [nusc.get("sample_data", sample["data"][name])["timestamp"] for name in CAMERA_NAMES]
        offsets = np.array(times) - sample["timestamp"]
        assert len(set(offsets.tolist())) == 6
        assert np.abs(offsets).max() <= 45_000


def test_lidarseg_has_one_label_per_point_and_labels_of_the_actors(nusc, tiny_world):  # noqa: F811
    for record in nusc.lidarseg:
        labels = np.fromfile(tiny_world / record["filename"], np.uint8)
        cloud = nusc.get("sample_data", record["sample_data_token"])["filename"]
        assert len(labels) == (tiny_world / cloud).stat().st_size // 20
        assert labels.max() < 32
    nusc.get_sample_lidarseg_stats(nusc.sample[0]["token"])


def test_maps_of_all_four_locations_load_and_hold_the_ego_path(nusc, tiny_world):  # noqa: F811
    for location in LOCATIONS:
        NuScenesMap(str(tiny_world), location)
    for scene in nusc.scene:
        log = nusc.get("log", scene["log_token"])
        city = NuScenesMap(str(tiny_world), log["location"])
        sample = nusc.get("sample", scene["first_sample_token"])
        data = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        x, y, _ = nusc.get("ego_pose", data["ego_pose_token"])["translation"]
        assert city.layers_on_point(x, y)["drivable_area"]
        assert city.get_closest_lane(x, y, radius=4.0)
        raster = next(row for row in nusc.map if log["token"] in row["log_tokens"])
        assert raster["mask"].is_on_mask(x, y)


def test_can_bus_agrees_with_the_ego_poses(nusc, tiny_world):  # noqa: F811
    can = NuScenesCanBus(str(tiny_world))
    for scene in nusc.scene:
        for name in can.all_messages:
            assert can.get_messages(scene["name"], name)
        poses = can.get_messages(scene["name"], "pose")
        times, positions = [p["utime"] for p in poses], np.array([p["pos"] for p in poses])
        assert np.diff(times).mean() == pytest.approx(20_000)
        data = nusc.get("sample_data", nusc.get("sample", scene["last_sample_token"])["data"]["LIDAR_TOP"])
        wanted = nusc.get("ego_pose", data["ego_pose_token"])["translation"]
        found = [np.interp(data["timestamp"], times, positions[:, k]) for k in range(2)]
        np.testing.assert_allclose(found, wanted[:2], atol=0.02)


def test_an_instance_chain_runs_through_all_its_annotations(nusc):
    for instance in nusc.instance:
        token, count = instance["first_annotation_token"], 0
        while token:
            row = nusc.get("sample_annotation", token)
            assert row["instance_token"] == instance["token"]
            last, token, count = token, row["next"], count + 1
        assert last == instance["last_annotation_token"]
        assert count == instance["nbr_annotations"]


def test_annotations_have_at_most_one_attribute_and_cones_and_barriers_none(nusc):
    for row in nusc.sample_annotation:
        assert len(row["attribute_tokens"]) <= 1
        if row["category_name"].startswith("movable_object"):
            assert not row["attribute_tokens"]
        assert row["visibility_token"] in "1234"
        assert row["num_lidar_pts"] >= 0


def test_velocity_from_the_chain_is_the_velocity_of_the_track(nusc):
    speeds = []
    for row in nusc.sample_annotation:
        attributes = [nusc.get("attribute", token)["name"] for token in row["attribute_tokens"]]
        velocity = nusc.box_velocity(row["token"])
        if np.isnan(velocity).any():
            continue
        if attributes and attributes[0] in ("vehicle.parked", "pedestrian.sitting_lying_down"):
            assert np.abs(velocity).max() < 1e-6
        if attributes == ["vehicle.moving"]:
            speeds.append(np.hypot(*velocity[:2]))
    assert speeds
    assert max(speeds) < 20


def test_point_counts_are_hits_and_hits_lie_inside_their_boxes(writer):
    time_s = 0.5
    poses = writer.actor_poses(time_s)
    sweep = scan(writer.scene, T_global_ego=writer.ego_pose(time_s), actors=poses, seed=1)
    T_town_lidar = writer.ego_pose(time_s) @ T_EGO_LIDAR
    points = transform_points(T_town_lidar, sweep.points[:, :3].astype(np.float64))
    counts = sweep.count_by_instance()
    assert counts
    for pose in poses:
        model = writer.traffic.actors[pose.instance].model
        row = np.zeros((1, 9))
        x, y, z, yaw = writer.traffic.actors[pose.instance].pose_at(time_s)
        row[0, : BoxIndex.YAW + 1] = (x, y, z + model.size_lwh[2] / 2, *model.size_lwh, yaw)
        own = sweep.instance == pose.instance
        assert own.sum() == counts.get(pose.instance, 0)
        if own.any():
            inside = points_in_boxes(points[own], row, margin_m=0.1)[0]
            assert inside.mean() > 0.99


def test_a_box_projects_onto_the_pixels_of_its_actor(writer):
    preset = writer.request.preset
    checked = 0
    for spec in NUSCENES_CAMERAS:
        time_s = 0.5 + spec.exposure_offset_s
        T_town_cam = writer.ego_pose(time_s) @ spec.T_ego_cam
        render = render_camera(
            writer.scene, K_cam=writer.intrinsics[spec.name], T_global_cam=T_town_cam,
            height_px=preset.image_height_px, width_px=preset.image_width_px, actors=writer.actor_poses(time_s), seed=0,
        )  # fmt: skip
        for pose in writer.actor_poses(time_s):
            seen = np.argwhere(render.instance == pose.instance)
            length, width, height = writer.traffic.actors[pose.instance].model.size_lwh
            local = np.array([(a * length / 2, b * width / 2, c * height)
                              for a in (-1, 1) for b in (-1, 1) for c in (0, 1)])  # fmt: skip
            corners_cam = transform_points(rigid_inverse(T_town_cam) @ pose.T_global_actor, local)
            if len(seen) < 30 or corners_cam[:, 2].min() < 1.0:
                continue
            pixels = view_points(corners_cam.T, writer.intrinsics[spec.name], normalize=True)[:2].T
            low, high = pixels.min(0) - 1.5, pixels.max(0) + 1.5
            assert ((seen[:, ::-1] >= low) & (seen[:, ::-1] <= high)).all()
            checked += 1
    assert checked >= 3


def test_occupancy_labels_have_the_layout_of_occ3d(nusc, tiny_world):  # noqa: F811
    for sample in nusc.sample[:2]:
        scene = nusc.get("scene", sample["scene_token"])["name"]
        labels = np.load(tiny_world / "gts" / scene / sample["token"] / "labels.npz")
        assert {name: labels[name].shape for name in labels} == dict.fromkeys(
            ("semantics", "mask_lidar", "mask_camera"), (200, 200, 16)
        )
        assert labels["semantics"].max() == 17
        assert 0 < labels["mask_camera"].mean() < 1
        assert labels["mask_lidar"].mean() > 0


def test_calibration_is_scaled_with_the_picture(nusc):
    preset = tiny_preset()
    for row in nusc.sample_data:
        if row["fileformat"] == "jpg":
            assert (row["height"], row["width"]) == (preset.image_height_px, preset.image_width_px)
            K_cam = np.array(nusc.get("calibrated_sensor", row["calibrated_sensor_token"])["camera_intrinsic"])
            assert K_cam[0, 2] == pytest.approx(preset.image_width_px / 2, rel=0.1)


def test_visibility_tokens_are_the_four_bins_of_nuscenes():
    assert [visibility_token(share, 100) for share in (0, 40, 41, 60, 61, 80, 81, 100)] == list("11223344")
    assert visibility_token(0, 0) == "1"


def test_towns_of_one_location_do_not_share_ground():
    requests = [SceneRequest(index=k, seed=0, keyframes=1, preset=tiny_preset()) for k in range(40)]
    places = {(request.location, request.offset) for request in requests}
    assert len(places) == 40
    for request in requests:
        width, height = canvas_edge(40, LOCATIONS.index(request.location))
        assert 128 <= request.offset[0] <= width - 128
        assert 128 <= request.offset[1] <= height - 128


def test_the_adapter_reads_a_world(tiny_world: Path):  # noqa: F811
    from bevstack.data.images import ImageSize
    from bevstack.data.nuscenes import NuScenesFrames

    frames = NuScenesFrames(root=tiny_world, version=VERSION, split=SPLIT, image_size=ImageSize(128, 352), num_sweeps=2)
    frame = frames[0]
    assert len(frames) == 9
    assert len(frame.cameras) == 6
    assert frame.annotations is not None
    assert len(frame.annotations.boxes) > 5
