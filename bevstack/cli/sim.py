"""`bevstack sim`: make worlds, list their presets."""

import argparse
import logging
from pathlib import Path
from typing import Literal

OCCUPANCY: dict[str, tuple[Literal["occ3d", "openoccupancy"], ...]] = {
    "occ3d": ("occ3d",),
    "openoccupancy": ("openoccupancy",),
    "both": ("occ3d", "openoccupancy"),
}
"""Values of --occupancy and the formats that they mean."""

DESCRIPTION = """Worlds are simulated data sets in nuScenes format: six cameras, a 32-beam LiDAR with sweeps, boxes,
lidarseg, maps, CAN bus. nuscenes-devkit loads and scores them; the version folder is v1.0-world, the split 'worlds'."""

EXAMPLES = """examples:
  bevstack sim make --scenes 4 --seed 1 --preset smoke /tmp/smoke      a tiny world, to try things
  bevstack sim make --scenes 20 --seed 2 worlds/val                    a held-out standard world
  bevstack sim make --scenes 8 --seed 3 --occupancy worlds/occ         with Occ3D occupancy labels
  bevstack sim make --scenes 8 --seed 3 --occupancy both worlds/occ    with those of OpenOccupancy too
  bevstack sim presets                                                 what the presets are, and their hashes
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bevstack sim",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser(
        "make",
        help="make a data set",
        description="Make a data set in nuScenes format. The same preset, seed and number give the same bytes, "
        "with any number of workers. An interrupted call is taken up where it stopped by repeating it.",
        epilog="example: bevstack sim make --scenes 20 --seed 2 worlds/val",
    )
    make.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    make.add_argument("--scenes", type=int, required=True, metavar="N", help="number of scenes")
    make.add_argument("--seed", type=int, required=True, metavar="S", help="seed of everything that is drawn")
    make.add_argument("--preset", default="standard", help="see 'bevstack sim presets' (default: standard)")
    make.add_argument("--keyframes", type=int, metavar="K", help="keyframes per scene at 2 Hz (default: the preset's)")
    make.add_argument(
        "--occupancy",
        metavar="{occ3d,openoccupancy,both}",
        choices=tuple(OCCUPANCY),
        help="also write occupancy labels: Occ3D's to gts/ (what the option alone means), OpenOccupancy's to "
        "nuScenes-Occupancy-v0.1/, or both",
    )
    make.add_argument("--workers", type=int, metavar="W", help="processes (default: one per core)")
    make.add_argument("--split", default="worlds", choices=("worlds",), help="name of the split in splits.json")
    make.add_argument("--force", action="store_true", help="replace a world that is already at OUT")
    make.add_argument("--quiet", action="store_true", help="no progress bar")
    actions.add_parser("presets", help="list the presets", description="List the presets with version and hash.")
    return parser


def run(arguments: list[str]) -> int:
    """Entry point of `bevstack sim`."""
    options = _parser().parse_args(_with_format_named(arguments))
    return _presets() if options.action == "presets" else _make(options)


def _with_format_named(arguments: list[str]) -> list[str]:
    """`--occupancy` alone means occ3d; argparse would take the folder that may follow it for its value."""
    following = [*arguments[1:], ""]
    return [
        "--occupancy=occ3d" if argument == "--occupancy" and value not in OCCUPANCY else argument
        for argument, value in zip(arguments, following, strict=True)
    ]


def _presets() -> int:
    from bevstack.sim.world.presets import PRESETS, WORLD_FORMAT_VERSION, preset_hash

    print(f"world format version {WORLD_FORMAT_VERSION}")
    for preset in PRESETS.values():
        print(f"\n{preset.name}  sha256 {preset_hash(preset)}")
        print(f"  towns    {', '.join(preset.town_kinds)}")
        print(f"  weather  {', '.join(preset.weather_kinds)}")
        if preset.events:
            print(f"  events   {', '.join(preset.events)}")
        print(f"  images   {preset.image_width_px}x{preset.image_height_px}, JPEG quality {preset.jpeg_quality}")
        print(f"  scenes   {preset.keyframes} keyframes at 2 Hz, {preset.sweeps_per_keyframe} LiDAR sweeps for each")
    return 0


def _make(options: argparse.Namespace) -> int:
    import os

    from bevstack.sim.make import make_worlds
    from bevstack.sim.world.presets import preset_named

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    workers = options.workers if options.workers is not None else len(os.sched_getaffinity(0))
    summary = make_worlds(
        options.out,
        scenes=options.scenes,
        seed=options.seed,
        preset=preset_named(options.preset),
        keyframes_per_scene=options.keyframes,
        workers=max(1, min(workers, options.scenes)) if options.workers is None else workers,
        occupancy=OCCUPANCY.get(options.occupancy, ()),
        overwrite=options.force,
        show_progress=not options.quiet,
    )
    print(
        f"{summary.root}: {summary.scenes} scenes, {summary.keyframes} keyframes, {summary.annotations} boxes in "
        f"{summary.seconds:.0f} s ({summary.seconds / summary.keyframes:.2f} s per keyframe); "
        f"preset {options.preset} {summary.preset_hash[:12]}"
    )
    return 0
