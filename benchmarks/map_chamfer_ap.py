"""Average precision of map lines: compiled Chamfer distances against Shapely and SciPy, pair by pair.

    python benchmarks/map_chamfer_ap.py

Frames with 20 true and 50 predicted lines of three classes. The peer follows the published rule with the functions that
the published code calls (`LineString.interpolate`, `cdist`), without its search tree, which changes no number. The
average precisions of both are compared class by class and distance by distance first.
"""

import argparse
from functools import partial

import common
import numpy as np
import torch
from scipy.spatial.distance import cdist
from shapely.geometry import LineString

from bevstack.data.map_lines import MAP_LINE_CLASSES, MapLines
from bevstack.evaluation.dense.map_vectors import (
    DISTANCES_M,
    NUM_POINTS,
    PredictedLines,
    average_precision,
    score_lines,
)

Frame = tuple[PredictedLines, MapLines]


def made_up_frames(count: int) -> list[Frame]:
    """Bent lines, most of them found a little beside their place, some twice, and others that are nowhere."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        starts = rng.uniform((-30, -15), (30, 15), (20, 2))
        true = tuple(start + np.cumsum(rng.normal(0, 4, (8, 2)), axis=0) for start in starts)
        truth = MapLines(true, rng.integers(0, 3, 20))
        found = rng.integers(0, 20, 50)
        lines = tuple(true[k] + rng.normal(0, 0.6, 2) for k in found)
        frames.append((PredictedLines(lines=lines, class_index=truth.class_index[found], scores=rng.random(50)), truth))
    return frames


def by_pairs(frames: list[Frame]) -> np.ndarray:
    """(distances, classes) average precision."""
    right: list[list[np.ndarray]] = [[] for _ in MAP_LINE_CLASSES]
    scores: list[list[np.ndarray]] = [[] for _ in MAP_LINE_CLASSES]
    num_true = np.zeros(len(MAP_LINE_CLASSES), int)
    for prediction, truth in frames:
        found, true = ([_interpolated(line) for line in lines.lines] for lines in (prediction, truth))
        for k in range(len(MAP_LINE_CLASSES)):
            rows, columns = np.flatnonzero(prediction.class_index == k), np.flatnonzero(truth.class_index == k)
            num_true[k] += len(columns)
            rows = rows[np.argsort(-prediction.scores[rows], kind="stable")]
            chamfer = np.array([[_chamfer(found[row], true[column]) for column in columns] for row in rows])
            right[k].append(_greedy(chamfer.reshape(len(rows), len(columns))))
            scores[k].append(prediction.scores[rows])
    precisions = np.full((len(DISTANCES_M), len(MAP_LINE_CLASSES)), np.nan)
    for k in range(len(MAP_LINE_CLASSES)):
        order = np.argsort(-np.concatenate(scores[k]), kind="stable")
        for j in range(len(DISTANCES_M)):
            precisions[j, k] = average_precision(np.concatenate(right[k])[order, j], int(num_true[k]))
    return precisions


def _interpolated(line: np.ndarray) -> np.ndarray:
    shape = LineString(line)
    return np.array([shape.interpolate(at).coords[0] for at in np.linspace(0, shape.length, NUM_POINTS)])


def _chamfer(first: np.ndarray, second: np.ndarray) -> float:
    distance = cdist(first, second)
    return (distance.min(axis=0).mean() + distance.min(axis=1).mean()) / 2


def _greedy(chamfer: np.ndarray) -> np.ndarray:
    is_right = np.zeros((len(chamfer), len(DISTANCES_M)), bool)
    for j, limit_m in enumerate(DISTANCES_M):
        taken: set[int] = set()
        for row, distances in enumerate(chamfer):
            if len(distances) and distances.min() <= limit_m and int(distances.argmin()) not in taken:
                taken.add(int(distances.argmin()))
                is_right[row, j] = True
    return is_right


def compiled(frames: list[Frame]) -> np.ndarray:
    """(distances, classes) average precision."""
    tokens = [f"{number:05d}" for number in range(len(frames))]
    predictions, truth = (dict(zip(tokens, lines, strict=True)) for lines in zip(*frames, strict=True))
    return np.array([list(row.values()) for row in score_lines(predictions, truth).class_ap_at.values()])


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frames = made_up_frames(arguments.frames)
    difference = float(np.abs(by_pairs(frames) - compiled(frames)).max())
    assert difference < 1e-12, f"average precisions differ by {difference}"
    result = common.compare(
        "map_chamfer_ap",
        f"{arguments.frames} frames, 50 predicted and 20 true lines each, {NUM_POINTS} points",
        {"shapely and scipy": partial(by_pairs, frames), "bevstack": partial(compiled, frames)},
        baseline="shapely and scipy",
        equality="average precisions within 1e-12",
        runs=arguments.runs,
    )
    common.report([result])
    print(f"  peak memory {result.peak_rss_mb:.0f} MB")


if __name__ == "__main__":
    main()
