"""Wall time of `bevstack sim make` per keyframe, start of the processes and maps included.

Run: python benchmarks/world_make.py [--scenes 4] [--workers 2]
Writes benchmarks/results/world_make.json. The target is 0.3 s a keyframe with two workers on two idle cores.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

from common import RESULTS, machine_facts

from bevstack.sim.make import make_worlds
from bevstack.sim.world.presets import preset_hash, preset_named


def cpu_seconds() -> float:
    """CPU time of this process and of its finished children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Make a world in a temporary folder and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--preset", default="standard")
    options = parser.parse_args()
    preset = preset_named(options.preset)
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), cpu_seconds()
        summary = make_worlds(
            Path(folder) / "world", scenes=options.scenes, seed=options.seed, preset=preset, workers=options.workers
        )
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    record = {
        **machine_facts(),
        "load_average_1min": os.getloadavg()[0],
        "preset": preset.name,
        "preset_hash": preset_hash(preset),
        "workers": options.workers,
        "keyframes": summary.keyframes,
        "wall_s_per_keyframe": wall / summary.keyframes,
        "cpu_s_per_keyframe": cpu / summary.keyframes,
    }
    print(json.dumps(record, indent=2))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "world_make.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
