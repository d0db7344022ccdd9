"""How large M3Net is: parameters and arithmetic of its parts, memory and time of an inference and a training step.

    OMP_NUM_THREADS=1 python benchmarks/m3net_size.py         # synthetic frame of 10 sweeps; minutes on a CPU
    python benchmarks/m3net_size.py --root nuscenes --version v1.0-mini --split mini_val --device cuda

One frame. Map and occupancy labels are random: sizes do not depend on them, and losses mean nothing here. Arithmetic is
that of one inference: dense operations as torch counts them, sparse convolutions by their pairs of voxels. Sampling
(deformable attention, splatting, interpolation) is not counted. Writes results/m3net_size.json.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import spconv.pytorch as spconv
import torch
from common import RESULTS, machine_facts
from model_step import make_batch
from omegaconf import DictConfig
from spconv.pytorch.conv import SparseConvolution
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bevstack.build import build_frames, build_model, compose, instantiate
from bevstack.data.collate import collate
from bevstack.training.fit import flat_weights
from bevstack.types import Batch, Labels

PARTS = {
    "camera backbone": "encoders.camera.backbone",
    "lift": "encoders.camera.lift",
    "LiDAR encoder": "encoders.lidar",
    "fuser": "fuser",
    "BEV backbone": "backbone",
    "decoder": "heads.m3net",
}


def one_frame(config: DictConfig, arguments: argparse.Namespace) -> tuple[Batch, Labels]:
    """A real or a synthetic frame with labels of all three tasks."""
    config.input.occupancy = None
    if arguments.root is None:
        size = config.input.image_size
        batch, labels = make_batch(1, height=size.height, width=size.width, num_sweeps=config.input.num_sweeps)
    else:
        frames = build_frames(
            config, root=arguments.root, version=arguments.version, split=arguments.split, with_annotations=True
        )
        batch, found = collate([frames[0]])
        assert found is not None
        labels = found
    generator = torch.Generator().manual_seed(0)
    voxels = instantiate(config, "occupancy_grid").shape_xyz
    classes = torch.randint(0, 17, (1, *voxels), generator=generator, dtype=torch.uint8)
    is_free = torch.rand(classes.shape, generator=generator) > 0.03
    return batch, replace(
        labels,
        map_masks=torch.rand((1, 6, *instantiate(config, "map_grid").shape_yx), generator=generator) < 0.3,
        map_valid=torch.ones(1, dtype=torch.bool),
        occupancy=classes.masked_fill(is_free, 17),
    )


def count_sparse(model: nn.Module, counts: dict[str, int]) -> None:
    """Add up multiply-adds of the sparse convolutions, in `counts["macs"]`, as they run."""

    def count(layer: SparseConvolution, given: tuple[spconv.SparseConvTensor], out: spconv.SparseConvTensor) -> None:
        stored = out.indice_dict.get(layer.indice_key) if layer.indice_key else None
        pairs = int(stored.indice_pair_num.sum()) if stored is not None else _strided_pairs(layer, given[0])
        counts["macs"] = counts.get("macs", 0) + pairs * layer.in_channels * layer.out_channels

    for layer in model.modules():
        if isinstance(layer, SparseConvolution):
            layer.register_forward_hook(count)


def _strided_pairs(layer: SparseConvolution, given: spconv.SparseConvTensor) -> int:
    """Pairs (input voxel, kernel cell) that reach an output cell."""
    offsets = torch.cartesian_prod(*(torch.arange(size) for size in layer.kernel_size)).to(given.indices.device)
    stride, padding = (offsets.new_tensor(value) for value in (layer.stride, layer.padding))
    size = offsets.new_tensor(given.spatial_shape)
    last = (size + 2 * padding - offsets.new_tensor(layer.kernel_size)) // stride
    total = 0
    for offset in offsets:
        moved = given.indices[:, 1:].long() + padding - offset
        reached = torch.div(moved, stride, rounding_mode="floor")
        total += int(((moved % stride == 0) & (reached >= 0) & (reached <= last)).all(dim=1).sum())
    return total


def measured(action: Callable[[], Tensor | None], device: str) -> dict[str, float]:
    """Memory so far at its peak (of the process on a CPU, of tensors on a GPU) and time of one call."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    if device != "cpu":
        torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / 2**20 if device != "cpu" else _peak_rss_mb()
    return {
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_mb": round(peak),
    }


def _peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """All figures."""
    torch.manual_seed(0)
    config = compose([f"experiment={arguments.experiment}", *arguments.override])
    batch, labels = (item.to(arguments.device) for item in one_frame(config, arguments))
    assert isinstance(batch, Batch) and isinstance(labels, Labels)
    model = build_model(config).to(arguments.device)
    weights = flat_weights(config.loss_weights)
    sparse: dict[str, int] = {}
    count_sparse(model, sparse)
    at_rest = _peak_rss_mb()
    counter = FlopCounterMode(display=False)

    def infer() -> None:
        with torch.no_grad(), counter:
            model.eval()(batch)

    def step() -> None:
        terms = model.train().loss(model(batch), labels)
        torch.stack([weights[name] * value for name, value in terms.items()]).sum().backward()
        print({name: round(float(value.detach()), 4) for name, value in terms.items()}, flush=True)

    inference = measured(infer, arguments.device)
    print({"inference": inference}, flush=True)
    sparse_macs = sparse["macs"]
    training = measured(step, arguments.device)
    flops = {name.partition(".")[2]: sum(by_kind.values()) for name, by_kind in counter.get_flop_counts().items()}
    parts = {}
    for label, path in PARTS.items():
        part = model.get_submodule(path)
        macs = flops.get(path, 0) // 2 + (sparse_macs if path == "encoders.lidar" else 0)
        parts[label] = {
            "parameters_m": round(sum(value.numel() for value in part.parameters()) / 1e6, 3),
            "gmac": round(macs / 1e9, 2),
        }
    silent = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    return {
        "experiment": arguments.experiment,
        "override": arguments.override,
        "frame": "synthetic, 10 sweeps" if arguments.root is None else f"{arguments.version} {batch.tokens[0]}",
        "points": len(batch.points_ego),
        "parameters_m": round(sum(value.numel() for value in model.parameters()) / 1e6, 3),
        "gmac": round((counter.get_total_flops() // 2 + sparse_macs) / 1e9, 2),
        "parts": parts,
        "at_rest_mb": round(at_rest),
        "inference": inference,
        "training_step": training,
        "parameters_without_gradient": silent,
        "machine": machine_facts(),
    }


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="m3net")
    parser.add_argument("--override", nargs="*", default=[], help="as on the command line of `bevstack train`")
    parser.add_argument("--root", type=Path, help="folder of a nuScenes data set; its first frame is taken")
    parser.add_argument("--version", default="v1.0-mini")
    parser.add_argument("--split", default="mini_val")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = measure(arguments)
    print(json.dumps(result, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "m3net_size.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
