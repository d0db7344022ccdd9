"""Points to sparse voxels: which voxels hold points, and the mean of the points in each.

Letters: K points inside the grid, F features of a point, V occupied voxels.
"""

from typing import Any, Literal, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

VoxelBackend = Literal["auto", "torch", "numba"]


def voxel_means(
    points: Float[Tensor, "K F"], key: Int[Tensor, " K"], *, backend: VoxelBackend = "auto"
) -> tuple[Int[Tensor, " V"], Float[Tensor, "V F"], Int[Tensor, " V"]]:
    """Keys of the occupied voxels, the mean of the points in each, and how many there are.

    Every point counts; there is no cap on points or voxels. Voxels come in ascending order with "torch" and in order
    of first appearance with "numba".

    Args:
        points: Features to average.
        key: Flat index of the voxel of each point, not negative, any range up to 2^62.
        backend: "torch" for standard operations on any device, "numba" for one hash pass on the CPU, "auto" to choose.

    Raises:
        ValueError: unknown backend, or numba asked for tensors that are not on the CPU.
    """
    if backend not in ("auto", "torch", "numba"):
        raise ValueError(f"backend={backend!r} must be 'auto', 'torch' or 'numba'")
    if backend == "numba" and points.device.type != "cpu":
        raise ValueError(f"backend='numba' needs tensors on the CPU, not on {points.device}")
    if backend == "numba" or (backend == "auto" and points.device.type == "cpu"):
        found, means, counts = _hash_means(points.detach().contiguous().numpy(), key.contiguous().numpy())
        return torch.from_numpy(found), torch.from_numpy(means), torch.from_numpy(counts)
    keys, voxel_of_point, counts = torch.unique(key, return_inverse=True, return_counts=True)
    sums = points.new_zeros((len(keys), points.shape[1])).index_add_(0, voxel_of_point, points)
    return keys, sums / counts.clamp_min(1)[:, None], counts


@numba.njit(cache=True, nogil=True)
@no_type_check
def _hash_means(points: np.ndarray, key: np.ndarray) -> Any:
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
        counts[voxel] += 1
        for f in range(num_features):
            sums[voxel, f] += points[k, f]
    for voxel in range(num_found):
        for f in range(num_features):
            sums[voxel, f] /= np.float32(counts[voxel])
    return found[:num_found], sums[:num_found], counts[:num_found]
