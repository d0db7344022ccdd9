"""The shared decoder of M3Net (Chen et al., AAAI 2025, section 3.3): the queries of all tasks refined by one network.

In each layer the bird's-eye features look around themselves, then every task's queries look at them. All tasks share
the weights of the attention; what keeps them from pulling at the same channels is task-oriented channel scaling: each
task sees the features through gains of its own, which each cell computes from itself.

Queries do not look at each other, and only the last layer is read, as in the paper. Letters: B frames, S cells of the
bird's-eye grid (Y X flattened), Q queries of a task, C channels.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from bevstack.perception.heads.deformable_attention import DeformableAttention
from bevstack.perception.heads.joint_types import Decoded, Queries, Stem, TaskReadout
from bevstack.perception.heads.query_encoding import PositionEmbedding, cell_centres
from bevstack.types.batch import Labels
from bevstack.types.bev import BevFeatures
from bevstack.types.scene import ScenePart


class JointDecoder(nn.Module):
    """Several tasks on one decoder: a head with one output for each task.

    Args:
        in_channels: Channels of the bird's-eye features.
        channels: Width of the decoder.
        layers: Layers of the decoder.
        heads: Heads of each attention.
        points: Cells that each head reads.
        feedforward: Hidden width of the feed-forward networks.
        task_scaling: Whether each task scales the channels for itself; without, all see the same features.
        checkpoint: Compute each layer again in the backward pass rather than keep what it needs: less memory, a third
            more time.
        readouts: Task name -> what makes its readout from `channels` and `in_channels`. A task sees the queries of
            those before it.

    Raises:
        ValueError: no task or no layer.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        readouts: Mapping[str, Callable[..., TaskReadout]],
        channels: int = 256,
        layers: int = 6,
        heads: int = 8,
        points: int = 4,
        feedforward: int = 1024,
        task_scaling: bool = True,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if not readouts or layers < 1:
            raise ValueError(f"readouts={list(readouts)} must name a task and layers={layers} be 1 or more")
        self.checkpoint = checkpoint
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.to_tokens = nn.Conv2d(in_channels, channels, 1)
        self.token_norm = nn.GroupNorm(math.gcd(32, channels), channels)
        self.position = PositionEmbedding(channels=channels)
        self.level = nn.Parameter(0.02 * torch.randn(channels))
        self.layers = nn.ModuleList(
            JointLayer(
                channels=channels,
                heads=heads,
                points=points,
                feedforward=feedforward,
                scaled_tasks=readouts if task_scaling else (),
            )
            for _ in range(layers)
        )
        made: dict[str, Any] = {
            name: make(channels=channels, in_channels=in_channels) for name, make in readouts.items()
        }
        self.readouts: Any = nn.ModuleDict(made)
        self.agent_channels: int = max(getattr(readout, "agent_channels", 0) for readout in made.values())

    def forward(self, bev: BevFeatures) -> dict[str, Any]:
        """Raw output of each task."""
        placed = self._placed(bev)
        # Contiguous: on CPUs the gradient of this norm is many times slower with the channels last.
        first = self.token_norm(self.to_tokens(bev.data).contiguous()).flatten(2).mT  # (B, S, C)
        tokens, features, scales = self._refined(first, placed, bev)
        rows_columns = bev.data.shape[-2:]
        refined = (tokens + first).mT.unflatten(2, rows_columns)
        return {
            name: readout(
                Decoded(
                    queries=placed[name],
                    features=features[name],
                    bev=refined,
                    task_scale=scales[name].mT.unflatten(2, rows_columns),
                    grid=bev.grid,
                )
            )
            for name, readout in self.readouts.items()
        }

    def _placed(self, bev: BevFeatures) -> dict[str, Queries]:
        """Where each task starts to look."""
        features, placed = self.stem(bev.data), dict[str, Queries]()
        for name, readout in self.readouts.items():
            placed[name] = readout.queries(Stem(features=features, bev=bev, earlier=dict(placed)))
        return placed

    def _refined(
        self, tokens: Float[Tensor, "B S C"], placed: Mapping[str, Queries], bev: BevFeatures
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Tokens, queries of each task and channel gains of each task after the last layer."""
        shape = (bev.data.shape[-2], bev.data.shape[-1])
        centres = cell_centres(shape, tokens.device)
        position = self.position(centres, shape[::-1]) + self.level
        centres = centres.expand(len(tokens), -1, -1)
        features = {name: torch.where(task.mask[..., None], task.features, 0.0) for name, task in placed.items()}
        positions = {name: task.position + self.level for name, task in placed.items()}
        references = {name: task.reference_cells for name, task in placed.items()}
        scales: dict[str, Tensor] = {}
        for layer in self.layers:
            inputs = (tokens, position, centres, features, positions, references, shape)
            is_frugal = self.checkpoint and torch.is_grad_enabled()
            tokens, features, scales = recompute(layer, *inputs, use_reentrant=False) if is_frugal else layer(*inputs)
        return tokens, features, scales

    def loss(self, output: Mapping[str, Any], labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Terms of all tasks, named "task/term"."""
        return {
            f"{name}/{term}": value
            for name, readout in self.readouts.items()
            for term, value in readout.loss(output[name], labels).items()
        }

    def context(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """What the tasks hand on to motion and planning."""
        return {
            part: value
            for name, readout in self.readouts.items()
            if hasattr(readout, "context")
            for part, value in readout.context(output[name]).items()
        }

    def decode(self, output: Mapping[str, Any]) -> list[tuple[ScenePart, ...]]:
        """What each task says, for each frame the parts in the order of the tasks."""
        of_tasks = [readout.decode(output[name]) for name, readout in self.readouts.items()]
        return list(zip(*of_tasks, strict=True))


class JointLayer(nn.Module):
    """One layer: the tokens update themselves, each task scales them, the task's queries read what is left.

    Args:
        channels: Width of tokens and queries.
        heads: Heads of each attention.
        points: Cells that each head reads.
        feedforward: Hidden width of the feed-forward networks.
        scaled_tasks: Tasks that scale the channels; the others see them as they are.
    """

    def __init__(
        self, *, channels: int, heads: int, points: int, feedforward: int, scaled_tasks: Iterable[str]
    ) -> None:
        super().__init__()
        self.token_attention = DeformableAttention(channels=channels, heads=heads, points=points)
        self.token_norm = nn.LayerNorm(channels)
        self.token_feedforward = FeedForward(channels, feedforward)
        self.scaling = nn.ModuleDict({task: TaskScaling(channels) for task in scaled_tasks})
        self.query_attention = DeformableAttention(channels=channels, heads=heads, points=points)
        self.query_norm = nn.LayerNorm(channels)
        self.query_feedforward = FeedForward(channels, feedforward)

    def forward(
        self,
        tokens: Float[Tensor, "B S C"],
        position: Float[Tensor, "S C"],
        centres: Float[Tensor, "B S 2"],
        queries: Mapping[str, Tensor],
        query_positions: Mapping[str, Tensor],
        references: Mapping[str, Tensor],
        shape: tuple[int, int],
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Tokens and queries after this layer, and the gains of each task in it.

        Args:
            tokens: Bird's-eye features, one for each cell.
            position: Position embedding of the cells.
            centres: Centres of the cells, (x, y) in cells.
            queries: Of each task, (B, Q, C).
            query_positions: Position embedding of each task's queries, (B, Q, C).
            references: Where each task's queries look, (B, Q, 2) in cells.
            shape: Rows and columns of the grid.
        """
        seen = self.token_attention(tokens + position, centres, tokens, shape)
        tokens = self.token_feedforward(self.token_norm(tokens + seen))
        refined: dict[str, Tensor] = {}
        scales: dict[str, Tensor] = {}
        for task, features in queries.items():
            scale = self.scaling[task](tokens) if task in self.scaling else None
            value = tokens if scale is None else tokens * scale
            read = self.query_attention(features + query_positions[task], references[task], value, shape)
            refined[task] = self.query_feedforward(self.query_norm(features + read))
            scales[task] = tokens.new_ones(1).expand_as(tokens) if scale is None else scale
        return tokens, refined, scales


class TaskScaling(nn.Sequential):
    """Gains of one task, a gated linear unit without squashing: negative and above 1 are allowed.

    Starts as the identity (all gains 1), so that tasks part only as far as their gradients ask for.
    """

    def __init__(self, channels: int) -> None:
        to_gains = nn.Linear(channels, channels)
        nn.init.zeros_(to_gains.weight)
        nn.init.ones_(to_gains.bias)
        super().__init__(nn.Linear(channels, channels), nn.GELU(), to_gains)


class FeedForward(nn.Module):
    """Two linear layers around a ReLU, added to the input and normalised."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "B S C"]) -> Float[Tensor, "B S C"]:
        """Map vectors to vectors, each by itself."""
        return self.norm(x + self.layers(x))
