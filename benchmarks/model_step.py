"""Time of one training step and one inference of the shipped experiments, on a synthetic surround scene.

    OMP_NUM_THREADS=1 python benchmarks/model_step.py --experiments lidar_small fusion_small --batch 2
    python benchmarks/model_step.py --experiments fusion_small --override model.fuser.kernel=1 --channels-last

A training step is forward, loss, backward and optimizer step; inference is forward and decode. Times are CPU seconds
for each sample (wall seconds on CUDA), least of the repeats. Reading and decoding of sensor data is not included.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bevstack.build import build_model, compose
from bevstack.types import Batch, Labels

CAMERA_YAWS_DEG = (0, -55, -110, 180, 110, 55)
BEAMS, AZIMUTHS, MOUNT_HEIGHT_M = 32, 1085, 1.84


def make_cloud(rng: np.random.Generator, *, num_sweeps: int) -> np.ndarray:
    """Rings of a 32-beam sensor over bumpy ground between irregular walls; rows x, y, z, intensity, age."""
    elevation, azimuth = np.meshgrid(
        np.radians(np.linspace(-30.67, 10.67, BEAMS)), np.linspace(-np.pi, np.pi, AZIMUTHS, endpoint=False)
    )
    sweeps = [np.zeros((0, 5))]
    for sweep in range(num_sweeps):
        moved_m = 0.4 * sweep  # the car drives, so that rings of older sweeps fall between those of newer ones
        wall_m = 24 + 12 * np.sin(3 * azimuth) + 8 * np.sin(7 * azimuth + 0.01 * sweep)
        ground_m = np.where(elevation < 0, MOUNT_HEIGHT_M / np.tan(np.maximum(-elevation, 1e-3)), np.inf)
        reach_m = np.minimum(wall_m, ground_m * rng.normal(1, 0.02, azimuth.shape))
        x, y = reach_m * np.cos(azimuth) - moved_m, reach_m * np.sin(azimuth)
        z = MOUNT_HEIGHT_M + reach_m * np.tan(elevation)
        rows = np.stack((x, y, z, rng.uniform(0, 60, x.shape), np.full(x.shape, 0.05 * sweep)), axis=-1)
        sweeps.append(rows.reshape(-1, 5)[z.ravel() < 6])
    return np.concatenate(sweeps).astype(np.float32)


def make_batch(size: int, *, height: int, width: int, num_sweeps: int) -> tuple[Batch, Labels]:
    """A batch of `size` frames with 40 boxes each."""
    rng = np.random.default_rng(0)
    clouds = [make_cloud(rng, num_sweeps=num_sweeps) for _ in range(size)]
    focal = width / 2 / np.tan(np.radians(35))
    K_cam = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    poses = []
    for yaw in np.radians(CAMERA_YAWS_DEG):
        c, s = np.cos(yaw), np.sin(yaw)
        poses.append([[s, 0, c, 1.0], [-c, 0, s, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    cameras = len(poses)
    boxes = np.column_stack(
        (
            rng.uniform(-45, 45, (40, 2)),
            np.full(40, 0.9),
            np.tile((4.6, 1.9, 1.7), (40, 1)),
            rng.uniform(-3, 3, (40, 3)),
        )
    ).astype(np.float32)
    batch = Batch(
        images=torch.from_numpy(rng.integers(0, 256, (size, cameras, 3, height, width), np.uint8)),
        K_cam=torch.from_numpy(K_cam).float().expand(size, cameras, 3, 3).contiguous(),
        T_ego_cam=torch.tensor(poses, dtype=torch.float32).expand(size, cameras, 4, 4).contiguous(),
        camera_mask=torch.ones((size, cameras), dtype=torch.bool),
        points_ego=torch.from_numpy(np.concatenate(clouds)),
        point_frame_index=torch.repeat_interleave(torch.arange(size), torch.tensor([len(cloud) for cloud in clouds])),
        lidar_mask=torch.ones(size, dtype=torch.bool),
        T_global_ego=torch.eye(4, dtype=torch.float64).expand(size, 4, 4).contiguous(),
        timestamps_us=torch.zeros(size, dtype=torch.int64),
        tokens=tuple(str(index) for index in range(size)),
        scene_names=("benchmark",) * size,
    )
    labels = Labels(
        boxes_ego=(torch.from_numpy(boxes),) * size,
        class_index=(torch.arange(40) % 10,) * size,
        attribute_index=(torch.full((40,), -1),) * size,
        num_points=(torch.full((40,), 5),) * size,
    )
    return batch, labels


def least_time(action: Callable[[], object], repeats: int, device: str) -> float:
    """Least time in seconds after two warm-up calls."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    times = []
    for _ in range(repeats + 2):
        start = clock()
        action()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return min(times[2:])


def measure(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Size, arithmetic and times of the model of one experiment."""
    torch.manual_seed(0)
    config = compose([f"experiment={name}", *arguments.override])
    size = config.input.image_size
    batch, labels = make_batch(
        arguments.batch, height=size.height, width=size.width, num_sweeps=config.input.num_sweeps
    )
    batch, labels = batch.to(arguments.device), labels.to(arguments.device)
    model = build_model(config).to(arguments.device)
    if arguments.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    autocast = partial(torch.autocast, arguments.device, torch.bfloat16, enabled=arguments.bf16)

    def train_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            outputs = model(batch)
        torch.stack(list(model.loss(outputs, labels).values())).sum().backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode(), autocast():
            model.decode(model(batch), batch)

    step_s = least_time(train_step, arguments.repeats, arguments.device) / arguments.batch
    model.eval()
    infer_s = least_time(infer, arguments.repeats, arguments.device) / arguments.batch
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch)
    total = sum(value.numel() for value in model.state_dict().values())
    return {
        "experiment": name,
        "parameters_m": round(total / 1e6, 3),
        "trained_m": round(sum(parameter.numel() for parameter in parameters) / 1e6, 3),
        "dense_gmac": round(counter.get_total_flops() / 2e9 / arguments.batch, 2),
        "step_s": round(step_s, 4),
        "infer_s": round(infer_s, 4),
    }


def main() -> None:
    """Parse the command line, measure, print one JSON line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=["lidar_small", "camera_small", "fusion_small"])
    parser.add_argument("--override", nargs="*", default=[], help="as on the command line of `bevstack train`")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = []
    for name in arguments.experiments:
        results.append(measure(name, arguments))
        print(json.dumps(results[-1]), flush=True)
    if arguments.out:
        settings = {key: str(value) for key, value in vars(arguments).items()}
        arguments.out.write_text(json.dumps({"settings": settings, "torch": torch.__version__, "results": results}))


if __name__ == "__main__":
    main()
