"""Sampling of deformable attention on the CPU in one pass, forward and backward, without a tensor of the samples.

The result does not depend on the number of threads: forward they share out the queries; backward the heads, because two
heads never touch the same gradient while two queries may. A grid of two dimensions is one of a single level.

The kernels first find the cells that one head of one query reads, then their rows of channels, so that the processor
waits for many rows at once. They work on flattened arrays with unsigned offsets: numba then neither counts references
to slices nor looks for negative indices, which together cost more than the arithmetic. Letters as in
`deformable_attention.py`.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.autograd.function import once_differentiable

_WORTH_A_THREAD = 1 << 19
"""Channels times samples, about a quarter of a millisecond: starting a thread for less costs more than it saves."""
_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1.0), np.float32(0.0)

_kernel = numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})


def numba_sample(
    value: Float32[Tensor, "B S H C"],
    shape: tuple[int, int, int],
    locations: Float32[Tensor, "B Q H P D"],
    weights: Float32[Tensor, "B Q H P"],
) -> Float32[Tensor, "B Q HC"]:
    """`deformable_sample` for tensors on the CPU; the shape has three entries (levels, rows, columns)."""
    return _NumbaSample.apply(value, shape, locations, weights)


class _NumbaSample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, shape: tuple[int, int, int], locations: Tensor, weights: Tensor
    ) -> Float32[Tensor, "B Q HC"]:
        inputs = tuple(tensor.contiguous() for tensor in (value, locations, weights))
        ctx.save_for_backward(*inputs)
        ctx.shape, ctx.sizes = shape, (*locations.shape[1:], value.shape[-1])
        batch, queries, heads = weights.shape[:3]
        out = value.new_zeros((batch, queries, heads * value.shape[-1]))
        arrays = [_flat(tensor) for tensor in (*inputs, out)]
        parts = _split(batch * queries, _num_threads(value, weights))
        _in_threads(lambda part: _sample(*arrays, ctx.shape, ctx.sizes, *part), parts)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        value, locations, weights = ctx.saved_tensors
        gradients = [torch.zeros_like(tensor) for tensor in (value, locations, weights)]
        arrays = [_flat(x) for x in (value, locations, weights, grad_outputs[0].contiguous(), *gradients)]
        heads = _split(value.shape[2], _num_threads(value, weights))
        parts = [(frame, *part) for frame in range(value.shape[0]) for part in heads]
        _in_threads(lambda part: _sample_backward(*arrays, ctx.shape, ctx.sizes, *part), parts)
        return gradients[0], None, gradients[1], gradients[2]


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().reshape(-1)


def _num_threads(value: Tensor, weights: Tensor) -> int:
    return max(1, min(torch.get_num_threads(), weights.numel() * value.shape[-1] // _WORTH_A_THREAD))


def _split(count: int, parts: int) -> list[tuple[int, int]]:
    """Ranges of nearly equal length, none of them empty."""
    edges = [count * i // parts for i in range(parts + 1)]
    return [(low, high) for low, high in zip(edges, edges[1:], strict=False) if low < high]


def _in_threads(run: Callable[[tuple[int, ...]], None], parts: Sequence[tuple[int, ...]]) -> None:
    """Threads of their own for each call: a pool that is kept would be dead in a forked process."""
    threads = min(torch.get_num_threads(), len(parts))
    if threads < 2:
        for part in parts:
            run(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, parts))


@_kernel
@no_type_check
def _sample(value, locations, weights, out, shape, sizes, first, last):
    """Queries first to last, counted over all frames, into `out`, which comes as zeros."""
    queries, heads, points, _, channels = sizes
    offset, factor = np.empty((2 * points, 4), np.uint64), np.empty((2 * points, 4), np.float32)
    for query in range(first, last):
        frame = query // queries
        for head in range(heads):
            row = query * heads + head
            origin = _first_offset(frame, head, shape, sizes)
            count = _find_cells(locations, weights, row * points, shape, sizes, origin, offset, factor)
            _add_cells(value, offset, factor, count, out, row * channels, channels)


@_kernel
@no_type_check
def _sample_backward(
    value, locations, weights, grad, grad_value, grad_locations, grad_weights, shape, sizes, frame, first, last
):
    """Heads first to last of one frame. `grad` is that of the result; the other gradients come as zeros."""
    queries, heads, points, _, channels = sizes
    offset, factor = np.empty((2 * points, 4), np.uint64), np.empty((2 * points, 4), np.float32)
    dot = np.empty((2 * points, 4), np.float32)
    for query in range(frame * queries, (frame + 1) * queries):
        for head in range(first, last):
            row = query * heads + head
            origin = _first_offset(frame, head, shape, sizes)
            count = _find_cells(locations, weights, row * points, shape, sizes, origin, offset, factor)
            _add_cells_backward(value, grad_value, offset, factor, dot, count, grad, row * channels, channels)
            _find_cells_backward(locations, weights, row * points, shape, sizes, dot, grad_locations, grad_weights)


@_kernel
@no_type_check
def _first_offset(frame, head, shape, sizes):
    """Where the channels of a head begin in the first cell of a frame."""
    levels, rows, columns = shape
    _, heads, _, _, channels = sizes
    return (frame * levels * rows * columns * heads + head) * channels


@_kernel
@no_type_check
def _find_cells(locations, weights, start, shape, sizes, origin, offset, factor):
    """Offset and factor of the cells that the points from `start` on read, four of a level a row; returns the rows."""
    levels, rows, columns = shape
    _, heads, points, dimensions, channels = sizes
    stride = heads * channels
    count = np.uint64(0)
    for k in range(np.uint64(start), np.uint64(start + points)):
        x, y, z = _position(locations, k, dimensions)
        if not _is_near(x, y, z, shape):
            continue
        left, right, left_weight, right_weight, _, _ = _axis(x, columns)
        front, back, front_weight, back_weight, _, _ = _axis(y, rows)
        bottom, top, bottom_weight, top_weight, _, _ = _axis(z, levels)
        for side in range(dimensions - 1):
            level, scale = (top, top_weight * weights[k]) if side else (bottom, bottom_weight * weights[k])
            near, far = (
                origin + (level * rows + front) * columns * stride,
                origin + (level * rows + back) * columns * stride,
            )
            offset[count, 0], offset[count, 1] = np.uint64(near + left * stride), np.uint64(near + right * stride)
            offset[count, 2], offset[count, 3] = np.uint64(far + left * stride), np.uint64(far + right * stride)
            near_weight, far_weight = scale * front_weight, scale * back_weight
            factor[count, 0], factor[count, 1] = near_weight * left_weight, near_weight * right_weight
            factor[count, 2], factor[count, 3] = far_weight * left_weight, far_weight * right_weight
            count += np.uint64(1)
    return count


@_kernel
@no_type_check
def _find_cells_backward(locations, weights, start, shape, sizes, dot, grad_locations, grad_weights):
    """Gradients of places and weights; `dot` is that of each factor, in the order of `_find_cells`."""
    levels, rows, columns = shape
    _, _, points, dimensions, _ = sizes
    count = np.uint64(0)
    for k in range(np.uint64(start), np.uint64(start + points)):
        x, y, z = _position(locations, k, dimensions)
        if not _is_near(x, y, z, shape):
            continue
        _, _, left_weight, right_weight, left_slope, right_slope = _axis(x, columns)
        _, _, front_weight, back_weight, front_slope, back_slope = _axis(y, rows)
        _, _, bottom_weight, top_weight, bottom_slope, top_slope = _axis(z, levels)
        total = along_x = along_y = along_z = _ZERO
        for side in range(dimensions - 1):
            scale, slope = (top_weight, top_slope) if side else (bottom_weight, bottom_slope)
            near = left_weight * dot[count, 0] + right_weight * dot[count, 1]
            far = left_weight * dot[count, 2] + right_weight * dot[count, 3]
            near_x = left_slope * dot[count, 0] + right_slope * dot[count, 1]
            far_x = left_slope * dot[count, 2] + right_slope * dot[count, 3]
            plane = front_weight * near + back_weight * far
            total += scale * plane
            along_x += scale * (front_weight * near_x + back_weight * far_x)
            along_y += scale * (front_slope * near + back_slope * far)
            along_z += slope * plane
            count += np.uint64(1)
        grad_weights[k] = total
        place = k * np.uint64(dimensions)
        grad_locations[place] = weights[k] * along_x
        grad_locations[place + np.uint64(1)] = weights[k] * along_y
        if dimensions == 3:
            grad_locations[place + np.uint64(2)] = weights[k] * along_z


@_kernel
@no_type_check
def _position(locations, k, dimensions):
    """Location k with cell centres at whole numbers."""
    place = k * np.uint64(dimensions)
    x, y = locations[place] - _HALF, locations[place + np.uint64(1)] - _HALF
    z = locations[place + np.uint64(2)] - _HALF if dimensions == 3 else _ZERO
    return x, y, z


@_kernel
@no_type_check
def _is_near(x, y, z, shape):
    """Whether a cell of the grid is less than one cell away; false for NaN."""
    levels, rows, columns = np.float32(shape[0]), np.float32(shape[1]), np.float32(shape[2])
    return x > -_ONE and x < columns and y > -_ONE and y < rows and z > -_ONE and z < levels


@_kernel
@no_type_check
def _axis(position, size):
    """Both cells around a position on one axis: index, weight and slope of the weight. Outside weighs nothing.

    The index of a cell outside is that of its neighbour, which is read anyway.
    """
    floor = np.floor(position)
    cell, rest = int(floor), position - floor
    has_low = _ONE if cell >= 0 else _ZERO
    has_high = _ONE if cell + 1 < size else _ZERO
    return max(cell, 0), min(cell + 1, size - 1), has_low * (_ONE - rest), has_high * rest, -has_low, has_high


@_kernel
@no_type_check
def _add_cells(value, offset, factor, count, out, target, channels):
    target = np.uint64(target)
    for n in range(count):
        a, b, c, d = offset[n, 0], offset[n, 1], offset[n, 2], offset[n, 3]
        p, q, r, s = factor[n, 0], factor[n, 1], factor[n, 2], factor[n, 3]
        for i in range(np.uint64(channels)):
            out[target + i] += p * value[a + i] + q * value[b + i] + r * value[c + i] + s * value[d + i]


@_kernel
@no_type_check
def _add_cells_backward(value, grad_value, offset, factor, dot, count, grad, source, channels):
    source = np.uint64(source)
    for n in range(count):
        for corner in range(4):
            cell, weight = offset[n, corner], factor[n, corner]
            total = _ZERO
            for i in range(np.uint64(channels)):
                total += value[cell + i] * grad[source + i]
                grad_value[cell + i] += weight * grad[source + i]
            dot[n, corner] = total
