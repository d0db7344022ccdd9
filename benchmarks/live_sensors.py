"""How fast the ego vehicle's sensors are in the closed loop, model excluded: LiDAR alone, and with six cameras.

Run: NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/live_sensors.py [--towns crossroads curve] [--threads 2]
A standard town with its traffic is played at 10 Hz. Prints CPU and wall-clock time of a frame (two sweeps, ten
accumulated; six pictures of 704x256 through JPEG) and how much faster than real time that is, and writes
benchmarks/results/live_sensors.json. The targets on two cores are 3x real time with LiDAR only and 1x with cameras.
CPU time is what other work on the machine disturbs least: on one thread it is what the wall clock shows when idle.
"""

import argparse
import json
import resource
import statistics
import time

import numpy as np
from common import RESULTS, machine_facts

from bevstack.sim.sensing.live_sensors import LiveSensors
from bevstack.sim.sensing.world_state import ActorState, StaticWorld, WorldState
from bevstack.sim.sensors.weather import WEATHER_KINDS, make_weather
from bevstack.sim.world.presets import preset_named
from bevstack.sim.world.town import TOWN_KINDS, Town, make_town
from bevstack.sim.world.traffic import Traffic, simulate_traffic

FRAME_STEP_S = 0.1


def states_of(traffic: Traffic, frames: int) -> list[WorldState]:
    """The played scene as the loop would hand it over."""
    states = []
    for k in range(frames):
        time_s = k * FRAME_STEP_S
        x, y, z, yaw = traffic.ego.pose_at(time_s).tolist()
        speed = float(np.interp(time_s, traffic.ego.times_s, traffic.ego.speeds_mps))
        actors = []
        for index, track in enumerate(traffic.actors):
            row = track.step_at(time_s)
            if row >= 0:
                place = dict(zip(("x_m", "y_m", "z_m", "yaw_rad"), track.pose_at(time_s).tolist(), strict=True))
                phase = int(track.phase_index[row])
                actors.append(
                    ActorState(
                        name=str(index), class_name=track.model.class_name, model=track.model, phase=phase, **place
                    )
                )
        states.append(
            WorldState(
                time_s=time_s, ego_x_m=x, ego_y_m=y, ego_z_m=z, ego_yaw_rad=yaw, speed_mps=speed, actors=tuple(actors)
            )
        )
    return states


def measure(town: Town, states: list[WorldState], weather: str, *, cameras: bool, threads: int) -> dict[str, float]:
    """Milliseconds of the first frame (with all that a scene prepares) and of the later ones."""
    start = time.process_time()
    sensors = LiveSensors(
        world=StaticWorld.of_town(town),
        weather=make_weather(weather, np.random.default_rng(0)),
        seed=0,
        image_size=None,
        cameras=cameras,
        threads=threads,
    )
    sensors.observe(states[0], None)
    first_ms = (time.process_time() - start) * 1e3
    cpu, wall = [], []
    for state in states[1:]:
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        sensors.observe(state, None)
        cpu.append((time.process_time() - cpu_start) * 1e3)
        wall.append((time.perf_counter() - wall_start) * 1e3)
    return {
        "first_frame_cpu_ms": first_ms,
        "cpu_min_ms": min(cpu),
        "cpu_median_ms": statistics.median(cpu),
        "wall_median_ms": statistics.median(wall),
        "times_real_time_cpu": 1e3 * FRAME_STEP_S / statistics.median(cpu),
        "times_real_time_wall": 1e3 * FRAME_STEP_S / statistics.median(wall),
    }


def main() -> None:
    """Measure every chosen town and weather in both modes."""
    parser = argparse.ArgumentParser(description="Speed of the ego vehicle's sensors in the closed loop.")
    parser.add_argument("--towns", nargs="+", default=["crossroads"], choices=TOWN_KINDS)
    parser.add_argument("--weather", nargs="+", default=["day", "night"], choices=WEATHER_KINDS)
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    rows: dict[str, object] = {"threads": arguments.threads, "frames": arguments.frames, "machine": machine_facts()}
    for kind in arguments.towns:
        town = make_town(kind, np.random.default_rng(arguments.seed))
        duration_s = arguments.frames * FRAME_STEP_S
        traffic = simulate_traffic(town, seed=arguments.seed, duration_s=duration_s, preset=preset_named("standard"))
        states = states_of(traffic, arguments.frames)
        measure(town, states[:2], "day", cameras=True, threads=1)  # compiles, or loads what was compiled before
        for weather in arguments.weather:
            for mode, cameras in (("lidar", False), ("six cameras", True)):
                result = measure(town, states, weather, cameras=cameras, threads=arguments.threads)
                rows[f"{kind}, {weather}, {mode}"] = result
                print(
                    f"{kind}, {weather}, {mode:<12} CPU ms min/median {result['cpu_min_ms']:.0f}/"
                    f"{result['cpu_median_ms']:.0f} ({result['times_real_time_cpu']:.1f}x real time), "
                    f"wall {result['wall_median_ms']:.0f} ({result['times_real_time_wall']:.1f}x)"
                )
    rows["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    RESULTS.mkdir(exist_ok=True)
    partial = RESULTS / "live_sensors.json.partial"
    partial.write_text(json.dumps(rows, indent=1) + "\n")
    partial.rename(RESULTS / "live_sensors.json")


if __name__ == "__main__":
    main()
