"""Tracking figures: our kernels against nuscenes-devkit with py-motmetrics, on the same tracks in memory.

    python benchmarks/tracking_eval.py                # 6 scenes
    python benchmarks/tracking_eval.py --scenes 20    # the devkit takes minutes for each run

Scenes of 40 samples with objects of seven classes that come and go, and tracks that are displaced, break off, swap
identities and are false. Both sides get the tracks in memory, with scores averaged and gaps filled; ours builds its
columns by class within the time. Before timing, all counts are compared for equality and MOTP to 1e-9.
"""

import argparse
import time
import warnings
from collections import defaultdict
from functools import partial
from typing import Any

import common
import numpy as np
import torch
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.tracking.data_classes import TrackingBox
from nuscenes.eval.tracking.evaluate import TrackingEval

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.predictions.box_records import TRACKING_CLASSES
from bevstack.evaluation.tracking.protocol import TrackingScores, scores_from_records
from bevstack.evaluation.tracking.records import match_records
from bevstack.evaluation.tracking.tracks import SceneTracks, Tracks

SAMPLES = 40
OBJECTS = {"car": 16, "pedestrian": 10, "truck": 4, "bus": 2, "trailer": 2, "motorcycle": 2, "bicycle": 2}
"""Objects of each class in a scene."""
FALSE_PER_OBJECT = 4
_Row = tuple[int, int, float, float, float, int]
"""Frame, track, x, y, score, class."""


def make_scenes(num_scenes: int) -> SceneTracks:
    """Tracks of generated scenes."""
    rng = np.random.default_rng(0)
    truth: list[_Row] = []
    predicted: list[_Row] = []
    for scene in range(num_scenes):
        number = scene * 10_000
        for name, count in OBJECTS.items():
            kind = DETECTION_CLASSES.index(name)
            for _ in range(count):
                number += 1
                _add_object(rng, scene * SAMPLES, number, kind, truth, predicted)
            for false in range(count * FALSE_PER_OBJECT):
                place, score = rng.uniform(-40, 40, 2) + 1000, float(rng.beta(1, 4))
                begin, length = int(rng.integers(0, SAMPLES - 8)), int(rng.integers(1, 20))
                for k in range(begin, min(begin + length, SAMPLES)):
                    predicted.append((scene * SAMPLES + k, number + 3000 + false, *place.tolist(), score, kind))
    return SceneTracks(
        scene_tokens=tuple(f"scene{k}" for k in range(num_scenes)),
        scene_first=np.arange(num_scenes + 1, dtype=np.int64) * SAMPLES,
        truth=_columns(truth),
        predictions=_columns(predicted),
        num_predictions=len(predicted),
    )


def _add_object(
    rng: np.random.Generator, first: int, number: int, kind: int, truth: list[_Row], predicted: list[_Row]
) -> None:
    place, speed = rng.uniform(-40, 40, 2) + 1000, rng.normal(0, 0.8, 2)
    begin, end = int(rng.integers(0, SAMPLES // 2)), int(rng.integers(SAMPLES // 2, SAMPLES + 1))
    track, score = number, float(rng.beta(4, 2))
    for k in range(begin, end):
        xy = place + k * speed
        truth.append((first + k, number, *xy.tolist(), -1.0, kind))
        if rng.random() < 0.03:
            track, score = track + 5000, float(rng.beta(4, 2))
        if rng.random() < 0.85:
            predicted.append((first + k, track, *(xy + rng.normal(0, 0.4, 2)).tolist(), score, kind))


def _columns(rows: list[_Row]) -> Tracks:
    rows = sorted(rows, key=lambda row: row[0])
    return Tracks(
        frame=np.array([row[0] for row in rows], np.int64),
        xy=np.array([row[2:4] for row in rows], np.float64),
        score=np.array([row[4] for row in rows], np.float64),
        track=np.array([row[1] for row in rows], np.int64),
        class_index=np.array([row[5] for row in rows], np.int8),
    )


def devkit_evaluation(scenes: SceneTracks) -> TrackingEval:
    """The devkit's object, as it is after its own loading."""
    evaluation = TrackingEval.__new__(TrackingEval)
    evaluation.cfg, evaluation.verbose = config_factory("tracking_nips_2019"), False
    evaluation.render_classes, evaluation.output_dir = None, ""
    evaluation.tracks_gt, evaluation.tracks_pred = (
        _of_devkit(scenes, scenes.truth),
        _of_devkit(scenes, scenes.predictions),
    )
    return evaluation


def _of_devkit(scenes: SceneTracks, tracks: Tracks) -> dict[str, Any]:
    boxes: dict[str, Any] = {token: defaultdict(list, {k: [] for k in range(SAMPLES)}) for token in scenes.scene_tokens}
    rows = zip(*(column.tolist() for column in (tracks.frame, tracks.xy, tracks.score, tracks.track)), strict=True)
    for (frame, xy, score, track), kind in zip(rows, tracks.class_index.tolist(), strict=True):
        boxes[scenes.scene_tokens[frame // SAMPLES]][frame % SAMPLES].append(
            TrackingBox(
                translation=(*xy, 0.0),
                tracking_id=str(track),
                tracking_name=DETECTION_CLASSES[kind],
                tracking_score=score,
            )
        )
    return boxes


def check(ours: TrackingScores, curves: dict[str, Any]) -> None:
    """Compare all curves."""
    for name in TRACKING_CLASSES:
        for figure, values in curves[name].items():
            found = np.array(ours.curves[name][figure], np.float64)
            tolerance = 1e-9 if figure == "motp" else 0.0
            same = np.isclose(found, values, rtol=0, atol=tolerance, equal_nan=True)
            assert same.all(), f"{name} {figure} differs from the devkit's"


def run_ours(scenes: SceneTracks) -> TrackingScores:
    """All figures."""
    return scores_from_records(match_records(scenes))


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    scenes = make_scenes(arguments.scenes)
    evaluation = devkit_evaluation(scenes)
    start = time.process_time()
    ours = run_ours(scenes)
    print(f"first run with loading or making of compiled code: {time.process_time() - start:.1f} s")
    check(ours, evaluation.evaluate()[1].serialize())
    frames = arguments.scenes * SAMPLES
    boxes, predictions = len(scenes.truth.frame) / frames, len(scenes.predictions.frame) / frames
    result = common.compare(
        "tracking_eval",
        f"{arguments.scenes} scenes, {boxes:.1f} annotated and {predictions:.1f} predicted boxes in each frame",
        {"nuscenes-devkit": evaluation.evaluate, "bevstack": partial(run_ours, scenes)},
        baseline="nuscenes-devkit",
        equality="all curves equal, MOTP to 1e-9",
        runs=arguments.runs,
    )
    print(f"  peak memory of the process {result.peak_rss_mb:.0f} MB")
    common.report([result])


if __name__ == "__main__":
    main()
