"""Voxel means of a ten-sweep cloud: one hash pass against torch.unique and spconv's own voxel generator.

    OMP_NUM_THREADS=1 python benchmarks/voxelize.py
    OMP_NUM_THREADS=1 python benchmarks/voxelize.py --voxel-m 0.1

spconv caps the points of a voxel (ten here, as its users do) and so averages fewer; the set of occupied voxels is
compared with it, the means with torch.unique.
"""

import argparse
from functools import partial

import common
import numpy as np
import torch
from model_step import make_cloud
from spconv.utils import Point2VoxelCPU3d
from torch import Tensor

from bevstack.perception.lidar.voxelize import voxel_means

RANGE_M = ((-54.0, 54.0), (-54.0, 54.0), (-5.0, 3.0))
VOXEL_HEIGHT_M = 0.2


def flat_keys(points: Tensor, voxel_m: float) -> Tensor:
    """Flat voxel index of points inside the range, as the sparse encoder makes it."""
    low = torch.tensor([low for low, _ in RANGE_M])
    cells = ((points[:, :3] - low) / torch.tensor((voxel_m, voxel_m, VOXEL_HEIGHT_M))).floor().long()
    side = round((RANGE_M[0][1] - RANGE_M[0][0]) / voxel_m)
    return (cells[:, 2] * side + cells[:, 1]) * side + cells[:, 0]


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxel-m", type=float, default=0.075)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cloud = make_cloud(np.random.default_rng(0), num_sweeps=10)
    is_inside = np.all(
        [(cloud[:, axis] > low) & (cloud[:, axis] < high) for axis, (low, high) in enumerate(RANGE_M)], 0
    )
    cloud = np.ascontiguousarray(cloud[is_inside])
    points = torch.from_numpy(cloud)

    def ours(backend: str) -> tuple[Tensor, ...]:
        return voxel_means(points, flat_keys(points, arguments.voxel_m), backend=backend)  # type: ignore[arg-type]

    generator = Point2VoxelCPU3d(
        vsize_xyz=[arguments.voxel_m, arguments.voxel_m, VOXEL_HEIGHT_M],
        coors_range_xyz=[RANGE_M[axis][side] for side in (0, 1) for axis in range(3)],
        num_point_features=5,
        max_num_voxels=400_000,
        max_num_points_per_voxel=10,
    )
    import cumm.tensorview as tv  # comes with spconv

    def spconv_voxels() -> tuple[np.ndarray, ...]:
        return tuple(part.numpy() for part in generator.point_to_voxel(tv.from_numpy(cloud)))

    fast, standard = ours("numba"), ours("torch")
    order = fast[0].argsort()
    for left, right in zip(fast, standard, strict=True):
        torch.testing.assert_close(left[order], right, rtol=1e-4, atol=1e-3)
    _, indices, _ = spconv_voxels()
    side = round((RANGE_M[0][1] - RANGE_M[0][0]) / arguments.voxel_m)
    theirs = np.sort((indices[:, 0].astype(np.int64) * side + indices[:, 1]) * side + indices[:, 2])
    differing = len(np.setxor1d(theirs, standard[0].numpy()))
    if differing > 1e-3 * len(theirs):
        raise RuntimeError(f"{differing} of {len(theirs)} voxels differ from spconv's")
    common.report(
        [
            common.compare(
                "voxelize",
                f"{len(cloud)} points, {len(theirs)} voxels of {arguments.voxel_m} m",
                {
                    "spconv Point2Voxel": spconv_voxels,
                    "bevstack torch": partial(ours, "torch"),
                    "bevstack numba": partial(ours, "numba"),
                },
                baseline="spconv Point2Voxel",
                equality=f"means equal torch.unique's; {differing} voxels at rounding edges differ from spconv's",
                runs=arguments.runs,
            )
        ]
    )


if __name__ == "__main__":
    main()
