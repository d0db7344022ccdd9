"""An augmentation may move the scene, but not apart; those that ship keep to that, and planted ones are found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bevstack.data.augment import (
    ImageAugmentation,
    SensorDropout,
    WorldAugmentation,
    warp_image,
)
from bevstack.data.augment_world import move_world, world_map
from bevstack.data.images import ImageSize
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.lint import probe
from bevstack.lint.augmentation import check_augmentation
from bevstack.lint.card import CONSEQUENCES
from bevstack.types.boxes import BoxIndex
from bevstack.types.frame import Frame, PointIndex

Change = Callable[[Frame, np.random.Generator], Frame]


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    root = probe.write_probe(tmp_path_factory.mktemp("probe") / "data")
    return NuScenesFrames(root=root, version=probe.VERSION, split=probe.SPLIT, image_size=ImageSize(128, 352))[1]


@pytest.mark.parametrize(
    "augmentation",
    [
        WorldAugmentation(rotation_rad=0.785, scale_range=(0.9, 1.1), translation_std_m=(0.5, 0.5, 0.5)),
        ImageAugmentation(
            zoom_range=(0.86, 1.25), rotation_rad=0.0942, brightness=0.15, contrast=0.15, saturation=0.15
        ),
        SensorDropout(p_no_cameras=0.3, p_no_lidar=0.3, p_one_camera=0.5),
    ],
    ids=lambda augmentation: type(augmentation).__name__,
)
def test_the_augmentations_of_the_package_keep_the_scene_in_one_piece(augmentation: Change, frame: Frame) -> None:
    assert check_augmentation("augment.x", augmentation, frame) == ()


def turned(frame: Frame) -> Frame:
    return move_world(frame, world_map(rotation_rad=0.5, flip_y=True))


def with_points(frame: Frame, column: int, factor: float) -> Frame:
    assert frame.lidar is not None
    points = frame.lidar.points_ego.copy()
    points[:, column] *= factor
    return replace(frame, lidar=replace(frame.lidar, points_ego=points))


def with_boxes(frame: Frame, **changes: Callable[[np.ndarray], np.ndarray]) -> Frame:
    assert frame.annotations is not None
    boxes = frame.annotations.boxes
    rows = boxes.rows.copy()
    for name, change in changes.items():
        rows[:, BoxIndex[name]] = change(rows[:, BoxIndex[name]])
    return replace(frame, annotations=replace(frame.annotations, boxes=replace(boxes, rows=rows)))


def with_classes(frame: Frame) -> Frame:
    assert frame.annotations is not None
    boxes = frame.annotations.boxes
    changed = replace(boxes, class_index=boxes.class_index[::-1].copy())
    return replace(frame, annotations=replace(frame.annotations, boxes=changed))


FAULTY: dict[str, tuple[str, Change]] = {
    "the heading is not mirrored": ("yaw", lambda f, _: with_boxes(turned(f), YAW=lambda yaw: -yaw)),
    "boxes stay where they were": ("axes", lambda f, _: replace(turned(f), annotations=f.annotations)),
    "points stay where they were": ("axes", lambda f, _: replace(turned(f), lidar=f.lidar)),
    "cameras stay where they were": ("axes", lambda f, _: replace(turned(f), cameras=f.cameras)),
    "times are mirrored too": ("sweep_time_sign", lambda f, _: with_points(f, PointIndex.AGE_S, -1.0)),
    "intensities are jittered": ("normalisation", lambda f, _: with_points(f, PointIndex.INTENSITY, 0.9)),
    "classes are dealt anew": ("class_order", lambda f, _: with_classes(f)),
    "cameras are shuffled": ("camera_order", lambda f, _: replace(f, cameras=f.cameras[::-1])),
    "pictures are halved": (
        "image_size",
        lambda f, _: replace(f, cameras=tuple(replace(c, rgb=c.rgb[::2].copy()) for c in f.cameras)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("plant", FAULTY)
def test_an_augmentation_that_tears_the_scene_apart_is_found(plant: str, frame: Frame) -> None:
    expected, augmentation = FAULTY[plant]
    names = [difference.name for difference in check_augmentation("augment.mine", augmentation, frame)]
    assert names == [expected]
    sentence = check_augmentation("augment.mine", augmentation, frame)[0].sentence
    assert "Train with augment.mine" in sentence and CONSEQUENCES[expected][1:] in sentence


def test_a_matrix_that_goes_with_its_picture_is_no_fault(frame: Frame) -> None:
    A_img = np.array([[-0.9, 0.1, 300.0], [0.05, 1.1, -12.0], [0.0, 0.0, 1.0]])

    def warped(frame: Frame, _: np.random.Generator) -> Frame:
        return replace(frame, cameras=tuple(warp_image(camera, A_img) for camera in frame.cameras))

    assert check_augmentation("augment.warp", warped, frame) == ()


def test_a_frame_without_sensors_or_labels_has_nothing_to_tear(frame: Frame, tmp_path: Path) -> None:
    bare = replace(frame, cameras=(), annotations=None)
    assert check_augmentation("augment.world", WorldAugmentation(), bare) == ()
