"""`bevstack cues`: make the cues of a data set, and read what they say."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.cues.make import CueSummary
    from bevstack.cues.refinement import FactSource
    from bevstack.data.cue_cache import CueCache
    from bevstack.data.labels import Labeller
    from bevstack.data.nuscenes import NuScenesFrames

_DESCRIPTION = """Cues say in words what a driver would look at. A captioner describes each key frame, a refiner holds
the text against what is known, a text encoder embeds it; the result lies in ROOT/cues/NAME, one file a scene."""

_EPILOG = """captioners:
  zero-shot           which of a fixed list of statements fit the picture; works offline (the default)
  hf:OWNER/NAME       a vision-language model of the Hugging Face hub, or hf:FOLDER from disk
  describer-oracle    sentences made from ground truth: an upper bound, and no result of a system
encoders:
  minilm              all-MiniLM-L6-v2, 384 numbers; works offline (the default)
  clip:OWNER/NAME     the text tower of a CLIP model, or clip:FOLDER from disk; clip alone is the usual one
refinement:
  none                the text as it is (the default)
  estimates           with what a model finds in the frame (--checkpoint): for any split, and for driving
  annotations         with ground truth: for training splits only, every other split is refused

examples:
  bevstack cues make worlds/val
  bevstack cues make worlds/val --refine estimates --checkpoint demo
  bevstack cues make /data/nuscenes --split train --captioner hf:Salesforce/blip2-opt-2.7b --encoder clip \\
      --refine annotations --name blip2
  bevstack cues show worlds/val --name zero-shot
"""


def run(arguments: list[str]) -> int:
    """Make cues, or show them."""
    parser = argparse.ArgumentParser(
        prog="bevstack cues",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_make(actions)
    show = actions.add_parser("show", help="list the texts of a scene", description="List the texts of a scene.")
    show.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
    show.add_argument("--name", help="which cues (default: the only ones)")
    show.add_argument("--scene", help="which scene (default: the first one)")
    show.add_argument("--raw", action="store_true", help="also what the captioner said before refinement")
    args = parser.parse_args(arguments)
    return _make(args) if args.action == "make" else _show(args)


def _add_make(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    make = actions.add_parser(
        "make",
        help="caption, refine and embed every key frame of a split",
        description="Make the cues of a split. An interrupted call is taken up where it stopped by repeating it.",
        epilog="See bevstack cues --help for captioners, encoders and refinement.",
    )
    make.add_argument("root", type=Path, metavar="ROOT", help="folder with samples/ and the version folder")
    make.add_argument("--version", help="version folder, such as v1.0-mini (default: the only one)")
    make.add_argument("--split", help="which split (default: the only one, else the validation split)")
    make.add_argument("--captioner", default="zero-shot", metavar="NAME", help="who describes (default: zero-shot)")
    make.add_argument("--prompts", default="driver-1", metavar="VERSION", help="questions to a model of the hub")
    make.add_argument("--cameras", nargs="+", metavar="CAM", help="whose pictures (default: the captioner's choice)")
    make.add_argument("--width", type=int, default=704, metavar="PX", help="of the pictures (default: 704)")
    make.add_argument("--encoder", default="minilm", metavar="NAME", help="who embeds (default: minilm)")
    make.add_argument("--refine", choices=("none", "annotations", "estimates"), default="none", help="default: none")
    make.add_argument("--checkpoint", metavar="NAME", help="for --refine estimates: demo, a weights file or a run")
    make.add_argument("--name", help="folder in ROOT/cues (default: from captioner and refinement)")
    make.add_argument("--device", help="cpu or cuda (default: the GPU where there is one)")
    make.add_argument("--quiet", action="store_true", help="no progress bar")


def cue_name(captioner: str, refinement: str) -> str:
    """The folder of cues that nobody named: "blip2-opt-2.7b-annotations"."""
    last = captioner.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "cues"
    return slug if refinement == "none" else f"{slug}-{refinement}"


# -- make -------------------------------------------------------------------------------------------------------------
def _make(args: argparse.Namespace) -> int:
    from bevstack.cues.make import make_cues
    from bevstack.data.class_names import CAMERA_NAMES
    from bevstack.data.cue_cache import cue_folder
    from bevstack.evaluation.checkpoint import choose_device
    from bevstack.perception.language.captioners import captioner_of
    from bevstack.perception.language.describer import ORACLE_NAME
    from bevstack.perception.language.text_encoders import text_encoder
    from bevstack.types.errors import did_you_mean

    if (args.refine == "estimates") != (args.checkpoint is not None):
        raise ValueError("--refine estimates and --checkpoint NAME belong together: give both or neither")
    for camera in args.cameras or ():
        if camera not in CAMERA_NAMES:
            raise ValueError(
                f"--cameras {camera} must be of {', '.join(CAMERA_NAMES)}{did_you_mean(camera, CAMERA_NAMES)}"
            )
    folder = cue_folder(args.root, args.name or cue_name(args.captioner, args.refine))
    device = choose_device(args.device)
    frames = _frames(args)
    facts = _facts(args, frames, device)
    captioner = captioner_of(
        args.captioner, cameras=tuple(args.cameras) if args.cameras else None, prompts=args.prompts, device=device
    )
    if args.captioner == ORACLE_NAME:
        print(f"{ORACLE_NAME} reads ground truth: its cues are an upper bound, and no result of a system")
    summary = make_cues(
        frames,
        folder,
        captioner=captioner,
        encoder=text_encoder(args.encoder, device),
        facts=facts,
        labellers=_map_labellers(frames) if args.captioner == ORACLE_NAME or args.refine == "annotations" else (),
        progress=not args.quiet,
    )
    _print_summary(summary, len(frames))
    return 0


def _frames(args: argparse.Namespace) -> "NuScenesFrames":
    from bevstack.data.class_names import CAMERA_NAMES
    from bevstack.data.images import ImageSize
    from bevstack.evaluation.checkpoint import frames_to_view

    frames = frames_to_view(args.root, args.version, args.split)
    frames.num_sweeps = 0  # captioners look at pictures only
    if not 64 <= args.width <= 4096:
        raise ValueError(f"--width {args.width} must be from 64 to 4096 pixels")
    height = round(frames.image_size.height * args.width / frames.image_size.width)
    frames.image_size = ImageSize(height=height, width=args.width)
    if not frames.cameras:
        raise ValueError(f"{args.root} has none of the cameras {', '.join(CAMERA_NAMES)}: there is nothing to describe")
    return frames


def _map_labellers(frames: "NuScenesFrames") -> "tuple[Labeller, ...]":
    """Crossings and stop lines, where the data set has a map."""
    from bevstack.data.map_labels import MapLabeller
    from bevstack.types.bev import BevGrid

    around = BevGrid(x_range_m=(-50.0, 50.0), y_range_m=(-50.0, 50.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
    return (MapLabeller(root=frames.root, grid=around, missing="mask"),)


def _facts(args: argparse.Namespace, frames: "NuScenesFrames", device: str) -> "FactSource | None":
    if args.refine == "annotations":
        from bevstack.cues.refinement import AnnotationFacts

        return AnnotationFacts(frames.split, frames.index)
    if args.refine == "estimates":
        from bevstack.cues.refinement import EstimateFacts
        from bevstack.evaluation.checkpoint import open_checkpoint

        checkpoint = open_checkpoint(args.checkpoint)
        return EstimateFacts(checkpoint.session(device), checkpoint.frames(args.root, args.version, frames.split))
    return None


def _print_summary(summary: "CueSummary", num_frames: int) -> None:
    settings = summary.settings
    again = (
        f", {summary.num_outdated} of them again because their pictures have changed" if summary.num_outdated else ""
    )
    print(
        f"{summary.folder}: {summary.num_made} cues made{again}, {summary.num_present} were there, {num_frames} frames"
    )
    print(f"by {settings.source}, on {', '.join(settings.cameras)}")
    if settings.refinement != "none":
        print(f"refined: {summary.num_dropped} clauses dropped, {summary.num_added} facts added")
    if summary.faults:
        counts = ", ".join(f"{fault}: {count}" for fault, count in summary.faults.most_common())
        print(f"no cue in {sum(summary.faults.values())} frames ({counts}); first: {summary.first_fault}")


# -- show -------------------------------------------------------------------------------------------------------------
def _show(args: argparse.Namespace) -> int:
    from bevstack.data.cue_cache import CueCache, cue_folder

    cache = CueCache(cue_folder(args.root, args.name or _only_name(args.root)))
    scene = args.scene or next(iter(cache.scene_names), None)
    if scene is None:
        raise ValueError(f"{cache.folder} has no scene yet: make its cues with bevstack cues make {args.root}")
    _print_scene(cache, scene, args.raw)
    return 0


def _only_name(root: Path) -> str:
    from bevstack.data.cue_cache import FOLDER, MANIFEST_NAME

    names = sorted(path.parent.name for path in (root / FOLDER).glob(f"*/{MANIFEST_NAME}"))
    if len(names) != 1:
        remedy = f"choose one with --name: {', '.join(names)}" if names else f"bevstack cues make {root} makes some"
        raise ValueError(f"{root / FOLDER} has {len(names)} sets of cues: {remedy}")
    return names[0]


def _print_scene(cache: "CueCache", scene: str, raw: bool) -> None:
    from bevstack.types.errors import did_you_mean

    rows = cache.rows(scene)
    if not rows:
        known = cache.scene_names
        raise ValueError(
            f"{cache.folder} has no cues of {scene}{did_you_mean(scene, known)}; it has {len(known)} scenes"
        )
    print(f"{cache.folder.name}, {scene}: {cache.settings.source}")
    for row in rows:
        seconds = 1e-6 * (row.timestamp_us - rows[0].timestamp_us)
        print(f"{seconds:6.1f} s  {row.sample_token[:8]}  {row.text or f'no cue: answer {row.fault}'}")
        if raw and row.raw_text != row.text:
            print(f"{'':20}said: {row.raw_text or 'nothing'}")
