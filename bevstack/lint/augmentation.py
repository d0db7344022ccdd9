"""Whether an augmentation changes only what it is allowed to: the scene may move, but it must stay in one piece.

Each augmentation of the training path is run on the probe's frame. Whatever it does, boxes, points and cameras have to
go the same way, and it has no business with times, intensities, classes, picture sizes and the order of cameras.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from bevstack.data.augment import Augmentation
from bevstack.geometry.transforms import inverse, transform_points
from bevstack.lint.card import CONSEQUENCES, Difference
from bevstack.types.boxes import BoxIndex
from bevstack.types.frame import CameraImage, Frame, PointIndex

NUM_DRAWS = 8
"""Draws of each augmentation: enough that a mirror of probability one half comes with both of its faces."""

_CLOSE = 2e-3
"""Of local coordinates in box sizes, and of pixels in picture widths: float32 at tens of metres."""


def check_augmentation(name: str, augmentation: Augmentation, frame: Frame) -> tuple[Difference, ...]:
    """What an augmentation changes beside its purpose, each fact once; nothing where it is sound.

    Args:
        name: as in the configuration, for the sentence.
        augmentation: is run `NUM_DRAWS` times with fixed seeds.
        frame: with boxes, points and cameras as far as the path has them.
    """
    found: dict[str, str] = {}
    for seed in range(NUM_DRAWS):
        for fact, text in _faults(frame, augmentation(frame, np.random.default_rng(seed))):
            found.setdefault(fact, text)
    return tuple(
        Difference(
            name=fact,
            values={f"train with {name}": {"": text}},
            sentence=f"{fact} differs. Train with {name}: {text}. "
            f"{CONSEQUENCES[fact][0].upper()}{CONSEQUENCES[fact][1:]}.",
        )
        for fact, text in found.items()
    )


def _faults(before: Frame, after: Frame) -> Iterator[tuple[str, str]]:
    cameras = {camera.name: camera for camera in after.cameras}
    pairs = [(camera, cameras[camera.name]) for camera in before.cameras if camera.name in cameras]
    if [old.name for old, _ in pairs] != [camera.name for camera in after.cameras]:
        yield "camera_order", "cameras come in another order, or new ones"
    if any(old.rgb.shape != new.rgb.shape for old, new in pairs):
        yield "image_size", "a picture has another size"
    yield from _faults_of_points(before, after)
    yield from _faults_of_boxes(before, after, pairs)


def _faults_of_points(before: Frame, after: Frame) -> Iterator[tuple[str, str]]:
    if before.lidar is None or after.lidar is None:
        return
    old, new = before.lidar.points_ego, after.lidar.points_ego
    if after.lidar.num_sweeps != before.lidar.num_sweeps:
        yield "sweeps", f"{after.lidar.num_sweeps} sweeps in place of {before.lidar.num_sweeps}"
    if not np.isin(new[:, PointIndex.AGE_S], old[:, PointIndex.AGE_S]).all():
        yield "sweep_time_sign", "points have times that no sweep had"
    if not np.isin(new[:, PointIndex.INTENSITY], old[:, PointIndex.INTENSITY]).all():
        yield "normalisation", "points have intensities that no point had"


def _faults_of_boxes(
    before: Frame, after: Frame, pairs: list[tuple[CameraImage, CameraImage]]
) -> Iterator[tuple[str, str]]:
    if before.annotations is None or after.annotations is None:
        return
    row_of = {token: k for k, token in enumerate(after.annotations.tokens)}
    kept = [k for k, token in enumerate(before.annotations.tokens) if token in row_of]
    moved = [row_of[before.annotations.tokens[k]] for k in kept]
    if (before.annotations.boxes.class_index[kept] != after.annotations.boxes.class_index[moved]).any():
        yield "class_order", "boxes change their class"
    old = before.annotations.boxes.rows[kept].astype(np.float64)
    new = after.annotations.boxes.rows[moved].astype(np.float64)
    if before.lidar is not None and after.lidar is not None:
        clouds = before.lidar.points_ego, after.lidar.points_ego
        if len(clouds[0]) == len(clouds[1]):
            apart = np.abs(_local(old, clouds[0]) - _local(new, clouds[1])) / np.maximum(1.0, _local(old, clouds[0]))
            if len(kept) and apart.max() > _CLOSE:
                yield "yaw" if _centers_go_along(old, new, clouds) else "axes", "boxes and points are moved apart"
    if any(not _sees_the_same(a, b, old[:, :3], new[:, :3]) for a, b in pairs):
        yield "axes", "a camera is not moved with the boxes that it sees"


def _local(rows: Float[np.ndarray, "N 9"], points: Float[np.ndarray, "M 5"]) -> np.ndarray:
    """Size of the coordinates of every point in every box, in box sizes: what no movement, mirror or scale changes."""
    offset = points[None, :, :3] - rows[:, None, :3]
    c, s = np.cos(rows[:, BoxIndex.YAW])[:, None], np.sin(rows[:, BoxIndex.YAW])[:, None]
    axes = (offset[..., 0] * c + offset[..., 1] * s, offset[..., 1] * c - offset[..., 0] * s, offset[..., 2])
    return np.abs(np.stack(axes, axis=-1)) / rows[:, None, BoxIndex.LENGTH : BoxIndex.HEIGHT + 1]


def _centers_go_along(old: np.ndarray, new: np.ndarray, clouds: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether distances between centres and points keep one ratio: then it is heading or size that went astray."""
    a, b = (
        np.linalg.norm(cloud[None, :, :3] - rows[:, None, :3], axis=-1)
        for rows, cloud in zip((old, new), clouds, strict=True)
    )
    ratio = b / np.maximum(a, 1e-6)
    return bool(np.ptp(ratio) < _CLOSE * max(1.0, float(ratio.mean())))


def _sees_the_same(
    before: CameraImage, after: CameraImage, old: Float[np.ndarray, "N 3"], new: Float[np.ndarray, "N 3"]
) -> bool:
    """Whether the centres fall on the same pixels, but for the map of pixels that K_cam took along."""
    A_img = after.K_cam @ np.linalg.inv(before.K_cam)
    a = transform_points(inverse(before.T_ego_cam), old) @ (A_img @ before.K_cam).T
    b = transform_points(inverse(after.T_ego_cam), new) @ after.K_cam.T
    is_ahead = a[:, 2] > 2.0
    if not (b[is_ahead, 2] > 1.0).all():  # a scale of less than a half is no augmentation
        return False
    pixels_a, pixels_b = a[is_ahead, :2] / a[is_ahead, 2:], b[is_ahead, :2] / b[is_ahead, 2:]
    width = before.rgb.shape[1]
    return bool((np.abs(pixels_a - pixels_b) <= _CLOSE * width * np.maximum(1.0, np.abs(pixels_a) / width)).all())
