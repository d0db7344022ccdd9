"""`bevstack vocabulary`: make the trajectories that a planner chooses among, or describe them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_DESCRIPTION = """A vocabulary is a fixed set of trajectories of the vehicle over 3 s. Planners with one start from
trajectories that cover what the vehicle can do, unless they are given the clusters of what it did in training data."""

_EXAMPLES = """examples:
  bevstack vocabulary make worlds/train --out driven.npz
  bevstack vocabulary make /data/nuscenes --split train --size 512 --out driven512.npz
  bevstack vocabulary show driven.npz
  bevstack train experiment=drive_small model.behaviour.planning.vocabulary.weights=driven.npz ...
"""


_WORLDS = "worlds"
"""The only split of a world, whatever it is used for: give the folder that you train on."""


def run(arguments: list[str]) -> int:
    """Make a vocabulary, or show one."""
    parser = argparse.ArgumentParser(
        prog="bevstack vocabulary",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser(
        "make",
        help="from the futures that the vehicle drove in a training split",
        description="Cluster the futures that the vehicle drove (k-means). The same data gives the same vocabulary.",
    )
    make.add_argument("root", type=Path, metavar="ROOT", help="folder with samples/ and the version folder")
    make.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write, .npz")
    make.add_argument("--version", help="version folder, such as v1.0-trainval (default: the only one)")
    make.add_argument("--split", help="a training split (default: the only split of worlds, else train)")
    make.add_argument("--size", type=int, default=256, metavar="V", help="number of trajectories (default: 256)")
    show = actions.add_parser("show", help="describe a file", description="Describe a file.")
    show.add_argument("file", type=Path, metavar="FILE", help="from 'bevstack vocabulary make'")
    args = parser.parse_args(arguments)
    return _make(args) if args.action == "make" else _show(args.file)


def _make(args: argparse.Namespace) -> int:
    import torch

    from bevstack.data.index import open_index
    from bevstack.data.training_splits import is_training_split
    from bevstack.evaluation.planning.ego_future import read_ego_future
    from bevstack.planning.vocabulary import clustered_vocabulary, mirrored, write_vocabulary

    if args.out.suffix != ".npz":
        raise ValueError(f"--out {args.out} must end in .npz")
    index = open_index(args.root, args.version)
    split = args.split or (_WORLDS if _WORLDS in index.splits() else "train")
    if split != _WORLDS and not is_training_split(split):
        raise ValueError(f"split '{split}' is not for training: its futures must not shape what a planner can choose")
    future = read_ego_future(index, split)
    whole = torch.from_numpy(future.poses_ego[future.has_full_future])
    both = torch.cat((whole, mirrored(whole)))[..., :2]
    poses = clustered_vocabulary(both, args.size)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_vocabulary(args.out, poses)
    print(f"{args.out}: from {len(whole)} of {len(future)} frames of '{split}', those with a whole future, and their")
    print("mirrors")
    _describe(poses)
    return 0


def _show(file: Path) -> int:
    from bevstack.planning.vocabulary import read_vocabulary

    _describe(read_vocabulary(file))
    return 0


def _describe(poses: "Tensor") -> None:
    way = poses[:, -1, :2].norm(dim=-1)
    turn = poses[:, -1, 2].abs().rad2deg()
    print(f"{len(poses)} trajectories of {poses.shape[1]} steps")
    print(f"{int((way < 1).sum())} stand, the others go up to {float(way.max()):.0f} m; {int((turn > 15).sum())} turn")
    print("by more than 15 degrees")
