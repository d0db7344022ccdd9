"""Map labels of a frame: shapes kept in memory against nuscenes-devkit's `get_map_mask`.

    python benchmarks/map_labels.py                 # a city of 49 towns of our own, as large as nuScenes' maps
    python benchmarks/map_labels.py --towns 1

Seven layers on 200x200 cells of 0.5 m around poses on the roads. Before timing, the exact masks are compared with the
devkit's bit for bit, and the overlap (IoU) of the fast ones with them is measured. Reading the file is not timed.
"""

import argparse
import itertools
import tempfile
from functools import partial
from pathlib import Path

import common
import cv2
import numpy as np
import torch
from nuscenes.map_expansion.map_api import NuScenesMap, NuScenesMapExplorer

from bevstack.data.maps import Method, VectorMap, read_vector_map
from bevstack.sim.world.nuscenes_map import PlacedTown, write_map_expansion
from bevstack.sim.world.town import TOWN_KINDS, TOWN_SIZE_M, make_town

LOCATION = "boston-seaport"  # the devkit accepts its own four names only
LAYERS = (
    "drivable_area",
    "ped_crossing",
    "walkway",
    "stop_line",
    "carpark_area",
    "road_divider",
    "lane_divider",
)
SIZE_M, CELLS = (100.0, 100.0), (200, 200)
NUM_POSES = 10
Pose = tuple[float, float, float]
"""x, y in metres on the map, yaw in radians."""


def write_city(root: Path, towns_per_side: int) -> Path:
    """A square of towns; those of a kind repeat, as blocks of a city do."""
    kinds = [make_town(kind, np.random.default_rng(i)) for i, kind in enumerate(TOWN_KINDS)]
    places = itertools.product(range(towns_per_side), repeat=2)
    towns: list[PlacedTown] = [
        (kinds[i % len(kinds)], ((column + 0.5) * TOWN_SIZE_M, (row + 0.5) * TOWN_SIZE_M))
        for i, (row, column) in enumerate(places)
    ]
    path = root / "maps" / "expansion" / f"{LOCATION}.json"
    path.parent.mkdir(parents=True)
    write_map_expansion(path, towns, (towns_per_side * TOWN_SIZE_M, towns_per_side * TOWN_SIZE_M))
    return path


def poses_on_roads(vector_map: VectorMap) -> list[Pose]:
    """Points inside the drivable area, at any heading."""
    rng = np.random.default_rng(0)
    areas = vector_map.shapes("drivable_area")
    points = [areas[i].representative_point() for i in rng.integers(0, len(areas), NUM_POSES)]
    return [(point.x, point.y, float(rng.uniform(-np.pi, np.pi))) for point in points]


def devkit_map(root: Path) -> NuScenesMap:
    """The devkit's map, with a lane divider in several parts drawn part by part: with Shapely 2 it would raise."""
    original = NuScenesMapExplorer.mask_for_lines

    def lines_of_all_parts(lines, mask: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
        for line in getattr(lines, "geoms", [lines]):
            original(line, mask)
        return mask

    devkit = NuScenesMap(str(root), LOCATION)
    devkit.explorer.mask_for_lines = lines_of_all_parts
    return devkit


def masks_of_devkit(devkit: NuScenesMap, pose: Pose) -> np.ndarray:
    """(layers, rows, columns)."""
    return devkit.get_map_mask((pose[0], pose[1], *SIZE_M), float(np.degrees(pose[2])), list(LAYERS), CELLS)


def masks_of_ours(vector_map: VectorMap, method: Method, pose: Pose) -> np.ndarray:
    """(layers, rows, columns)."""
    return vector_map.patch_masks(LAYERS, np.array(pose[:2]), SIZE_M, pose[2], CELLS, method=method)


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towns", type=int, default=7, help="towns along each side of the city")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        vector_map = read_vector_map(write_city(root, arguments.towns))
        devkit = devkit_map(root)
    poses = poses_on_roads(vector_map)
    candidates = {
        "nuscenes-devkit": partial(masks_of_devkit, devkit),
        "bevstack exact": partial(masks_of_ours, vector_map, "exact"),
        "bevstack fast": partial(masks_of_ours, vector_map, "fast"),
    }
    expected, exact, fast = (np.stack([masks(pose) for pose in poses]).astype(bool) for masks in candidates.values())
    assert np.array_equal(exact, expected), "exact masks differ from the devkit's"
    ious = (fast & expected).sum((1, 2, 3)) / (fast | expected).sum((1, 2, 3))
    assert ious.min() > 0.9, f"fast masks overlap the devkit's by {ious.min():.4f} only"
    result = common.compare(
        "map_labels",
        f"{NUM_POSES} frames, {len(LAYERS)} layers, 200x200 cells, a map of {len(devkit.node)} nodes",
        {name: partial(_all_frames, masks, poses) for name, masks in candidates.items()},
        baseline="nuscenes-devkit",
        equality=f"exact: equal bits; fast: IoU {ious.mean():.4f}, lowest {ious.min():.4f}",
        runs=arguments.runs,
    )
    common.report([result])


def _all_frames(masks: partial[np.ndarray], poses: list[Pose]) -> None:
    for pose in poses:
        masks(pose)


if __name__ == "__main__":
    main()
