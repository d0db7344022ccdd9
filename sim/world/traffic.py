"""The moving scene: ego vehicle, traffic and people of one town as tracks at 20 Hz.

Everything is decided by the town and a seed. Drivers and walkers avoid each other while the scene plays; afterwards
every pair of boxes is checked at every step and whoever would still touch somebody is left out, so the tracks never
overlap.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from bevstack.geometry.transforms import wrap_angle
from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.sim.world.actors import ActorModel
from bevstack.sim.world.drive_paths import RUN_OUT_M
from bevstack.sim.world.events import SceneEvent, stage_event
from bevstack.sim.world.pedestrians import Walker, crossing_rows, record_walkers, step_walkers
from bevstack.sim.world.placements import (
    StreetScene,
    close_lanes,
    park_bicycles,
    park_vehicles,
    put_barrier_rows,
    put_bystanders,
)
from bevstack.sim.world.presets import WorldPreset
from bevstack.sim.world.spawning import place_ego, place_vehicles, place_walkers, red_lights
from bevstack.sim.world.town import Town
from bevstack.sim.world.traffic_kernels import overlapping_pairs
from bevstack.sim.world.vehicles import STEP_S, Junctions, Vehicle, record, step_vehicles

EGO_SIZE_LWH = (NUSCENES_VEHICLE.length_m, NUSCENES_VEHICLE.width_m, NUSCENES_VEHICLE.height_m)
"""Box of the ego vehicle in metres."""
EGO_CENTER_AHEAD_M = round(NUSCENES_VEHICLE.center_ahead_m, 9)
"""From the rear axle, the origin of the ego frame, to the box centre."""
TRACK_STEP_S = STEP_S
BURN_IN_S = 3.0
OVERLAP_MARGIN_M = 0.04


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActorTrack:
    """One actor through the scene. Between two steps it moves linearly."""

    model: ActorModel
    times_s: Float[np.ndarray, " T"]
    """Every 0.05 s while the actor is in town; the scene begins at 0."""
    poses: Float[np.ndarray, "T 4"]
    """x, y, z of the ground below, yaw; town frame."""
    phase_index: Int[np.ndarray, " T"]
    """Mesh of `model.meshes` to show."""
    attributes: tuple[str, ...]
    """nuScenes attribute per step; empty text for none."""

    def step_at(self, time_s: float) -> int:
        """Index of the last step at or before a time, or -1 when the actor is not in town."""
        step = int(np.floor((time_s - self.times_s[0]) / TRACK_STEP_S + 1e-6))
        return step if 0 <= step < len(self.times_s) else -1

    def pose_at(self, time_s: float) -> Float[np.ndarray, " 4"]:
        """x, y, z, yaw at a time within the track."""
        return interpolated(self.times_s, self.poses, time_s)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EgoTrack:
    """The ego vehicle: its rear-axle centre at 20 Hz."""

    times_s: Float[np.ndarray, " T"]
    poses: Float[np.ndarray, "T 4"]
    """x, y, z (0) and yaw of the rear axle; town frame."""
    speeds_mps: Float[np.ndarray, " T"]
    accelerations_mps2: Float[np.ndarray, " T"]
    route: Float[np.ndarray, "P 2"]
    """The way it follows through the town."""
    wheelbase_m: float

    def pose_at(self, time_s: float) -> Float[np.ndarray, " 4"]:
        """x, y, z, yaw at a time of the scene."""
        return interpolated(self.times_s, self.poses, time_s)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """Everything that moves or stands in one scene."""

    ego: EgoTrack
    actors: tuple[ActorTrack, ...]
    event: str | None = None
    """The main event, if the tracks show it."""


def interpolated(times_s: np.ndarray, poses: np.ndarray, time_s: float) -> Float[np.ndarray, " 4"]:
    """x, y, z, yaw between steps, linear, the short way round for yaw; clamped to the ends."""
    position = min(max((time_s - times_s[0]) / TRACK_STEP_S, 0.0), len(times_s) - 1.0)
    low = min(int(position), len(times_s) - 2) if len(times_s) > 1 else 0
    if len(times_s) == 1:
        return poses[0].copy()
    share = position - low
    out = poses[low] * (1 - share) + poses[low + 1] * share
    out[3] = wrap_angle(poses[low, 3] + share * wrap_angle(poses[low + 1, 3] - poses[low, 3]))
    return out


@dataclass(slots=True, kw_only=True, eq=False)
class TrafficScene:
    """A scene while it is played: everybody in it, and the rules that they keep."""

    ego: Vehicle
    vehicles: list[Vehicle]
    """The ego vehicle first."""
    walkers: list[Walker]
    street: StreetScene
    junctions: Junctions
    obstacles: Float[np.ndarray, "K 6"]
    """What stands on the road, as rows of `vehicle_circles`."""
    event: SceneEvent | None = None
    """What is staged on the ego vehicle's way."""

    def record(self) -> None:
        """Append the present state to the tracks of everybody."""
        record(self.vehicles)
        record_walkers(self.walkers)

    def step_drivers(self, now_s: float) -> None:
        """Advance all vehicles by `STEP_S`."""
        if self.event is not None:
            self.event.before_step(now_s)
        rows = np.concatenate((self.obstacles, crossing_rows(self.walkers)))
        step_vehicles(self.vehicles, rows, self.junctions, now_s)

    def step_people(self, now_s: float) -> None:
        """Advance all walkers by `STEP_S`; the vehicles have moved already."""
        step_walkers(self.walkers, self.vehicles, self.ego, now_s, STEP_S)


def begin_traffic(
    town: Town, *, seed: int, duration_s: float, preset: WorldPreset, event: str | None = None
) -> TrafficScene:
    """The scene of a town and a seed, `BURN_IN_S` before its time 0; `event` is one of `preset.events`."""
    rng = np.random.default_rng([seed, 7])
    staged = None
    if event is not None:
        staged = stage_event(event, town, seed=seed, duration_s=duration_s, burn_in_s=BURN_IN_S)
    ego = staged.ego if staged else place_ego(town, rng, duration_s + BURN_IN_S)
    way = ego.path.points[int((ego.rear_m + 0.2 * duration_s) / 0.5) :][: int(duration_s * 8.0 / 0.5)]
    street = StreetScene(town=town, way=way, rng=rng)
    if staged:
        staged.reserve(street)
    close_lanes(street, preset.crowd, ego.path)
    park_vehicles(street, preset.crowd)
    put_barrier_rows(street, preset.crowd, ego.path)
    park_bicycles(street, preset.crowd)
    put_bystanders(street, preset.crowd)
    first = [ego, staged.lead] if staged and staged.lead else [ego]
    vehicles = [*first, *place_vehicles(street, preset.crowd, first)]
    walkers = place_walkers(street, preset.crowd, ego, duration_s, prefer_open=bool(preset.events))
    red = red_lights(town.roads, ego, rng, duration_s)
    if staged:
        vehicles = [*first, *(vehicle for vehicle in vehicles[len(first) :] if staged.allows_vehicle(vehicle))]
        walkers = [*(walker for walker in walkers if staged.allows_walker(walker)), *staged.walkers]
        red = {lane: until for lane, until in red.items() if lane not in ego.path.lanes}
    junctions = Junctions(town.roads, red)
    for vehicle in vehicles:
        junctions.claim_underneath(vehicle)
    return TrafficScene(
        ego=ego,
        vehicles=vehicles,
        walkers=walkers,
        street=street,
        junctions=junctions,
        obstacles=street.obstacle_rows(),
        event=staged,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlayedActor:
    """The track of one actor of a scene, and who that was."""

    source: tuple[str, int, int]
    """Kind ("vehicle", "walker" or "standing"), index among them, and part: 1 for the trailer of a vehicle."""
    track: ActorTrack
    is_kept: bool
    """False where it would touch somebody some time."""


def play_traffic(
    town: Town, *, seed: int, duration_s: float, preset: WorldPreset
) -> tuple[EgoTrack, tuple[PlayedActor, ...]]:
    """Play a scene; everybody in it, those who would touch somebody too."""
    return _play(begin_traffic(town, seed=seed, duration_s=duration_s, preset=preset), duration_s)


def _play(scene: TrafficScene, duration_s: float) -> tuple[EgoTrack, tuple[PlayedActor, ...]]:
    steps = round(duration_s / STEP_S) + 1
    burn_in = round(BURN_IN_S / STEP_S)
    for step in range(-burn_in, steps):
        now_s = step * STEP_S
        if step >= 0:
            scene.record()
        scene.step_drivers(now_s)
        scene.step_people(now_s)
    times = np.arange(steps) * STEP_S
    found: list[tuple[tuple[str, int, int], ActorTrack]] = []
    for index, vehicle in enumerate(scene.vehicles[1:]):
        found.extend((("vehicle", index, part), track) for part, track in enumerate(_vehicle_tracks(vehicle, times)))
    for index, walker in enumerate(scene.walkers):
        poses = np.array([(x, y, z, yaw) for (x, y, yaw), z in zip(walker.poses, walker.heights_m)])
        names = tuple("pedestrian.moving" if moving else "pedestrian.standing" for moving in walker.moving)
        found.append((("walker", index, 0), _track(walker.model, times, poses, np.array(walker.phases), names)))
    for index, actor in enumerate(scene.street.actors):
        poses = np.tile((*actor.pose[:2], actor.z_m, actor.pose[2]), (steps, 1))
        phases = np.full(steps, actor.model.standing_phase)
        found.append((("standing", index, 0), _track(actor.model, times, poses, phases, (actor.attribute,) * steps)))
    ego_track = _ego_track(scene.ego, times)
    # Lorry and trailer share a group.
    groups = np.array([index if kind == "vehicle" else 10_000 + k for k, ((kind, index, _), _) in enumerate(found)])
    keep = _without_overlaps(ego_track, [track for _, track in found], groups)
    actors = (PlayedActor(source=source, track=track, is_kept=bool(kept)) for (source, track), kept in zip(found, keep))
    return ego_track, tuple(actors)


def simulate_traffic(
    town: Town, *, seed: int, duration_s: float, preset: WorldPreset, event: str | None = None
) -> Traffic:
    """Play a scene of some duration in a town.

    The ego vehicle drives a random route at up to the speed limit; `preset.crowd` says how many others there are.
    `event`, one of `preset.events`, is staged on its way. The same arguments give the same tracks.
    """
    scene = begin_traffic(town, seed=seed, duration_s=duration_s, preset=preset, event=event)
    ego, actors = _play(scene, duration_s)
    return Traffic(
        ego=ego,
        actors=tuple(actor.track for actor in actors if actor.is_kept),
        event=event if _shows_event(scene, actors) else None,
    )


def _shows_event(scene: TrafficScene, actors: tuple[PlayedActor, ...]) -> bool:
    """Whether the staged event happens among the actors that are kept."""
    if scene.event is None:
        return False
    kept = {actor.source[:2] for actor in actors if actor.is_kept}
    walkers = [walker for index, walker in enumerate(scene.walkers) if ("walker", index) in kept]
    vehicles = [vehicle for index, vehicle in enumerate(scene.vehicles[1:]) if ("vehicle", index) in kept]
    return scene.event.has_happened(walkers, vehicles)


def _track(
    model: ActorModel, times: np.ndarray, poses: np.ndarray, phases: np.ndarray, attributes: tuple[str, ...]
) -> ActorTrack:
    count = len(poses)
    return ActorTrack(
        model=model, times_s=times[:count], poses=poses, phase_index=phases.astype(np.int64), attributes=attributes
    )


def _vehicle_tracks(vehicle: Vehicle, times: np.ndarray) -> list[ActorTrack]:
    if len(vehicle.poses) < 2 or vehicle.model is None:
        return []
    speeds = np.array([speed for speed, _ in vehicle.states])
    is_cycle = vehicle.model.class_name in ("motorcycle", "bicycle")
    moving, still = ("cycle.with_rider",) * 2 if is_cycle else ("vehicle.moving", "vehicle.stopped")
    names = tuple(moving if speed > 0.25 else still for speed in speeds)
    travelled = np.concatenate(([0.0], np.cumsum(speeds[1:] * STEP_S)))
    phases = (travelled / 1.1).astype(int) % len(vehicle.model.meshes)
    tracks = []
    parts = [(vehicle.model, vehicle.poses)]
    if vehicle.trailer is not None:
        parts.append((vehicle.trailer, vehicle.trailer_poses))
    for model, poses in parts:
        rows = np.array([(x, y, 0.0, yaw) for x, y, yaw in poses])
        tracks.append(_track(model, times, rows, phases % len(model.meshes), names))
    return tracks


def _ego_track(ego: Vehicle, times: np.ndarray) -> EgoTrack:
    centers = np.array(ego.poses)
    yaw = centers[:, 2]
    x = centers[:, 0] - EGO_CENTER_AHEAD_M * np.cos(yaw)
    y = centers[:, 1] - EGO_CENTER_AHEAD_M * np.sin(yaw)
    states = np.array(ego.states)
    end = int((ego.path.end_m + RUN_OUT_M) / 0.5)
    return EgoTrack(
        times_s=times,
        poses=np.stack((x, y, np.zeros_like(x), yaw), axis=1),
        speeds_mps=states[:, 0],
        accelerations_mps2=states[:, 1],
        route=ego.path.points[:end:2],
        wheelbase_m=ego.wheelbase_m,
    )


def _without_overlaps(ego: EgoTrack, tracks: list[ActorTrack], groups: np.ndarray) -> Bool[np.ndarray, " A"]:
    """Which tracks to keep so that no two boxes ever overlap and none touches the ego vehicle.

    Lorry and trailer share a group: they go together.
    """
    steps, actors = len(ego.times_s), len(tracks)
    rectangles = np.zeros((steps, actors + 1, 5))
    present = np.zeros((steps, actors + 1), bool)
    for k, track in enumerate(tracks):
        count = len(track.times_s)
        rectangles[:count, k, :3] = track.poses[:, [0, 1, 3]]
        rectangles[:, k, 3:] = np.array(track.model.size_lwh[:2]) / 2 + OVERLAP_MARGIN_M
        present[:count, k] = True
    yaw = ego.poses[:, 3]
    ahead = np.stack((np.cos(yaw), np.sin(yaw)), axis=1) * EGO_CENTER_AHEAD_M
    rectangles[:, actors, :2], rectangles[:, actors, 2] = ego.poses[:, :2] + ahead, yaw
    rectangles[:, actors, 3:] = np.array(EGO_SIZE_LWH[:2]) / 2 + OVERLAP_MARGIN_M
    present[:, actors] = True
    pairs = overlapping_pairs(rectangles, present)
    keep = np.ones(actors, bool)
    for k in np.flatnonzero(pairs[actors, :actors]):
        keep[groups == groups[k]] = False
    while True:
        counts = (pairs[:actors, :actors] & keep[:, None] & keep[None]).sum(1)
        if not counts.any():
            return keep
        keep[groups == groups[int(np.argmax(counts))]] = False
