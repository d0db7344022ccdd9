"""Reading predictions: a column store against the official files of the same content.

    python benchmarks/prediction_store.py

1,000 samples with 200 boxes each from the official detection JSON (the whole text by orjson, then the devkit's boxes;
and our reader, which checks every record) and from our Parquet store, which checks every value too; and 40 samples of
Occ3D occupancy from the challenge's compressed arrays and from the store. What is read is compared first.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import common
import numpy as np
import orjson
import torch
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox

from bevstack.data.class_names import OCCUPANCY_FREE
from bevstack.evaluation.dense.folder import DenseFolder
from bevstack.evaluation.predictions.box_columns import BoxColumns, read_submission_columns
from bevstack.evaluation.predictions.files import open_predictions, write_as
from bevstack.evaluation.predictions.predicted import Predicted
from bevstack.evaluation.predictions.store import PredictionMeta, PredictionStore
from bevstack.evaluation.predictions.writer import write_predictions
from bevstack.types import OCC3D_GRID, Occupancy

SAMPLES, BOXES, GRIDS = 1000, 200, 40


def made_up_boxes() -> BoxColumns:
    """Boxes with numbers of full length, as a model writes them."""
    rng, total = np.random.default_rng(0), SAMPLES * BOXES
    return BoxColumns(
        sample_tokens=tuple(f"{sample:032x}" for sample in range(SAMPLES)),
        sample_index=np.repeat(np.arange(SAMPLES, dtype=np.int32), BOXES),
        translation=rng.normal(800.0, 300.0, (total, 3)),
        size_wlh=rng.uniform(0.3, 9.0, (total, 3)),
        rotation_wxyz=rng.normal(size=(total, 4)),
        velocity=rng.normal(size=(total, 2)),
        class_index=rng.integers(0, 10, total).astype(np.int8),
        score=rng.random(total),
        attribute_index=np.full(total, -1, np.int8),
    )


def made_up_grids() -> tuple[Occupancy, ...]:
    """A ground with boxes on it."""
    rng, grids = np.random.default_rng(1), []
    for _ in range(GRIDS):
        semantics = np.full(OCC3D_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
        semantics[:, :, 2] = 11
        for _ in range(300):
            x, y = rng.integers(0, 190, 2)
            semantics[x : x + rng.integers(1, 12), y : y + rng.integers(1, 6), 3:8] = rng.integers(17)
        grids.append(Occupancy(semantics=semantics, grid=OCC3D_GRID))
    return tuple(grids)


def by_devkit(path: Path) -> EvalBoxes:
    """As nuscenes-devkit reads a submission, but for its JSON parser, which is slower."""
    return EvalBoxes.deserialize(orjson.loads(path.read_bytes())["results"], DetectionBox)


def size_mb(path: Path) -> float:
    """Of a file or folder."""
    files = path.iterdir() if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files) / 1e6


def boxes_case(folder: Path, runs: int) -> common.Result:
    """Detection."""
    boxes = made_up_boxes()
    predicted = Predicted(sample_tokens=boxes.sample_tokens, detection=boxes)
    store = write_predictions(folder / "boxes.parquet", predicted, PredictionMeta())
    official = write_as("detection", folder / "boxes.json", open_predictions(store))
    for read in (PredictionStore(store).read().detection, read_submission_columns(official)[0]):
        for name in boxes.column_names:
            assert np.array_equal(getattr(boxes, name), getattr(read, name)), name
    print(f"  {SAMPLES * BOXES} boxes: JSON {size_mb(official):.1f} MB, store {size_mb(store):.1f} MB")
    return common.compare(
        "prediction_store",
        f"{SAMPLES} samples with {BOXES} boxes",
        {
            "devkit boxes from JSON": partial(by_devkit, official),
            "our columns from JSON": lambda: read_submission_columns(official),
            "bevstack": lambda: PredictionStore(store).read(),
        },
        baseline="devkit boxes from JSON",
        equality="equal bits of every number",
        runs=runs,
    )


def occupancy_case(folder: Path, runs: int) -> common.Result:
    """Occ3D occupancy."""
    grids = made_up_grids()
    tokens = tuple(f"{sample:032x}" for sample in range(GRIDS))
    store = write_predictions(
        folder / "grids.parquet", Predicted(sample_tokens=tokens, occupancy=grids), PredictionMeta()
    )
    official = write_as("occupancy", folder / "grids", open_predictions(store))
    for read in (PredictionStore(store).read(), DenseFolder(official).read()):
        for grid, other in zip(grids, read.occupancy, strict=True):
            assert np.array_equal(grid.semantics, other.semantics)
    print(f"  {GRIDS} grids: arrays {size_mb(official):.2f} MB, store {size_mb(store):.2f} MB")
    return common.compare(
        "prediction_store",
        f"{GRIDS} samples of 200x200x16 voxels",
        {
            "compressed NumPy arrays": lambda: list(DenseFolder(official).parts()),
            "bevstack": lambda: list(PredictionStore(store).parts()),
        },
        baseline="compressed NumPy arrays",
        equality="equal voxels",
        runs=runs,
    )


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = [case(Path(folder), arguments.runs) for case in (boxes_case, occupancy_case)]
    common.report(results)
    print(f"  peak memory {results[-1].peak_rss_mb:.0f} MB")


if __name__ == "__main__":
    main()
