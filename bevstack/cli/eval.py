"""`bevstack eval`: official detection metrics of a checkpoint, or of a submission file, on a data set."""

import argparse
from pathlib import Path
from typing import Any

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
        description="Official nuScenes detection metrics (NDS, mAP, TP errors; protocol det/nusc-cvpr19).",
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
    from bevstack.evaluation.prediction import spread
    from bevstack.evaluation.runner import evaluate
    from bevstack.evaluation.submission import write_json

    frames, to_score, provenance = _from_file(args) if args.predictions else _from_model(args)
    tokens = [frames.token(index) for index in spread(len(frames), args.limit)]
    out = args.out or _default_out(args, frames.split)
    evaluation = evaluate(to_score, frames, tokens, out, provenance=provenance, num_shown=args.frames)
    if args.json:
        write_json(args.json, evaluation.content)
    print(_table(evaluation.content))
    print(f"\nresults  {out}\nreport   bevstack report {out}")
    return 0


def _from_model(args: argparse.Namespace) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    from bevstack.evaluation.checkpoint import choose_device, open_checkpoint
    from bevstack.evaluation.prediction import predict, spread
    from bevstack.evaluation.runner import ToScore
    from bevstack.evaluation.submission import SubmissionMeta

    checkpoint = open_checkpoint(args.checkpoint)
    modalities = checkpoint.modalities(args.modality)
    device = choose_device(args.device)
    frames = checkpoint.frames(args.data, args.version, args.split)
    sessions = {modality: checkpoint.session(device) for modality in modalities}
    indices = spread(len(frames), args.limit)
    found = predict(sessions, frames, indices)
    to_score: dict[str, Any] = {
        modality: ToScore(
            records=predictions.records,
            meta=SubmissionMeta.of_modality(modality),
            seconds_per_frame=predictions.model_s / max(1, len(indices)),
        )
        for modality, predictions in found.items()
    }
    return frames, to_score, {"checkpoint": checkpoint.description, "device": device}


def _from_file(args: argparse.Namespace) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    from bevstack.evaluation.checkpoint import frames_to_view
    from bevstack.evaluation.runner import ToScore
    from bevstack.evaluation.submission import read_submission

    if args.modality:
        raise ValueError("--modality needs --checkpoint: a submission file says itself which sensors it used")
    submission = read_submission(args.predictions)
    frames = frames_to_view(args.data, args.version, args.split)
    provenance = {"checkpoint": {"name": str(args.predictions)}, "submission_meta": submission.meta}
    return frames, {"submission": ToScore(records=lambda: submission.results, meta=None)}, provenance


def _default_out(args: argparse.Namespace, split: str) -> Path:
    if args.checkpoint and Path(args.checkpoint).is_dir():
        return Path(args.checkpoint) / "eval"
    return Path("eval") / f"{args.data.resolve().name}-{split}"


def _table(content: dict[str, Any]) -> str:
    """The metrics on one screen."""
    from bevstack.data.class_names import DETECTION_CLASSES

    data, results = content["data"], content["results"]
    part = "" if data["num_frames"] == data["num_frames_of_split"] else f" of {data['num_frames_of_split']}"
    lines = [
        f"{content['protocol']}  {data['version']} {data['split']}, {data['num_frames']}{part} frames",
        "",
        f"{'':<12}{'NDS':>7}{'mAP':>7}{'mATE':>8}{'mASE':>7}{'mAOE':>7}{'mAVE':>7}{'mAAE':>7}{'s/frame':>9}",
    ]
    for name, row in results.items():
        errors = row["errors"]
        seconds = f"{row['seconds_per_frame']:.2f}" if row["seconds_per_frame"] is not None else "-"
        numbers = "".join(f"{errors[key]:>7.3f}" for key in ("mASE", "mAOE", "mAVE", "mAAE"))
        lines.append(f"{name:<12}{row['nds']:>7.3f}{row['mean_ap']:>7.3f}{errors['mATE']:>8.3f}{numbers}{seconds:>9}")
    names = list(results)
    lines += ["", f"{'AP':<22}{'boxes':>7}" + "".join(f"{name:>12}" for name in names) + f"   ({names[0]}) ATE    AOE"]
    first = results[names[0]]
    for name in DETECTION_CLASSES:
        errors = first["class_errors"][name]
        values = "".join(f"{results[row]['class_ap'][name]:>12.3f}" for row in names)
        count = first["num_ground_truth"][name]
        pad = " " * (len(names[0]) + 3)
        lines.append(f"{name:<22}{count:>7}{values}{pad}{_cell(errors['ATE'])}{_cell(errors['AOE'])}")
    absent = [name for name, count in first["num_ground_truth"].items() if count == 0]
    if absent:
        lines.append(f"no box of {', '.join(absent)} counts in this data: the protocol scores them AP 0 and errors 1")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:>7.3f}"
