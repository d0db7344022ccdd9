"""`bevstack eval`: the scores of a checkpoint, or of any file of predictions, on a data set."""

import argparse
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bevstack.cli.cue_arguments import add_cue_arguments, cue_condition, names_cues

if TYPE_CHECKING:
    from bevstack.data.index import DatasetIndex
    from bevstack.evaluation.checkpoint import LabelledData
    from bevstack.evaluation.ranks import Ranks
    from bevstack.evaluation.runner import ToScore

_EPILOG = """examples:
  bevstack eval --checkpoint demo --data worlds/val
  bevstack eval --checkpoint runs/latest --data /data/nuscenes --version v1.0-mini --modality all
  bevstack eval --predictions submission.json --data /data/nuscenes --version v1.0-trainval --split val
  bevstack eval --predictions eval/val/predictions_fusion.parquet --data worlds/val --json again.json
  bevstack eval --checkpoint demo --data worlds/val --processes 8
  bevstack eval --checkpoint runs/latest --data worlds/val --cue-age 2 --out stale
  torchrun --nproc_per_node 8 -m bevstack eval --checkpoint demo --data /data/nuscenes --split val

--predictions takes, and knows by its content, any of
  predictions.parquet   a bevstack store: all tasks of a model ('bevstack predict' and 'bevstack eval' write one)
  FILE.json             nuScenes detection, tracking or prediction challenge; planning; map lines; answers of DriveLM,
                        with the file of questions in --questions
  FOLDER or FILE.zip    Occ3D occupancy (SAMPLE_TOKEN.npz); map probabilities or future instances with a meta.json
  FOLDER                nuScenes-lidarseg (lidarseg/SPLIT/DATA_TOKEN_lidarseg.bin and SPLIT/submission.json)
The whole file is checked before anything is scored: samples of the split that are missing or too many, unknown classes,
numbers that are not finite, more than 500 boxes. A fault is named with file, sample and field, and nothing is scored.

Results in the folder OUT: metrics.json, the frames for 'bevstack report OUT', and, of a checkpoint, what it predicted:
submission_SENSORS.json and predictions_SENSORS.parquet, which score to the same numbers again. Around a checkpoint run
a tracker, a planner and, where it does not forecast itself, forecasts of constant velocity.

Several processes share the scenes of a split out and give the numbers of one: each predicts and matches its own, and
only counts come together. A process takes the GPU of its number where there are several. OUT is one folder for all.

exit code: 0 scored; 1 refused or failed, the message says why; 2 wrong usage; 3 scored, but a task in the file of
predictions was not, since the data has no labels of it (named on the screen and under "not_scored").
"""

EXIT_PARTLY = 3


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bevstack eval",
        description="Score what a checkpoint predicts, or a file of predictions of any system, under every protocol "
        "that applies and the data has labels for: detection, tracking, map, occupancy, LiDAR points, motion and "
        "planning.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", metavar="NAME", help="demo, a .safetensors or .ckpt file, or a run folder")
    what.add_argument("--predictions", metavar="FILE", type=Path, help="score these predictions; no model runs")
    add_data_arguments(parser)
    parser.add_argument(
        "--baseline-data",
        metavar="ROOT",
        type=Path,
        help="other data that teaches the ego-status baseline of planning (default: the training split of the data "
        "set; worlds have none)",
    )
    parser.add_argument("--questions", metavar="FILE", type=Path, help="questions and true answers, for answers")
    parser.add_argument(
        "--modality",
        choices=("fusion", "lidar", "camera", "all"),
        help="which sensors the model gets; all makes one row for each (default: those it was made for)",
    )
    add_planner_argument(parser)
    add_cue_arguments(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="results (default: RUN/eval or eval/DATA-SPLIT)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the metrics to this file as well")
    parser.add_argument(
        "--processes", metavar="N", type=int, default=1, help="share the scenes out to N processes (default 1)"
    )
    parser.add_argument("--frames", metavar="N", type=int, default=24, help="frames for the report (default 24)")
    parser.add_argument(
        "--figures-only", action="store_true", help="of a checkpoint: do not keep what it predicted, only the figures"
    )
    return parser


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that eval and predict share."""
    parser.add_argument("--data", metavar="ROOT", type=Path, required=True, help="folder with the v1.0-... folder")
    parser.add_argument("--version", metavar="V", help="version folder (default: the only one)")
    parser.add_argument("--split", metavar="S", help="split (default: the only one, or val; of a store its own)")
    parser.add_argument("--limit", metavar="N", type=int, help="only N frames, spread evenly over the split")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")


def add_planner_argument(parser: argparse.ArgumentParser) -> None:
    """Who plans around a checkpoint, for eval and predict."""
    parser.add_argument(
        "--planner",
        choices=("rule", "learned", "proposal", "none"),
        help="who drives on what a checkpoint sees (default: the model where it has learned to, else rules; none with "
        "--limit, since plans are scored on whole splits); proposal is the model's first one, unchecked",
    )
    parser.add_argument("--no-ego-status", action="store_true", help="the model does not see the vehicle's own motion")


def run(arguments: list[str]) -> int:
    """Score, write the results folder, print one screen; in several processes where that is asked for."""
    args = parser().parse_args(arguments)
    from bevstack.evaluation.ranks import is_one_of_several, launch, open_ranks

    if args.processes < 1:
        raise ValueError(f"--processes {args.processes} must be 1 or more")
    if args.processes > 1 and not is_one_of_several():
        return launch(["eval", *arguments], args.processes, fine=(0, EXIT_PARTLY))
    with open_ranks() as ranks:
        return _evaluate(args, ranks)


def _evaluate(args: argparse.Namespace, ranks: "Ranks") -> int:
    """The share of one process; the first one writes and prints."""
    from bevstack.cli.eval_table import table
    from bevstack.data.index import open_index
    from bevstack.evaluation.predict import spread
    from bevstack.evaluation.predictions.submission import write_json
    from bevstack.evaluation.runner import evaluate

    with ranks.after_first():
        open_index(args.data, args.version, progress=ranks.is_first)
    data, to_score, provenance = _from_file(args, ranks) if args.predictions else _from_model(args, ranks)
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
        ranks=ranks,
    )
    if not ranks.is_first:
        return 0
    if args.checkpoint and args.figures_only:
        _discard_predictions(out, to_score, ranks)
    elif args.checkpoint and ranks.count > 1:
        _join_predictions(out, to_score, ranks)
    if args.json:
        write_json(args.json, evaluation.content)
    print(table(evaluation.content))
    print(f"\nresults  {out}\nreport   bevstack report {out}")
    return EXIT_PARTLY if args.predictions and evaluation.content["not_scored"] else 0


def _from_model(
    args: argparse.Namespace, ranks: "Ranks"
) -> tuple["LabelledData", dict[str, "ToScore"], dict[str, Any]]:
    from bevstack.evaluation.checkpoint import choose_device, open_checkpoint
    from bevstack.evaluation.dense.lidar_frame import LidarFrame
    from bevstack.evaluation.full_session import full_session
    from bevstack.evaluation.predict import meta_of, predict, spread
    from bevstack.evaluation.predictions.scoring import Scene, forecasts_of, plans_of, statistics_of_tasks, tracks_of
    from bevstack.evaluation.predictions.store import PredictionStore
    from bevstack.evaluation.predictions.submission import SubmissionMeta
    from bevstack.evaluation.predictions.writer import PredictionWriter
    from bevstack.evaluation.runner import ToScore
    from bevstack.perception.language.live_cues import LiveCues

    text = cue_condition(args)
    checkpoint = text.apply(open_checkpoint(args.checkpoint))
    modalities = checkpoint.modalities(args.modality)
    device = choose_device(args.device, int(os.environ.get("LOCAL_RANK", ranks.rank)))
    data = checkpoint.labelled_data(args.data, args.version, args.split)
    frames = data.frames
    indices = spread(len(frames), args.limit)
    is_whole = len(indices) == len(frames)
    tokens = ranks.share(frames.index, [frames.token(index) for index in indices])
    sessions = {
        each: full_session(
            checkpoint,
            device,
            is_whole=is_whole,
            planner=args.planner,
            cues=text.source(checkpoint, device),
            ego_status=not args.no_ego_status,
        )
        for each in modalities
    }
    out = args.out or _default_out(args, frames.split)
    with ExitStack() as stack:
        for session in sessions.values():
            if isinstance(session.cues, LiveCues):
                stack.enter_context(session.cues)
        writers: dict[Any, PredictionWriter] = {
            modality: stack.enter_context(
                PredictionWriter(_part(out, modality, ranks.rank, ranks.count), meta_of(checkpoint, frames, modality))
            )
            for modality in modalities
        }
        found = predict(
            sessions,
            data.labelled,
            [frames.index_of(token) for token in tokens],
            lidar=LidarFrame(frames.index),
            writers=writers,
            progress=ranks.is_first,
        )
    scene = Scene(data=data, tokens=tokens, is_whole=is_whole, baseline_data=_baseline_data(args))
    stores = {modality: PredictionStore(writer.path) for modality, writer in writers.items()}
    to_score: dict[str, ToScore] = {
        modality: ToScore(
            boxes=predictions.boxes if predictions.detections else None,
            meta=SubmissionMeta.of_modality(modality),
            seconds_per_frame=predictions.model_s / max(1, len(tokens)),
            dense=predictions.dense,
            tasks=statistics_of_tasks(stores[modality], scene)[0],
            forecasts=forecasts_of(stores[modality]),
            tracks=tracks_of(stores[modality]),
            plans=plans_of(stores[modality]),
        )
        for modality, predictions in found.items()
    }
    given = text.record(checkpoint, frames, [session.cues for session in sessions.values()], ranks)
    given |= {"planner": args.planner or "default", "model_sees_ego_status": not args.no_ego_status}
    return data, to_score, {"checkpoint": checkpoint.description, "device": device, **given}


def _part(out: Path, modality: str, rank: int, count: int) -> Path:
    """Where a process writes its predictions: the file itself where there is only one."""
    name = f"predictions_{modality}"
    return out / (f"{name}.parquet" if count == 1 else f".{name}-{rank}-of-{count}.parquet")


def _join_predictions(out: Path, to_score: Mapping[str, "ToScore"], ranks: "Ranks") -> None:
    """One file of predictions, and one submission, of what the processes have written."""
    from bevstack.evaluation.predictions.store import PredictionStore
    from bevstack.evaluation.predictions.submission import write_submission
    from bevstack.evaluation.predictions.writer import join_stores

    for modality, item in to_score.items():
        parts = [_part(out, modality, rank, ranks.count) for rank in range(ranks.count)]
        file = join_stores(_part(out, modality, 0, 1), parts)
        boxes = PredictionStore(file).read("detection").detection if item.boxes is not None else None
        if boxes is not None and item.meta is not None:
            write_submission(out / f"submission_{modality}.json", item.meta, boxes.to_records())


def _discard_predictions(out: Path, to_score: Mapping[str, "ToScore"], ranks: "Ranks") -> None:
    """Delete what the processes have written, a megabyte for each frame."""
    for modality in to_score:
        (out / f"submission_{modality}.json").unlink(missing_ok=True)
        for rank in range(ranks.count):
            _part(out, modality, rank, ranks.count).unlink(missing_ok=True)


def _from_file(args: argparse.Namespace, ranks: "Ranks") -> tuple["LabelledData", dict[str, "ToScore"], dict[str, Any]]:
    from bevstack.evaluation.predict import spread
    from bevstack.evaluation.predictions.checks import check_predictions
    from bevstack.evaluation.predictions.files import open_predictions
    from bevstack.evaluation.predictions.labels import data_to_score
    from bevstack.evaluation.predictions.scoring import Scene, provenance_of, score_file

    if args.modality:
        raise ValueError("--modality needs --checkpoint: a file of predictions says itself which sensors it used")
    if args.planner or args.no_ego_status:
        raise ValueError("--planner and --no-ego-status need --checkpoint: a file of predictions holds its plans")
    if names_cues(args):
        raise ValueError("options about cues need --checkpoint: what was predicted was predicted with the text of then")
    if args.figures_only:
        raise ValueError("--figures-only needs --checkpoint: a file of predictions is yours to delete")
    file = open_predictions(args.predictions)
    data = data_to_score(file, args.data, args.version, args.split)
    every = [data.frames.token(index) for index in range(len(data.frames))]
    tokens = [every[index] for index in spread(len(every), args.limit)]
    check_predictions(file, data.frames.split, every, tokens)
    own = ranks.share(data.frames.index, tokens)
    scene = Scene(
        data=data,
        tokens=own,
        is_whole=len(tokens) == len(every),
        questions=args.questions,
        baseline_data=_baseline_data(args),
    )
    scores = score_file(file, scene)
    provenance = provenance_of(file, data.frames.index)
    if provenance["predictions"]["same_tables"] is False and ranks.is_first:
        print(f"note: {file.path} was predicted on tables with another hash than those of {args.data}")
    return replace(data, without_labels=scores.not_scored), {file.meta.row: scores.to_score}, provenance


def _baseline_data(args: argparse.Namespace) -> "tuple[DatasetIndex, str] | None":
    """What teaches the planning baseline that learns, where the command names it."""
    if args.baseline_data is None:
        return None
    from bevstack.data.index import open_index
    from bevstack.data.training_splits import is_training_split

    index = open_index(args.baseline_data)
    splits = index.splits()
    training = [name for name in splits if is_training_split(name) or len(splits) == 1]
    if not training:
        raise ValueError(f"--baseline-data {args.baseline_data} has no training split, only {', '.join(splits)}")
    return index, training[0]


def _default_out(args: argparse.Namespace, split: str) -> Path:
    if args.checkpoint and Path(args.checkpoint).is_dir():
        return Path(args.checkpoint) / "eval"
    return Path("eval") / f"{args.data.resolve().name}-{split}"
