"""The traffic of a whole town played step by step, with the ego vehicle driven from outside.

The drivers and walkers are those of the worlds (`bevstack.sim.world.traffic`), and so is the seed's scene: an ego
vehicle that is driven as the world drives its own meets exactly the world's other tracks. Everybody reacts to it: keeps
distance, gives way, waits at the kerb.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import wrap_angle
from bevstack.sim.agents.places import place_on_path
from bevstack.sim.world.actors import ActorModel
from bevstack.sim.world.drive_paths import RUN_OUT_M
from bevstack.sim.world.pedestrians import Walker
from bevstack.sim.world.placements import StaticActor
from bevstack.sim.world.presets import WorldPreset
from bevstack.sim.world.town import Town
from bevstack.sim.world.traffic import BURN_IN_S, EGO_CENTER_AHEAD_M, begin_traffic, play_traffic
from bevstack.sim.world.vehicles import STEP_S, Vehicle

_OFF_PATH_M = 5.0
"""Further beside its path it claims no junction any more."""

Pose = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TownActor:
    """One other road user or object: who it is."""

    name: str
    """Unique in the scene, such as "car-3"."""
    model: ActorModel
    kind: Literal["vehicle", "walker", "standing"]
    index: int
    """Among those of its kind."""
    is_trailer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TownActorState:
    """Where one of them is now."""

    pose: Pose
    """x, y, yaw of the box centre."""
    ground_m: float
    velocity: tuple[float, float]
    phase_index: int
    """Mesh of `model.meshes` to show."""


class TownTraffic:
    """Everybody else in a town. Time begins at 0, with the ego vehicle at `ego_start`.

    Args:
        town: Where.
        seed: Of the scene, as for `simulate_traffic`.
        duration_s: For which the scene is furnished; it may be played on beyond.
        preset: How many there are.
    """

    def __init__(self, town: Town, *, seed: int, duration_s: float, preset: WorldPreset) -> None:
        ego, played = play_traffic(town, seed=seed, duration_s=duration_s, preset=preset)
        self._scene = begin_traffic(town, seed=seed, duration_s=duration_s, preset=preset)
        for step in range(-round(BURN_IN_S / STEP_S), 0):
            self._scene.step_drivers(step * STEP_S)
            self._scene.step_people(step * STEP_S)
        self._scene.record()
        self._steps = 0
        self._travelled_m = np.zeros(len(self._scene.vehicles))
        self.ego_start: tuple[Pose, float] = (_rear_axle(self._scene.ego), self._scene.ego.speed_mps)
        """Pose of the rear axle, and speed."""
        self.route: Float[np.ndarray, "P 2"] = ego.route
        """The way that the world's own ego vehicle takes."""
        counts: dict[str, int] = {}
        actors = []
        for actor in played:
            if not actor.is_kept:
                continue  # Still there for the others, as in the world; nobody sees it, and it touches nobody seen.
            kind, index, part = actor.source
            class_name = actor.track.model.class_name
            counts[class_name] = counts.get(class_name, 0) + 1
            name = f"{class_name}-{counts[class_name]}"
            actors.append(
                TownActor(name=name, model=actor.track.model, kind=kind, index=index, is_trailer=part == 1)  # type: ignore[arg-type]
            )
        self.actors: tuple[TownActor, ...] = tuple(actors)
        """Who takes part, in the order of `states`."""

    @property
    def now_s(self) -> float:
        """Time of the scene."""
        return self._steps * STEP_S

    def step(self, ego_pose: Pose, ego_speed_mps: float, dt_s: float = STEP_S) -> tuple[TownActorState | None, ...]:
        """The ego vehicle has come to a state in `dt_s`; everybody else moves as long. Their states then.

        Args:
            ego_pose: x, y, yaw of its rear axle.
            ego_speed_mps: Its speed.
            dt_s: A multiple of `STEP_S`; in between the ego vehicle moved linearly.

        Raises:
            ValueError: the time is no multiple of `STEP_S`, or the ego state not finite.
        """
        count = round(dt_s / STEP_S)
        if count < 1 or abs(count * STEP_S - dt_s) > 1e-9:
            raise ValueError(f"dt_s={dt_s} must be a multiple of {STEP_S} s")
        if not all(map(math.isfinite, (*ego_pose, ego_speed_mps))):
            raise ValueError(f"the ego vehicle's pose {ego_pose} and speed {ego_speed_mps} must be finite")
        before, speed = _rear_axle(self._scene.ego), self._scene.ego.speed_mps
        for piece in range(1, count + 1):
            share = piece / count
            self._step(
                (
                    before[0] + share * (ego_pose[0] - before[0]),
                    before[1] + share * (ego_pose[1] - before[1]),
                    before[2] + share * float(wrap_angle(ego_pose[2] - before[2])),
                ),
                speed + share * (ego_speed_mps - speed),
            )
        return self.states()

    def states(self) -> tuple[TownActorState | None, ...]:
        """Where everybody is now, in the order of `actors`; None for who has left the town."""
        return tuple(self._state(actor) for actor in self.actors)

    def _step(self, ego_pose: Pose, ego_speed_mps: float) -> None:
        scene, now_s = self._scene, self.now_s
        was_here_m = scene.ego.rear_m
        scene.step_drivers(now_s)
        _drive_from_outside(scene.ego, ego_pose, ego_speed_mps, was_here_m)
        scene.step_people(now_s)
        scene.record()
        self._steps += 1
        moving = np.array([0.0 if vehicle.has_left else vehicle.speed_mps for vehicle in scene.vehicles])
        self._travelled_m += moving * STEP_S

    def _state(self, actor: TownActor) -> TownActorState | None:
        if actor.kind == "standing":
            return _standing(self._scene.street.actors[actor.index])
        if actor.kind == "walker":
            return _walking(self._scene.walkers[actor.index])
        vehicle = self._scene.vehicles[actor.index + 1]
        if vehicle.has_left:
            return None
        pose = vehicle.trailer_pose() if actor.is_trailer else vehicle.pose()
        return TownActorState(
            pose=pose,
            ground_m=0.0,
            velocity=_along(pose[2], vehicle.speed_mps),
            phase_index=int(self._travelled_m[actor.index + 1] / 1.1) % len(actor.model.meshes),
        )


def _standing(actor: StaticActor) -> TownActorState:
    return TownActorState(
        pose=actor.pose, ground_m=actor.z_m, velocity=(0.0, 0.0), phase_index=int(actor.model.standing_phase)
    )


def _walking(walker: Walker) -> TownActorState:
    pose = walker.pose()
    speed = walker.speed_mps if walker.is_walking else 0.0
    return TownActorState(
        pose=pose, ground_m=walker.heights_m[-1], velocity=_along(pose[2], speed), phase_index=int(walker.phases[-1])
    )


def _along(yaw: float, speed: float) -> tuple[float, float]:
    return speed * math.cos(yaw), speed * math.sin(yaw)


def _rear_axle(vehicle: Vehicle) -> Pose:
    x, y, yaw = vehicle.pose()
    return x - EGO_CENTER_AHEAD_M * math.cos(yaw), y - EGO_CENTER_AHEAD_M * math.sin(yaw), yaw


def _drive_from_outside(ego: Vehicle, pose: Pose, speed_mps: float, near_m: float) -> None:
    """Set the ego vehicle to a pose of its rear axle; its station is that of the nearest point of its path."""
    x, y, yaw = pose
    ahead = ego.length_m / 2 - ego.rear_overhang_m
    ego.driven_pose = (x + ahead * math.cos(yaw), y + ahead * math.sin(yaw), yaw)
    ego.speed_mps = speed_mps
    ego.rear_m, left_m = place_on_path(ego.path.points, x, y, near_m)
    ego.rear_m = min(ego.rear_m, ego.path.end_m + RUN_OUT_M)
    if abs(left_m) > _OFF_PATH_M:
        ego.held.clear()
