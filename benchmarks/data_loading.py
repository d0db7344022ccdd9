"""Loading one training sample: pictures against Pillow, LiDAR sweeps against nuscenes-devkit, both together.

    python benchmarks/data_loading.py                          # seeded synthetic files, made in a temporary folder
    python benchmarks/data_loading.py --pictures 'samples/CAM_*/*.jpg' --sweeps 'sweeps/LIDAR_TOP/*.bin'

Times are CPU time of one thread, all rivals in one process in turns, files in the page cache. Before timing, outputs
are compared: the exact pictures byte for byte, the sweeps within 1e-5 m.
"""

import argparse
import glob
import tempfile
from collections.abc import Callable
from pathlib import Path

import common
import cv2
import numpy as np
import torch
from nuscenes.utils.data_classes import LidarPointCloud
from PIL import Image

from bevstack.data.images import ImageSize, read_image
from bevstack.data.lidar import accumulate_sweeps
from bevstack.geometry.transforms import from_xy_yaw

SIZE = ImageSize(256, 704)
NUM_CAMERAS, NUM_SWEEPS, POINTS_PER_SWEEP = 6, 10, 34_700


def main() -> None:
    """Run the suite and write results/data_loading.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", help="pattern of 1600x900 JPEG files to use in place of synthetic ones")
    parser.add_argument("--sweeps", help="pattern of nuScenes LiDAR files to use in place of synthetic ones")
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        pictures = _chosen(arguments.pictures, NUM_CAMERAS) or _synthetic_pictures(Path(folder))
        sweeps = _chosen(arguments.sweeps, NUM_SWEEPS) or _synthetic_sweeps(Path(folder))
        source = "real files" if arguments.pictures and arguments.sweeps else "synthetic files"
        common.report(_results(pictures, sweeps, source, arguments.runs))


def _results(pictures: list[Path], sweeps: list[Path], source: str, runs: int) -> list[common.Result]:
    T_ego_lidar = np.stack([from_xy_yaw(0.94 - 0.5 * i, 0.0, -np.pi / 2 + 0.01 * i, 1.84) for i in range(len(sweeps))])
    ages_s = 0.05 * np.arange(len(sweeps))

    def by_devkit() -> np.ndarray:
        return devkit_accumulation(sweeps, T_ego_lidar, ages_s)

    def by_us() -> np.ndarray:
        return accumulate_sweeps(sweeps, T_ego_lidar, ages_s)

    read: dict[str, Callable[[], list[np.ndarray]]] = {
        "Pillow": lambda: [pillow_picture(path) for path in pictures],
        "bevstack exact": lambda: [read_image(path, SIZE, "exact")[0] for path in pictures],
        "bevstack fast": lambda: [read_image(path, SIZE, "fast")[0] for path in pictures],
    }
    expected, exact, fast = (run() for run in read.values())
    assert all(np.array_equal(a, b) for a, b in zip(expected, exact, strict=True)), "exact differs from Pillow"
    difference = float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(expected, fast, strict=True)]))
    ours, theirs = by_us(), by_devkit()
    assert ours.shape == theirs.shape
    off = float(np.abs(ours - theirs).max())
    assert off < 1e-5, "sweeps differ from the devkit"

    equality = f"exact: equal bytes; fast: {difference:.2f} of 255 off on average; {source}"
    return [
        common.compare(
            "data_loading", "6 JPEG 1600x900 to 704x256", read, baseline="Pillow", equality=equality, runs=runs
        ),
        common.compare(
            "data_loading",
            f"{len(sweeps)} LiDAR sweeps, {sum(path.stat().st_size for path in sweeps) // 20} points",
            {"nuscenes-devkit": by_devkit, "bevstack": by_us},
            baseline="nuscenes-devkit",
            equality=f"within {off:.0e} m; {source}",
            runs=runs,
        ),
        common.compare(
            "data_loading",
            "one sample: 6 pictures and the sweeps",
            {
                "Pillow and devkit": lambda: (read["Pillow"](), by_devkit()),
                "bevstack exact": lambda: (read["bevstack exact"](), by_us()),
                "bevstack fast": lambda: (read["bevstack fast"](), by_us()),
            },
            baseline="Pillow and devkit",
            equality="as above",
            runs=runs,
        ),
    ]


def pillow_picture(path: Path) -> np.ndarray:
    """The usual image pipeline: decode all, resize all, crop."""
    with Image.open(path) as picture:
        resized_height = round(picture.height * SIZE.width / picture.width)
        resized = picture.convert("RGB").resize((SIZE.width, resized_height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((0, resized_height - SIZE.height, SIZE.width, resized_height)))


def devkit_accumulation(paths: list[Path], T_ego_lidar: np.ndarray, ages_s: np.ndarray) -> np.ndarray:
    """What `LidarPointCloud.from_file_multisweep` does once it has looked up files and poses."""
    points, times = np.zeros((LidarPointCloud.nbr_dims(), 0), np.float32), np.zeros((1, 0))
    for path, T_sweep, age_s in zip(paths, T_ego_lidar, ages_s, strict=True):
        cloud = LidarPointCloud.from_file(str(path))
        cloud.remove_close(1.0)
        cloud.transform(T_sweep)
        times = np.hstack((times, age_s * np.ones((1, cloud.nbr_points()))))
        points = np.hstack((points, cloud.points))
    return np.vstack((points, times)).T


def _chosen(pattern: str | None, count: int) -> list[Path]:
    """`count` files of a pattern, from the first again where there are fewer."""
    found = [Path(name) for name in sorted(glob.glob(pattern))] if pattern else []
    if pattern and not found:
        raise SystemExit(f"{pattern}: no such files")
    return [found[i % len(found)] for i in range(count)] if found else []


def _synthetic_pictures(folder: Path) -> list[Path]:
    """Smooth texture with edges and a little noise: files of 130 to 190 kB, as nuScenes' are."""
    paths = []
    for i in range(NUM_CAMERAS):
        rng = np.random.default_rng(i)
        rgb = np.zeros((900, 1600, 3), np.float32)
        for step, strength in ((200, 90.0), (40, 50.0), (8, 18.0)):
            coarse = rng.uniform(-1, 1, (900 // step + 2, 1600 // step + 2, 3)).astype(np.float32)
            rgb += strength * cv2.resize(coarse, (1600, 900), interpolation=cv2.INTER_CUBIC)
        rgb += rng.normal(0, 2.5, rgb.shape)
        paths.append(folder / f"{i}.jpg")
        Image.fromarray(np.clip(rgb + 120, 0, 255).astype(np.uint8)).save(paths[-1], quality=85)
    return paths


def _synthetic_sweeps(folder: Path) -> list[Path]:
    paths = []
    for i in range(NUM_SWEEPS):
        rng = np.random.default_rng(i)
        angle, radius = rng.uniform(-np.pi, np.pi, POINTS_PER_SWEEP), rng.gamma(2.0, 6.0, POINTS_PER_SWEEP)
        columns = (radius * np.cos(angle), radius * np.sin(angle), rng.normal(-1, 1, POINTS_PER_SWEEP))
        rows = np.column_stack((*columns, rng.uniform(0, 255, POINTS_PER_SWEEP), rng.integers(0, 32, POINTS_PER_SWEEP)))
        paths.append(folder / f"{i}.pcd.bin")
        rows.astype(np.float32).tofile(paths[-1])
    return paths


if __name__ == "__main__":
    main()
