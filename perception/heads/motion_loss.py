"""What a forecast costs: found agents are matched to annotated objects, and of each agent's ways only the best learns.

Winner takes all (Gupta et al., Social GAN, CVPR 2018, section 3.4, "variety loss"): the mode that comes nearest is
drawn to the truth. Probabilities learn how near each mode comes, so that modes that are equally good (all of them,
where an object stands) need not be told apart. Letters: B frames, A agents, K modes, T steps, P matched pairs.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from bevstack.types.batch import Labels
from bevstack.types.boxes import BoxIndex
from bevstack.types.context import Agents

_HUBER_M = 1.0
"""Distance beyond which an error counts linearly."""
_TEMPERATURE_M = 0.5
"""A mode that is farther off by so much should be less probable by a factor of e."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLabels:
    """The agents that stand for an annotated object whose future is known at some step."""

    frame: Int[Tensor, " P"]
    agent: Int[Tensor, " P"]
    future_ego: Float[Tensor, "P T 2"]
    """NaN where unknown."""


def match_agents(agents: Agents, labels: Labels, *, within_m: float, steps: int) -> AgentLabels:
    """Each annotated object with the nearest agent of its class, nearest pairs first; those farther apart do not match.

    Args:
        agents: Found objects; padding is left out.
        labels: Boxes with `agent_futures_ego`; without, nothing matches.
        within_m: Largest distance of centres over ground.
        steps: Steps of the forecasts; labels that end earlier are unknown from there on.
    """
    frames, rows, futures = [], [], []
    for frame, boxes in enumerate(labels.boxes_ego if labels.agent_futures_ego is not None else ()):
        assert labels.agent_futures_ego is not None
        future = labels.agent_futures_ego[frame][:, :steps]
        future = F.pad(future, (0, 0, 0, steps - future.shape[1]), value=torch.nan)
        own = agents.mask[frame].nonzero()[:, 0]
        apart = torch.cdist(
            boxes[:, : BoxIndex.Z].float(),
            agents.boxes_ego[frame, own, : BoxIndex.Z].float(),
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        is_other = labels.class_index[frame][:, None] != agents.class_index[frame, own]
        objects, found = nearest_pairs(apart.masked_fill(is_other, torch.inf).cpu().numpy(), within_m)
        is_known = future.isfinite().all(-1).any(-1).cpu().numpy()[objects]
        futures.append(future[torch.from_numpy(objects[is_known]).to(future.device)])
        rows.append(own[torch.from_numpy(found[is_known]).to(own.device)])
        frames.append(torch.full_like(rows[-1], frame))
    if not frames:
        none = torch.zeros(0, dtype=torch.int64, device=agents.mask.device)
        return AgentLabels(frame=none, agent=none, future_ego=agents.boxes_ego.new_zeros((0, steps, 2)))
    return AgentLabels(frame=torch.cat(frames), agent=torch.cat(rows), future_ego=torch.cat(futures))


def nearest_pairs(
    apart_m: Float[np.ndarray, "N A"], within_m: float
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Rows and columns of the pairs, each row and column at most once, the nearest pairs first."""
    near = np.argwhere(apart_m <= within_m)
    near = near[np.argsort(apart_m[near[:, 0], near[:, 1]], kind="stable")]
    taken_rows, taken_columns = np.zeros(apart_m.shape[0], bool), np.zeros(apart_m.shape[1], bool)
    pairs = []
    for row, column in near.tolist():
        if not taken_rows[row] and not taken_columns[column]:
            taken_rows[row] = taken_columns[column] = True
            pairs.append((row, column))
    chosen = np.array(pairs, np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


def best_mode_terms(
    trajectories_ego: Float[Tensor, "P K T 2"], logits: Float[Tensor, "P K"], future_ego: Float[Tensor, "P T 2"]
) -> dict[str, Float[Tensor, ""]]:
    """Terms "displacement" (Huber, in metres, of the best mode's distance over the known steps) and "mode" (cross
    entropy with a softmax of how near the modes come), means over agents; zero, with gradients, where there are none.
    """
    is_known = future_ego.isfinite().all(-1)  # (P, T)
    wanted = torch.where(is_known[..., None], future_ego, 0.0)[:, None]
    squared = (trajectories_ego - wanted).square().sum(-1)  # (P, K, T)
    distance = squared.clamp_min(1e-12).sqrt()
    share = (is_known / is_known.sum(-1, keepdim=True).clamp_min(1))[:, None]
    mean_distance = (distance.detach() * share).sum(-1)  # (P, K)
    best = mean_distance.argmin(dim=1)
    huber = torch.where(distance < _HUBER_M, squared / (2 * _HUBER_M), distance - _HUBER_M / 2)
    of_best = (huber * share).sum(-1).gather(1, best[:, None])
    count = max(len(best), 1)
    return {
        "displacement": of_best.sum() / count,
        "mode": F.cross_entropy(logits, (-mean_distance / _TEMPERATURE_M).softmax(dim=1), reduction="sum") / count,
    }
