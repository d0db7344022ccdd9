"""RayIoU of a frame: compiled rays that stop at the first surface against all rays in lock step in NumPy.

    python benchmarks/rayiou.py                    # labels of a frame against a disturbed copy, made up
    python benchmarks/rayiou.py --data worlds/val  # Occ3D labels of one frame of a data set

Eight origins of 14,040 rays through labels and prediction. The counts of both are compared number by number first.
The authors' code is an extension that has to be compiled against PyTorch, mainly for CUDA; the baseline is ours.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import common
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fixtures.ray_reference import count_rays_in_lock_step

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE
from bevstack.data.index import open_index
from bevstack.data.occupancy import read_occupancy
from bevstack.evaluation.dense.rayiou import count_rays, lidar_origins
from bevstack.types import OCC3D_GRID, Occupancy, OccupancyGrid

ROAD, WALL = OCCUPANCY_CLASSES.index("driveable_surface"), OCCUPANCY_CLASSES.index("manmade")


def made_up_labels() -> tuple[OccupancyGrid, np.ndarray]:
    """A ground, house fronts along a street and two hundred boxes of random classes; origins along the street."""
    rng = np.random.default_rng(0)
    semantics = np.full(OCC3D_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    semantics[:, :, 2] = ROAD
    for side in (55, 145):
        for block in range(0, 200, 40):
            semantics[block : block + 32, side - 2 : side + 2, 3:14] = WALL
    for _ in range(200):
        x, y = rng.integers(0, 190, 2)
        if abs(y - 100) > 6:
            length, width, height = rng.integers(1, 12), rng.integers(1, 6), rng.integers(2, 7)
            semantics[x : x + length, y : y + width, 3 : 3 + height] = rng.integers(1, 17)
    everywhere = np.ones_like(semantics, bool)
    origins = np.stack((np.linspace(-30, 30, 8), np.zeros(8), np.full(8, 1.84)), axis=1)
    return OccupancyGrid(semantics=semantics, camera_mask=everywhere, lidar_mask=everywhere, grid=OCC3D_GRID), origins


def labels_of(root: Path) -> tuple[OccupancyGrid, np.ndarray]:
    """Occ3D labels of the key frame in the middle of the data set, and the origins of its rays."""
    index = open_index(root)
    sample = index.num_samples // 2
    token = index.sample_tokens[sample]
    path = root / "gts" / index.scene_of_sample(sample).name / token / "labels.npz"
    truth = read_occupancy(path, "occ3d", sample_token=token, T_ego_lidar=np.eye(4))
    return truth, lidar_origins(index, sample)


def disturbed(semantics: np.ndarray) -> np.ndarray:
    """A prediction: moved by a voxel, with a tenth of the columns of another class and some of them empty."""
    rng = np.random.default_rng(1)
    found = np.roll(semantics, 1, axis=0)
    column = rng.random(found.shape[:2])[:, :, None]
    found = np.where((column < 0.1) & (found != OCCUPANCY_FREE), rng.integers(0, OCCUPANCY_FREE), found)
    return np.where(column > 0.95, OCCUPANCY_FREE, found).astype(np.uint8)


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="ROOT", help="a data set with Occ3D labels")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    truth, origins = labels_of(arguments.data) if arguments.data else made_up_labels()
    prediction = Occupancy(semantics=disturbed(truth.semantics), grid=truth.grid)
    lock_step = partial(count_rays_in_lock_step, prediction, truth, origins)
    compiled = partial(count_rays, prediction, truth, origins)
    counts = compiled().rays
    assert np.array_equal(counts, lock_step()), "counts differ"
    result = common.compare(
        "rayiou",
        f"{len(origins)} origins x 14,040 rays, {counts[0].sum()} of them meet something, "
        f"{'labels of a data set' if arguments.data else 'a made-up street'}",
        {"numpy in lock step": lock_step, "bevstack": compiled},
        baseline="numpy in lock step",
        equality=f"equal counts; right at 2 m: {counts[3].sum()}",
        runs=arguments.runs,
    )
    common.report([result])
    print(f"  peak memory {result.peak_rss_mb:.0f} MB")


if __name__ == "__main__":
    main()
