"""What the sensors look at: the static world prepared once, actors placed anew for every exposure and sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Float, Float32, Int32, UInt8

from bevstack.sim.sensors.shadow import ShadowMap, static_shadow_map
from bevstack.sim.sensors.weather import Weather
from bevstack.sim.world.mesh import Material, Mesh

_CHUNK_M = 24.0
_SPLIT_FACES = 96


def linear_from_srgb(rgb: UInt8[np.ndarray, "F 3"]) -> Float32[np.ndarray, "F 3"]:
    """Linear reflectance, 0 to 1, of sRGB colours."""
    table = (np.arange(256) / 255.0) ** 2.2
    return table[rgb].astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorPose:
    """One actor at one instant."""

    instance: int
    """Non-negative index of the actor; comes back in the instance images and point labels."""
    meshes: tuple[Mesh, ...]
    """Pose phases in the actor's frame: x forward, y left, z up, origin on the ground below the box centre."""
    T_global_actor: Float[np.ndarray, "4 4"]
    phase: int = 0

    @property
    def mesh(self) -> Mesh:
        """The mesh of the current phase."""
        return self.meshes[self.phase % len(self.meshes)]


class SurfaceModel:
    """A mesh with what rasteriser, shading and LiDAR derive from it once.

    Faces are grouped into compact chunks; chunk k owns vertices[vertex_start[k]:vertex_start[k + 1]] and
    faces[face_start[k]:face_start[k + 1]], whose entries index all vertices.
    """

    def __init__(self, mesh: Mesh, *, chunk_m: float | None = None) -> None:
        self.mesh = mesh
        self.vertices: Float32[np.ndarray, "V 3"]
        self.faces: Int32[np.ndarray, "F 3"]
        order, bounds = _chunked(mesh, chunk_m)
        self.face_start: Int32[np.ndarray, " C1"] = bounds
        vertices, faces, vertex_start = [], np.empty((len(order), 3), np.int32), [0]
        for begin, end in zip(bounds[:-1], bounds[1:]):
            used, inverse = np.unique(mesh.faces[order[begin:end]], return_inverse=True)
            faces[begin:end] = inverse.reshape(-1, 3) + vertex_start[-1]
            vertices.append(mesh.vertices[used])
            vertex_start.append(vertex_start[-1] + len(used))
        self.vertices = np.concatenate(vertices).astype(np.float32) if vertices else np.zeros((0, 3), np.float32)
        self.faces = faces
        self.vertex_start: Int32[np.ndarray, " C1"] = np.array(vertex_start, np.int32)
        self.albedo = linear_from_srgb(mesh.albedo[order])
        self.material = np.ascontiguousarray(mesh.material[order])
        self.semantic = np.ascontiguousarray(mesh.semantic[order])
        self.normals = _face_normals(self.vertices, self.faces)
        self.spheres = _bounding_spheres(self.vertices, self.vertex_start)
        self.cell_hash = _face_hash(self.vertices, self.faces)
        lamp = np.isin(self.material, (Material.HEADLAMP, Material.TAILLAMP))
        self.lamps = _lamp_clusters(self.vertices, self.faces[lamp], self.material[lamp], self.normals[lamp])

    @cached_property
    def ray_scene(self) -> EmbreeScene:
        """Embree acceleration structure over `faces`, in the mesh's own frame."""
        scene = EmbreeScene()
        TriangleMesh(scene, self.vertices, self.faces)
        return scene

    @cached_property
    def sphere(self) -> Float[np.ndarray, "4"]:
        """Centre and radius of a sphere around everything, in the mesh's frame."""
        if not len(self.vertices):
            return np.zeros(4)
        low, high = self.vertices.min(0).astype(np.float64), self.vertices.max(0).astype(np.float64)
        center = (low + high) / 2
        return np.append(center, np.linalg.norm(self.vertices - center, axis=1).max())


class SensorScene:
    """The static world, its lamps and its weather; caches what the sensors derive from them.

    Build one per scene and per process. `static` and `street_lamps` are in the global frame, metres.
    """

    def __init__(self, *, static: Mesh, street_lamps: Float[np.ndarray, "L 3"], weather: Weather) -> None:
        self.weather = weather
        self.street_lamps = np.asarray(street_lamps, np.float64).reshape(-1, 3)
        self.static = SurfaceModel(static, chunk_m=_CHUNK_M)
        self._models: dict[int, SurfaceModel] = {}

    def model_of(self, mesh: Mesh) -> SurfaceModel:
        """The prepared form of an actor's mesh; built at first sight and kept as long as the scene."""
        # The model holds its mesh, so the id cannot pass to another object while it is a key.
        model = self._models.get(id(mesh))
        if model is None:
            model = self._models[id(mesh)] = SurfaceModel(mesh)
        return model

    @cached_property
    def shadow_map(self) -> ShadowMap | None:
        """Depth of the static world as seen from the sun; None when nothing casts a shadow."""
        if max(self.weather.sun_rgb) <= 0.0 or not len(self.static.faces):
            return None
        return static_shadow_map(self.static.vertices, self.static.faces, self.weather.sun)


def nearby(actors: Sequence[ActorPose], center_global: Float[np.ndarray, "3"], range_m: float) -> list[ActorPose]:
    """Actors whose origin is at most `range_m` from a place on the ground plane."""
    x, y = float(center_global[0]), float(center_global[1])
    return [
        actor
        for actor in actors
        if math.hypot(actor.T_global_actor[0, 3] - x, actor.T_global_actor[1, 3] - y) <= range_m
    ]


def _chunked(mesh: Mesh, chunk_m: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Order of faces and bounds of chunks: one chunk, or one per `chunk_m` square of ground (by face centre)."""
    num_faces = len(mesh.faces)
    if chunk_m is None or num_faces <= _SPLIT_FACES:
        return np.arange(num_faces), np.array([0, num_faces], np.int32)
    corners = mesh.vertices[mesh.faces][:, :, :2]
    center, extent = corners.mean(axis=1), np.ptp(corners, axis=1).max(axis=1)
    cell = np.floor(center / chunk_m).astype(np.int64)
    # Large faces (ground sheets) get chunks of their own, so that they do not blow up the spheres of small ones.
    key = np.stack(((extent > chunk_m).astype(np.int64), cell[:, 0], cell[:, 1]), axis=1)
    _, label = np.unique(key, axis=0, return_inverse=True)
    label = label.reshape(-1)
    order = np.argsort(label, kind="stable")
    changes = np.flatnonzero(np.diff(label[order])) + 1
    return order, np.concatenate(([0], changes, [num_faces])).astype(np.int32)


def _face_normals(vertices: np.ndarray, faces: np.ndarray) -> Float32[np.ndarray, "F 3"]:
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    normal = np.cross(b - a, c - a)
    return (normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _bounding_spheres(vertices: np.ndarray, vertex_start: np.ndarray) -> Float[np.ndarray, "C 4"]:
    spheres = np.zeros((len(vertex_start) - 1, 4))
    for k, (begin, end) in enumerate(zip(vertex_start[:-1], vertex_start[1:])):
        if end > begin:
            part = vertices[begin:end].astype(np.float64)
            center = (part.min(0) + part.max(0)) / 2
            spheres[k, :3], spheres[k, 3] = center, np.linalg.norm(part - center, axis=1).max()
    return spheres


def _face_hash(vertices: np.ndarray, faces: np.ndarray) -> Float32[np.ndarray, " F"]:
    """A number in [0, 1) per face, equal for the two halves of a rectangle (they share their bounding box)."""
    corners = vertices[faces].astype(np.float64)
    box = np.round(np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1) * 20.0).astype(np.int64)
    mixed = box @ np.array([73856093, 19349663, 83492791, 49979687, 86028121, 32452843], np.int64)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177 & 0x7FFFFFFF
    return ((mixed & 0xFFFFFF) / float(1 << 24)).astype(np.float32)


def _lamp_clusters(
    vertices: np.ndarray, faces: np.ndarray, material: np.ndarray, normals: np.ndarray
) -> Float[np.ndarray, "L 7"]:
    """Lamps of a vehicle, faces of one material and side (left, right) together: x y z, material, direction."""
    if not len(faces):
        return np.zeros((0, 7))
    center = vertices[faces].mean(axis=1).astype(np.float64)
    rows = []
    for kind in (Material.HEADLAMP, Material.TAILLAMP):
        for left in (False, True):
            chosen = (material == kind) & ((center[:, 1] > 0) == left)
            if chosen.any():
                sign = 1.0 if kind == Material.HEADLAMP else -1.0
                direction = np.array([sign, 0.0, -0.03 if sign > 0 else 0.0])
                rows.append(np.concatenate((center[chosen].mean(0), [float(kind)], direction)))
    return np.array(rows).reshape(-1, 7)
