"""Streaming temporal fusion: what earlier frames saw, moved by the vehicle's own motion, beside what this one sees
(in the style of BEVDet4D, Huang and Huang, arXiv 2203.17054, with several frames and gates).

The memory keeps the features of single frames as they were, each with its pose, and samples each of them once. Nothing
blurs by being resampled again and again, and what a frame gets depends on the last few frames alone: a stream of any
length gives the same as a clip that is long enough.

Letters: B frames, one for each drive, N slots of the memory (0 the newest), C D channels, Y X bird's-eye cells.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bevstack.types.batch import Batch
from bevstack.types.bev import BevFeatures, BevGrid

_WHOLLY_SEEN = 0.999
"""A cell between remembered ones counts as seen if all that it is mixed from was; below 1 for the sake of rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BevMemory:
    """What earlier frames saw, where and when; one row for each drive of the batch."""

    features: Float[Tensor, "B N C Y X"]
    """Of single frames, each on `grid` around its own pose; zero where not valid."""
    valid: Bool[Tensor, "B N Y X"]
    T_global_ego: Float[Tensor, "B N 4 4"]
    """float64."""
    timestamps_us: Int[Tensor, "B N"]
    mask: Bool[Tensor, "B N"]
    """False in slots that are still empty."""
    last_us: Int[Tensor, " B"]
    """Time of the last frame, kept or not."""
    scene_names: tuple[str, ...]
    grid: BevGrid


class TemporalFusion(nn.Module):
    """Adds to each frame's features what the last few frames of its drive saw.

    Remembered features are sampled where the vehicle has moved to since, and weighed by a gate for each cell: a
    logistic function of what is there now, what was there then, and the age, which can only lower it. Each slot has a
    convolution of its own, told the age, so that the network can read speeds from displacements. The last convolution
    starts at zero: at first the output is the input, so that weights of a model of single frames fit and training goes
    on where theirs ended. Cells of which nothing is remembered pass unchanged, and so does the first frame of a drive.

    A row starts afresh where its scene changes, where time does not advance (backwards, or the same frame twice, as a
    clip is padded at the start of a scene), and after a gap of more than `max_gap_s`.

    Args:
        in_channels: Channels of the features, before and after.
        num_past: Frames to remember.
        hidden_channels: Channels between the two convolutions.
        min_spacing_s: Remember a frame only if the newest remembered one is at least that much older. At 2 Hz every
            frame is kept; at 20 Hz the memory still spans `num_past` * `min_spacing_s` or more.
        max_gap_s: Without a frame for longer than this, what was seen before is forgotten.
        age_rate: What a second of age takes from the logit of a gate, at first; learned, and never negative.

    Raises:
        ValueError: a value out of its range.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_past: int = 3,
        hidden_channels: int = 32,
        min_spacing_s: float = 0.4,
        max_gap_s: float = 2.0,
        age_rate: float = 0.5,
    ) -> None:
        super().__init__()
        if num_past < 1 or min_spacing_s < 0 or max_gap_s <= 0 or age_rate <= 0:
            raise ValueError(
                f"num_past={num_past} must be 1 or more, min_spacing_s={min_spacing_s} 0 or more, "
                f"max_gap_s={max_gap_s} and age_rate={age_rate} positive; a model without a memory has memory=null"
            )
        self.out_channels = in_channels
        self.num_past = num_past
        self.min_spacing_us = round(min_spacing_s * 1e6)
        self.max_gap_us = round(max_gap_s * 1e6)
        self.gate_now = nn.Conv2d(in_channels, 1, 1)
        self.gate_past = nn.Conv2d(in_channels, 1, 1, bias=False)
        nn.init.zeros_(self.gate_now.weight)
        nn.init.constant_(self.gate_now.bias, 2.0)  # type: ignore[arg-type]
        nn.init.zeros_(self.gate_past.weight)
        self.log_age_rate = nn.Parameter(torch.tensor(math.log(age_rate)))
        self.now = nn.Conv2d(in_channels, hidden_channels, 3, padding=1, bias=False)
        # Beside the features a slot has two channels: its gate, and its gate times its age.
        self.past = nn.ModuleList(
            nn.Conv2d(in_channels + 2, hidden_channels, 3, padding=1, bias=False) for _ in range(num_past)
        )
        self.norm = nn.BatchNorm2d(hidden_channels, eps=1e-3)
        self.change = nn.Conv2d(hidden_channels, in_channels, 3, padding=1)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)  # type: ignore[arg-type]

    def forward(self, bev: BevFeatures, batch: Batch, state: BevMemory | None = None) -> tuple[BevFeatures, BevMemory]:
        """The features with what is remembered of their drives, and what to remember for the next frame.

        Args:
            bev: Features of this frame of each drive.
            batch: Says where and when.
            state: What the last call for the same drives gave; None at their start.

        Raises:
            ValueError: the memory has another number of drives, or lies on another grid.
        """
        known = self._known(bev, batch, state)
        # Without a state there is nothing to add, and nothing is computed.
        fused = bev if state is None else replace(bev, data=self._fused(bev.data, batch, known))
        return fused, self._with_frame(known, bev, batch)

    def remember(self, bev: BevFeatures, batch: Batch, state: BevMemory | None = None) -> BevMemory:
        """The second result of `forward` without the first: for frames whose own output nobody needs.

        Raises:
            ValueError: as `forward`.
        """
        return self._with_frame(self._known(bev, batch, state), bev, batch)

    def _known(self, bev: BevFeatures, batch: Batch, state: BevMemory | None) -> BevMemory:
        """The memory without the rows that start afresh."""
        if state is None:
            return self._empty(bev, batch)
        if state.grid != bev.grid:
            raise ValueError(f"the memory lies on {state.grid} but the features on {bev.grid}: use one grid")
        if len(state.mask) != batch.batch_size:
            raise ValueError(
                f"the memory is of {len(state.mask)} drives but the batch has {batch.batch_size} frames: step the same "
                "drives together, in the same order, or start with memory=None"
            )
        step_us = batch.timestamps_us - state.last_us
        is_same = [before == now for before, now in zip(state.scene_names, batch.scene_names, strict=True)]
        goes_on = (step_us > 0) & (step_us <= self.max_gap_us) & torch.tensor(is_same, device=step_us.device)
        return replace(state, mask=state.mask & goes_on[:, None])

    def _empty(self, bev: BevFeatures, batch: Batch) -> BevMemory:
        size, slots = batch.batch_size, self.num_past
        rows, columns = bev.grid.shape_yx
        return BevMemory(
            features=bev.data.new_zeros((size, slots, *bev.data.shape[1:])),
            valid=bev.valid.new_zeros((size, slots, rows, columns)),
            T_global_ego=torch.eye(4).to(batch.T_global_ego).expand(size, slots, 4, 4),
            timestamps_us=batch.timestamps_us.new_zeros((size, slots)),
            mask=bev.valid.new_zeros((size, slots)),
            last_us=batch.timestamps_us,
            scene_names=batch.scene_names,
            grid=bev.grid,
        )

    def _with_frame(self, known: BevMemory, bev: BevFeatures, batch: Batch) -> BevMemory:
        """The memory with this frame as its newest, in rows whose newest is old enough."""
        is_apart = batch.timestamps_us - known.timestamps_us[:, 0] >= self.min_spacing_us
        is_kept = is_apart | ~known.mask[:, 0]

        def pushed(slots: Tensor, newest: Tensor) -> Tensor:
            shifted = torch.cat((newest[:, None], slots[:, :-1]), dim=1)
            return torch.where(is_kept.view(-1, *[1] * (slots.dim() - 1)), shifted, slots)

        return BevMemory(
            features=pushed(known.features, torch.where(bev.valid, bev.data, 0.0).detach()),
            valid=pushed(known.valid, bev.valid[:, 0]),
            T_global_ego=pushed(known.T_global_ego, batch.T_global_ego),
            timestamps_us=pushed(known.timestamps_us, batch.timestamps_us),
            mask=pushed(known.mask, torch.ones_like(known.mask[:, 0])),
            last_us=batch.timestamps_us,
            scene_names=batch.scene_names,
            grid=bev.grid,
        )

    def _fused(self, now: Float[Tensor, "B C Y X"], batch: Batch, known: BevMemory) -> Float[Tensor, "B C Y X"]:
        T_past_now = torch.linalg.inv(known.T_global_ego) @ batch.T_global_ego[:, None]
        moved, seen = warp_to_present(
            known.features.flatten(0, 1), known.valid.flatten(0, 1), T_past_now.flatten(0, 1), known.grid
        )
        moved, seen = moved.unflatten(0, known.mask.shape), seen.unflatten(0, known.mask.shape)
        seen = seen & known.mask[..., None, None]
        age_s = (batch.timestamps_us[:, None] - known.timestamps_us).float() * 1e-6
        age_s = torch.where(known.mask, age_s, 0.0)[..., None, None]
        hidden = self.now(now)
        for slot, conv in enumerate(self.past):
            past, age = moved[:, slot], age_s[:, slot, None]
            logit = self.gate_now(now) + self.gate_past(past) - self.log_age_rate.exp() * age
            gate = torch.where(seen[:, slot, None], logit.sigmoid(), 0.0)
            hidden = hidden + conv(torch.cat((gate * past, gate, gate * age), dim=1))
        change = self.change(torch.relu(self.norm(hidden)))
        return torch.where(seen.any(dim=1)[:, None], now + change, now)


def warp_to_present(
    features: Float[Tensor, "B C Y X"],
    valid: Bool[Tensor, "B Y X"],
    T_past_now: Float[Tensor, "B 4 4"],
    grid: BevGrid,
) -> tuple[Float[Tensor, "B C Y X"], Bool[Tensor, "B Y X"]]:
    """Features of the past on the cells of the present.

    Args:
        features: On the cells of the past, zero where not valid.
        valid: What was seen then.
        T_past_now: Coordinates now to coordinates then. Any affine map: augmentation may have mirrored the world.
        grid: Of both.

    Returns:
        Features between the four nearest cells of the past, zero where any of the four was not seen or lies outside;
        and where that is not so.
    """
    centers_m = grid.centers_m(features.device).to(T_past_now.dtype)  # Y X 2, on the ground: z is 0
    past_m = torch.einsum("bij,yxj->byxi", T_past_now[:, :2, :2], centers_m) + T_past_now[:, None, None, :2, 3]
    rows, columns = grid.shape_yx
    # grid_sample without aligned corners: -1 and 1 are the outer edges of the outer cells, as 0 and size are in cells.
    place = grid.to_cells(past_m) * 2 / past_m.new_tensor((columns, rows)) - 1
    # In 32 bits whatever the features come in: half precision does not tell neighbouring cells apart.
    both = torch.cat((features.float(), valid[:, None].float()), dim=1)
    sampled = nn.functional.grid_sample(both, place.float(), align_corners=False)
    seen = sampled[:, -1] > _WHOLLY_SEEN
    return torch.where(seen[:, None], sampled[:, :-1], 0.0).to(features.dtype), seen
