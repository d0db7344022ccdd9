"""Five automotive radars: range, azimuth, Doppler speed and radar cross section of what they detect.

Figures: Continental ARS 408-21 data sheet (77 GHz, +-60 degrees nearby, 0.1 km/h accuracy, a list of clusters) and the
mounting of the nuScenes vehicle (Caesar et al., CVPR 2020), rounded. What a radar can see comes from the same exact ray
casting as the LiDAR's, so up to 100 m. A cluster is what falls into one cell of range and azimuth; its cross section
fluctuates exponentially around that of its class (Swerling's first case), and the radar equation decides whether it is
found (Skolnik, Introduction to Radar Systems, chapter 2). Every detection knows the speed along its line of sight only,
as in nuScenes' files.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int

from bevstack.geometry.transforms import from_xy_yaw, rigid_inverse
from bevstack.sim.sensing.world_state import WorldState
from bevstack.sim.sensors.lidar import LidarScan, scan
from bevstack.sim.sensors.scene import ActorPose, SensorScene

FIELDS = (
    "x", "y", "z", "dyn_prop", "id", "rcs", "vx", "vy", "vx_comp", "vy_comp", "is_quality_valid", "ambig_state",
    "x_rms", "y_rms", "invalid_state", "pdh0", "vx_rms", "vy_rms",
)  # fmt: skip
"""Columns of nuScenes' radar files."""
_FLOATS = ("x", "y", "z", "rcs", "vx", "vy", "vx_comp", "vy_comp")
_DTYPE = np.dtype([(name, "<f4" if name in _FLOATS else "<i2" if name == "id" else "i1") for name in FIELDS])
MAX_DETECTIONS = 125
MOVING, STATIONARY, ONCOMING, CROSSING = 0, 1, 2, 6
"""Values of `dyn_prop`."""

_HALF_FIELD_RAD = np.deg2rad(60.0)
_RANGE_CELL_M, _AZIMUTH_CELL_RAD = 0.8, np.deg2rad(2.0)
_RANGE_NOISE_M, _AZIMUTH_NOISE_RAD, _SPEED_NOISE_MPS = 0.1, np.deg2rad(0.3), 0.03
_STANDING_MPS = 0.3
_REACH_DB = 10.0 - 40.0 * np.log10(200.0)
"""Echo that is just found: a car of 10 dBsm at 200 m; power falls with the fourth power of the range."""
_FLAT_FROM, _FLAT_TO = 24, 27
"""lidarseg classes of the ground, which sends the beam away."""
_STATIC_RCS_DBSM = {28: 4.0, 29: 0.0, 30: -8.0}
_RCS_DBSM = {
    "car": 10.0, "truck": 18.0, "bus": 18.0, "trailer": 17.0, "construction_vehicle": 16.0, "motorcycle": 3.0,
    "bicycle": 0.0, "pedestrian": -6.0, "traffic_cone": -12.0, "barrier": -2.0, "building": 15.0, "debris": -5.0,
    "animal": -5.0,
}  # fmt: skip
"""Mean cross section over one square metre, of one cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RadarSpec:
    """Where a radar sits."""

    name: str
    T_ego_radar: Float[np.ndarray, "4 4"]
    """x along its axis, y to the left, z up."""


def _radar(name: str, x: float, y: float, z: float, yaw_deg: float) -> RadarSpec:
    return RadarSpec(name=name, T_ego_radar=from_xy_yaw(x, y, np.deg2rad(yaw_deg), z))


NUSCENES_RADARS = (
    _radar("RADAR_FRONT", 3.41, 0.0, 0.50, 0.0),
    _radar("RADAR_FRONT_LEFT", 2.42, 0.80, 0.78, 90.0),
    _radar("RADAR_FRONT_RIGHT", 2.42, -0.80, 0.77, -90.0),
    _radar("RADAR_BACK_LEFT", -0.56, 0.63, 0.53, 175.0),
    _radar("RADAR_BACK_RIGHT", -0.56, -0.62, 0.53, -175.0),
)
"""The five radars of the nuScenes vehicle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RadarDetections:
    """Clusters of one radar, nearest first. Frame: the radar's."""

    rows: Float32[np.ndarray, "D 18"]
    """Columns as in `FIELDS`. vx and vy: relative velocity along the line of sight; vx_comp and vy_comp: without the
    vehicle's own part."""
    instance: Int[np.ndarray, " D"]
    """Index in `WorldState.actors`; -1 for what stands there."""


def radar_scan(scene: SensorScene, spec: RadarSpec, state: WorldState, *, seed: int) -> RadarDetections:
    """What one radar detects.

    Args:
        scene: What stands still.
        spec: The radar.
        state: Everything that moves; speeds are needed, the vehicle's own too.
        seed: Of noise and fluctuation of this reading.
    """
    rng = np.random.default_rng([seed, 77])
    actors = [
        ActorPose(
            instance=index,
            meshes=actor.model.meshes,
            T_global_actor=from_xy_yaw(actor.x_m, actor.y_m, actor.yaw_rad, actor.z_m),
            phase=actor.phase,
        )
        for index, actor in enumerate(state.actors)
    ]
    hits = scan(scene, T_global_ego=state.T_global_ego, actors=actors, seed=seed, T_ego_lidar=spec.T_ego_radar)
    instance, semantic, polar = _clusters(hits)
    distance, azimuth = polar[:, 0], polar[:, 1]
    rcs = np.array([_mean_rcs(state, *pair) for pair in zip(instance.tolist(), semantic.tolist())]).reshape(-1)
    rcs = rcs + 10.0 * np.log10(rng.exponential(1.0, len(rcs)) + 1e-3)
    found = rcs - 40.0 * np.log10(np.maximum(distance, 1.0)) > _REACH_DB
    noise = rng.standard_normal((3, len(rcs)))
    distance = distance + _RANGE_NOISE_M * noise[0]
    azimuth = azimuth + _AZIMUTH_NOISE_RAD * noise[1]
    sight = np.stack((np.cos(azimuth), np.sin(azimuth)), axis=1)
    own, others = _velocities(state, spec, instance)
    over_ground = np.einsum("ij,ij->i", others, sight) + _SPEED_NOISE_MPS * noise[2]
    relative = over_ground - sight @ own
    rows = np.zeros((len(rcs), len(FIELDS)), np.float32)
    rows[:, :2] = distance[:, None] * sight
    rows[:, 3] = _dynamics(others, over_ground)
    rows[:, 5] = np.round(rcs * 2.0) / 2.0  # the sensor reports half decibels
    rows[:, 6:8], rows[:, 8:10] = relative[:, None] * sight, over_ground[:, None] * sight
    rows[:, 10], rows[:, 11], rows[:, 15] = 1, 3, 1  # valid, unambiguous, false alarm less likely than a quarter
    rows[:, 12:14], rows[:, 16:18] = 19, 3  # codes of the sheet's accuracies
    order = np.flatnonzero(found)[np.argsort(distance[found], kind="stable")][:MAX_DETECTIONS]
    rows = rows[order]
    rows[:, 4] = np.arange(len(rows))
    return RadarDetections(rows=rows, instance=instance[order])


def write_pcd(path: Path, detections: RadarDetections) -> None:
    """Write a radar file as nuScenes has them.

    Raises:
        OSError: the file cannot be written.
    """
    table = np.zeros(len(detections.rows), _DTYPE)
    for column, name in enumerate(FIELDS):
        table[name] = detections.rows[:, column].astype(_DTYPE[name])
    kinds = [_DTYPE[name] for name in FIELDS]
    header = (
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(FIELDS)}",
        f"SIZE {' '.join(str(kind.itemsize) for kind in kinds)}",
        f"TYPE {' '.join('F' if kind.kind == 'f' else 'I' for kind in kinds)}",
        f"COUNT {' '.join('1' for _ in FIELDS)}",
        f"WIDTH {len(table)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(table)}",
        "DATA binary",
    )
    # The development kit wants a byte after the last number.
    path.write_bytes(("\n".join(header) + "\n").encode() + table.tobytes() + b"\n")


def _clusters(hits: LidarScan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Actor, lidarseg class and (range, azimuth) of every cell with an echo."""
    x, y = hits.points[:, 0].astype(np.float64), hits.points[:, 1].astype(np.float64)
    distance, azimuth = np.hypot(x, y), np.arctan2(y, x)
    usable = hits.is_return & (np.abs(azimuth) <= _HALF_FIELD_RAD)
    usable &= (hits.semantic < _FLAT_FROM) | (hits.semantic > _FLAT_TO)
    distance, azimuth, instance, semantic = (
        values[usable] for values in (distance, azimuth, hits.instance, hits.semantic)
    )
    cells = np.stack((instance, np.floor(distance / _RANGE_CELL_M), np.floor(azimuth / _AZIMUTH_CELL_RAD)), axis=1)
    _, first, owner, counts = np.unique(
        cells.astype(np.int64), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    owner = owner.reshape(-1)
    means = [np.bincount(owner, values, len(first)) / counts for values in (distance, azimuth)]
    return instance[first], semantic[first], np.stack(means, axis=1)


def _mean_rcs(state: WorldState, instance: int, semantic: int) -> float:
    if instance < 0:
        return _STATIC_RCS_DBSM.get(semantic, 0.0)
    return _RCS_DBSM.get(state.actors[instance].class_name, 0.0)


def _velocities(state: WorldState, spec: RadarSpec, instance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Velocity over ground of the radar (2,) and of what each cluster belongs to (D, 2), in the radar's axes."""
    x, y = spec.T_ego_radar[:2, 3]
    turn = spec.T_ego_radar[:2, :2].T  # ego -> radar
    own = turn @ np.array((state.speed_mps - state.yaw_rate_radps * y, state.yaw_rate_radps * x))
    turn_from_global = rigid_inverse(state.T_global_ego @ spec.T_ego_radar)[:2, :2]
    moving = np.array([(actor.vx_mps, actor.vy_mps) for actor in state.actors] + [(0.0, 0.0)])  # the last: index -1
    return own, moving[instance] @ turn_from_global.T


def _dynamics(velocities: np.ndarray, over_ground: np.ndarray) -> np.ndarray:
    """`dyn_prop` of each cluster."""
    speed = np.hypot(velocities[:, 0], velocities[:, 1])
    sideways = speed > 2.0 * np.abs(over_ground)
    moving = np.where(sideways, CROSSING, np.where(over_ground < 0, ONCOMING, MOVING))
    return np.where(speed < _STANDING_MPS, STATIONARY, moving)
