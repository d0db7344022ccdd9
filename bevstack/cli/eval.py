"""`bevstack eval`: detection, map and occupancy scores of a checkpoint, or those of a submission, on a data set."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bevstack.evaluation.checkpoint import LabelledData
    from bevstack.evaluation.runner import ToScore

_EPILOG = """examples:
  bevstack eval --checkpoint demo --data worlds/val
  bevstack eval --checkpoint runs/latest --data /data/nuscenes --version v1.0-mini --modality all
  bevstack eval --predictions submission.json --data /data/nuscenes --split val

Writes metrics.json, the submission file and the frames for `bevstack report OUT` to the folder OUT.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bevstack eval",
        description="Score what a checkpoint predicts: objects (NDS, mAP, TP errors; protocol det/nusc-cvpr19), "
        "map (map/bevfusion-iou, map/iou-fixed-0.5) and occupancy (occ/...), where the data has labels.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", metavar="NAME", help="demo, a .safetensors or .ckpt file, or a run folder")
    what.add_argument("--predictions", metavar="FILE", type=Path, help="score this submission file; no model runs")
    add_data_arguments(parser)
    parser.add_argument(
        "--modality",
        choices=("fusion", "lidar", "camera", "all"),
        help="which sensors the model gets; all makes one row for each (default: those it was made for)",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="results (default: RUN/eval or eval/DATA-SPLIT)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the metrics to this file as well")
    parser.add_argument("--frames", metavar="N", type=int, default=24, help="frames for the report (default 24)")
    return parser


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that eval and predict share."""
    parser.add_argument("--data", metavar="ROOT", type=Path, required=True, help="folder with the v1.0-... folder")
    parser.add_argument("--version", metavar="V", help="version folder (default: the only one)")
    parser.add_argument("--split", metavar="S", help="split (default: the only one, or val, or mini_val)")
    parser.add_argument("--limit", metavar="N", type=int, help="only N frames, spread evenly over the split")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")


def run(arguments: list[str]) -> int:
    """Score, write the results folder, print one screen."""
    args = parser().parse_args(arguments)
    from bevstack.cli.eval_table import table
    from bevstack.evaluation.prediction import spread
    from bevstack.evaluation.runner import evaluate
    from bevstack.evaluation.submission import write_json

    data, to_score, provenance = _from_file(args) if args.predictions else _from_model(args)
    frames = data.frames
    tokens = [frames.token(index) for index in spread(len(frames), args.limit)]
    out = args.out or _default_out(args, frames.split)
    evaluation = evaluate(
        to_score,
        frames,
        tokens,
        out,
        provenance=provenance,
        num_shown=args.frames,
        labellers=data.labellers,
        without_labels=data.without_labels,
    )
    if args.json:
        write_json(args.json, evaluation.content)
    print(table(evaluation.content))
    print(f"\nresults  {out}\nreport   bevstack report {out}")
    return 0


def _from_model(args: argparse.Namespace) -> tuple["LabelledData", dict[str, "ToScore"], dict[str, Any]]:
    from bevstack.evaluation.checkpoint import choose_device, open_checkpoint
    from bevstack.evaluation.lidar_frame import LidarFrame
    from bevstack.evaluation.prediction import predict, spread
    from bevstack.evaluation.runner import ToScore
    from bevstack.evaluation.submission import SubmissionMeta

    checkpoint = open_checkpoint(args.checkpoint)
    modalities = checkpoint.modalities(args.modality)
    device = choose_device(args.device)
    data = checkpoint.labelled_data(args.data, args.version, args.split)
    sessions = {modality: checkpoint.session(device) for modality in modalities}
    indices = spread(len(data.frames), args.limit)
    found = predict(sessions, data.labelled, indices, lidar=LidarFrame(data.frames.index))
    to_score: dict[str, ToScore] = {
        modality: ToScore(
            boxes=predictions.boxes if predictions.detections else None,
            meta=SubmissionMeta.of_modality(modality),
            seconds_per_frame=predictions.model_s / max(1, len(indices)),
            dense=predictions.dense,
        )
        for modality, predictions in found.items()
    }
    return data, to_score, {"checkpoint": checkpoint.description, "device": device}


def _from_file(args: argparse.Namespace) -> tuple["LabelledData", dict[str, "ToScore"], dict[str, Any]]:
    from bevstack.evaluation.box_columns import read_submission_columns
    from bevstack.evaluation.checkpoint import LabelledData, frames_to_view
    from bevstack.evaluation.runner import ToScore

    if args.modality:
        raise ValueError("--modality needs --checkpoint: a submission file says itself which sensors it used")
    boxes, meta = read_submission_columns(args.predictions, task="detection")
    frames = frames_to_view(args.data, args.version, args.split)
    provenance = {"checkpoint": {"name": str(args.predictions)}, "submission_meta": meta}
    data = LabelledData(frames=frames, labellers=(), without_labels={})
    return data, {"submission": ToScore(boxes=lambda: boxes, meta=None)}, provenance


def _default_out(args: argparse.Namespace, split: str) -> Path:
    if args.checkpoint and Path(args.checkpoint).is_dir():
        return Path(args.checkpoint) / "eval"
    return Path("eval") / f"{args.data.resolve().name}-{split}"
