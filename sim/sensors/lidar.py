"""LIDAR_TOP: a 32-beam spinning LiDAR (Velodyne HDL-32E) by exact ray casting, with the flaws of the real one.

A sweep is a full grid of 1085 columns x 32 rings = 34,720 points at 20 Hz, in the order of real nuScenes files:
column by column clockwise from the left of the car, lowest ring first: `points.reshape(-1, 32, 5)[:, i, 4] == i`.
As in real files a ray without return keeps its place in the grid as a point within a few centimetres of the sensor;
whoever drops points nearer than 1 m (the nuScenes devkit, this package) drops them with the returns from the car's own
roof. The sweep is a snapshot at one instant, which is what nuScenes' motion compensation leaves of the static world.

Embree structures are built once: over the static world per scene and over every actor mesh in its own frame, so a
moving actor costs only the rays that point at it. Sensor figures: Velodyne HDL-32E data sheet (firing order, angles,
2 cm accuracy, 100 m); extinction by rain and fog: Goodin et al., Predicting the Influence of Rain on LIDAR in ADAS
(Electronics 2019), and Koschmieder's law.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from bevstack.geometry.transforms import rigid_inverse
from bevstack.sim.sensors.hashing import bell, mix, uniform
from bevstack.sim.sensors.rig import T_EGO_LIDAR
from bevstack.sim.sensors.scene import ActorPose, SensorScene
from bevstack.sim.world.mesh import Material

NUM_COLUMNS = 1085
NUM_RINGS = 32
MAX_RANGE_M = 100.0
MISS_RANGE_M = 0.03
"""Rays without return lie this far from the sensor, along their direction."""
EGO_SEMANTIC = 31
"""nuScenes-lidarseg index of vehicle.ego."""

_ELEVATIONS_RAD = np.deg2rad(np.linspace(-30.67, 10.67, NUM_RINGS))
_FIRST_AZIMUTH_RAD = np.deg2rad(-178.7)
_STEP_RAD = 2 * np.pi / NUM_COLUMNS
_RANGE_NOISE_M = 0.02
_RANGE_LIMIT = np.float32(MAX_RANGE_M)

_ASPHALT, _RETRO = int(Material.ASPHALT), int(Material.RETROREFLECTOR)

# Near-infrared (905 nm) diffuse reflectivity by material; retro-reflectors send the beam straight back.
_REFLECTIVITY = np.zeros(len(Material), np.float64)
for _material, _value in {
    Material.ASPHALT: 0.10, Material.LANE_PAINT: 0.55, Material.CONCRETE: 0.28, Material.GRASS: 0.32,
    Material.FOLIAGE: 0.38, Material.BRICK: 0.30, Material.PLASTER: 0.45, Material.GLASS: 0.05,
    Material.CAR_PAINT: 0.30, Material.METAL: 0.35, Material.RUBBER: 0.05, Material.CLOTH: 0.35,
    Material.SKIN: 0.45, Material.PLASTIC: 0.35, Material.RETROREFLECTOR: 4.0, Material.HEADLAMP: 1.2,
    Material.TAILLAMP: 1.8, Material.STREETLAMP: 0.30, Material.WOOD: 0.35, Material.WINDOW: 0.07,
}.items():  # fmt: skip
    _REFLECTIVITY[_material] = _value


@dataclass(frozen=True, slots=True, kw_only=True)
class LidarScan:
    """One sweep; row i of every array belongs to the same ray. M = 34,720."""

    points: Float32[np.ndarray, "M 5"]
    """x, y, z in metres in the raw LIDAR_TOP frame (x right, y forward, z up), intensity 0 to 255, ring 0 to 31."""
    semantic: UInt8[np.ndarray, " M"]
    """nuScenes-lidarseg index; 0 (noise) for misses and backscatter, 31 for the car's own roof."""
    instance: Int32[np.ndarray, " M"]
    """`ActorPose.instance` of the actor that was hit, -1 for everything else."""
    is_return: Bool[np.ndarray, " M"]
    """True where the beam came back from the world: not a miss, not the car itself, not rain or fog."""

    def count_by_instance(self) -> dict[int, int]:
        """Points on every actor that has any."""
        values, counts = np.unique(self.instance[self.instance >= 0], return_counts=True)
        return dict(zip(values.tolist(), counts.tolist()))


def scan(
    scene: SensorScene,
    *,
    T_global_ego: Float[np.ndarray, "4 4"],
    actors: Sequence[ActorPose],
    seed: int,
    T_ego_lidar: Float[np.ndarray, "4 4"] = T_EGO_LIDAR,
) -> LidarScan:
    """One sweep from where the car is, with the actors where they are at that instant.

    Args:
        scene: static world and weather.
        T_global_ego: the car; global coordinates in metres.
        actors: everything that moves, except the car itself.
        seed: of all noise of this sweep; give every sweep its own.
        T_ego_lidar: mounting of the sensor.

    Returns:
        The full grid of 34,720 points; the same seed and poses give the same bytes.
    """
    generator = np.random.default_rng(seed)
    directions = _directions(generator.uniform(-0.5, 0.5) * _STEP_RAD)
    T_global_lidar = T_global_ego @ T_ego_lidar
    own_range = _own_car_range(directions, T_ego_lidar)
    hits = _Hits(len(directions))
    _cast_static(scene, T_global_lidar, directions, own_range, hits)
    _cast_actors(scene, actors, T_global_lidar, directions, own_range, hits)
    air = scene.weather
    rain = air.rain_rate_mm_per_h
    points = np.empty((len(directions), 5), np.float32)
    semantic = np.empty(len(directions), np.uint8)
    instance = np.empty(len(directions), np.int32)
    is_return = np.empty(len(directions), np.bool_)
    # 0.01 a R^0.6 dB-like law of rain plus fog seen at 905 nm (much as visible light).
    extinction = 2.2e-4 * rain**0.6 + (air.fog_extinction_per_m if air.kind == "fog" else 0.0)
    scatter = min(0.02, 6e-4 * rain) + (0.5 * air.fog_extinction_per_m if air.kind == "fog" else 0.0)
    _finish(
        directions, own_range, hits.range_m, hits.cosine, hits.material, hits.semantic, hits.instance,
        _REFLECTIVITY, extinction, scatter, air.wetness, np.uint64(generator.integers(1 << 62)),
        points, semantic, instance, is_return,
    )  # fmt: skip
    return LidarScan(points=points, semantic=semantic, instance=instance, is_return=is_return)


class _Hits:
    """Nearest surface per ray so far."""

    def __init__(self, num_rays: int) -> None:
        self.range_m = np.full(num_rays, np.inf, np.float32)
        self.cosine = np.zeros(num_rays, np.float32)
        self.material = np.zeros(num_rays, np.uint8)
        self.semantic = np.zeros(num_rays, np.uint8)
        self.instance = np.full(num_rays, -1, np.int32)


def _base_directions() -> Float32[np.ndarray, "M 3"]:
    ring = np.arange(NUM_RINGS)
    # The lasers fire one after the other within a column, low and high halves interleaved.
    slot = np.where(ring < NUM_RINGS // 2, 2 * ring, 2 * (ring - NUM_RINGS // 2) + 1)
    azimuth = _FIRST_AZIMUTH_RAD - _STEP_RAD * (np.arange(NUM_COLUMNS)[:, None] + slot[None] / NUM_RINGS)
    flat = np.cos(_ELEVATIONS_RAD)
    rays = np.stack((flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(_ELEVATIONS_RAD) + 0 * azimuth), axis=-1)
    return rays.reshape(-1, 3).astype(np.float32)


_BASE_DIRECTIONS = _base_directions()


def _directions(phase_rad: float) -> Float32[np.ndarray, "M 3"]:
    """Unit vectors in the LiDAR frame, the whole grid turned by a phase: the sensor spins freely."""
    c, s = np.float32(np.cos(phase_rad)), np.float32(np.sin(phase_rad))
    turned = _BASE_DIRECTIONS.copy()
    turned[:, 0] = c * _BASE_DIRECTIONS[:, 0] - s * _BASE_DIRECTIONS[:, 1]
    turned[:, 1] = s * _BASE_DIRECTIONS[:, 0] + c * _BASE_DIRECTIONS[:, 1]
    return turned


# The car under the sensor, as flat plates in the ego frame: x from, x to, half width, height [m].
_OWN_PLATES = np.array([[-0.35, 1.75, 0.66, 1.50], [1.75, 3.55, 0.80, 0.98], [-0.75, -0.35, 0.70, 1.05]])


def _own_car_range(directions: np.ndarray, T_ego_lidar: np.ndarray) -> Float32[np.ndarray, " M"]:
    """Distance to the car's own roof, bonnet or boot along each ray; inf where the view is free."""
    nearest = np.full(len(directions), np.inf, np.float32)
    _strike_plates(directions, np.ascontiguousarray(T_ego_lidar, dtype=np.float64), _OWN_PLATES, nearest)
    return nearest


@numba.njit(cache=True, nogil=True)
def _strike_plates(directions: np.ndarray, T_ego_lidar: np.ndarray, plates: np.ndarray, nearest: np.ndarray) -> None:
    ray = np.empty(3)
    for k in range(len(directions)):
        for axis in range(3):
            ray[axis] = (
                T_ego_lidar[axis, 0] * directions[k, 0]
                + T_ego_lidar[axis, 1] * directions[k, 1]
                + T_ego_lidar[axis, 2] * directions[k, 2]
            )
        if ray[2] > -1e-3:
            continue
        for plate in plates:
            distance = (plate[3] - T_ego_lidar[2, 3]) / ray[2]
            x, y = T_ego_lidar[0, 3] + distance * ray[0], T_ego_lidar[1, 3] + distance * ray[1]
            if plate[0] <= x <= plate[1] and abs(y) <= plate[2] and 0.0 < distance < nearest[k]:
                nearest[k] = distance


def _cast_static(
    scene: SensorScene, T_global_lidar: np.ndarray, directions: np.ndarray, own_range: np.ndarray, hits: _Hits
) -> None:
    model = scene.static
    if not len(model.faces):
        return
    open_rays = np.flatnonzero(~np.isfinite(own_range)).astype(np.int32)
    rays = directions[open_rays] @ T_global_lidar[:3, :3].T.astype(np.float32)
    origins = np.broadcast_to(T_global_lidar[:3, 3].astype(np.float32), rays.shape)
    found = model.ray_scene.run(np.ascontiguousarray(origins), rays, output=1, dists=_RANGE_LIMIT)
    _keep_nearer(
        open_rays, found["primID"], found["tfar"], rays, model.normals, model.material, model.semantic, -1,
        hits.range_m, hits.cosine, hits.material, hits.semantic, hits.instance,
    )  # fmt: skip


def _cast_actors(
    scene: SensorScene,
    actors: Sequence[ActorPose],
    T_global_lidar: np.ndarray,
    directions: np.ndarray,
    own_range: np.ndarray,
    hits: _Hits,
) -> None:
    """Nearest actors first, so that rays which they stop are not tried on those behind."""
    if not actors:
        return
    models = [scene.model_of(actor.mesh) for actor in actors]
    T_actor_lidar = rigid_inverse(np.array([actor.T_global_actor for actor in actors], np.float64)) @ T_global_lidar
    spheres = np.array([model.sphere for model in models])
    offset = spheres[:, :3] - T_actor_lidar[:, :3, 3]
    gaps = np.linalg.norm(offset, axis=1) - spheres[:, 3]
    centers = np.einsum("nji,nj->ni", T_actor_lidar[:, :3, :3], offset)
    for k in np.argsort(gaps, kind="stable"):
        model = models[k]
        if gaps[k] > MAX_RANGE_M:
            return
        if not len(model.faces):
            continue
        picked, origins, rays = _rays_towards(
            directions, own_range, hits.range_m, centers[k], spheres[k, 3], T_actor_lidar[k]
        )
        if not len(picked):
            continue
        found = model.ray_scene.run(origins, rays, output=1, dists=_RANGE_LIMIT)
        _keep_nearer(
            picked, found["primID"], found["tfar"], rays, model.normals, model.material, model.semantic,
            actors[k].instance, hits.range_m, hits.cosine, hits.material, hits.semantic, hits.instance,
        )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _rays_towards(
    directions: np.ndarray,
    own_range: np.ndarray,
    range_m: np.ndarray,
    center: np.ndarray,
    radius: float,
    T_actor_lidar: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rays that pass through a sphere before what they have already hit; only columns near its azimuth are tried.

    Returns the ray numbers and, in the actor's frame, origins and directions.
    """
    distance = np.sqrt(center[0] ** 2 + center[1] ** 2 + center[2] ** 2)
    flat = np.hypot(center[0], center[1])
    columns = len(directions) // NUM_RINGS
    first, count = 0, columns
    if flat > radius * 1.02:
        first_azimuth = np.arctan2(directions[0, 1], directions[0, 0])
        turn = (first_azimuth - np.arctan2(center[1], center[0])) % (2 * np.pi)
        half = np.arcsin(min(1.0, radius / flat))
        first = int(np.floor((turn - half) / _STEP_RAD)) - 2
        count = min(columns, int(np.ceil(2 * half / _STEP_RAD)) + 5)
    picked = np.empty(count * NUM_RINGS, np.int32)
    kept = 0
    for step in range(count):
        column = (first + step) % columns
        for ring in range(NUM_RINGS):
            ray = column * NUM_RINGS + ring
            if own_range[ray] < np.inf or range_m[ray] < distance - radius:
                continue
            along = directions[ray, 0] * center[0] + directions[ray, 1] * center[1] + directions[ray, 2] * center[2]
            if along > -radius and distance * distance - along * along <= radius * radius:
                picked[kept] = ray
                kept += 1
    origins = np.empty((kept, 3), np.float32)
    rays = np.empty((kept, 3), np.float32)
    for k in range(kept):
        ray = picked[k]
        for axis in range(3):
            origins[k, axis] = T_actor_lidar[axis, 3]
            rays[k, axis] = (
                T_actor_lidar[axis, 0] * directions[ray, 0]
                + T_actor_lidar[axis, 1] * directions[ray, 1]
                + T_actor_lidar[axis, 2] * directions[ray, 2]
            )
    return picked[:kept], origins, rays


@numba.njit(cache=True, nogil=True)
def _keep_nearer(
    picked: np.ndarray, face: np.ndarray, tfar: np.ndarray, rays: np.ndarray, normals: np.ndarray,
    face_material: np.ndarray, face_semantic: np.ndarray, actor: int, range_m: np.ndarray, cosine: np.ndarray,
    material: np.ndarray, semantic: np.ndarray, instance: np.ndarray,
) -> None:  # fmt: skip
    for k in range(len(picked)):
        hit = face[k]
        ray = picked[k]
        if hit < 0 or tfar[k] >= range_m[ray]:
            continue
        range_m[ray] = tfar[k]
        cosine[ray] = abs(normals[hit, 0] * rays[k, 0] + normals[hit, 1] * rays[k, 1] + normals[hit, 2] * rays[k, 2])
        material[ray] = face_material[hit]
        semantic[ray] = face_semantic[hit]
        instance[ray] = actor


@numba.njit(cache=True, nogil=True)
def _finish(
    directions: np.ndarray, own_range: np.ndarray, range_m: np.ndarray, cosine: np.ndarray, material: np.ndarray,
    hit_semantic: np.ndarray, hit_instance: np.ndarray, reflectivity: np.ndarray, extinction: float, scatter: float,
    wetness: float, key: np.uint64, points: np.ndarray, semantic: np.ndarray, instance: np.ndarray,
    is_return: np.ndarray,
) -> None:  # fmt: skip
    """Noise, drop-out, intensity and air: from exact hits to what the sensor reports."""
    for ray in range(len(directions)):
        counter = np.uint64(ray * 4)
        first, second = mix(key, counter), mix(key, counter + np.uint64(1))
        distance, strength = MISS_RANGE_M, 0.0
        semantic[ray], instance[ray], is_return[ray] = 0, -1, False
        if own_range[ray] < np.inf:
            if own_range[ray] < 1.0:  # the bonnet mirrors the beam away, the roof right below does not
                distance, strength = own_range[ray] + 0.01 * bell(first), 20.0 + 20.0 * uniform(second)
                semantic[ray] = EGO_SEMANTIC
        else:
            t = float(range_m[ray])
            reach = min(t, MAX_RANGE_M)
            # A drop near the sensor answers instead of the world.
            if scatter > 0.0 and uniform(second) < scatter * (1.0 - np.exp(-reach / 8.0)):
                near = 1.5 + 10.0 * uniform(mix(key, counter + np.uint64(2))) ** 2
                if near < reach:
                    distance, strength = near, 1.0 + 6.0 * uniform(first)
            elif t < MAX_RANGE_M:
                kind = material[ray]
                slope = float(cosine[ray])
                reflected = reflectivity[kind]
                if kind == _ASPHALT:
                    reflected *= 1.0 - 0.75 * wetness  # a film of water mirrors the beam away
                facing = min(1.0, 0.35 + 0.65 * slope) if kind == _RETRO else slope
                transmitted = np.exp(-2.0 * extinction * t)
                # Received power over the detection threshold: 5 % reflectivity head-on is seen to about 55 m.
                power = reflected * (0.08 + 0.92 * facing) * transmitted * (55.0 / max(t, 1.0)) ** 2 / 0.05
                detected = power / (power + 0.12)
                if uniform(mix(key, counter + np.uint64(2))) < detected * 0.995:
                    distance = t + _RANGE_NOISE_M * bell(first)
                    speckle = 1.0 + 0.18 * bell(second)
                    strength = 90.0 * reflected * (0.1 + 0.9 * facing) * transmitted * max(speckle, 0.2)
                    semantic[ray], instance[ray], is_return[ray] = hit_semantic[ray], hit_instance[ray], True
        for axis in range(3):
            points[ray, axis] = directions[ray, axis] * distance
        points[ray, 3] = np.floor(min(255.0, max(0.0, strength)))
        points[ray, 4] = ray % NUM_RINGS
