"""Voxel means of a ten-sweep cloud: one hash pass against torch.unique and the voxel generators of spconv and mmcv.

    OMP_NUM_THREADS=1 python benchmarks/voxelize.py
    OMP_NUM_THREADS=1 python benchmarks/voxelize.py --voxel-m 0.2

spconv and mmcv cap the points of a voxel (ten here, as their users do) and return them; the set of occupied voxels is
compared with theirs, the means with torch.unique. mmcv takes part where its compiled operators are installed.
"""

import argparse
from collections.abc import Callable
from functools import partial

import common
import cumm.tensorview as tv  # comes with spconv
import numpy as np
import torch
from model_step import make_cloud
from spconv.utils import Point2VoxelCPU3d
from torch import Tensor

from bevstack.perception.lidar.voxelize import VoxelBackend, voxel_means

RANGE_M = ((-54.0, 54.0), (-54.0, 54.0), (-5.0, 3.0))
VOXEL_HEIGHT_M = 0.2
MAX_VOXELS, MAX_POINTS = 400_000, 10


def flat_keys(points: Tensor, voxel_m: float) -> Tensor:
    """Flat voxel index of points inside the range, as the sparse encoder makes it."""
    low = torch.tensor([low for low, _ in RANGE_M])
    cells = ((points[:, :3] - low) / torch.tensor((voxel_m, voxel_m, VOXEL_HEIGHT_M))).floor().long()
    side = round((RANGE_M[0][1] - RANGE_M[0][0]) / voxel_m)
    return (cells[:, 2] * side + cells[:, 1]) * side + cells[:, 0]


def peers(cloud: np.ndarray, voxel_m: float) -> dict[str, Callable[[], Tensor]]:
    """Voxel generators of others: each gives the (z, y, x) indices of the occupied voxels."""
    sizes_m = [voxel_m, voxel_m, VOXEL_HEIGHT_M]
    limits_m = [RANGE_M[axis][side] for side in (0, 1) for axis in range(3)]
    generator = Point2VoxelCPU3d(
        vsize_xyz=sizes_m,
        coors_range_xyz=limits_m,
        num_point_features=5,
        max_num_voxels=MAX_VOXELS,
        max_num_points_per_voxel=MAX_POINTS,
    )

    def by_spconv() -> Tensor:
        _, indices, _ = (part.numpy() for part in generator.point_to_voxel(tv.from_numpy(cloud)))
        return torch.from_numpy(indices)

    found: dict[str, Callable[[], Tensor]] = {"spconv Point2Voxel": by_spconv}
    try:
        from mmcv.ops import Voxelization
    except ImportError:  # mmcv-lite has no compiled operators
        return found
    layer, points = Voxelization(sizes_m, limits_m, MAX_POINTS, MAX_VOXELS), torch.from_numpy(cloud)
    return found | {"mmcv Voxelization": lambda: layer(points)[1]}


def differing_voxels(indices: Tensor, keys: Tensor, voxel_m: float) -> int:
    """How many voxels only one of two sets has.

    Raises:
        RuntimeError: more than one in a thousand.
    """
    side = round((RANGE_M[0][1] - RANGE_M[0][0]) / voxel_m)
    z, y, x = indices.long().unbind(1)
    count = len(np.setxor1d(((z * side + y) * side + x).numpy(), keys.numpy()))
    if count > 1e-3 * len(keys):
        raise RuntimeError(f"{count} of {len(keys)} voxels differ")
    return count


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxel-m", type=float, nargs="+", default=[0.075, 0.1])
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cloud = make_cloud(np.random.default_rng(0), num_sweeps=10)
    is_inside = np.all(
        [(cloud[:, axis] > low) & (cloud[:, axis] < high) for axis, (low, high) in enumerate(RANGE_M)], 0
    )
    cloud = np.ascontiguousarray(cloud[is_inside])
    common.report([measured(cloud, voxel_m, arguments.runs) for voxel_m in arguments.voxel_m])


def measured(cloud: np.ndarray, voxel_m: float, runs: int) -> common.Result:
    """All generators at one voxel size."""
    points = torch.from_numpy(cloud)

    def ours(backend: VoxelBackend) -> tuple[Tensor, ...]:
        return voxel_means(points, flat_keys(points, voxel_m), backend=backend)

    fast, standard = ours("numba"), ours("torch")
    order = fast[0].argsort()
    for left, right in zip(fast, standard, strict=True):
        torch.testing.assert_close(left[order], right, rtol=1e-4, atol=1e-3)
    others = peers(cloud, voxel_m)
    differing = max(differing_voxels(run(), standard[0], voxel_m) for run in others.values())
    return common.compare(
        "voxelize",
        f"{len(cloud)} points, {len(standard[0])} voxels of {voxel_m} m",
        {**others, "bevstack torch": partial(ours, "torch"), "bevstack numba": partial(ours, "numba")},
        baseline="spconv Point2Voxel",
        equality=f"means equal torch.unique's; {differing} voxels at rounding edges differ from the peers'",
        runs=runs,
    )


if __name__ == "__main__":
    main()
