"""How often the frame sanity detector names a planted fault, and how often it finds one where there is none.

    python benchmarks/frame_sanity.py --real NUSCENES_REAL          # the real frames with both boxes and points
    python benchmarks/frame_sanity.py --data WORLD --frames 60      # frames spread over a data set

Every fault of `tests/fixtures/frame_faults.py` is planted into the boxes of every frame; single frames and groups of
frames are judged. Prints the table of docs/frame_sanity.md and writes results/frame_sanity-NAME.json.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fixtures.frame_faults import FAULTS, Sample, mini_val_sample, sample_of
from fixtures.real_frame import real_frame_root

from bevstack.data.frame_sanity import FrameSanity, FrameVerdict
from bevstack.data.images import ImageSize
from bevstack.data.index import open_index
from bevstack.data.nuscenes import NuScenesFrames

NO_FAULT = "no fault"


def real_samples(nuscenes_real: Path) -> dict[str, Sample]:
    """The two real frames of which both boxes and points are at hand."""
    with tempfile.TemporaryDirectory() as folder:
        root, version, split = real_frame_root(nuscenes_real, Path(folder) / "real")
        frames = NuScenesFrames(
            root=root, version=version, split=split, image_size=ImageSize(90, 160), num_sweeps=1, cameras=()
        )
        return {
            "scene-0061": sample_of(frames, 0),
            "scene-0103": mini_val_sample(nuscenes_real, Path(folder) / "index"),
        }


def samples_of_data(root: Path, count: int) -> dict[str, Sample]:
    """Frames spread evenly over the first split of a data set."""
    index = open_index(root)
    split = next(iter(index.splits()))
    frames = NuScenesFrames(root=root, split=split, image_size=ImageSize(90, 160), num_sweeps=1, cameras=())
    chosen = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    return {frames.token(int(k)): sample_of(frames, int(k)) for k in chosen}


def evidence(sample: Sample, plant: str) -> FrameSanity:
    """What one frame says with a fault planted."""
    rows, points, T_ego_lidar = sample
    rows = rows.astype(np.float64)
    sanity = FrameSanity()
    faulty = rows if plant == NO_FAULT else FAULTS[plant][1](rows, T_ego_lidar)
    sanity.add(faulty, points, {"LiDAR": T_ego_lidar})
    return sanity


def outcome(verdict: FrameVerdict, plant: str) -> str:
    """Named right, missed (taken for none), undecided (not ruled out), unclear, or what it was wrongly called."""
    expected = None if plant == NO_FAULT else FAULTS[plant][0]
    if verdict.status == "unclear":
        return "unclear"
    if verdict.fault == expected:
        return "right"
    if expected is not None and verdict.status == "fits":
        is_open = expected.replace("heading off by 90 degrees", "w/l swapped") in verdict.undecided
        return "undecided" if is_open else "missed"
    return verdict.fault or "missed"


def main() -> None:
    """Plant, judge, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--real", type=Path, metavar="DIR")
    source.add_argument("--data", type=Path, metavar="ROOT")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--groups", type=int, nargs="*", default=[1, 10], help="frames that are judged together")
    parser.add_argument("--name", default=None, help="of the results file (default: real, or that of the data)")
    arguments = parser.parse_args()
    real, data = arguments.real, arguments.data
    samples = real_samples(real.resolve()) if real else samples_of_data(data, arguments.frames)
    start = time.process_time()
    table: dict[str, dict[str, dict[str, int]]] = {}
    for plant in (NO_FAULT, *FAULTS):
        parts = [evidence(sample, plant) for sample in samples.values()]
        table[plant] = {}
        for size in arguments.groups:
            found: Counter[str] = Counter()
            for first in range(0, len(parts) - size + 1, size):
                together = FrameSanity()
                for part in parts[first : first + size]:
                    together.merge(part)
                found[outcome(together.verdict(), plant)] += 1
            table[plant][str(size)] = dict(found)
        print(f"{plant:<32}" + "   ".join(f"{size}: {counts}" for size, counts in table[plant].items()), flush=True)
    seconds = (time.process_time() - start) / (len(samples) * len(table))
    print(f"{len(samples)} frames, {seconds * 1000:.0f} ms of CPU time each")
    name = arguments.name or ("real" if real else data.resolve().name)
    out = Path(__file__).parent / "results" / f"frame_sanity-{name}.json"
    out.write_text(json.dumps({"frames": len(samples), "ms_per_frame": seconds * 1000, "outcomes": table}, indent=1))


if __name__ == "__main__":
    main()
