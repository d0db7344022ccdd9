"""Oriented boxes: corners, points inside, overlap seen from above."""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

from bevstack.geometry.transforms import from_xy_yaw, wrap_angle
from bevstack.types.boxes import BoxIndex

_CORNER_SIGNS = np.array(
    [[1, 1, -1], [1, -1, -1], [-1, -1, -1], [-1, 1, -1], [1, 1, 1], [1, -1, 1], [-1, -1, 1], [-1, 1, 1]], np.float32
)


def corners(rows: Float[np.ndarray, "N 9"]) -> Float[np.ndarray, "N 8 3"]:
    """Corners of boxes: bottom front-left, front-right, back-right, back-left, then the same four on top."""
    local = _CORNER_SIGNS[None] * rows[:, None, BoxIndex.LENGTH : BoxIndex.HEIGHT + 1] * 0.5
    c, s = np.cos(rows[:, BoxIndex.YAW])[:, None], np.sin(rows[:, BoxIndex.YAW])[:, None]
    x = local[..., 0] * c - local[..., 1] * s
    y = local[..., 0] * s + local[..., 1] * c
    return np.stack((x, y, local[..., 2]), axis=-1) + rows[:, None, : BoxIndex.Z + 1]


def transform_boxes(T_target_source: Float[np.ndarray, "4 4"], rows: Float[np.ndarray, "N 9"]) -> np.ndarray:
    """Box rows (N, 9) moved by a rigid transform: centre, heading and velocity; sizes stay.

    The heading is that of the rotated forward axis projected to the ground of the target frame.
    """
    rotation = T_target_source[:3, :3]
    out = rows.copy()
    out[:, : BoxIndex.Z + 1] = rows[:, : BoxIndex.Z + 1] @ rotation.T + T_target_source[:3, 3]
    yaw = rows[:, BoxIndex.YAW]
    forward = np.stack((np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)), axis=-1) @ rotation.T
    out[:, BoxIndex.YAW] = wrap_angle(np.arctan2(forward[:, 1], forward[:, 0]).astype(rows.dtype))
    velocity = np.concatenate((rows[:, BoxIndex.VX :], np.zeros((len(rows), 1), rows.dtype)), axis=1)
    out[:, BoxIndex.VX :] = (velocity @ rotation.T)[:, :2]
    return out


def box_pose(row: Float[np.ndarray, "9"]) -> Float[np.ndarray, "4 4"]:
    """T_frame_box of one box, in float64: the box's own frame has its centre as origin, x along the heading, z up."""
    x, y, z, yaw = (float(row[column]) for column in (BoxIndex.X, BoxIndex.Y, BoxIndex.Z, BoxIndex.YAW))
    return from_xy_yaw(x, y, yaw, z_m=z)


def points_in_boxes(
    points: Float[np.ndarray, "M _"], rows: Float[np.ndarray, "N 9"], margin_m: float = 0.0
) -> Bool[np.ndarray, "N M"]:
    """Which points (x, y, z first) lie inside each box, faces included, each box grown by `margin_m` on every side."""
    offset = points[None, :, :3] - rows[:, None, :3]
    c, s = np.cos(rows[:, BoxIndex.YAW])[:, None], np.sin(rows[:, BoxIndex.YAW])[:, None]
    along = offset[..., 0] * c + offset[..., 1] * s
    across = -offset[..., 0] * s + offset[..., 1] * c
    half = rows[:, BoxIndex.LENGTH : BoxIndex.HEIGHT + 1] * 0.5 + margin_m
    return (np.abs(along) <= half[:, :1]) & (np.abs(across) <= half[:, 1:2]) & (np.abs(offset[..., 2]) <= half[:, 2:3])


def box_of_points(
    points: Float[np.ndarray, "M _"], rows: Float[np.ndarray, "N 9"], margin_m: float = 0.0
) -> Int[np.ndarray, " M"]:
    """For each point (x, y, z first) the first box that it lies in, -1 where none; the boxes grown by `margin_m`.

    The answer of `points_in_boxes` for many points and boxes without their product in memory.
    """
    half = rows[:, BoxIndex.LENGTH : BoxIndex.HEIGHT + 1] * 0.5 + margin_m
    heading = np.stack((np.cos(rows[:, BoxIndex.YAW]), np.sin(rows[:, BoxIndex.YAW])), axis=1)
    return _first_box(points, rows[:, :3], half, heading, np.hypot(half[:, 0], half[:, 1]))


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _first_box(
    points: np.ndarray, centers: np.ndarray, half: np.ndarray, heading: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    out = np.full(len(points), -1, np.int64)
    for i in range(len(points)):
        for k in range(len(centers)):
            dx, dy = points[i, 0] - centers[k, 0], points[i, 1] - centers[k, 1]
            if abs(dx) > radius[k] or abs(dy) > radius[k] or abs(points[i, 2] - centers[k, 2]) > half[k, 2]:
                continue
            along = dx * heading[k, 0] + dy * heading[k, 1]
            across = -dx * heading[k, 1] + dy * heading[k, 0]
            if abs(along) <= half[k, 0] and abs(across) <= half[k, 1]:
                out[i] = k
                break
    return out


def footprints(rows: Float[np.ndarray, "N 9"]) -> Float[np.ndarray, "N 4 2"]:
    """Ground rectangles of boxes, counter-clockwise: front-left, back-left, back-right, front-right."""
    return corners(rows)[:, [0, 3, 2, 1], :2]


@numba.njit(cache=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _clipped_area(subject: np.ndarray, clip: np.ndarray) -> float:
    """Area of the intersection of two convex counter-clockwise quadrilaterals (Sutherland-Hodgman)."""
    poly = np.empty((16, 2))
    poly[:4] = subject
    count = 4
    scratch = np.empty((16, 2))
    for edge in range(4):
        ax, ay = clip[edge]
        ex, ey = clip[(edge + 1) % 4, 0] - ax, clip[(edge + 1) % 4, 1] - ay
        kept = 0
        for k in range(count):
            px, py = poly[k]
            qx, qy = poly[(k + 1) % count]
            side_p = ex * (py - ay) - ey * (px - ax)
            side_q = ex * (qy - ay) - ey * (qx - ax)
            if side_p >= 0:
                scratch[kept, 0], scratch[kept, 1] = px, py
                kept += 1
            if (side_p > 0 and side_q < 0) or (side_p < 0 and side_q > 0):
                t = side_p / (side_p - side_q)
                scratch[kept, 0], scratch[kept, 1] = px + t * (qx - px), py + t * (qy - py)
                kept += 1
        count = kept
        if count < 3:
            return 0.0
        poly[:count] = scratch[:count]
    area = 0.0
    for k in range(count):
        area += poly[k, 0] * poly[(k + 1) % count, 1] - poly[(k + 1) % count, 0] * poly[k, 1]
    return 0.5 * area


@numba.njit(cache=True)
@no_type_check
def _pairwise_bev_iou(a: np.ndarray, b: np.ndarray, area_a: np.ndarray, area_b: np.ndarray) -> np.ndarray:
    out = np.zeros((len(a), len(b)), np.float32)
    center_a, center_b = np.empty((len(a), 3)), np.empty((len(b), 3))
    for boxes, center in ((a, center_a), (b, center_b)):
        for i in range(len(boxes)):
            center[i, 0] = (boxes[i, 0, 0] + boxes[i, 2, 0]) * 0.5
            center[i, 1] = (boxes[i, 0, 1] + boxes[i, 2, 1]) * 0.5
            center[i, 2] = np.hypot(boxes[i, 0, 0] - center[i, 0], boxes[i, 0, 1] - center[i, 1])
    for i in range(len(a)):
        for j in range(len(b)):
            # Circles around the rectangles that do not touch cannot overlap: most pairs end here.
            if np.hypot(center_a[i, 0] - center_b[j, 0], center_a[i, 1] - center_b[j, 1]) >= (
                center_a[i, 2] + center_b[j, 2]
            ):
                continue
            shared = _clipped_area(a[i], b[j])
            union = area_a[i] + area_b[j] - shared
            out[i, j] = shared / union if union > 0 else 0.0
    return out


def bev_iou(a: Float[np.ndarray, "N 9"], b: Float[np.ndarray, "K 9"]) -> Float[np.ndarray, "N K"]:
    """Intersection over union of ground rectangles, in [0, 1]."""
    area = [rows[:, BoxIndex.LENGTH].astype(np.float64) * rows[:, BoxIndex.WIDTH] for rows in (a, b)]
    rectangles = [np.ascontiguousarray(footprints(rows), dtype=np.float64) for rows in (a, b)]
    return _pairwise_bev_iou(*rectangles, *area)


def box_iou(a: Float[np.ndarray, "N 9"], b: Float[np.ndarray, "K 9"]) -> Float[np.ndarray, "N K"]:
    """Intersection over union of volumes, in [0, 1]."""
    ground = bev_iou(a, b).astype(np.float64)
    area = [rows[:, BoxIndex.LENGTH].astype(np.float64) * rows[:, BoxIndex.WIDTH] for rows in (a, b)]
    shared_area = ground * (area[0][:, None] + area[1][None]) / (1 + ground)
    bottom, top = ([rows[:, BoxIndex.Z] + side * rows[:, BoxIndex.HEIGHT] for rows in (a, b)] for side in (-0.5, 0.5))
    shared_height = np.minimum(top[0][:, None], top[1]) - np.maximum(bottom[0][:, None], bottom[1])
    shared = shared_area * shared_height.clip(0)
    volume = [rows[:, BoxIndex.LENGTH : BoxIndex.YAW].astype(np.float64).prod(axis=1) for rows in (a, b)]
    union = volume[0][:, None] + volume[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0).astype(np.float32)


def rotated_nms(
    rows: Float[np.ndarray, "N 9"], scores: Float[np.ndarray, " N"], iou_threshold: float
) -> Int[np.ndarray, " P"]:
    """Indices of boxes kept by greedy non-maximum suppression on ground rectangles, best score first."""
    order = np.argsort(-scores, kind="stable")
    overlap = bev_iou(rows[order], rows[order]) > iou_threshold
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~overlap[i, i + 1 :]
    return order[alive]
