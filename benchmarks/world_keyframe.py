"""CPU time of one simulated key frame by stage: six cameras, ten LiDAR sweeps, visible fractions, occupancy.

Run: NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/world_keyframe.py [--town crossroads] [--seed 3]
Prints minimum and median over the runs per weather, and writes benchmarks/results/world_keyframe.json. The target is
500 ms of one core for a key frame without occupancy.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import RESULTS, machine_facts

from bevstack.data.images import ImageSize
from bevstack.geometry.transforms import from_xy_yaw, transform_points
from bevstack.sim.sensors.cameras import CameraRender, render_camera
from bevstack.sim.sensors.lidar import LidarScan, scan
from bevstack.sim.sensors.occupancy import occupancy_labels
from bevstack.sim.sensors.rig import NUSCENES_CAMERAS, SWEEP_PERIOD_S, T_EGO_LIDAR, camera_matrix
from bevstack.sim.sensors.scene import ActorPose, SensorScene
from bevstack.sim.sensors.visibility import visible_fractions
from bevstack.sim.sensors.weather import WEATHER_KINDS, make_weather
from bevstack.sim.world.presets import preset_named
from bevstack.sim.world.town import Town, make_town
from bevstack.sim.world.traffic import Traffic, simulate_traffic

SIZE = ImageSize(height=256, width=704)
SWEEPS = 10
TIME_S = 1.0


def actor_poses(traffic: Traffic, time_s: float) -> list[ActorPose]:
    """Every actor in town at a time of the scene."""
    poses = []
    for index, track in enumerate(traffic.actors):
        step = track.step_at(time_s)
        if step >= 0:
            x, y, z, yaw = (float(value) for value in track.pose_at(time_s))
            T_global_actor = from_xy_yaw(x, y, yaw, z)
            phase = int(track.phase_index[step])
            poses.append(
                ActorPose(instance=index, meshes=track.model.meshes, T_global_actor=T_global_actor, phase=phase)
            )
    return poses


def ego_pose(traffic: Traffic, time_s: float) -> np.ndarray:
    """T_global_ego at a time of the scene."""
    x, y, _, yaw = (float(value) for value in traffic.ego.pose_at(time_s))
    return from_xy_yaw(x, y, yaw)


class Stages:
    """The work of one key frame, stage by stage, in a prepared scene."""

    def __init__(self, town: Town, traffic: Traffic, weather_kind: str) -> None:
        weather = make_weather(weather_kind, np.random.default_rng(0))
        self.scene = SensorScene(static=town.mesh, street_lamps=town.street_lamps, weather=weather)
        self.traffic = traffic
        self.renders: list[CameraRender] = []
        self.last_scan: LidarScan | None = None

    def cameras(self) -> None:
        """Six pictures, each at its own time of exposure."""
        self.renders = []
        for index, spec in enumerate(NUSCENES_CAMERAS):
            time_s = TIME_S + spec.exposure_offset_s
            T_global_ego = ego_pose(self.traffic, time_s)
            render = render_camera(
                self.scene,
                K_cam=camera_matrix(spec, SIZE),
                T_global_cam=T_global_ego @ spec.T_ego_cam,
                height_px=SIZE.height,
                width_px=SIZE.width,
                actors=actor_poses(self.traffic, time_s),
                seed=index,
                T_global_ego=T_global_ego,
            )
            self.renders.append(render)

    def sweeps(self) -> None:
        """Ten sweeps up to the key frame."""
        for k in range(SWEEPS):
            time_s = TIME_S - (SWEEPS - 1 - k) * SWEEP_PERIOD_S
            actors = actor_poses(self.traffic, time_s)
            self.last_scan = scan(self.scene, T_global_ego=ego_pose(self.traffic, time_s), actors=actors, seed=k)

    def visibility(self) -> None:
        """Visible share of every actor."""
        visible_fractions(self.renders)

    def occupancy(self) -> None:
        """Grid and both masks."""
        assert self.last_scan is not None
        points = self.last_scan.points[self.last_scan.is_return, :3].astype(np.float64)
        occupancy_labels(
            self.scene,
            T_global_ego=ego_pose(self.traffic, TIME_S),
            actors=actor_poses(self.traffic, TIME_S),
            lidar_origin_ego=T_EGO_LIDAR[:3, 3],
            lidar_points_ego=transform_points(T_EGO_LIDAR, points),
            cameras=[(camera_matrix(c, SIZE), c.T_ego_cam, SIZE.height, SIZE.width) for c in NUSCENES_CAMERAS],
        )


def cpu_ms(run: Callable[[], None]) -> float:
    """CPU time of this process, so that other work on the machine disturbs less."""
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1e3


def measure(town: Town, traffic: Traffic, weather_kind: str, runs: int) -> dict[str, dict[str, float]]:
    """Minimum and median CPU milliseconds of every stage."""
    stages = Stages(town, traffic, weather_kind)
    samples: dict[str, list[float]] = {name: [] for name in ("cameras", "sweeps", "visibility", "occupancy")}
    setup_ms = sum(cpu_ms(run) for run in (stages.cameras, stages.sweeps, stages.occupancy))
    for _ in range(runs):
        for name, values in samples.items():
            values.append(cpu_ms(getattr(stages, name)))
    out = {name: {"min_ms": min(values), "median_ms": statistics.median(values)} for name, values in samples.items()}
    keyframe = [sum(parts) for parts in zip(samples["cameras"], samples["sweeps"], samples["visibility"])]
    out["keyframe"] = {"min_ms": min(keyframe), "median_ms": statistics.median(keyframe)}
    out["first_keyframe_with_setup"] = {"min_ms": setup_ms, "median_ms": setup_ms}
    return out


def main() -> None:
    """Measure the chosen weathers in one town."""
    parser = argparse.ArgumentParser(description="CPU time of one simulated key frame by stage.")
    parser.add_argument("--town", default="crossroads")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--weather", nargs="+", default=list(WEATHER_KINDS), choices=WEATHER_KINDS)
    arguments = parser.parse_args()
    town = make_town(arguments.town, np.random.default_rng(arguments.seed))
    traffic = simulate_traffic(town, seed=arguments.seed, duration_s=2.0, preset=preset_named("standard"))
    rows: dict[str, object] = {
        "town": arguments.town,
        "seed": arguments.seed,
        "static_triangles": len(town.mesh.faces),
        "actors": len(traffic.actors),
        "machine": machine_facts(),
    }
    Stages(town, traffic, "day").cameras()  # compiles, or loads what was compiled before
    for kind in arguments.weather:
        result = measure(town, traffic, kind, arguments.runs)
        rows[kind] = result
        stages = "  ".join(f"{name} {value['min_ms']:.0f}/{value['median_ms']:.0f}" for name, value in result.items())
        print(f"{kind:<9} CPU ms min/median: {stages}")
    rows["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    RESULTS.mkdir(exist_ok=True)
    partial = Path(RESULTS) / "world_keyframe.json.partial"
    partial.write_text(json.dumps(rows, indent=1) + "\n")
    partial.rename(Path(RESULTS) / "world_keyframe.json")


if __name__ == "__main__":
    main()
