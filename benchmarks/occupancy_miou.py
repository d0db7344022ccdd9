"""Counting the voxels of a frame for occupancy mIoU: one compiled pass against NumPy's `bincount`.

    python benchmarks/occupancy_miou.py

200 x 200 x 16 voxels. The counts within the camera mask, within the LiDAR mask and without one are compared with those
of `bincount` first. "camera mask" is what the benchmark's own code does for its one number (Tian et al., Occ3D, NeurIPS
2023); "three masks" makes the same three tables as ours in one `bincount`.
"""

import argparse
from functools import partial

import common
import numpy as np
import torch

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE
from bevstack.evaluation.dense.occupancy import count_voxels
from bevstack.types import OCC3D_GRID, Occupancy, OccupancyGrid

NUM_CLASSES = len(OCCUPANCY_CLASSES)


def made_up_frame() -> tuple[Occupancy, OccupancyGrid]:
    """A ground with boxes, masks of about the share that they have in nuScenes, and a prediction off by a voxel."""
    rng = np.random.default_rng(0)
    semantics = np.full(OCC3D_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    semantics[:, :, 2] = OCCUPANCY_CLASSES.index("driveable_surface")
    for _ in range(300):
        x, y = rng.integers(0, 190, 2)
        semantics[x : x + rng.integers(1, 12), y : y + rng.integers(1, 6), 3 : 3 + rng.integers(2, 7)] = rng.integers(
            17
        )
    seen = rng.random((2, 25, 25, 4)) < np.array((0.3, 0.4))[:, None, None, None]
    camera, lidar = seen.repeat(8, axis=1).repeat(8, axis=2).repeat(4, axis=3)
    truth = OccupancyGrid(semantics=semantics, camera_mask=camera.copy(), lidar_mask=lidar.copy(), grid=OCC3D_GRID)
    return Occupancy(semantics=np.roll(semantics, 1, axis=0), grid=OCC3D_GRID), truth


def bincount_in_camera(prediction: Occupancy, truth: OccupancyGrid) -> np.ndarray:
    """(18, 18) voxels that a camera observed."""
    true, predicted = truth.semantics[truth.camera_mask], prediction.semantics[truth.camera_mask]
    flat = NUM_CLASSES * true.astype(np.int64) + predicted
    return np.bincount(flat, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)


def bincount_of_all(prediction: Occupancy, truth: OccupancyGrid) -> np.ndarray:
    """(4, 18, 18) voxels by the masks that they are in."""
    kind = truth.camera_mask + 2 * truth.lidar_mask.astype(np.int64)
    flat = (kind * NUM_CLASSES + truth.semantics) * NUM_CLASSES + prediction.semantics
    return np.bincount(flat.reshape(-1), minlength=4 * NUM_CLASSES**2).reshape(4, NUM_CLASSES, NUM_CLASSES)


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    prediction, truth = made_up_frame()
    counts = count_voxels(prediction, truth)
    assert np.array_equal(counts, bincount_of_all(prediction, truth))
    assert np.array_equal(counts[1] + counts[3], bincount_in_camera(prediction, truth))
    rivals = {"camera mask": bincount_in_camera, "three masks": bincount_of_all}
    results = [
        common.compare(
            "occupancy_miou",
            f"200x200x16 voxels, {name}",
            {"numpy bincount": partial(rival, prediction, truth), "bevstack": partial(count_voxels, prediction, truth)},
            baseline="numpy bincount",
            equality="equal counts",
            runs=arguments.runs,
        )
        for name, rival in rivals.items()
    ]
    common.report(results)
    print(f"  peak memory {results[-1].peak_rss_mb:.0f} MB")


if __name__ == "__main__":
    main()
