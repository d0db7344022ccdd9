"""Random changes of a `Frame` for training, folded into its calibration so that no model ever learns of them.

An image augmentation is an affine map A_img of pixels: the picture is warped by it and K_cam := A_img @ K_cam. A world
augmentation is a similarity G_ego of the ego frame (rotation about z, flips, one scale, translation): points, boxes,
occupancy and T_ego_cam go through it, and T_global_ego := T_global_ego @ G_ego^-1, so that every chain of transforms
through `ego` still closes; map masks are drawn after it, at that pose (`map_labels`). Recipe: BEVFusion (Liu et al.,
ICRA 2023), which follows BEVDet (Huang et al., 2021, section 3.3).

What follows for readers of an augmented frame:

* K_cam is a full 3x3 matrix and may mirror; T_ego_cam may mirror and scale. Invert them with a general inverse
  (`geometry.transforms.inverse`), never with a transposed rotation. Lifting needs no change: depth along the optical
  axis stays in real metres, and T_ego_cam carries the scale into the augmented frame.
* After a rotation or front-back flip the vehicle no longer drives along x. That is harmless for perception; what reads
  a route or the vehicle's own future must be trained with left-right mirrors alone (`configs/augment/mirror.yaml`).
* A mirror exchanges left and right in the route's command too, and in the cue.

Every augmentation is a small immutable object: `augmented = augmentation(frame, rng)`; the result depends on the
frame and the generator alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, Float64

from bevstack.data.augment_world import move_world, world_map
from bevstack.types.frame import CameraImage, Frame


@runtime_checkable
class Augmentation(Protocol):
    """Anything that turns a frame into another with the randomness of a generator.

    One that has a true attribute `moves_world` is given the same draws for all frames of a clip, as it changes what
    they have in common; all others draw anew for every frame.
    """

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """The changed frame; `frame` itself stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAugmentation:
    """Every picture on its own: zoom and crop, rotation about the centre, mirror, brightness, contrast, saturation.

    The picture keeps its size. At zoom 1 nothing is cropped; above, a random part of the picture fills it; below, the
    picture shrinks to a random place and black surrounds it.

    Args:
        zoom_range: smallest and largest zoom.
        rotation_rad: largest rotation to either side.
        flip_probability: chance of a left-right mirror.
        brightness: largest relative change of all channels; likewise contrast (about mid-grey of the picture) and
            saturation (about the grey of the pixel). 0 leaves colours alone.
        contrast: see brightness.
        saturation: see brightness.

    Raises:
        ValueError: a range is empty or a number is out of its range.
    """

    zoom_range: Sequence[float] = (0.9, 1.25)
    rotation_rad: float = 0.094
    flip_probability: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "zoom_range", _positive_range("zoom_range", self.zoom_range))
        check_probability("flip_probability", self.flip_probability)
        for name in ("brightness", "contrast", "saturation"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1)")

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """The frame with every picture changed by its own draw."""
        return replace(frame, cameras=tuple(self._changed(camera, rng) for camera in frame.cameras))

    def _changed(self, camera: CameraImage, rng: np.random.Generator) -> CameraImage:
        height, width = camera.rgb.shape[:2]
        A_img = image_map(
            height,
            width,
            zoom=rng.uniform(self.zoom_range[0], self.zoom_range[1]),
            shift=(rng.uniform(), rng.uniform()),
            rotation_rad=rng.uniform(-self.rotation_rad, self.rotation_rad),
            flip=bool(rng.uniform() < self.flip_probability),
        )
        factors = 1.0 + rng.uniform(-1.0, 1.0, 3) * (self.brightness, self.contrast, self.saturation)
        warped = warp_image(camera, A_img)
        if np.all(factors == 1.0):
            return warped
        return replace(warped, rgb=_recoloured(warped.rgb, *factors.tolist()))


def image_map(
    height: int, width: int, *, zoom: float, shift: tuple[float, float], rotation_rad: float, flip: bool
) -> Float64[np.ndarray, "3 3"]:
    """The pixel map of zoom and crop, then rotation about the centre, then mirror, for a picture of this size.

    `shift` in [0, 1]^2 says which part is kept when zooming in, or where the picture goes when zooming out: (0, 0) is
    left and top, (1, 1) right and bottom. A positive rotation turns the content clockwise as seen.
    """
    slack_u, slack_v = width * (zoom - 1.0), height * (zoom - 1.0)
    # Pixel edges, not centres, are what zooming keeps in proportion: hence the half pixels.
    zoomed = np.array(
        [
            [zoom, 0.0, 0.5 * zoom - 0.5 - shift[0] * slack_u],
            [0.0, zoom, 0.5 * zoom - 0.5 - shift[1] * slack_v],
            [0.0, 0.0, 1.0],
        ]
    )
    c, s = np.cos(rotation_rad), np.sin(rotation_rad)
    center_u, center_v = (width - 1) / 2, (height - 1) / 2
    rotated = np.array(
        [
            [c, -s, center_u - c * center_u + s * center_v],
            [s, c, center_v - s * center_u - c * center_v],
            [0.0, 0.0, 1.0],
        ]
    )
    A_img = rotated @ zoomed
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ A_img if flip else A_img


def warp_image(camera: CameraImage, A_img: Float[np.ndarray, "3 3"]) -> CameraImage:
    """The picture moved by the pixel map A_img, with K_cam to match; what comes from outside the picture is black."""
    height, width = camera.rgb.shape[:2]
    rgb = cv2.warpAffine(camera.rgb, A_img[:2], (width, height), flags=cv2.INTER_LINEAR)
    return replace(camera, rgb=rgb, K_cam=A_img @ camera.K_cam)


def _recoloured(rgb: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    values = rgb.astype(np.float32) * brightness
    grey = values @ np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601 luma
    values = (values - grey[..., None]) * saturation + grey[..., None]
    values = (values - grey.mean()) * contrast + grey.mean()
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldAugmentation:
    """The whole scene around the vehicle: rotation about z, scale, mirrors, translation.

    Args:
        rotation_rad: largest rotation to either side.
        scale_range: smallest and largest scale.
        translation_std_m: standard deviation of the shift along x, y and z.
        flip_x_probability: chance that front and back change places (x := -x).
        flip_y_probability: chance that left and right change places (y := -y).

    Raises:
        ValueError: a range is empty or a number is out of its range.
    """

    rotation_rad: float = 0.785
    scale_range: Sequence[float] = (0.9, 1.1)
    translation_std_m: Sequence[float] = (0.5, 0.5, 0.5)
    flip_x_probability: float = 0.5
    flip_y_probability: float = 0.5
    moves_world: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale_range", _positive_range("scale_range", self.scale_range))
        check_probability("flip_x_probability", self.flip_x_probability)
        check_probability("flip_y_probability", self.flip_y_probability)
        if len(self.translation_std_m) != 3 or min(self.translation_std_m) < 0:
            raise ValueError(f"translation_std_m={tuple(self.translation_std_m)} must be three numbers >= 0")

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """The frame moved by one drawn map."""
        return move_world(
            frame,
            world_map(
                rotation_rad=rng.uniform(-self.rotation_rad, self.rotation_rad),
                scale=rng.uniform(self.scale_range[0], self.scale_range[1]),
                translation_m=rng.normal(0.0, 1.0, 3) * self.translation_std_m,
                flip_x=bool(rng.uniform() < self.flip_x_probability),
                flip_y=bool(rng.uniform() < self.flip_y_probability),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorDropout:
    """Whole sensors go missing, so that a fused model learns to work with what is left. Never leaves a frame blind.

    Follows the modality dropout of MetaBEV (Ge et al., ICCV 2023, section 3.4).

    Args:
        p_no_cameras: chance that all cameras go; taken only where there is LiDAR.
        p_no_lidar: chance that LiDAR goes; taken only where there is a camera. Never together with the former.
        p_one_camera: chance that one camera, drawn evenly, goes; taken only where another sensor remains.

    Raises:
        ValueError: a probability is outside [0, 1], or the first two add up to more than 1.
    """

    p_no_cameras: float = 0.0
    p_no_lidar: float = 0.0
    p_one_camera: float = 0.0

    def __post_init__(self) -> None:
        for name in ("p_no_cameras", "p_no_lidar", "p_one_camera"):
            check_probability(name, getattr(self, name))
        if self.p_no_cameras + self.p_no_lidar > 1.0:
            raise ValueError(f"p_no_cameras={self.p_no_cameras} and p_no_lidar={self.p_no_lidar} add up to more than 1")

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """The frame without what was drawn to go."""
        kind, single, which = rng.uniform(size=3)
        if kind < self.p_no_cameras:
            return replace(frame, cameras=()) if frame.lidar is not None else frame
        if kind < self.p_no_cameras + self.p_no_lidar and frame.cameras:
            frame = replace(frame, lidar=None)
        others_remain = len(frame.cameras) > 1 or frame.lidar is not None
        if frame.cameras and others_remain and single < self.p_one_camera:
            gone = int(which * len(frame.cameras))
            frame = replace(frame, cameras=frame.cameras[:gone] + frame.cameras[gone + 1 :])
        return frame


def _positive_range(name: str, values: Sequence[float]) -> tuple[float, float]:
    if len(values) != 2 or not 0.0 < values[0] <= values[1]:
        raise ValueError(f"{name}={tuple(values)} must be two positive numbers, smallest first")
    return float(values[0]), float(values[1])


def check_probability(name: str, value: float) -> None:
    """Refuse what is no probability."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value} must be a probability in [0, 1]")
