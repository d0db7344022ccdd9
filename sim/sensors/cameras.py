"""Pinhole cameras: what each pixel sees (depth, semantic class, instance) and the picture with light and weather."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8

from bevstack.geometry.transforms import rigid_inverse
from bevstack.sim.sensors.develop import develop
from bevstack.sim.sensors.lights import collect_lights, light_grid
from bevstack.sim.sensors.raster import NO_FACE, rasterise, visible_chunks
from bevstack.sim.sensors.scene import ActorPose, SensorScene, SurfaceModel, nearby
from bevstack.sim.sensors.shading import Shadows, Surfaces, shade
from bevstack.sim.sensors.shadow import actor_shadow_map
from bevstack.sim.sensors.sky import air_of
from bevstack.sim.world.mesh import Mesh

SKY_SEMANTIC = 255
"""Semantic value of pixels that see no surface."""

_VIEW_RANGE_M = 260.0
_ACTOR_RANGE_M = 150.0
_SHADOW_CELLS, _SHADOW_CELL_M = 384, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraRender:
    """One exposure with exact ground truth."""

    rgb: UInt8[np.ndarray, "H W 3"]
    depth_m: Float32[np.ndarray, "H W"]
    """Along the optical axis; inf where nothing is seen."""
    semantic: UInt8[np.ndarray, "H W"]
    """nuScenes-lidarseg index, 255 for the sky."""
    instance: Int32[np.ndarray, "H W"]
    """`ActorPose.instance`, -1 for everything else."""
    silhouette_px: dict[int, int]
    """Per actor in view: pixels that it would cover in this picture if nothing stood in front of it."""
    visible_px: dict[int, int]
    """Per actor in view: pixels where it is what one sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Actors:
    """Actors of one exposure as one soup of triangles, chunk k = actor k. Vertices in each actor's own frame."""

    poses: list[ActorPose]
    models: list[SurfaceModel]
    vertices: Float32[np.ndarray, "V 3"]
    faces: Int32[np.ndarray, "F 3"]
    vertex_start: Int32[np.ndarray, " C1"]
    face_start: Int32[np.ndarray, " C1"]
    spheres: Float[np.ndarray, "C 4"]
    T_global_actor: Float[np.ndarray, "C 4 4"]
    normals_global: Float32[np.ndarray, "F 3"]
    albedo: Float32[np.ndarray, "F 3"]
    material: UInt8[np.ndarray, " F"]
    semantic: UInt8[np.ndarray, " F"]
    cell_hash: Float32[np.ndarray, " F"]


def _gather(scene: SensorScene, poses: list[ActorPose]) -> _Actors:
    models = [scene.model_of(pose.mesh) for pose in poses]
    nothing = SurfaceModel(Mesh.empty()) if not models else None
    parts = models if nothing is None else [nothing]
    vertex_start = np.cumsum([0] + [len(model.vertices) for model in models]).astype(np.int32)
    face_start = np.cumsum([0] + [len(model.faces) for model in models]).astype(np.int32)
    rotations = [pose.T_global_actor[:3, :3].T.astype(np.float32) for pose in poses] or [np.eye(3, dtype=np.float32)]
    return _Actors(
        poses=poses,
        models=models,
        vertices=np.concatenate([model.vertices for model in parts]),
        faces=np.concatenate([model.faces + start for model, start in zip(parts, vertex_start)]),
        vertex_start=vertex_start,
        face_start=face_start,
        spheres=np.array([model.sphere for model in models]).reshape(-1, 4),
        T_global_actor=np.array([pose.T_global_actor for pose in poses], np.float64).reshape(-1, 4, 4),
        normals_global=np.concatenate([model.normals @ rotation for model, rotation in zip(parts, rotations)]),
        albedo=np.concatenate([model.albedo for model in parts]),
        material=np.concatenate([model.material for model in parts]),
        semantic=np.concatenate([model.semantic for model in parts]),
        cell_hash=np.concatenate([model.cell_hash for model in parts]),
    )


def render_camera(
    scene: SensorScene,
    *,
    K_cam: Float[np.ndarray, "3 3"],
    T_global_cam: Float[np.ndarray, "4 4"],
    height_px: int,
    width_px: int,
    actors: Sequence[ActorPose],
    seed: int,
    T_global_ego: Float[np.ndarray, "4 4"] | None = None,
) -> CameraRender:
    """One exposure.

    Args:
        scene: static world and weather.
        K_cam: camera coordinates to pixels of the picture that is made; see `rig.camera_matrix`.
        T_global_cam: camera at the moment of exposure; x right, y down, z forward.
        height_px: rows of the picture; likewise width_px.
        actors: everything that moves, where it is at the moment of exposure, except the own car.
        seed: of noise and rain; give every exposure its own.
        T_global_ego: the own car, whose headlamps shine after dark; None leaves them off.

    Returns:
        The picture and what each pixel sees; the same arguments give the same bytes.
    """
    camera = np.asarray(T_global_cam[:3, 3], np.float64)
    close = _gather(scene, nearby(actors, camera, _ACTOR_RANGE_M))
    T_cam_global = rigid_inverse(np.asarray(T_global_cam, np.float64))
    inverse_depth = np.zeros((height_px, width_px), np.float32)
    face_index = np.full((height_px, width_px), NO_FACE, np.int32)
    static = scene.static
    # Actors first, so that the stamps that measure their silhouettes cost nothing for the static world.
    in_view, silhouettes = _draw_actors(close, T_cam_global, K_cam, len(static.faces), inverse_depth, face_index)
    view_range = min(_VIEW_RANGE_M, 7.0 / scene.weather.fog_extinction_per_m)
    chunks = visible_chunks(static.spheres, T_cam_global[None], K_cam, height_px, width_px, view_range)
    rasterise(
        static.vertices, static.faces, static.vertex_start, static.face_start, chunks,
        np.broadcast_to(T_cam_global, (len(chunks), 4, 4)), np.asarray(K_cam, np.float64), 0,
        inverse_depth, face_index, np.zeros((0, 0), np.int32),
    )  # fmt: skip
    rgb = _picture(scene, close, K_cam, T_global_cam, inverse_depth, face_index, actors, T_global_ego, seed)
    semantic, instance, visible = _labels(static, close, face_index)
    with np.errstate(divide="ignore"):
        depth = (1.0 / inverse_depth).astype(np.float32)
    seen = {close.poses[k].instance: int(count) for k, count in zip(in_view, silhouettes) if count > 0}
    return CameraRender(
        rgb=rgb, depth_m=depth, semantic=semantic, instance=instance, silhouette_px=seen,
        visible_px={key: visible.get(key, 0) for key in seen},
    )  # fmt: skip


def _draw_actors(
    close: _Actors,
    T_cam_global: np.ndarray,
    K_cam: np.ndarray,
    face_offset: int,
    inverse_depth: np.ndarray,
    face_index: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    height, width = inverse_depth.shape
    if not close.poses:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    T_cam_actor = T_cam_global[None] @ close.T_global_actor
    in_view = visible_chunks(close.spheres, T_cam_actor, K_cam, height, width, _ACTOR_RANGE_M)
    stamp = np.full((height, width), -1, np.int32)
    silhouettes = rasterise(
        close.vertices, close.faces, close.vertex_start, close.face_start, in_view, T_cam_actor[in_view],
        np.asarray(K_cam, np.float64), face_offset, inverse_depth, face_index, stamp,
    )  # fmt: skip
    return in_view, silhouettes


def _labels(
    static: SurfaceModel, close: _Actors, face_index: np.ndarray
) -> tuple[UInt8[np.ndarray, "H W"], Int32[np.ndarray, "H W"], dict[int, int]]:
    num_static = len(static.faces)
    table = np.concatenate((static.semantic, close.semantic, np.array([SKY_SEMANTIC], np.uint8)))
    semantic = table[face_index]  # the sky's -1 takes the last entry
    instance = np.full(face_index.shape, -1, np.int32)
    on_actor = face_index >= num_static
    if not on_actor.any():
        return semantic, instance, {}
    chunk = np.searchsorted(close.face_start, face_index[on_actor] - num_static, side="right") - 1
    numbers = np.array([pose.instance for pose in close.poses], np.int32)
    instance[on_actor] = numbers[chunk]
    pixels = np.bincount(chunk, minlength=len(numbers))
    return semantic, instance, dict(zip(numbers.tolist(), pixels.tolist()))


def _picture(
    scene: SensorScene,
    close: _Actors,
    K_cam: np.ndarray,
    T_global_cam: np.ndarray,
    inverse_depth: np.ndarray,
    face_index: np.ndarray,
    actors: Sequence[ActorPose],
    T_global_ego: np.ndarray | None,
    seed: int,
) -> UInt8[np.ndarray, "H W 3"]:
    camera = np.ascontiguousarray(T_global_cam[:3, 3], dtype=np.float64)
    lights = collect_lights(scene, actors, camera, T_global_ego)
    static = scene.static
    surfaces = Surfaces(
        num_static=len(static.faces),
        normals=np.concatenate((static.normals, close.normals_global)),
        albedo=np.concatenate((static.albedo, close.albedo)),
        material=np.concatenate((static.material, close.material)),
        cell_hash=np.concatenate((static.cell_hash, close.cell_hash)),
    )
    ray_matrix = np.ascontiguousarray(T_global_cam[:3, :3] @ np.linalg.inv(K_cam), dtype=np.float64)
    shadows = _shadows(scene, close, camera)
    grid = light_grid(lights, camera)
    radiance = shade(
        inverse_depth, face_index, surfaces, ray_matrix, camera, air_of(scene.weather), shadows, lights, grid
    )
    return develop(radiance, scene.weather, seed)


def _placed_vertices(close: _Actors) -> Float32[np.ndarray, "V 3"]:
    out = np.empty_like(close.vertices)
    for k, T_global in enumerate(close.T_global_actor):
        part = slice(close.vertex_start[k], close.vertex_start[k + 1])
        out[part] = close.vertices[part] @ T_global[:3, :3].T.astype(np.float32) + T_global[:3, 3].astype(np.float32)
    return out


def _shadows(scene: SensorScene, close: _Actors, camera: np.ndarray) -> Shadows:
    placed = _placed_vertices(close)
    T_static = T_actors = np.zeros((3, 4))
    static_map = actor_map = np.zeros((0, 0), np.float32)
    still = scene.shadow_map
    if still is not None:
        moving = actor_shadow_map(placed, close.faces, scene.weather.sun, camera)
        T_static, static_map = still.T_sun_global, still.height_m
        T_actors, actor_map = moving.T_sun_global, moving.height_m
    return Shadows(
        T_static=T_static,
        static_map=static_map,
        T_actors=T_actors,
        actor_map=actor_map,
        below=_shade_below(close, placed, camera),
        below_cell_m=_SHADOW_CELL_M,
    )


def _shade_below(close: _Actors, placed: np.ndarray, camera: np.ndarray) -> Float32[np.ndarray, "S S"]:
    """How much of the sky actors hide from the ground around the camera: their blurred footprints."""
    footprint = np.zeros((_SHADOW_CELLS, _SHADOW_CELLS), np.uint8)
    cells = np.asarray(placed[:, :2] - camera[:2].astype(np.float32)) / _SHADOW_CELL_M + _SHADOW_CELLS / 2 - 0.5
    reach = 0.5 * _SHADOW_CELLS * _SHADOW_CELL_M
    for k, pose in enumerate(close.poses):
        if max(abs(pose.T_global_actor[axis, 3] - camera[axis]) for axis in (0, 1)) < reach:
            part = np.ascontiguousarray(cells[close.vertex_start[k] : close.vertex_start[k + 1]])
            hull = np.round(np.asarray(cv2.convexHull(part), np.float32) * 16.0).astype(np.int32)
            cv2.fillPoly(footprint, [hull], (255,), cv2.LINE_AA, 4)
    return cv2.GaussianBlur(footprint.astype(np.float32) * (1 / 255.0), (5, 5), 1.0)
