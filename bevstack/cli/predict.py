"""`bevstack predict`: the official submission file of a checkpoint."""

import argparse
from pathlib import Path

_EPILOG = """example:
  bevstack predict --checkpoint demo --data /data/nuscenes --version v1.0-test --split test --out submission.json

The file is in the format of the nuScenes detection benchmark: results by sample token in global coordinates, and which
sensors were used. `bevstack eval --predictions submission.json` scores it where ground truth is at hand.
"""


def run(arguments: list[str]) -> int:
    """Run the model over a split and write the file."""
    from bevstack.cli.eval import add_data_arguments

    parser = argparse.ArgumentParser(
        prog="bevstack predict",
        description="Write the official nuScenes detection submission of a checkpoint.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", metavar="NAME", required=True, help="demo, a weights file, or a run folder")
    add_data_arguments(parser)
    parser.add_argument("--modality", choices=("fusion", "lidar", "camera"), help="which sensors the model gets")
    parser.add_argument("--out", metavar="FILE", type=Path, default=Path("submission.json"), help="file to write")
    args = parser.parse_args(arguments)

    from bevstack.evaluation.checkpoint import choose_device, open_checkpoint
    from bevstack.evaluation.prediction import predict, spread
    from bevstack.evaluation.submission import SubmissionMeta, write_submission

    checkpoint = open_checkpoint(args.checkpoint)
    (modality,) = checkpoint.modalities(args.modality)
    frames = checkpoint.frames(args.data, args.version, args.split)
    session = checkpoint.session(choose_device(args.device))
    found = predict({modality: session}, frames, spread(len(frames), args.limit))[modality]
    if not found.detections:
        raise ValueError(f"{args.checkpoint} finds no objects: there is nothing to submit ('bevstack eval' scores it)")
    write_submission(args.out, SubmissionMeta.of_modality(modality), found.records())
    boxes = sum(len(detections) for detections in found.detections.values())
    print(f"{args.out}: {boxes} boxes in {len(found.detections)} of {len(frames)} samples, sensors: {modality}")
    return 0
