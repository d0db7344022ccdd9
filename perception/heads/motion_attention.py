"""What a forecast looks at: the road users around, the bird's-eye features along the way, and the map under it.

All of it is seen from the agent: places, directions and offsets are along and to the left of the way that it moves, so
that what is learned for one heading holds for all. Letters: B frames, A agents, M neighbours, Q = A * K ways of all
agents (mode fastest), P places on a way, C channels, S cells, H heads.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.data.maps import MAP_CLASSES
from bevstack.perception.heads.deformable_attention import deformable_sample, ring
from bevstack.perception.heads.motion_anchors import to_ego, to_own
from bevstack.types.bev import BevFeatures, BevGrid
from bevstack.types.boxes import BoxIndex
from bevstack.types.context import MapBelief

_GEOMETRY = 7
"""Numbers that say where a neighbour is and how it moves."""
_FAR_M, _FAST_MPS = 20.0, 10.0
"""What counts as 1 in these numbers."""
_BESIDE_M = (-2.0, 0.0, 2.0)
"""Right of the way, on it, left of it: where the map is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The nearest agents of each agent, itself included."""

    index: Int[Tensor, "B A M"]
    mask: Bool[Tensor, "B A M"]
    geometry: Float[Tensor, "B A M 7"]
    """Place, log distance, direction and relative velocity, in the frame of the agent that looks."""

    @classmethod
    def of(
        cls,
        boxes_ego: Float[Tensor, "B A 9"],
        axis: Float[Tensor, "B A 2"],
        mask: Bool[Tensor, "B A"],
        *,
        count: int,
        within_m: float,
    ) -> "Neighbours":
        """At most `count` of them, none farther than `within_m`."""
        places, velocity = boxes_ego[..., : BoxIndex.Z], boxes_ego[..., BoxIndex.VX :]
        distance = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
        itself = torch.eye(len(distance[0]), dtype=torch.bool, device=distance.device)
        seen = (mask[:, None] & (distance <= within_m)) | itself  # padding sees itself, so that no softmax is empty
        order = torch.where(seen, distance, torch.inf).masked_fill(itself, -1.0)
        index = order.topk(min(count, len(itself)), dim=-1, largest=False).indices
        own = axis[:, :, None]
        apart = to_own(rows_of(places, index) - places[:, :, None], own)
        geometry = (
            apart / _FAR_M,
            apart.norm(dim=-1, keepdim=True).log1p(),
            to_own(rows_of(axis, index), own),
            to_own(rows_of(velocity, index) - velocity[:, :, None], own) / _FAST_MPS,
        )
        return cls(index=index, mask=seen.gather(2, index), geometry=torch.cat(geometry, dim=-1))


class NeighbourAttention(nn.Module):
    """Each agent attends to its neighbours, knowing where they are relative to itself; residual, then normalised."""

    def __init__(self, *, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.geometry = nn.Sequential(nn.Linear(_GEOMETRY, channels), nn.ReLU(inplace=True))
        self.geometry_key = nn.Linear(channels, channels)
        self.geometry_value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Float[Tensor, "B A C"], neighbours: Neighbours) -> Float[Tensor, "B A C"]:
        """Vectors that know of those around them."""
        index = neighbours.index
        where = self.geometry(neighbours.geometry.to(features.dtype))
        split = (self.heads, features.shape[-1] // self.heads)
        keys = (rows_of(self.key(features), index) + self.geometry_key(where)).unflatten(-1, split)  # (B, A, M, H, E)
        values = (rows_of(self.value(features), index) + self.geometry_value(where)).unflatten(-1, split)
        queries = self.query(features).unflatten(-1, split)
        logits = torch.einsum("bahe,bamhe->bamh", queries, keys).float() / split[1] ** 0.5
        weights = logits.masked_fill(~neighbours.mask[..., None], -torch.inf).softmax(dim=2)
        read = torch.einsum("bamh,bamhe->bahe", weights.to(values.dtype), values).flatten(2)
        return self.norm(features + self.out(read))


class WayAttention(nn.Module):
    """Deformable attention (Zhu et al., Deformable DETR, ICLR 2021, section 4.1) around places along a way.

    Args:
        channels: Width of the queries.
        in_channels: Of the bird's-eye features.
        heads: Each looks beside the way in a direction of its own.
        places: On each way.
    """

    def __init__(self, *, channels: int, in_channels: int, heads: int, places: int) -> None:
        super().__init__()
        self.heads, self.places = heads, places
        self.offsets = nn.Linear(channels, heads * places * 2)
        self.weights = nn.Linear(channels, heads * places)
        self.value = nn.Linear(in_channels, channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        with torch.no_grad():
            self.offsets.bias.copy_(ring(heads)[:, None].expand(-1, places, -1).flatten())  # a metre away

    def forward(
        self,
        queries: Float[Tensor, "B Q C"],
        ways_ego: Float[Tensor, "B Q P 2"],
        axis: Float[Tensor, "B Q 2"],
        bev: BevFeatures,
    ) -> Float[Tensor, "B Q C"]:
        """What lies along each way; `ways_ego` in metres."""
        offsets = self.offsets(queries).unflatten(-1, (self.heads, self.places, 2)).float()
        weights = self.weights(queries).unflatten(-1, (self.heads, self.places)).float()
        places = ways_ego[:, :, None] + to_ego(offsets, axis[:, :, None, None])  # (B, Q, H, P, 2)
        value = self.value(bev.data.flatten(2).mT).masked_fill(~bev.valid.flatten(1)[..., None], 0.0)
        value = value.unflatten(-1, (self.heads, -1))  # (B, S, H, E)
        shape = tuple(bev.data.shape[-2:])
        return self.out(deformable_sample(value, shape, bev.grid.to_cells(places), weights.softmax(-1)))


class MapAlongWay(nn.Module):
    """The map classes on, right and left of the way at each step, as a vector; nothing beyond the map."""

    def __init__(self, *, channels: int, steps: int) -> None:
        super().__init__()
        numbers = steps * len(_BESIDE_M) * (len(MAP_CLASSES) + 1)
        self.layers = nn.Sequential(nn.Linear(numbers, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels))

    def forward(
        self,
        ways_ego: Float[Tensor, "B Q T 2"],
        axis: Float[Tensor, "B Q 2"],
        belief: MapBelief | None,
    ) -> Float[Tensor, "B Q C"]:
        """Vectors of the ways; without a map those of ways beyond it."""
        beside = torch.tensor([(0.0, metres) for metres in _BESIDE_M], device=ways_ego.device)
        shifts = to_ego(beside.expand(*axis.shape[:2], -1, -1), axis[:, :, None])
        places = ways_ego[:, :, :, None] + shifts[:, :, None]  # (B, Q, T, beside, 2)
        return self.layers(_map_at(places.flatten(2, 3), belief).flatten(2))


def rows_of(vectors: Float[Tensor, "B A D"], index: Int[Tensor, "B A M"]) -> Float[Tensor, "B A M D"]:
    """The vectors of some agents for each agent."""
    flat = index.flatten(1)[..., None].expand(-1, -1, vectors.shape[-1])
    return vectors.gather(1, flat).unflatten(1, index.shape[1:])


def _map_at(places: Float[Tensor, "B Q P 2"], belief: MapBelief | None) -> Float[Tensor, "B Q P K"]:
    """Map probabilities and, as the last number, how much of the place is on the map."""
    if belief is None:
        return places.new_zeros((*places.shape[:3], len(MAP_CLASSES) + 1))
    probabilities = belief.probabilities.to(places.dtype)
    known = torch.cat((probabilities, torch.ones_like(probabilities[:, :1])), dim=1)
    at = _normalised(places, belief.grid)
    return F.grid_sample(known, at, padding_mode="zeros", align_corners=False).movedim(1, -1)


def _normalised(places_m: Float[Tensor, "B Q P 2"], grid: BevGrid) -> Float[Tensor, "B Q P 2"]:
    """In the terms of `grid_sample`: -1 and 1 at the outer edges of the grid."""
    rows, columns = grid.shape_yx
    return 2 * grid.to_cells(places_m) / places_m.new_tensor((columns, rows)) - 1
