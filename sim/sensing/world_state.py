"""The world around the ego vehicle at one instant, and what of it never moves."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import from_xy_yaw
from bevstack.sim.world.actors import ActorModel
from bevstack.sim.world.mesh import Mesh
from bevstack.sim.world.roads import RoadNetwork
from bevstack.sim.world.town import Town


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StaticWorld:
    """What stands still: surfaces, roads and lamps, in one frame; metres, z up, road surface at 0."""

    mesh: Mesh
    roads: RoadNetwork
    street_lamps: Float[np.ndarray, "L 3"]
    """Positions of the lamp heads; may be empty."""

    @classmethod
    def of_town(cls, town: Town) -> "StaticWorld":
        """A town of the world generator."""
        return cls(mesh=town.mesh, roads=town.roads, street_lamps=town.street_lamps)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActorState:
    """Somebody or something that may move."""

    name: str
    """Stays the same as long as the actor exists."""
    class_name: str
    """Detection class, or what the scenario calls it."""
    model: ActorModel
    x_m: float
    """Of the ground below the box centre, in the frame of the world."""
    y_m: float
    z_m: float = 0.0
    yaw_rad: float
    vx_mps: float = 0.0
    vy_mps: float = 0.0
    phase: int = 0
    """Mesh of `model.meshes` to show: the legs of walkers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorldState:
    """Everything that moves, at one instant."""

    time_s: float
    """Since the begin of the run."""
    ego_x_m: float
    """Of the rear axle, in the frame of the world."""
    ego_y_m: float
    ego_z_m: float = 0.0
    ego_yaw_rad: float
    speed_mps: float = 0.0
    acceleration_mps2: float = 0.0
    yaw_rate_radps: float = 0.0
    actors: tuple[ActorState, ...] = ()

    @property
    def T_global_ego(self) -> Float[np.ndarray, "4 4"]:
        """Pose of the ego vehicle."""
        return from_xy_yaw(self.ego_x_m, self.ego_y_m, self.ego_yaw_rad, self.ego_z_m)
