"""`bevstack predict`: what a checkpoint says of a split, as a file that can be scored, converted and submitted."""

import argparse
from pathlib import Path

_EPILOG = """examples:
  bevstack predict --checkpoint demo --data worlds/val
  bevstack predict --checkpoint demo --data /data/nuscenes --version v1.0-test --split test --out submission.json

OUT says by its name what is written:
  FILE.parquet   a bevstack store: every task of the model (boxes, map, occupancy), forecasts of the boxes, and tracks
                 and plans unless --limit leaves gaps between the frames; with its protocols, the hashes of model and
                 data, and the configuration inside. 'bevstack predictions' shows and converts it.
  FILE.json      the official nuScenes detection submission: results by sample token in global coordinates, and which
                 sensors were used.
'bevstack eval --predictions FILE' scores either where ground truth is at hand. An interrupted run leaves no file.
"""


def run(arguments: list[str]) -> int:
    """Run the model over a split and write the file."""
    from bevstack.cli.eval import add_data_arguments, add_planner_argument

    parser = argparse.ArgumentParser(
        prog="bevstack predict",
        description="Write what a checkpoint predicts for every sample of a split.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", metavar="NAME", required=True, help="demo, a weights file, or a run folder")
    add_data_arguments(parser)
    parser.add_argument("--modality", choices=("fusion", "lidar", "camera"), help="which sensors the model gets")
    add_planner_argument(parser)
    parser.add_argument("--out", metavar="FILE", type=Path, default=Path("predictions.parquet"), help="file to write")
    args = parser.parse_args(arguments)
    if args.out.suffix not in (".parquet", ".json"):
        raise ValueError(f"--out {args.out} must end in .parquet (all tasks) or .json (detection submission)")
    return _submission(args) if args.out.suffix == ".json" else _store(args)


def _store(args: argparse.Namespace) -> int:
    from bevstack.evaluation.checkpoint import choose_device, open_checkpoint
    from bevstack.evaluation.full_session import full_session
    from bevstack.evaluation.predict import meta_of, predict, spread
    from bevstack.evaluation.predictions.store import PredictionStore
    from bevstack.evaluation.predictions.writer import PredictionWriter

    checkpoint = open_checkpoint(args.checkpoint)
    (modality,) = checkpoint.modalities(args.modality)
    frames = checkpoint.frames(args.data, args.version, args.split)
    indices = spread(len(frames), args.limit)
    is_whole = len(indices) == len(frames)
    device = choose_device(args.device)
    sessions = {
        modality: full_session(
            checkpoint, device, is_whole=is_whole, planner=args.planner, ego_status=not args.no_ego_status
        )
    }
    with PredictionWriter(args.out, meta_of(checkpoint, frames, modality)) as writer:
        predict(sessions, frames, indices, writers={modality: writer})
    store = PredictionStore(args.out)
    size = f"{args.out.stat().st_size / 1e6:.1f} MB"
    what = f"{', '.join(store.tasks)} of {len(store.sample_tokens)} of {len(frames)} samples"
    print(f"{args.out}: {what}, sensors: {modality}, {size}")
    return 0


def _submission(args: argparse.Namespace) -> int:
    from bevstack.evaluation.checkpoint import choose_device, open_checkpoint
    from bevstack.evaluation.predict import predict, spread
    from bevstack.evaluation.predictions.submission import SubmissionMeta, write_submission

    checkpoint = open_checkpoint(args.checkpoint)
    (modality,) = checkpoint.modalities(args.modality)
    frames = checkpoint.frames(args.data, args.version, args.split)
    session = checkpoint.session(choose_device(args.device))
    found = predict({modality: session}, frames, spread(len(frames), args.limit))[modality]
    if not found.detections:
        raise ValueError(f"{args.checkpoint} finds no objects: there is nothing to submit; write a .parquet file")
    write_submission(args.out, SubmissionMeta.of_modality(modality), found.records())
    boxes = sum(len(detections) for detections in found.detections.values())
    print(f"{args.out}: {boxes} boxes in {len(found.detections)} of {len(frames)} samples, sensors: {modality}")
    return 0
