"""Frames to batches: order, missing sensors, labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.scenes import IMAGE_HEIGHT, IMAGE_WIDTH, empty_road, one_car_ahead, pedestrian_left

from bevstack.data.class_names import CAMERA_NAMES
from bevstack.data.collate import collate
from bevstack.data.images import ImageSize
from bevstack.types import LidarSweep


def test_cameras_stand_in_the_order_asked_for_whatever_the_order_in_the_frame() -> None:
    frame = one_car_ahead()
    shuffled = replace(frame, cameras=frame.cameras[::-1])
    batch, _ = collate([shuffled])
    assert batch.images.shape == (1, 6, 3, IMAGE_HEIGHT, IMAGE_WIDTH)
    for n, name in enumerate(CAMERA_NAMES):
        camera = next(camera for camera in frame.cameras if camera.name == name)
        np.testing.assert_array_equal(batch.images[0, n].permute(1, 2, 0).numpy(), camera.rgb)
        np.testing.assert_allclose(batch.K_cam[0, n].numpy(), camera.K_cam, rtol=1e-6)
        np.testing.assert_allclose(batch.T_ego_cam[0, n].numpy(), camera.T_ego_cam, rtol=1e-6, atol=1e-7)


def test_a_batch_of_two_equals_two_batches_of_one() -> None:
    frames = [one_car_ahead(), replace(pedestrian_left(), token="frame-1")]
    both, labels = collate(frames)
    assert labels is not None
    for b, frame in enumerate(frames):
        single, single_labels = collate([frame])
        assert single_labels is not None
        for name in ("images", "K_cam", "T_ego_cam", "camera_mask", "lidar_mask", "T_global_ego", "timestamps_us"):
            assert torch.equal(getattr(both, name)[b : b + 1], getattr(single, name)), name
        assert torch.equal(both.points_ego[both.point_frame_index == b], single.points_ego)
        assert both.tokens[b] == single.tokens[0]
        for name in ("boxes_ego", "class_index", "attribute_index", "num_points"):
            assert torch.equal(getattr(labels, name)[b], getattr(single_labels, name)[0]), name


def test_a_missing_camera_is_masked_black_and_has_identity_calibration() -> None:
    frame = one_car_ahead()
    batch, _ = collate([frame, replace(frame, cameras=frame.cameras[1:])])
    assert batch.camera_mask.tolist() == [[True] * 6, [False] + [True] * 5]
    assert batch.images[1, 0].max() == 0
    assert torch.equal(batch.K_cam[1, 0], torch.eye(3))
    assert torch.equal(batch.T_ego_cam[1, 0], torch.eye(4))


def test_no_lidar_is_masked_but_an_empty_cloud_is_data() -> None:
    frame = one_car_ahead()
    no_returns = LidarSweep(points_ego=np.zeros((0, 5), np.float32), timestamp_us=0, num_sweeps=1)
    batch, _ = collate([replace(frame, lidar=None), replace(frame, lidar=no_returns), frame])
    assert batch.lidar_mask.tolist() == [False, True, True]
    assert batch.point_frame_index.unique().tolist() == [2]


def test_a_batch_without_any_lidar_has_no_points() -> None:
    batch, _ = collate([replace(one_car_ahead(), lidar=None)])
    assert batch.points_ego.shape == (0, 5)
    assert batch.point_frame_index.dtype == torch.int64


def test_frames_without_any_camera_need_a_stated_size() -> None:
    blind = replace(one_car_ahead(), cameras=())
    with pytest.raises(ValueError, match="image_size"):
        collate([blind])
    batch, _ = collate([blind], image_size=ImageSize(32, 88))
    assert batch.images.shape == (1, 6, 3, 32, 88)
    assert not batch.camera_mask.any()


def test_asking_for_no_cameras_gives_an_empty_camera_axis() -> None:
    batch, _ = collate([one_car_ahead()], camera_names=())
    assert batch.images.shape[:3] == (1, 0, 3)


def test_pictures_of_two_sizes_are_refused_by_name() -> None:
    frame = one_car_ahead()
    small = replace(frame.cameras[2], rgb=np.zeros((32, 88, 3), np.uint8))
    with pytest.raises(ValueError, match="32 x 88 .CAM_BACK_RIGHT of frame frame-0"):
        collate([replace(frame, cameras=(*frame.cameras[:2], small))])


def test_frames_without_annotations_give_no_labels_and_mixing_is_refused() -> None:
    frame = one_car_ahead()
    bare = replace(frame, annotations=None, token="bare")
    assert collate([bare])[1] is None
    with pytest.raises(ValueError, match="frame bare has no annotations"):
        collate([frame, bare])


def test_a_frame_with_no_objects_gives_empty_labels() -> None:
    _, labels = collate([empty_road()])
    assert labels is not None
    assert labels.boxes_ego[0].shape == (0, 9)
    assert labels.num_points[0].shape == (0,)


def test_an_empty_list_of_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        collate([])
