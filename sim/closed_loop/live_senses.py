"""The sensors of a run: what stands still is dressed for the camera, everybody gets a body."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from bevstack.data.images import ImageSize
from bevstack.sim.closed_loop.stage import Stage
from bevstack.sim.closed_loop.world import ActorNow
from bevstack.sim.ego.motion import VehicleState
from bevstack.sim.sensing.actor_shapes import actor_shape
from bevstack.sim.sensing.live_sensors import LiveScene, LiveSensors
from bevstack.sim.sensing.track_scenery import dressed, static_world_of
from bevstack.sim.sensing.world_state import ActorState, WorldState
from bevstack.sim.sensors.weather import make_weather
from bevstack.sim.world.actors import ActorModel
from bevstack.types.frame import Frame
from bevstack.types.trajectory import Route

_STRIDE_M = 0.35
"""Way between two meshes of somebody's walk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSenses:
    """Makes the sensors of a run; what they give depends on scenario and seed alone.

    Args:
        image_size: Of the pictures that the model reads.
        cameras: Whether there are any.
        num_sweeps: LiDAR sweeps to accumulate; 0 for no LiDAR.
        threads: For one frame; the bytes are the same with any number.
    """

    image_size: ImageSize | None
    cameras: bool
    num_sweeps: int
    threads: int = 1

    def with_threads(self, threads: int) -> "LiveSenses":
        """The same with more threads."""
        return replace(self, threads=threads)

    def __call__(self, stage: Stage) -> "RunSenses":
        """The sensors of a stage.

        Raises:
            ValueError: a fault or a shape is not possible.
        """
        scenario = stage.scenario
        world = (
            dressed(stage.course.roads, seed=stage.seed)
            if scenario is None
            else static_world_of(scenario.road, seed=stage.seed)
        )
        weather = make_weather(stage.weather.kind, np.random.default_rng([stage.weather.seed, stage.seed, 7]))
        sensors = LiveSensors(
            world=world,
            weather=weather,
            seed=stage.seed,
            image_size=self.image_size,
            cameras=self.cameras,
            num_sweeps=self.num_sweeps,
            faults=stage.faults,
            scene=LiveScene(name=f"{stage.name}-{stage.seed}", index=zlib.crc32(stage.name.encode())),
            threads=self.threads,
        )
        models = {
            who.name: actor_shape(
                who.class_name, size_lwh=who.size_lwh, variant=who.model, seed=stage.seed * 1000 + row
            )
            for row, who in enumerate(stage.world.participants)
        }
        return RunSenses(sensors, stage, models)


class RunSenses:
    """Implements `Senses` for one run.

    Args:
        sensors: The rig.
        stage: What is driven.
        models: Body of every participant.
    """

    def __init__(self, sensors: LiveSensors, stage: Stage, models: dict[str, ActorModel]) -> None:
        self.sensors, self.stage, self.models = sensors, stage, models
        self._walked_m = dict.fromkeys(models, 0.0)
        self._seen_s = 0.0

    def observe(self, time_s: float, ego: VehicleState, actors: tuple[ActorNow | None, ...], route: Route) -> Frame:
        """The frame at a step."""
        passed_s, self._seen_s = time_s - self._seen_s, time_s
        present = [self._actor(row, now, passed_s) for row, now in enumerate(actors) if now is not None]
        state = WorldState(
            time_s=time_s,
            ego_x_m=ego.x_m,
            ego_y_m=ego.y_m,
            ego_yaw_rad=ego.yaw_rad,
            speed_mps=ego.speed_mps,
            acceleration_mps2=ego.acceleration_mps2,
            yaw_rate_radps=ego.yaw_rate_radps,
            actors=tuple(present),
        )
        return self.sensors.observe(state, route)

    def _actor(self, row: int, now: ActorNow, passed_s: float) -> ActorState:
        who = self.stage.world.participants[row]
        model = self.models[who.name]
        speed = float(np.hypot(*now.velocity))
        self._walked_m[who.name] += speed * passed_s
        # Legs and pedals go with the way; who stands, stands.
        phases = max(model.standing_phase, 1)
        phase = int(self._walked_m[who.name] / _STRIDE_M) % phases if speed > 0.05 else model.standing_phase
        return ActorState(
            name=who.name,
            class_name=who.class_name,
            model=model,
            x_m=now.pose[0],
            y_m=now.pose[1],
            z_m=now.ground_m,
            yaw_rad=now.pose[2],
            vx_mps=now.velocity[0],
            vy_mps=now.velocity[1],
            phase=phase,
        )
