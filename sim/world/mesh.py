"""Triangles with everything the sensors need to know about a surface."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np
from jaxtyping import Float32, Int32, UInt8


class Material(IntEnum):
    """What a surface is made of: decides texture and gloss for cameras and reflectivity for LiDAR."""

    ASPHALT = 0
    LANE_PAINT = 1
    CONCRETE = 2
    GRASS = 3
    FOLIAGE = 4
    BRICK = 5
    PLASTER = 6
    GLASS = 7
    CAR_PAINT = 8
    METAL = 9
    RUBBER = 10
    CLOTH = 11
    SKIN = 12
    PLASTIC = 13
    RETROREFLECTOR = 14
    HEADLAMP = 15
    TAILLAMP = 16
    STREETLAMP = 17
    WOOD = 18
    WINDOW = 19
    """Facade window: lit or dark at night."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """V vertices and F triangles; front faces wind counter-clockwise seen from outside. Metres, x y z, z up."""

    vertices: Float32[np.ndarray, "V 3"]
    faces: Int32[np.ndarray, "F 3"]
    albedo: UInt8[np.ndarray, "F 3"]
    """sRGB base colour of each face."""
    material: UInt8[np.ndarray, " F"]
    """`Material` of each face."""
    semantic: UInt8[np.ndarray, " F"]
    """nuScenes-lidarseg category index (0 to 31) of each face."""
    instance: Int32[np.ndarray, " F"]
    """Index of the actor that the face belongs to; -1 for the static world."""

    @classmethod
    def empty(cls) -> Self:
        """No triangles."""
        return cls(
            vertices=np.zeros((0, 3), np.float32),
            faces=np.zeros((0, 3), np.int32),
            albedo=np.zeros((0, 3), np.uint8),
            material=np.zeros(0, np.uint8),
            semantic=np.zeros(0, np.uint8),
            instance=np.zeros(0, np.int32),
        )

    @classmethod
    def joined(cls, parts: "list[Mesh]") -> "Mesh":
        """One mesh with the triangles of all parts, in order."""
        if not parts:
            return cls.empty()
        offsets = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
        return cls(
            vertices=np.concatenate([part.vertices for part in parts]),
            faces=np.concatenate([part.faces + offset for part, offset in zip(parts, offsets)]).astype(np.int32),
            albedo=np.concatenate([part.albedo for part in parts]),
            material=np.concatenate([part.material for part in parts]),
            semantic=np.concatenate([part.semantic for part in parts]),
            instance=np.concatenate([part.instance for part in parts]),
        )

    def placed(self, T_world_mesh: np.ndarray, instance: int) -> "Mesh":
        """The mesh moved by a rigid transform (4, 4), every face labelled with `instance`."""
        rotation, translation = T_world_mesh[:3, :3], T_world_mesh[:3, 3]
        return Mesh(
            vertices=(self.vertices @ rotation.T + translation).astype(np.float32),
            faces=self.faces,
            albedo=self.albedo,
            material=self.material,
            semantic=self.semantic,
            instance=np.full(len(self.faces), instance, np.int32),
        )
