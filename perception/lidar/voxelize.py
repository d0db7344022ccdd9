"""Points to sparse voxels: which voxels hold points, and the mean of the points in each.

Letters: K points inside the grid, F features of a point, V occupied voxels.
"""

from typing import Any, Literal, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

VoxelBackend = Literal["auto", "torch", "numba"]

_FIBONACCI = 11400714819323198485 - 2**64
"""2^64 divided by the golden ratio, as a signed number: products with it wrap around and look random."""


def voxel_means(
    points: Float[Tensor, "K F"],
    key: Int[Tensor, " K"],
    *,
    max_points: int | None = None,
    backend: VoxelBackend = "auto",
) -> tuple[Int[Tensor, " V"], Float[Tensor, "V F"], Int[Tensor, " V"]]:
    """Keys of the occupied voxels, the mean of the points in each, and how many there are.

    Voxels come in ascending order with "torch" and in order of first appearance with "numba".

    Args:
        points: Features to average.
        key: Flat index of the voxel of each point, not negative, any range up to 2^62.
        max_points: Only the first so many points of a voxel count; None for all.
        backend: "torch" for standard operations on any device, "numba" for one hash pass on the CPU, "auto" to choose.

    Raises:
        ValueError: unknown backend, or numba asked for tensors that are not on the CPU.
    """
    if backend not in ("auto", "torch", "numba"):
        raise ValueError(f"backend={backend!r} must be 'auto', 'torch' or 'numba'")
    if backend == "numba" and points.device.type != "cpu":
        raise ValueError(f"backend='numba' needs tensors on the CPU, not on {points.device}")
    if backend == "numba" or (backend == "auto" and points.device.type == "cpu"):
        limit = len(points) if max_points is None else max_points
        found, means, counts = _hash_means(points.detach().contiguous().numpy(), key.contiguous().numpy(), limit)
        return torch.from_numpy(found), torch.from_numpy(means), torch.from_numpy(counts)
    keys, voxel_of_point, counts = torch.unique(key, return_inverse=True, return_counts=True)
    if max_points is not None:
        is_counted = rank_in_group(voxel_of_point, counts) < max_points
        points, voxel_of_point = points[is_counted], voxel_of_point[is_counted]
        counts = counts.clamp_max(max_points)
    sums = points.new_zeros((len(keys), points.shape[1])).index_add_(0, voxel_of_point, points)
    return keys, sums / counts.clamp_min(1)[:, None], counts


def rank_in_group(group: Int[Tensor, " K"], counts: Int[Tensor, " G"]) -> Int[Tensor, " K"]:
    """How many members of its group come before each one.

    Args:
        group: Index of the group of each member, in any order.
        counts: Members of each group.
    """
    order = torch.argsort(group, stable=True)
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(group)
    rank[order] = torch.arange(len(group), device=group.device) - first.repeat_interleave(counts)
    return rank


def spread_sample(
    key: Int[Tensor, " V"], frame: Int[Tensor, " V"], num_frames: int, max_voxels: int
) -> Bool[Tensor, " V"]:
    """True for at most so many voxels of each frame, spread evenly over its volume.

    A hash of the key chooses, not the order of the voxels: no region is preferred, and the same voxels always give the
    same choice.

    Args:
        key: Flat index of each voxel, all different.
        frame: Frame of each voxel.
        num_frames: Frames of the batch.
        max_voxels: The most that are kept in a frame.
    """
    counts = torch.bincount(frame, minlength=num_frames)
    if not (counts > max_voxels).any():
        return torch.ones_like(frame, dtype=torch.bool)
    by_hash = torch.argsort(key * _FIBONACCI, stable=True)
    is_kept = torch.empty_like(frame, dtype=torch.bool)
    is_kept[by_hash] = rank_in_group(frame[by_hash], counts) < max_voxels
    return is_kept


@numba.njit(cache=True, nogil=True)
@no_type_check
def _hash_means(points: np.ndarray, key: np.ndarray, max_points: int) -> Any:
    """Open addressing with Fibonacci hashing; the table is at most half full."""
    num_points, num_features = points.shape
    bits = 4
    while (1 << bits) < 2 * num_points:
        bits += 1
    mask = (1 << bits) - 1
    shift = np.uint64(64 - bits)
    table = np.full(1 << bits, -1, np.int32)
    found = np.empty(num_points, np.int64)
    sums = np.zeros((num_points, num_features), np.float32)
    counts = np.zeros(num_points, np.int64)
    num_found = 0
    for k in range(num_points):
        slot = np.int64((np.uint64(key[k]) * np.uint64(11400714819323198485)) >> shift)
        while table[slot] >= 0 and found[table[slot]] != key[k]:
            slot = (slot + 1) & mask
        voxel = table[slot]
        if voxel < 0:
            voxel = num_found
            table[slot] = voxel
            found[voxel] = key[k]
            num_found += 1
        if counts[voxel] == max_points:
            continue
        counts[voxel] += 1
        for f in range(num_features):
            sums[voxel, f] += points[k, f]
    for voxel in range(num_found):
        for f in range(num_features):
            sums[voxel, f] /= np.float32(counts[voxel])
    return found[:num_found], sums[:num_found], counts[:num_found]
