"""Opening a data set: nuscenes-devkit's `NuScenes()` against the memory-mapped index, on synthetic tables.

    python benchmarks/data_index.py                # an eighth of v1.0-trainval
    python benchmarks/data_index.py --scale 1.0    # as many rows as v1.0-trainval has; the devkit needs 8 GB
    python benchmarks/data_index.py --root /data/nuscenes --version v1.0-trainval

Each measurement is a fresh process: wall and CPU time of the call, how much resident memory it adds, and how high the
process's memory went at most. "200 frames read" opens the index and reads the geometry and boxes of 200 frames, so that
its pages are really in memory; mapped pages are shared by all processes of a machine and can be dropped at any time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import orjson

FULL = {"scenes": 850, "samples": 34_149, "sample_data": 2_631_083, "annotations": 1_166_187, "instances": 64_386}
"""Rows of v1.0-trainval (published with the data set)."""

VERSION = "v1.0-trainval"
CHANNELS = (
    *("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT"),
    "LIDAR_TOP",
    *("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT"),
)

_MEASURE = """
import json, resource, sys, time
import numpy as np, psutil
root, version, what, out = sys.argv[1:]
if what == "devkit":
    import nuscenes.nuscenes
    nuscenes.nuscenes.MapMask = lambda *arguments, **options: None  # the base map pictures are not the question
else:
    from bevstack.data.images import ImageSize
    from bevstack.data.index import open_index
    from bevstack.data.nuscenes import NuScenesFrames
process = psutil.Process()
before, start, cpu = process.memory_full_info(), time.perf_counter(), time.process_time()
if what == "devkit":
    opened = nuscenes.nuscenes.NuScenes(version, root, verbose=False)
else:
    opened = open_index(root, version, out=out)
wall, used = time.perf_counter() - start, time.process_time() - cpu
if what == "touched":
    lidar_only = dict(cameras=(), num_sweeps=0, image_size=ImageSize(256, 704))
    frames = NuScenesFrames(root=root, version=version, split="all", index_dir=out, **lidar_only)
    for position in np.linspace(0, len(frames) - 1, 200).astype(int):
        frames[int(position)]
after = process.memory_full_info()
print(json.dumps({
    "wall_s": wall, "cpu_s": used,
    "rss_mb": (after.rss - before.rss) / 1e6, 
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
}))
"""


def main() -> None:
    """Measure and print; write the figures where --out says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.125, help="share of v1.0-trainval's rows (default 0.125)")
    parser.add_argument("--root", type=Path, help="measure a real data set instead")
    parser.add_argument("--version", default=VERSION)
    parser.add_argument("--runs", type=int, default=3, help="runs of each measurement; the best counts")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or write_tables(Path(folder) / "data", options.scale)
        results = measure(root, options.version, Path(folder) / "index", options.runs, with_touch=options.root is None)
    print(f"{'':<24}{'wall s':>10}{'cpu s':>10}{'RSS +MB':>10}{'peak MB':>10}")
    for name, row in results.items():
        print(f"{name:<24}{row['wall_s']:>10.3f}{row['cpu_s']:>10.3f}{row['rss_mb']:>10.1f}{row['peak_mb']:>10.1f}")
    devkit, index = results["devkit NuScenes()"], results["index, open"]
    print(f"\nopen: {devkit['cpu_s'] / index['cpu_s']:.0f} x less CPU time", end="")
    touched = results.get("index, 200 frames read", index)
    print(f", {devkit['rss_mb'] / max(touched['rss_mb'], 1.0):.0f} x less memory, and that is shared between processes")
    if options.out:
        record = {"scale": None if options.root else options.scale, "results": results}
        options.out.write_text(json.dumps(record, indent=2))


def measure(root: Path, version: str, out: Path, runs: int, with_touch: bool) -> dict[str, dict[str, float]]:
    """Best of `runs` of each measurement."""
    build = _run(root, version, "index", out)
    kinds = {"devkit NuScenes()": "devkit", "index, open": "index"}
    if with_touch:
        kinds["index, 200 frames read"] = "touched"
    rows = {name: [_run(root, version, what, out) for _ in range(runs)] for name, what in kinds.items()}
    best = {name: min(results, key=lambda row: row["cpu_s"]) for name, results in rows.items()}
    return {"index, first build": build, **best}


def _run(root: Path, version: str, what: str, out: Path) -> dict[str, float]:
    command = [sys.executable, "-c", _MEASURE, str(root), version, what, str(out)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# -- synthetic tables -------------------------------------------------------------------------------------------------
def write_tables(root: Path, scale: float) -> Path:
    """Tables with as many rows and fields, as long strings and as many digits as v1.0-trainval, times `scale`."""
    rng = np.random.default_rng(0)
    folder = root / VERSION
    folder.mkdir(parents=True)
    count = {name: max(2, round(rows * scale)) for name, rows in FULL.items()}

    def tokens(number: int) -> list[str]:
        return [row.tobytes().hex() for row in rng.integers(0, 256, (number, 16), np.uint8)]

    def write(name: str, records: list[dict]) -> None:
        (folder / f"{name}.json").write_bytes(orjson.dumps(records, option=orjson.OPT_INDENT_2))

    sensors, calibrations, scenes = tokens(len(CHANNELS)), tokens(len(CHANNELS)), tokens(count["scenes"])
    samples, (log, category, attribute) = tokens(count["samples"]), tokens(3)
    write("log", [{"token": log, "logfile": "n0", "vehicle": "n0", "date_captured": "", "location": "boston-seaport"}])
    write("map", [{"token": log, "log_tokens": [log], "category": "semantic_prior", "filename": "maps/a.png"}])
    write("category", [{"token": category, "name": "vehicle.car", "description": ""}])
    write("attribute", [{"token": attribute, "name": "vehicle.moving", "description": ""}])
    write("visibility", [{"token": "4", "level": "v80-100", "description": ""}])
    kinds = {"C": "camera", "L": "lidar", "R": "radar"}
    write("sensor", [{"token": t, "channel": c, "modality": kinds[c[0]]} for t, c in zip(sensors, CHANNELS)])
    identity = {"translation": [0.9, 0.0, 1.8], "rotation": [1.0, 0.0, 0.0, 0.0], "camera_intrinsic": []}
    write("calibrated_sensor", [{"token": t, "sensor_token": s, **identity} for t, s in zip(calibrations, sensors)])
    of_scene = np.sort(rng.integers(0, len(scenes), len(samples)))
    times = 1_533_000_000_000_000 + np.arange(len(samples)) * 500_000
    write(
        "scene",
        [
            {
                "token": t,
                "log_token": log,
                "nbr_samples": 40,
                "name": f"scene-{9000 + i}",
                "description": "",
                "first_sample_token": "",
            }
            for i, t in enumerate(scenes)
        ],
    )
    write(
        "sample",
        [
            {"token": t, "timestamp": int(time), "prev": "", "next": "", "scene_token": scenes[s]}
            for t, time, s in zip(samples, times, of_scene)
        ],
    )
    (folder / "splits.json").write_text(json.dumps({"all": [f"scene-{9000 + i}" for i in range(len(scenes))]}))
    _write_readings(write, rng, tokens(count["sample_data"]), samples, times, calibrations)
    _write_boxes(write, rng, tokens(count["annotations"]), tokens(count["instances"]), samples, (category, attribute))
    return root


def _write_readings(write, rng, own: list[str], samples: list[str], times: np.ndarray, calibrations: list[str]) -> None:  # type: ignore[no-untyped-def]
    number = len(own)
    poses = rng.normal(size=(number, 7)) * (500, 500, 0, 1, 1, 1, 1)
    poses[:, 3:] /= np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
    of_sample = np.arange(number) * len(samples) // number
    channel = np.arange(number) % len(CHANNELS)
    is_key = np.zeros(number, bool)
    is_key[np.unique(of_sample * len(CHANNELS) + channel, return_index=True)[1]] = True
    write(
        "ego_pose",
        [
            {
                "token": own[i],
                "timestamp": int(times[of_sample[i]]),
                "rotation": poses[i, 3:].tolist(),
                "translation": poses[i, :3].tolist(),
            }
            for i in range(number)
        ],
    )
    paths = [f"sweeps/{c}/n015-2018-07-24-11-22-45+0800__{c}__{{}}.jpg" for c in CHANNELS]
    write(
        "sample_data",
        [
            {
                "token": own[i],
                "sample_token": samples[of_sample[i]],
                "ego_pose_token": own[i],
                "calibrated_sensor_token": calibrations[channel[i]],
                "timestamp": int(times[of_sample[i]]),
                "fileformat": "jpg",
                "is_key_frame": bool(is_key[i]),
                "height": 900,
                "width": 1600,
                "filename": paths[channel[i]].format(1_533_000_000_000_000 + i),
                "prev": own[i - len(CHANNELS)] if i >= len(CHANNELS) else "",
                "next": own[i + len(CHANNELS)] if i + len(CHANNELS) < number else "",
            }
            for i in range(number)
        ],
    )


def _write_boxes(write, rng, own: list[str], instances: list[str], samples: list[str], names: tuple[str, str]) -> None:  # type: ignore[no-untyped-def]
    number = len(own)
    values = rng.normal(size=(number, 3)) * (500, 500, 1)
    step = len(instances)
    write(
        "instance",
        [
            {
                "token": t,
                "category_token": names[0],
                "nbr_annotations": 18,
                "first_annotation_token": own[0],
                "last_annotation_token": own[-1],
            }
            for t in instances
        ],
    )
    write(
        "sample_annotation",
        [
            {
                "token": own[i],
                "sample_token": samples[i * len(samples) // number],
                "instance_token": instances[i % step],
                "visibility_token": "4",
                "attribute_tokens": [names[1]],
                "translation": values[i].tolist(),
                "size": [1.947, 4.627, 1.681],
                "rotation": [0.9660841190, 0.0, 0.0, 0.2582280510],
                "prev": own[i - step] if i >= step else "",
                "next": own[i + step] if i + step < number else "",
                "num_lidar_pts": 12,
                "num_radar_pts": 1,
            }
            for i in range(number)
        ],
    )


if __name__ == "__main__":
    main()
