"""LiDAR points seen by the cameras, as a histogram over depth for each cell of the image features.

Letters: B frames, N cameras, M points of all frames, D depth bins, h w feature map.
"""

from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import transform_points


def depth_histogram(
    points_ego: Float[Tensor, "M 3"],
    point_frame_index: Int[Tensor, " M"],
    K_cam: Float[Tensor, "B N 3 3"],
    T_cam_ego: Float[Tensor, "B N 4 4"],
    camera_mask: Bool[Tensor, "B N"],
    *,
    edges_m: Float[Tensor, " E"],
    stride: int,
    feature_size: tuple[int, int],
) -> Float[Tensor, "B N D h w"]:
    """Number of points in each feature cell and depth bin of each present camera.

    Points hidden behind nearer ones count too: a LiDAR above the cameras sees a little further over things, and one
    feature cell often holds several surfaces. On the CPU in one pass, elsewhere by standard operations.

    Args:
        points_ego: Points in `ego` at reference time.
        point_frame_index: Frame of each point.
        K_cam: Camera coordinates to pixels; any 3x3 matrix with third row (0, 0, 1).
        T_cam_ego: Ego to camera.
        camera_mask: False where a camera is missing.
        edges_m: The D + 1 edges of the depth bins in metres, ascending.
        stride: Pixels for each feature cell.
        feature_size: (h, w).
    """
    shape = (*camera_mask.shape, len(edges_m) - 1, *feature_size)
    if points_ego.device.type == "cpu" and not torch.compiler.is_exporting():
        counts = np.zeros(shape, np.float32)
        img_from_ego = K_cam.double() @ T_cam_ego.double()[..., :3, :]
        _count(
            points_ego.contiguous().numpy(),
            point_frame_index.contiguous().numpy(),
            img_from_ego.float().contiguous().numpy(),
            camera_mask.contiguous().numpy(),
            edges_m.numpy(),
            np.float32(stride),
            counts,
        )
        return torch.from_numpy(counts)
    frames = []
    for b in range(shape[0]):
        own = points_ego[point_frame_index == b]
        frames.append(_frame_histogram(own, K_cam[b], T_cam_ego[b], camera_mask[b], edges_m, stride, shape))
    return torch.stack(frames)


def _frame_histogram(
    points: Tensor,
    K_cam: Tensor,
    T_cam_ego: Tensor,
    camera_mask: Tensor,
    edges_m: Tensor,
    stride: int,
    shape: tuple[int, ...],
) -> Tensor:
    _, num_cameras, bins, height, width = shape
    pixels, depth_m = project(K_cam, transform_points(T_cam_ego, points[None]))
    cells = ((pixels + 0.5) / stride).floor()  # pixel (0, 0) is a centre: the picture begins at -0.5
    d = torch.bucketize(depth_m.contiguous(), edges_m, right=True) - 1
    u, v = cells[..., 0], cells[..., 1]
    seen = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (d >= 0) & (d < bins) & camera_mask[:, None]
    camera, point = seen.nonzero(as_tuple=True)
    flat = ((camera * bins + d[seen]) * height + v[seen].long()) * width + u[seen].long()
    size = num_cameras * bins * height * width
    return torch.bincount(flat, minlength=size).view(shape[1:]).to(points.dtype)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _count(
    points: np.ndarray,
    frame_index: np.ndarray,
    img_from_ego: np.ndarray,
    camera_mask: np.ndarray,
    edges: np.ndarray,
    stride: np.float32,
    counts: np.ndarray,
) -> None:
    num_bins, height, width = counts.shape[2:]
    for k in range(len(points)):
        b = frame_index[k]
        x, y, z = points[k, 0], points[k, 1], points[k, 2]
        for n in range(camera_mask.shape[1]):
            if not camera_mask[b, n]:
                continue
            m = img_from_ego[b, n]
            depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if not edges[0] <= depth < edges[num_bins]:
                continue
            u = np.floor(((m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / depth + np.float32(0.5)) / stride)
            v = np.floor(((m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / depth + np.float32(0.5)) / stride)
            if 0 <= u < width and 0 <= v < height:
                d = np.searchsorted(edges, depth, side="right") - 1
                counts[b, n, d, np.int64(v), np.int64(u)] += 1
