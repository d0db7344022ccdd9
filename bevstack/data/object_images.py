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
from jaxtyping import Bool, Float, Float32

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
    K_cam: Float[np.ndarray, "3 3"], T_ego_cam: Float[np.ndarray, "4 4"], boxes: Float32[np.ndarray, "N 9"]
) -> tuple[Float[np.ndarray, "N 8 2"], Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Pixels of the corners of boxes, depths of their centres, and whether they lie ahead of the camera altogether."""
    corners_cam = transform_points(inverse(T_ego_cam), corners(boxes).reshape(-1, 3).astype(np.float64))
    pixels, depth_m = project(K_cam, corners_cam)
    depth_m = depth_m.reshape(-1, 8)
    return pixels.reshape(-1, 8, 2), depth_m.mean(axis=1), depth_m.min(axis=1, initial=np.inf) >= _NEAR_M


def rectangles_in_camera(
    camera: CameraImage, boxes: Float32[np.ndarray, "N 9"]
) -> dict[int, tuple[int, int, int, int]]:
    """For each box that a camera really sees, by its row, the pixels (u0, v0, u1, v1), ends excluded, around it.

    At least a fifth of the box's outline must be inside of the picture, and four pixels each way.
    """
    pixels, _, is_ahead = corner_pixels(camera.K_cam, camera.T_ego_cam, boxes)
    size = np.array(camera.rgb.shape[1::-1])
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    touches = is_ahead & (high > 0).all(axis=1) & (low < size - 1).all(axis=1)
    picture = np.array([[0, 0], [size[0] - 1, 0], size - 1, [0, size[1] - 1]], np.float32)
    found = {}
    for row in np.flatnonzero(touches).tolist():
        outline = cv2.convexHull(pixels[row].astype(np.float32))
        if cv2.intersectConvexConvex(outline, picture)[0] <= _MIN_SHARE_IN_PICTURE * cv2.contourArea(outline):
            continue
        u0, v0 = np.maximum(np.floor(low[row]) - _MARGIN_PX, 0).astype(int).tolist()
        u1, v1 = np.minimum(np.ceil(high[row]) + 1 + _MARGIN_PX, size).astype(int).tolist()
        if min(u1 - u0, v1 - v0) >= _MIN_SIDE_PX + 2 * _MARGIN_PX:
            found[row] = (u0, v0, u1, v1)
    return found


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
    boxes = np.concatenate((np.stack([item.box for item in pasted]), present))
    patches = {row: best_patch(pasted[row], camera) for row in rectangles_in_camera(camera, boxes[: len(pasted)])}
    patches = {row: patch for row, patch in patches.items() if patch is not None}
    if not patches:
        return camera
    pixels, depth_m, is_ahead = corner_pixels(camera.K_cam, camera.T_ego_cam, boxes)
    rgb, is_changed = camera.rgb.copy(), np.zeros(camera.rgb.shape[:2], bool)
    for row in np.argsort(-depth_m, kind="stable").tolist():
        patch = patches.get(row)
        if not is_ahead[row] or (patch is None and row < len(pasted)):
            continue
        region, mask = _outline(rgb, pixels[row])
        if patch is not None:
            _blend(rgb[region], mask, patch, _patch_map(boxes[row], patch, pixels[row], region), mix_up)
            is_changed[region] |= mask
        elif is_changed[region].any():
            rgb[region][mask] = camera.rgb[region][mask]
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
        cv2.fillConvexPoly(mask, np.round(outline).astype(np.int32), (1,))
    return (slice(v0, v0 + mask.shape[0]), slice(u0, u0 + mask.shape[1])), mask.astype(bool)


def _patch_map(
    box: np.ndarray, patch: ImagePatch, pixels: np.ndarray, region: tuple[slice, slice]
) -> Float[np.ndarray, "2 3"]:
    """The affine map of patch pixels to pixels of a region of the target picture, by least squares over the corners."""
    source = corner_pixels(patch.K_cam, patch.T_ego_cam, box[None])[0][0] - patch.corner_px
    terms = np.column_stack((source, np.ones(len(source))))
    offset = np.array((region[1].start, region[0].start))
    return np.linalg.lstsq(terms, pixels - offset, rcond=None)[0].T


def _blend(part: np.ndarray, mask: np.ndarray, patch: ImagePatch, A_img: np.ndarray, mix_up: float) -> None:
    """Mix a moved patch into part of a picture, in place, where the mask and the patch itself reach."""
    if not mask.any():
        return
    size = (part.shape[1], part.shape[0])
    moved = cv2.warpAffine(patch.rgb, A_img, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    reach = cv2.warpAffine(np.ones(patch.rgb.shape[:2], np.uint8), A_img, size, flags=cv2.INTER_NEAREST)
    mixed = cv2.addWeighted(moved, mix_up, part, 1.0 - mix_up, 0.0)
    chosen = mask & reach.astype(bool)
    part[chosen] = mixed[chosen]
