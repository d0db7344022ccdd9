"""Detection metrics (`det/nusc-cvpr19`): bevstack against nuscenes-devkit on the same random result file.

    python benchmarks/detection_eval.py                                  # 240 samples
    python benchmarks/detection_eval.py --samples 6019 --runs 1          # as large as nuScenes' validation split

Every run is a process of its own, so that each one's peak memory is its own too. The clock starts when the tables are
open (the devkit's parsed, ours mapped) and the compiled code is loaded; it stops when NDS is known. "From JSON" reads
the result file, "from columns" has the boxes in memory as arrays. Before any figure is printed, all 320 metric arrays
and NDS are compared bit for bit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np
from nuscenes.utils.splits import val as VAL_SCENES

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fixtures.detection_splits import Recipe, write_split

VERSION, SPLIT = "v1.0-trainval", "val"
DEVKIT, FROM_JSON, FROM_COLUMNS = "nuscenes-devkit", "bevstack from JSON", "bevstack from columns"
TRUTH_PER_SAMPLE, PREDICTIONS_PER_SAMPLE = 36, 200
"""Seven of eight objects are of a detection class: 31 in a sample, as in nuScenes (187,528 in 6,019 samples)."""


def main() -> None:
    """Make the data, run every candidate, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=240)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("CANDIDATE", "ROOT", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        candidate, root, out = arguments.child
        _measure(candidate, Path(root), Path(out))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        path = write_data(root, arguments.samples)
        common.report([compare(root, path, Path(folder), arguments.runs)])


def write_data(root: Path, num_samples: int) -> Path:
    """Random boxes, half of the predictions near annotated ones; scores with all their digits."""
    num_scenes = min(len(VAL_SCENES), max(1, num_samples // 40))
    recipe = Recipe(
        scene_names=VAL_SCENES[:num_scenes],
        samples_per_scene=round(num_samples / num_scenes),
        truth_per_sample=TRUTH_PER_SAMPLE,
        predictions_per_sample=PREDICTIONS_PER_SAMPLE,
        is_gridded=False,
        score_decimals=None,
        empty_share=0.0,
        nan_velocities=False,
        quaternion_kind="tilted",
    )
    return write_split(root, 0, recipe, version=VERSION)


def compare(root: Path, path: Path, folder: Path, runs: int) -> common.Result:
    """All candidates in turns; the arrays of every run must be equal to those of the devkit's first."""
    samples: dict[str, list[float]] = {DEVKIT: [], FROM_JSON: [], FROM_COLUMNS: []}
    peaks: dict[str, float] = {}
    expected: dict[str, np.ndarray] = {}
    facts: dict[str, int] = {}
    for run in range(runs):
        for candidate, times in samples.items():
            out = folder / f"{run}.npz"
            command = [sys.executable, __file__, "--child", candidate, str(root), str(out)]
            measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            times.append(measured.pop("cpu_s") * 1e3)
            peaks[candidate] = max(peaks.get(candidate, 0.0), measured.pop("peak_mb"))
            facts |= measured
            arrays = dict(np.load(out))
            expected = expected or arrays
            differing = [name for name, array in arrays.items() if not np.array_equal(array, expected[name])]
            assert len(arrays) == len(expected) == 321 and not differing, f"{candidate} differs in {differing[:5]}"
    for candidate, peak in peaks.items():
        print(f"peak memory of {candidate:<24} {peak:8.0f} MB")
    timings = {name: common.timing_of(values) for name, values in samples.items()}
    counts = f"{facts['samples']} samples, {facts['predictions']} predictions, {facts['truth']} objects that count"
    return common.Result(
        suite="detection_eval",
        case=f"{counts}, {path.stat().st_size / 1e6:.0f} MB of JSON",
        baseline=DEVKIT,
        timings=timings,
        ratios={name: timings[DEVKIT].min_ms / timing.min_ms for name, timing in timings.items()},
        equality="all 320 metric arrays and NDS equal bit for bit",
        peak_rss_mb=peaks[FROM_JSON],
        machine={**common.machine_facts(), **{f"peak_mb {name}": peak for name, peak in peaks.items()}},
    )


# ---------------------------------------------------------------- one candidate, in its own process


def _measure(candidate: str, root: Path, out: Path) -> None:
    """Run one candidate; write its metric arrays to `out` and print time and memory as JSON."""
    arrays, cpu_s, facts = _devkit(root) if candidate == DEVKIT else _ours(root, from_json=candidate == FROM_JSON)
    np.savez(out, **arrays)
    print(json.dumps({"cpu_s": cpu_s, "peak_mb": _peak_mb(), **facts}))


def _peak_mb() -> float:
    """Peak memory of this process alone; `getrusage` would hand on that of the process which started it."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def _devkit(root: Path) -> tuple[dict[str, np.ndarray], float, dict[str, int]]:
    from fixtures.devkit_detection import devkit_detection
    from nuscenes import NuScenes

    tables = NuScenes(VERSION, str(root), verbose=False)
    start = time.process_time()
    metrics, curves = devkit_detection(root, VERSION, SPLIT, root / "results.json", tables)
    cpu_s = time.process_time() - start
    arrays = {
        f"{name} {distance} {field}": np.array(array)
        for (name, distance), data in curves.md.items()
        for field, array in data.serialize().items()
    }
    return {**arrays, "nds": np.array(metrics.nd_score)}, cpu_s, {}


def _ours(root: Path, from_json: bool) -> tuple[dict[str, np.ndarray], float, dict[str, int]]:
    from bevstack.data.index import open_index
    from bevstack.evaluation.detection.boxes import ScoredBoxes, read_truth
    from bevstack.evaluation.detection.matching import match_records
    from bevstack.evaluation.detection.protocol import class_scores, scores_from_classes
    from bevstack.evaluation.predictions.box_columns import read_submission_columns
    from bevstack.evaluation.splits import split_tokens

    index = open_index(root, VERSION, out=root.parent / "index")
    tokens = split_tokens(index, SPLIT)
    few = read_truth(index, tokens[:1])
    match_records(ScoredBoxes.of(few.boxes, few))  # loads the compiled code
    boxes = None if from_json else read_submission_columns(root / "results.json")[0]
    start = time.process_time()
    if boxes is None:
        boxes, _ = read_submission_columns(root / "results.json")
    truth = read_truth(index, tokens)
    records = match_records(ScoredBoxes.of(boxes, truth))
    totals = records.num_truth.sum(axis=1)
    classes = {name: class_scores(name, of, int(n)) for (name, of), n in zip(records.classes.items(), totals)}
    scores = scores_from_classes(classes, len(tokens))
    cpu_s = time.process_time() - start
    arrays = {"nds": np.array(scores.nds)}
    for name, of_class in classes.items():
        for distance, curve in of_class.curves.items():
            fields = {"recall": curve.recall, "precision": curve.precision, "confidence": curve.confidence}
            arrays |= {f"{name} {distance} {field}": array for field, array in {**fields, **curve.errors}.items()}
    return arrays, cpu_s, {"samples": len(tokens), "predictions": len(boxes), "truth": int(totals.sum())}


if __name__ == "__main__":
    main()
