"""Image patches of objects: where a camera sees a box, and how a patch goes into another camera's picture.

A patch is placed by the box itself: its eight corners are projected into the picture that it was cut from and into the
target, and the affine map between the two sets of pixels moves the patch. With the same calibration that is the
identity; with another one the patch still covers the projected box. Pasting far objects first and drawing the present
ones over what lies behind them keeps the order of occlusion (Wang et al., PointAugmenting, CVPR 2021, section 3.3;
mixing old and new pixels instead of replacing them follows M3Net's recipe).
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float, Float32

from bevstack.data.object_database import DatabaseObject, ImagePatch
from bevstack.geometry.boxes import corners
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import inverse, transform_points
from bevstack.types.frame import CameraImage

_NEAR_M = 0.5
"""Objects that reach closer to a camera's plane have no outline in its picture."""
_MIN_SIDE_PX = 4
_MIN_SHARE_IN_PICTURE = 0.2
_MARGIN_PX = 2
_MAX_TURN_COS = float(np.cos(np.radians(15.0)))
"""A patch seen from a direction that differs by more shows another side of the object."""


def corner_pixels(
    K_cam: Float[np.ndarray, "3 3"], T_ego_cam: Float[np.ndarray, "4 4"], box: Float32[np.ndarray, "9"]
) -> tuple[Float[np.ndarray, "8 2"], float] | None:
    """Pixels of a box's corners and the depth of its centre; None where it reaches the camera's plane."""
    corners_cam = transform_points(inverse(T_ego_cam), corners(box[None]).astype(np.float64)[0])
    pixels, depth_m = project(K_cam, corners_cam)
    return (pixels, float(depth_m.mean())) if depth_m.min() >= _NEAR_M else None


def rectangle_in_camera(camera: CameraImage, box: Float32[np.ndarray, "9"]) -> tuple[int, int, int, int] | None:
    """Pixels (u0, v0, u1, v1), ends excluded, around a box in a picture; None where the camera does not really see it.

    At least a fifth of the box's outline must be inside, and four pixels each way.
    """
    found = corner_pixels(camera.K_cam, camera.T_ego_cam, box)
    if found is None:
        return None
    height, width = camera.rgb.shape[:2]
    outline = cv2.convexHull(found[0].astype(np.float32))
    picture = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    shared_px = cv2.intersectConvexConvex(outline, picture)[0]
    if shared_px <= _MIN_SHARE_IN_PICTURE * cv2.contourArea(outline):
        return None
    low, high = found[0].min(axis=0), found[0].max(axis=0)
    u0, v0 = np.maximum(np.floor(low) - _MARGIN_PX, 0).astype(int).tolist()
    u1, v1 = np.minimum(np.ceil(high) + 1 + _MARGIN_PX, (width, height)).astype(int).tolist()
    return (u0, v0, u1, v1) if min(u1 - u0, v1 - v0) >= _MIN_SIDE_PX + 2 * _MARGIN_PX else None


def best_patch(item: DatabaseObject, camera: CameraImage) -> ImagePatch | None:
    """The patch of an object that fits a camera that sees it: its own camera's, else the one from nearly there."""
    sight = _sight(item, camera.T_ego_cam)
    fitting = [(float(_sight(item, patch.T_ego_cam) @ sight), patch) for patch in item.patches]
    fitting = [(cosine, patch) for cosine, patch in fitting if cosine >= _MAX_TURN_COS]
    if not fitting:
        return None
    return max(fitting, key=lambda entry: (entry[1].camera == camera.name, entry[0]))[1]


def paste_patches(
    camera: CameraImage, present: Float32[np.ndarray, "N 9"], pasted: Sequence[DatabaseObject], mix_up: float
) -> CameraImage:
    """The picture with the patches of the pasted objects that this camera sees.

    Args:
        camera: any camera.
        present: boxes of the objects that are in the picture anyway.
        pasted: what comes in, at its own place in `ego`.
        mix_up: weight of the patch; the rest is what was there.
    """
    layers: list[tuple[float, np.ndarray, DatabaseObject | None, ImagePatch | None]] = []
    for item in pasted:
        patch = best_patch(item, camera) if rectangle_in_camera(camera, item.box) is not None else None
        found = corner_pixels(camera.K_cam, camera.T_ego_cam, item.box)
        if patch is not None and found is not None:
            layers.append((found[1], found[0], item, patch))
    if not layers:
        return camera
    for box in present:
        found = corner_pixels(camera.K_cam, camera.T_ego_cam, box)
        if found is not None:
            layers.append((found[1], found[0], None, None))
    rgb = camera.rgb.copy()
    for _, pixels, item, patch in sorted(layers, key=lambda layer: -layer[0]):
        region, mask = _outline(rgb, pixels)
        if not mask.size:
            continue
        if item is None or patch is None:
            rgb[region][mask] = camera.rgb[region][mask]
        else:
            _blend(rgb[region], mask, patch, _patch_map(item, patch, pixels, region), mix_up)
    return replace(camera, rgb=rgb)


def _sight(item: DatabaseObject, T_ego_cam: np.ndarray) -> np.ndarray:
    """Unit vector from a camera to the object, in `ego`."""
    way = item.box[:3].astype(np.float64) - T_ego_cam[:3, 3]
    return way / max(float(np.linalg.norm(way)), 1e-9)


def _outline(rgb: np.ndarray, pixels: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    """The part of a picture around some pixels, and in it the mask of their convex outline."""
    height, width = rgb.shape[:2]
    u0, v0 = np.clip(np.floor(pixels.min(axis=0)), 0, (width, height)).astype(int).tolist()
    u1, v1 = np.clip(np.ceil(pixels.max(axis=0)) + 1, 0, (width, height)).astype(int).tolist()
    mask = np.zeros((max(0, v1 - v0), max(0, u1 - u0)), np.uint8)
    if mask.size:
        # Far outside of the picture the drawing function's integers would overflow.
        outline = cv2.convexHull((pixels - (u0, v0)).clip(-30000, 30000).astype(np.float32))
        cv2.fillConvexPoly(mask, np.round(outline).astype(np.int32), 1)
    return (slice(v0, v0 + mask.shape[0]), slice(u0, u0 + mask.shape[1])), mask.astype(bool)


def _patch_map(
    item: DatabaseObject, patch: ImagePatch, pixels: np.ndarray, region: tuple[slice, slice]
) -> Float[np.ndarray, "2 3"]:
    """The affine map of patch pixels to pixels of a region of the target picture, by least squares over the corners."""
    source = corner_pixels(patch.K_cam, patch.T_ego_cam, item.box)
    assert source is not None  # otherwise there would be no patch
    terms = np.column_stack((source[0] - patch.corner_px, np.ones(len(pixels))))
    offset = np.array((region[1].start, region[0].start))
    return np.linalg.lstsq(terms, pixels - offset, rcond=None)[0].T


def _blend(part: np.ndarray, mask: np.ndarray, patch: ImagePatch, A_img: np.ndarray, mix_up: float) -> None:
    """Mix a moved patch into part of a picture, in place, where the mask and the patch itself reach."""
    size = (part.shape[1], part.shape[0])
    moved = cv2.warpAffine(patch.rgb, A_img, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    reach = cv2.warpAffine(np.ones(patch.rgb.shape[:2], np.uint8), A_img, size, flags=cv2.INTER_NEAREST)
    mixed = cv2.addWeighted(moved, mix_up, part, 1.0 - mix_up, 0.0)
    chosen = mask & reach.astype(bool)
    part[chosen] = mixed[chosen]
