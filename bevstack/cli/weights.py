"""`bevstack weights`: pack a training run into one file, or look inside one."""

import argparse
import json
from collections import Counter
from pathlib import Path

_EPILOG = """examples:
  bevstack weights pack runs/latest fusion.safetensors
  bevstack weights pack runs/latest bevstack/weights/demo.safetensors --half
  bevstack weights show demo
  bevstack weights show fusion.safetensors --config
"""


def run(arguments: list[str]) -> int:
    """Dispatch to `pack` or `show`."""
    parser = argparse.ArgumentParser(
        prog="bevstack weights",
        description="A weights file holds the averaged tensors and, as text, configuration, versions and data hash.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pack = commands.add_parser("pack", help="write the averaged weights of a run to one file")
    pack.add_argument("source", metavar="RUN", help="run folder, .ckpt or .safetensors")
    pack.add_argument("out", metavar="OUT", type=Path, help="file to write, ending in .safetensors")
    pack.add_argument("--half", action="store_true", help="store float16: half the size, rounded to 3 digits")
    pack.set_defaults(action=_pack)
    show = commands.add_parser("show", help="say what is in a weights file")
    show.add_argument("source", metavar="FILE", help="file, run folder, or demo")
    show.add_argument("--config", action="store_true", help="print the configuration as well")
    show.set_defaults(action=_show)
    args = parser.parse_args(arguments)
    return int(args.action(args))


def _pack(args: argparse.Namespace) -> int:
    from omegaconf import DictConfig, OmegaConf

    from bevstack.build import load_model, portable_yaml
    from bevstack.weights_file import read_weights, write_weights

    if args.out.suffix != ".safetensors":
        raise ValueError(f"{args.out} must end in .safetensors: that is the kind of file that is written")
    _, tensors, metadata = read_weights(args.source)
    config = OmegaConf.create(metadata["config"])
    if isinstance(config, DictConfig):  # runs of older versions may name files of their machine
        metadata = {**metadata, "config": portable_yaml(config)}
    path = write_weights(args.out, tensors, metadata, half=args.half)
    load_model(path)  # what cannot be loaded is not worth keeping
    print(f"{path}  {path.stat().st_size / 1e6:.1f} MB, step {metadata['step']}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from bevstack.weights_file import read_weights

    file, tensors, metadata = read_weights(args.source)
    sizes: Counter[str] = Counter()
    for name, tensor in tensors.items():
        words = name.split(".")
        sizes[".".join(words[:2]) if words[0] in ("encoders", "heads") else words[0]] += tensor.numel()
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    for key in ("step", "bevstack_version", "git_commit", "torch_version", "data_hash"):
        print(f"  {key:<18}{metadata.get(key) or '-'}")
    print(f"  {'classes':<18}{', '.join(json.loads(metadata['class_names']))}")
    print(f"  {'numbers':<18}{sum(sizes.values()) / 1e6:.2f} M ({', '.join(types)})")
    for part, size in sorted(sizes.items()):
        print(f"    {part:<18}{size / 1e6:>8.3f} M")
    if args.config:
        print(metadata["config"], end="")
    return 0
