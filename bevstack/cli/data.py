"""`bevstack data`: index, check, describe and view a data set in nuScenes format, and derive data from it."""

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from bevstack.data.check import CheckReport
    from bevstack.data.check_frames import BoxesOfSample
    from bevstack.data.images import ImageSize
    from bevstack.data.index import DatasetIndex
    from bevstack.data.labels import Labeller
    from bevstack.data.nuscenes import NuScenesFrames
    from bevstack.data.stats import DatasetStats


def run(arguments: list[str]) -> int:
    """Run one of the subcommands; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bevstack data",
        description="Look at a data set in nuScenes format: the real one, or worlds from `bevstack sim make`.",
        epilog="example: bevstack data check /data/nuscenes --version v1.0-mini",
    )
    commands = parser.add_subparsers(title="subcommands", required=True, metavar="NAME")
    add = _adder(commands)
    index = add("index", _index, "read the JSON tables once into a memory-mapped index", "/data/nuscenes")
    index.add_argument("--out", type=Path, metavar="DIR", help="folder of the index (default: ROOT/.bevstack)")
    index.add_argument("--force", action="store_true", help="build it again even if it is up to date")
    check = add("check", _check, "say which files are missing, where they come from, what works without", "data --deep")
    check.add_argument("--split", help="look at this split only")
    check.add_argument("--deep", action="store_true", help="also look at the length and end of every sensor file")
    check.add_argument("--write-split", metavar="NAME", help="write the complete scenes as a split to splits.json")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    sanity = add(
        "sanity",
        _sanity,
        "say whether boxes lie where the points are, and what is wrong if not",
        "data --split mini_val",
    )
    sanity.add_argument("--split", help="look at frames of this split only")
    sanity.add_argument("--frames", type=int, default=20, metavar="N", help="frames to look at (default 20)")
    sanity.add_argument("--predictions", type=Path, metavar="FILE", help="the boxes of this submission file instead")
    sanity.add_argument("--min-score", type=float, default=0.3, metavar="S", help="of predictions (default 0.3)")
    sanity.add_argument("--json", action="store_true", help="print verdict and scores as JSON")
    stats = add("stats", _stats, "count classes, boxes, points, distances, attributes", "data --split mini_val")
    stats.add_argument("--split", help="count this split only")
    stats.add_argument("--json", action="store_true", help="print the numbers as JSON")
    view = add("view", _view, "draw a frame: six cameras and the scene from above", "data --index 3 --out frame.png")
    view.add_argument("--split", help="split that --index counts in (default: the first one)")
    which = view.add_mutually_exclusive_group()
    which.add_argument("--sample", metavar="TOKEN", help="sample token")
    which.add_argument("--index", type=int, default=0, help="position in the split (default 0)")
    view.add_argument("--out", type=Path, default=Path("frame.png"), metavar="PNG", help="picture (default frame.png)")
    view.add_argument("--sweeps", type=int, default=10, help="LiDAR sweeps to accumulate (default 10)")
    view.add_argument("--range", type=float, default=55.0, metavar="M", help="half side of the view from above")
    objects = add("objects", _objects, "cut out the annotated objects, for ground-truth paste", "data --split train")
    objects.add_argument("--split", help="take the objects of this split (default: the first one)")
    objects.add_argument("--out", type=Path, metavar="DIR", help="folder (default: in ROOT/.bevstack)")
    objects.add_argument("--sweeps", type=int, default=10, help="LiDAR sweeps to accumulate (default 10)")
    objects.add_argument("--width", type=int, default=704, metavar="PX", help="width of the pictures (default 704)")
    objects.add_argument("--force", action="store_true", help="replace a database of other data or settings")
    occupancy = add("occupancy", _occupancy, "make occupancy labels from LiDAR sweeps and boxes", "data --split train")
    occupancy.add_argument("--split", help="make the labels of this split (default: the first one)")
    occupancy.add_argument("--format", default="occ3d", choices=("occ3d",), help="layout of the files (default occ3d)")
    occupancy.add_argument("--out", type=Path, metavar="DIR", help="folder of the labels (default: ROOT/gts)")
    occupancy.add_argument("--all-sweeps", action="store_true", help="also use the sweeps between key frames")
    occupancy.add_argument("--workers", type=int, default=1, metavar="W", help="processes, a scene each (default 1)")
    return parser


def _adder(commands: Any) -> Callable[[str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]:
    def add(
        name: str, command: Callable[[argparse.Namespace], int], text: str, example: str
    ) -> argparse.ArgumentParser:
        parser = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example: bevstack data {name} {example}",
        )
        parser.add_argument("root", type=Path, metavar="ROOT", help="folder with samples/ and the version folder")
        parser.add_argument("--version", help="version folder, such as v1.0-mini (default: the only one)")
        parser.set_defaults(command=command)
        return parser

    return add


# -- index ------------------------------------------------------------------------------------------------------------
def _index(options: argparse.Namespace) -> int:
    from bevstack.data.index import find_version, index_folder, is_current, open_index
    from bevstack.data.index_build import MANIFEST_NAME

    version = find_version(options.root, options.version)
    folder = options.out or index_folder(options.root, version)
    if options.force:
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
    fresh = is_current(folder, options.root / version)
    start = time.perf_counter()
    index = open_index(options.root, version, out=folder, progress=True)
    seconds = time.perf_counter() - start
    num_bytes = sum(file.stat().st_size for file in index.path.iterdir())
    print(f"index    {index.path}  ({num_bytes / 1e6:.1f} MB)")
    print(f"version  {index.version}  sha256 {index.data_hash[:16]}")
    print(
        f"content  {len(index.scenes)} scenes, {index.num_samples} key frames, {index.num_data} sensor readings, "
        f"{index.num_annotations} boxes"
    )
    print(f"splits   {', '.join(f'{name} ({len(names)})' for name, names in index.splits().items()) or 'none'}")
    print(f"{'up to date, opened' if fresh else 'built'} in {seconds:.3f} s")
    return 0


# -- check ------------------------------------------------------------------------------------------------------------
def _check(options: argparse.Namespace) -> int:
    from bevstack.data.check import check_dataset
    from bevstack.data.index import open_index

    index = open_index(options.root, options.version)
    report = check_dataset(index, options.split, deep=options.deep)
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        _print_check(report)
    if options.write_split:
        _write_split(index, options.write_split, report)
    return 0 if report.is_usable else 1


def _print_check(report: "CheckReport") -> None:
    part = f", split {report.split}" if report.split else ""
    print(f"{report.root}  {report.version}{part}: {report.num_scenes} scenes, {report.num_samples} key frames\n")
    width = max((len(group.name) for group in report.groups), default=0)
    for group in report.groups:
        mark = "ok  " if group.is_complete else "FAIL" if group.needed else "note"
        have = group.expected - group.missing - group.damaged
        damaged = f", {group.damaged} damaged" if group.damaged else ""
        print(f"{mark}  {group.name:<{width}}  {have} of {group.expected}{damaged}")
        if not group.is_complete:
            blank = f"      {'':<{width}}  "
            print(f"{blank}first: {group.examples[0]}")
            print(f"{blank}from:  {group.archive}")
            print(f"{blank}works without: {group.without}")
    for problem in report.problems:
        print(f"FAIL  {problem}")
    if report.sanity is not None and report.sanity.status != "fault":
        mark = "ok  " if report.sanity.status == "fits" else "note"
        print(f"{mark}  boxes and points: {report.sanity.sentence}")
    print(f"\n{len(report.complete_scenes)} of {report.num_scenes} scenes have everything that is needed")
    if report.is_usable:
        print("usable: training and evaluation find everything")
    elif report.complete_scenes:
        print("to use what is there: bevstack data check ROOT --write-split NAME, then train on split NAME")
    else:
        print("not usable as it is; fetch what is marked FAIL")


def _write_split(index: "DatasetIndex", name: str, report: "CheckReport") -> None:
    from bevstack.data.index import read_custom_splits

    if not report.complete_scenes:
        raise ValueError("no scene is complete: there is nothing to write a split of")
    if name in index.manifest["predefined_splits"]:
        raise ValueError(f"'{name}' is an official split; choose another name")
    path = index.folder / "splits.json"
    splits = {**read_custom_splits(index.folder), name: list(report.complete_scenes)}
    scratch = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        scratch.write_text(json.dumps(splits, indent=1))
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    print(f"split '{name}' with {len(report.complete_scenes)} scenes written to {path}")


# -- sanity -----------------------------------------------------------------------------------------------------------
def _sanity(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from bevstack.data.check_frames import frame_sanity_of
    from bevstack.data.index import open_index

    index = open_index(options.root, options.version)
    boxes_of = _predicted_boxes(index, options.predictions, options.min_score) if options.predictions else None
    sanity = frame_sanity_of(index, options.split, num_frames=options.frames, boxes_of=boxes_of)
    verdict = sanity.verdict()
    if options.json:
        print(json.dumps({"verdict": asdict(verdict), "scores": sanity.scores()}, indent=2))
    else:
        print(verdict.sentence)
    return 1 if verdict.status == "fault" else 0


def _predicted_boxes(index: "DatasetIndex", file: Path, min_score: float) -> "BoxesOfSample":
    """The boxes of an official submission file in `ego`, those of a sufficient score."""
    from bevstack.data.class_names import LIDAR_NAME
    from bevstack.evaluation.detection.nuscenes import to_detections
    from bevstack.evaluation.predictions.box_columns import read_submission_columns
    from bevstack.types.boxes import Boxes3D

    columns, _ = read_submission_columns(file)
    columns = columns.take(columns.score >= min_score)
    known = frozenset(columns.sample_tokens)

    def boxes_of(sample: int) -> "Float[np.ndarray, 'N 9']":
        token = index.sample_tokens[sample]
        if token not in known:
            return Boxes3D.empty().rows
        T_global_ego = index.T_global_ego([index.key_data_row(sample, LIDAR_NAME)])[0]
        return to_detections(columns.select([token]), T_global_ego).boxes.rows

    return boxes_of


# -- stats ------------------------------------------------------------------------------------------------------------
def _stats(options: argparse.Namespace) -> int:
    from bevstack.data.index import open_index
    from bevstack.data.stats import dataset_stats

    stats = dataset_stats(open_index(options.root, options.version), options.split)
    if options.json:
        print(json.dumps(_without_nan(stats.as_dict()), indent=2))
    else:
        _print_stats(stats)
    return 0


def _print_stats(stats: "DatasetStats") -> None:
    from bevstack.data.stats import DISTANCE_EDGES_M

    print(
        f"{stats.version}{f', split {stats.split}' if stats.split else ''}: {stats.num_scenes} scenes, "
        f"{stats.num_frames} key frames, {stats.duration_s / 60:.1f} min, {stats.distance_m / 1000:.2f} km, "
        f"{stats.sweeps_per_frame:.1f} LiDAR readings a key frame"
    )
    print("locations    " + ", ".join(f"{name} {count}" for name, count in stats.locations.items()))
    print("described as " + ", ".join(f"{word}: {count} scenes" for word, count in stats.scenes_described_as.items()))
    mean, median, most = stats.boxes_per_frame
    print(
        f"boxes        {stats.num_boxes} ({stats.num_other_boxes} outside of the ten classes), "
        f"a frame: mean {mean:.1f}, median {median:.0f}, most {most:.0f}"
    )
    print("visibility   " + (", ".join(f"{name}: {count}" for name, count in stats.visibility.items()) or "none"))
    edges = [f"-{edge:.0f} m" for edge in DISTANCE_EDGES_M[1:-1]] + ["beyond"]
    head = f"{'class':<21}{'boxes':>8}{'tracks':>8}{'/frame':>8}{'points':>8}{'unseen':>8}{'l x w x h':>19}{'m/s':>6}"
    print(f"\n{head}  " + "".join(f"{edge:>8}" for edge in edges))
    for row in stats.classes:
        size = " x ".join(f"{side:.1f}" for side in row.median_size_lwh_m) if row.boxes else "-"
        print(
            f"{row.name:<21}{row.boxes:>8}{row.instances:>8}{row.boxes_per_frame:>8.2f}"
            f"{_or_dash(row.median_lidar_points, '.0f'):>8}{row.boxes_without_points:>8}{size:>19}"
            f"{_or_dash(row.median_speed_mps, '.1f'):>6}  " + "".join(f"{count:>8}" for count in row.distance_histogram)
        )
    print("\nattributes")
    for row in stats.classes:
        if row.attributes:
            print(f"  {row.name:<22}" + ", ".join(f"{name}: {count}" for name, count in row.attributes.items()))


def _or_dash(value: float, form: str) -> str:
    return format(value, form) if value == value else "-"


def _without_nan(item: Any) -> Any:
    """The same data with null in place of NaN, which is not JSON."""
    if isinstance(item, dict):
        return {key: _without_nan(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [_without_nan(value) for value in item]
    return None if isinstance(item, float) and item != item else item


# -- view -------------------------------------------------------------------------------------------------------------
def _view(options: argparse.Namespace) -> int:
    import cv2

    from bevstack.data.labels import labelled
    from bevstack.data.view import draw_frame

    if options.out.suffix not in (".png", ".jpg"):
        raise ValueError(f"cannot write {options.out}: use a name that ends in .png or .jpg")
    frames, position = _frame_to_view(options)
    if not -len(frames) <= position < len(frames):
        raise ValueError(f"--index {position}: split '{frames.split}' has frames 0 to {len(frames) - 1}")
    frame = labelled(frames[position], _map_labellers(frames, options.range))
    picture = draw_frame(frame, range_m=options.range)
    encoded = cv2.imencode(options.out.suffix, picture[:, :, ::-1])[1]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    scratch = options.out.with_name(f".{options.out.name}.tmp-{os.getpid()}")
    try:
        scratch.write_bytes(encoded.tobytes())
        scratch.replace(options.out)
    finally:
        scratch.unlink(missing_ok=True)
    print(f"sample {frames.token(position)} drawn to {options.out}")
    return 0


def _map_labellers(frames: "NuScenesFrames", range_m: float) -> "list[Labeller]":
    """What draws the map of the seen area, where the data set has one."""
    import math

    from bevstack.data.available_labels import has_map
    from bevstack.data.map_labels import MapLabeller
    from bevstack.types.bev import BevGrid

    if not has_map(frames.index, frames.split):
        return []
    side = (-math.ceil(range_m), math.ceil(range_m))
    grid = BevGrid(x_range_m=side, y_range_m=side, z_range_m=(-5.0, 3.0), cell_m=0.25)
    return [MapLabeller(root=frames.root, grid=grid, missing="mask")]


def _frame_to_view(options: argparse.Namespace) -> "tuple[NuScenesFrames, int]":
    from bevstack.data.available_labels import occupancy_format
    from bevstack.data.index import open_index
    from bevstack.data.nuscenes import NuScenesFrames
    from bevstack.types.errors import DatasetError

    index = open_index(options.root, options.version)
    splits = [options.split] if options.split else list(index.splits())
    if options.sample:
        scene = index.scene_of_sample(index.sample_row(options.sample)).name
        splits = [name for name, scenes in index.splits().items() if scene in scenes]
    if not splits:
        raise DatasetError(f"{index.folder} has no split; write one to {index.folder / 'splits.json'}")
    frames = NuScenesFrames(
        root=options.root,
        version=index.version,
        split=splits[0],
        image_size=_whole_picture(index),
        num_sweeps=options.sweeps,
        occupancy=occupancy_format(index, splits[0]),
        missing="mask",
    )
    return frames, frames.index_of(options.sample) if options.sample else options.index


def _whole_picture(index: "DatasetIndex", width_px: int = 704) -> "ImageSize":
    """The size at which this data set's pictures are `width_px` wide and nothing is cropped off."""
    from bevstack.data.images import ImageSize

    sizes = index["data_size"][index["data_size"][:, 0] > 0]
    width, height = sizes[0].tolist() if len(sizes) else (16, 9)
    return ImageSize(round(height * width_px / width), width_px)


# -- objects ----------------------------------------------------------------------------------------------------------
def _objects(options: argparse.Namespace) -> int:
    from bevstack.data.index import index_folder, open_index
    from bevstack.data.nuscenes import NuScenesFrames
    from bevstack.data.object_database_build import build_object_database

    split = options.split or _first_split(options)
    index = open_index(options.root, options.version)
    has_occupancy = (options.root / "gts").is_dir()
    frames = NuScenesFrames(
        root=options.root,
        version=index.version,
        split=split,
        image_size=_whole_picture(index, options.width),
        num_sweeps=options.sweeps,
        occupancy="occ3d" if has_occupancy else None,
        missing="mask",
    )
    beside = index_folder(options.root, index.version)
    out = options.out or beside.with_name(f"{beside.name.replace('index-', 'objects-', 1)}-{split}")
    start = time.perf_counter()
    summary = build_object_database(frames, out, force=options.force, progress=True)
    seconds = time.perf_counter() - start
    database = summary.database
    num_bytes = sum(file.stat().st_size for file in out.iterdir())
    print(f"objects  {out}  ({num_bytes / 1e6:.1f} MB, {len(database)} objects)")
    print("classes  " + ", ".join(f"{name} {count}" for name, count in database.class_counts().items()))
    if not has_occupancy:
        print("voxels   none: ROOT/gts has no occupancy labels; paste makes them from the points of each object")
    print("up to date" if summary.was_there else f"made in {seconds:.1f} s ({seconds / len(frames):.3f} s a frame)")
    return 0


# -- occupancy --------------------------------------------------------------------------------------------------------
def _occupancy(options: argparse.Namespace) -> int:
    from bevstack.data.occupancy_make import make_occupancy

    split = options.split or _first_split(options)
    start = time.perf_counter()
    summary = make_occupancy(
        options.root,
        split,
        version=options.version,
        out=options.out,
        all_sweeps=options.all_sweeps,
        workers=options.workers,
        progress=True,
    )
    seconds = time.perf_counter() - start
    print(f"labels   {summary.folder}")
    rate = f" ({seconds / summary.num_made:.2f} s a frame)" if summary.num_made else ""
    print(f"frames   {summary.num_made} made in {seconds:.0f} s{rate}, {summary.num_present} were there")
    if not summary.has_point_labels:
        print("classes  of annotated objects only: without lidarseg labels everything else is 'others'")
    return 0


def _first_split(options: argparse.Namespace) -> str:
    from bevstack.data.index import open_index
    from bevstack.types.errors import DatasetError

    index = open_index(options.root, options.version)
    for name in index.splits():
        return name
    raise DatasetError(f"{index.folder} has no split; write one to {index.folder / 'splits.json'}")
