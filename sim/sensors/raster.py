"""Triangles into a depth buffer, one core, no graphics library.

Each triangle is clipped at the near plane and filled row by row; the span of a row follows from the three edge lines,
so long thin triangles cost only their pixels. Inverse depth is linear on the image plane, which makes the depth
perspective-correct. Pixel centres are at integers. Two triangles that share an edge compute it with the same
numbers, so there are no cracks. One thread and no reassociated arithmetic: the result depends on the input only.
"""

import numba
import numpy as np
from jaxtyping import Float, Float32, Int32

NEAR_M = 0.08
NO_FACE = -1


@numba.njit(cache=True, nogil=True)
def _span(a: float, b: float, c: float, y: float, low: float, high: float) -> tuple[float, float]:
    """Shrink [low, high] to where a x + b y + c >= 0."""
    if a > 0.0:
        low = max(low, -(b * y + c) / a)
    elif a < 0.0:
        high = min(high, -(b * y + c) / a)
    elif b * y + c < 0.0:
        high = low - 1.0
    return low, high


@numba.njit(cache=True, nogil=True)
def _fill(
    screen: np.ndarray,
    i: int,
    j: int,
    k: int,
    face: int,
    stamp_value: int,
    inverse_depth: np.ndarray,
    face_index: np.ndarray,
    stamp: np.ndarray,
) -> int:
    """Fill one triangle (rows i, j, k of `screen`: x px, y px, 1 / depth). Returns newly stamped pixels."""
    height, width = inverse_depth.shape
    x0, y0, w0 = screen[i, 0], screen[i, 1], screen[i, 2]
    x1, y1, w1 = screen[j, 0], screen[j, 1], screen[j, 2]
    x2, y2, w2 = screen[k, 0], screen[k, 1], screen[k, 2]
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if area == 0.0:
        return 0
    sign = 1.0 if area > 0.0 else -1.0
    # Edge lines a x + b y + c, positive inside. Swapping the two ends negates a, b and c exactly.
    a0, b0, c0 = sign * (y1 - y2), sign * (x2 - x1), sign * (x1 * y2 - x2 * y1)
    a1, b1, c1 = sign * (y2 - y0), sign * (x0 - x2), sign * (x2 * y0 - x0 * y2)
    a2, b2, c2 = sign * (y0 - y1), sign * (x1 - x0), sign * (x0 * y1 - x1 * y0)
    top = max(0.0, np.ceil(min(y0, y1, y2)))
    bottom = min(height - 1.0, np.floor(max(y0, y1, y2)))
    left = max(0.0, np.ceil(min(x0, x1, x2)))
    right = min(width - 1.0, np.floor(max(x0, x1, x2)))
    if top > bottom or left > right:
        return 0
    dwdx = (w1 - w0) * (y2 - y0) / area - (w2 - w0) * (y1 - y0) / area
    dwdy = (w2 - w0) * (x1 - x0) / area - (w1 - w0) * (x2 - x0) / area
    nearest = max(w0, w1, w2)
    fresh = 0
    for row in range(int(top), int(bottom) + 1):
        y = float(row)
        low, high = _span(a0, b0, c0, y, left, right)
        low, high = _span(a1, b1, c1, y, low, high)
        low, high = _span(a2, b2, c2, y, low, high)
        first, last = int(np.ceil(low)), int(np.floor(high))
        base = w0 + (y - y0) * dwdy - x0 * dwdx
        for column in range(first, last + 1):
            if stamp_value >= 0 and stamp[row, column] != stamp_value:
                stamp[row, column] = stamp_value
                fresh += 1
            # Slivers may extrapolate: never nearer than the nearest corner.
            w = np.float32(min(base + column * dwdx, nearest))
            if w > inverse_depth[row, column]:
                inverse_depth[row, column] = w
                face_index[row, column] = face
    return fresh


@numba.njit(cache=True, nogil=True)
def _to_screen(screen: np.ndarray, slot: int, x: float, y: float, z: float, K: np.ndarray) -> None:
    screen[slot, 2] = 1.0 / z
    screen[slot, 0] = (K[0, 0] * x + K[0, 1] * y + K[0, 2] * z) / z
    screen[slot, 1] = (K[1, 0] * x + K[1, 1] * y + K[1, 2] * z) / z


@numba.njit(cache=True, nogil=True)
def _clip_near(corners: np.ndarray, screen: np.ndarray, near: float, K: np.ndarray) -> int:
    """Project the part of a triangle (3, 3) beyond the near plane; its corners (0, 3 or 4) go to screen[3:]."""
    count = 0
    for k in range(3):
        m = (k + 1) % 3
        z_here, z_next = corners[k, 2], corners[m, 2]
        if z_here >= near:
            _to_screen(screen, 3 + count, corners[k, 0], corners[k, 1], z_here, K)
            count += 1
        if (z_here >= near) != (z_next >= near):
            t = (near - z_here) / (z_next - z_here)
            x = corners[k, 0] + t * (corners[m, 0] - corners[k, 0])
            y = corners[k, 1] + t * (corners[m, 1] - corners[k, 1])
            _to_screen(screen, 3 + count, x, y, near, K)
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def rasterise(
    vertices: Float32[np.ndarray, "V 3"],
    faces: Int32[np.ndarray, "F 3"],
    vertex_start: Int32[np.ndarray, " C1"],
    face_start: Int32[np.ndarray, " C1"],
    chunks: Int32[np.ndarray, " A"],
    T_cam_chunk: Float[np.ndarray, "A 4 4"],
    K_cam: Float[np.ndarray, "3 3"],
    face_offset: int,
    inverse_depth: Float32[np.ndarray, "H W"],
    face_index: Int32[np.ndarray, "H W"],
    stamp: Int32[np.ndarray, "Hs Ws"],
) -> Int32[np.ndarray, " A"]:
    """Draw the listed chunks of a mesh, each placed by its own transform, over what is already in the buffers.

    Faces seen from behind are skipped. `inverse_depth` (1/m, 0 = nothing) and `face_index` (index of the face plus
    `face_offset`, -1 = nothing) change in place.

    Returns:
        Per listed chunk the number of pixels inside the image that it would cover if it were alone. Counted in
        `stamp` (H, W), filled with -1; where `stamp` is empty (0, 0) nothing is counted and all are zero.
    """
    height, width = inverse_depth.shape
    silhouettes = np.zeros(len(chunks), np.int32)
    counted = stamp.shape[0] == height
    # Screen rows 0 to 2 are unused: vertices of a chunk follow from row 8 on, clipped corners in rows 3 to 6.
    largest = 0
    for chunk in chunks:
        largest = max(largest, vertex_start[chunk + 1] - vertex_start[chunk])
    placed = np.empty((largest, 3))
    screen = np.empty((largest + 8, 3))
    corners = np.empty((3, 3))
    for entry in range(len(chunks)):
        chunk = chunks[entry]
        T_cam = T_cam_chunk[entry]
        first_vertex = vertex_start[chunk]
        for v in range(vertex_start[chunk + 1] - first_vertex):
            x, y, z = vertices[first_vertex + v, 0], vertices[first_vertex + v, 1], vertices[first_vertex + v, 2]
            for axis in range(3):
                placed[v, axis] = T_cam[axis, 0] * x + T_cam[axis, 1] * y + T_cam[axis, 2] * z + T_cam[axis, 3]
            if placed[v, 2] >= NEAR_M:
                _to_screen(screen, v + 8, placed[v, 0], placed[v, 1], placed[v, 2], K_cam)
        stamp_value = entry if counted else -1
        for face in range(face_start[chunk], face_start[chunk + 1]):
            i, j, k = faces[face, 0] - first_vertex, faces[face, 1] - first_vertex, faces[face, 2] - first_vertex
            behind = 0
            for v in (i, j, k):
                if placed[v, 2] < NEAR_M:
                    behind += 1
            if behind == 3:
                continue
            ux, uy, uz = placed[j, 0] - placed[i, 0], placed[j, 1] - placed[i, 1], placed[j, 2] - placed[i, 2]
            vx, vy, vz = placed[k, 0] - placed[i, 0], placed[k, 1] - placed[i, 1], placed[k, 2] - placed[i, 2]
            facing = (
                (uy * vz - uz * vy) * placed[i, 0]
                + (uz * vx - ux * vz) * placed[i, 1]
                + (ux * vy - uy * vx) * placed[i, 2]
            )
            if facing >= 0.0:
                continue
            if behind == 0:
                silhouettes[entry] += _fill(
                    screen, i + 8, j + 8, k + 8, face + face_offset, stamp_value, inverse_depth, face_index, stamp
                )
                continue
            for axis in range(3):
                corners[0, axis], corners[1, axis], corners[2, axis] = placed[i, axis], placed[j, axis], placed[k, axis]
            count = _clip_near(corners, screen, NEAR_M, K_cam)
            for m in range(1, count - 1):
                silhouettes[entry] += _fill(
                    screen, 3, 3 + m, 4 + m, face + face_offset, stamp_value, inverse_depth, face_index, stamp
                )
    return silhouettes


def visible_chunks(
    spheres: Float[np.ndarray, "C 4"],
    T_cam_chunk: Float[np.ndarray, "C 4 4"],
    K_cam: Float[np.ndarray, "3 3"],
    height_px: int,
    width_px: int,
    range_m: float,
) -> Int32[np.ndarray, " A"]:
    """Chunks whose bounding sphere (centre and radius in the chunk's own frame) reaches into the view frustum.

    `T_cam_chunk` may hold one transform (1, 4, 4) for all.
    """
    if not len(spheres):
        return np.zeros(0, np.int32)
    center = np.einsum("nij,nj->ni", np.broadcast_to(T_cam_chunk[:, :3, :3], (len(spheres), 3, 3)), spheres[:, :3])
    center = center + T_cam_chunk[:, :3, 3]
    radius = spheres[:, 3]
    inside = (center[:, 2] > NEAR_M - radius) & (np.linalg.norm(center, axis=1) - radius < range_m)
    # Normals of the four side planes through the optical centre, pointing inwards: u >= 0 is row 0 of K, and so on.
    u, v, w = K_cam[0], K_cam[1], K_cam[2]
    for plane in (u + 0.5 * w, (width_px - 0.5) * w - u, v + 0.5 * w, (height_px - 0.5) * w - v):
        inside &= center @ (plane / np.linalg.norm(plane)) > -radius
    return np.flatnonzero(inside).astype(np.int32)
