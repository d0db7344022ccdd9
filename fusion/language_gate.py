"""A cue in words shapes the bird's-eye features (in the style of the BEV-text learnable weighted fusion of VLM-E2E,
arXiv 2502.18042, whose equations are not public: the three forms here are readings of it).

A frame without a cue passes unchanged, bit for bit, and where no frame has one nothing is computed: text may be absent
at run time at no cost. Two things keep its benefit then: text dropout, by which the model learns to do without, and
distillation, by which the features alone learn to say what the text says.

Letters: B frames, C channels, E width of the text embedding, Y X bird's-eye cells.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import BevFeatures, BevGrid
from bevstack.types.scene import CueAttention

FORMS = ("weighted", "spatial", "residual")
DISTILLATIONS = ("cosine", "contrastive", None)

_CONTRAST_TEMPERATURE = 0.07
_SAME_TEXT = 0.999
"""Cues of a batch that are more alike than this are one text: none of them is a wrong answer for another."""
_MIN_VISION_SHARE = 0.01
"""Keeps the ratio of the residual form finite where the text has all the weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageOutput:
    """What the cues did to the features of B frames, and what the features say of the cues."""

    cue: Float[Tensor, "B C"]
    """The cue at the width of the features, less the older it is; zero in frames without one."""
    grid: BevGrid
    attention: Float[Tensor, "B Y X"] | None = None
    """0 to 1, without gradient, zero in frames without a cue; None where no frame has one."""
    share: Float[Tensor, " B"] | None = None
    """Of the cue in the fused features, without gradient."""
    text: Float[Tensor, "B E"] | None = None
    """Embeddings as they came."""
    told: Float[Tensor, "B E"] | None = None
    """What the features alone say the text is; None without distillation."""
    has_text: Bool[Tensor, " B"] | None = None
    """Frames that came with a cue, those included from which text dropout took it."""


class LanguageGate(nn.Module):
    """Lets a cue shape the features, in one of three forms.

    t is the cue projected to the width of the features B. Two weights that add up to one, w_t of the text and w_b of
    the features, follow from learned constants and from a small network that sees the mean of the features and t.

    weighted: w_b B + w_t t, the same in every cell.
    spatial: w_b B + w_t s t, where s, between 0 and 1, says how well a cell matches the text (cosine, temperature).
    residual: B + gamma (w_t / w_b) s t with a gamma for each channel that starts at zero: at first the output is that
    of a model without language, so that its weights fit and training goes on where it ended.

    Nothing in training says which way s must point: a gate may learn to mark the cells that a text names by lighting up
    all others. The map shows where the text acts, not more; read it beside the objects that the text names.

    w_t halves with every `half_life_s` of the cue's age (learned, always positive, so an older cue never weighs more),
    and what it loses goes to w_b.

    Args:
        in_channels: Channels of the features, before and after.
        embedding_dim: Width of the text embedding.
        form: Which of the three.
        text_dropout: Share of the frames whose cue is withheld in training.
        distillation: How the features are drawn towards the text: "cosine" asks for the same direction, "contrastive"
            that the frame's own text be told from the others of the batch; None for neither.
        initial_weight: w_t at first.
        half_life_s: Age at which a cue weighs half, at first. It is learned where training sees cues of several ages.
        temperature: Of the match between cells and text, at first; learned.

    Raises:
        ValueError: a value out of its range.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        embedding_dim: int = 384,
        form: str = "residual",
        text_dropout: float = 0.3,
        distillation: str | None = "cosine",
        initial_weight: float = 0.1,
        half_life_s: float = 4.0,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if form not in FORMS or distillation not in DISTILLATIONS:
            raise ValueError(
                f"form={form!r} must be one of {FORMS}, distillation={distillation!r} one of {DISTILLATIONS}"
            )
        if not (0 <= text_dropout <= 1 and 0 < initial_weight < 1 and half_life_s > 0 and temperature > 0):
            raise ValueError(
                f"text_dropout={text_dropout} must be in [0, 1], initial_weight={initial_weight} in (0, 1), "
                f"half_life_s={half_life_s} and temperature={temperature} positive"
            )
        self.out_channels = in_channels
        self.embedding_dim = embedding_dim
        self.form = form
        self.text_dropout = text_dropout
        self.distillation = distillation
        self.project = nn.Sequential(nn.Linear(embedding_dim, in_channels), nn.LayerNorm(in_channels))
        self.weigh = _weighing(in_channels, initial_weight)
        self.log_half_life_s = nn.Parameter(torch.tensor(math.log(half_life_s)))
        if form != "weighted":
            self.match = nn.Conv2d(in_channels, in_channels, 1)
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        if form == "residual":
            self.gamma = nn.Parameter(torch.zeros(in_channels))
        if distillation is not None:
            self.tell = nn.Linear(in_channels, embedding_dim)

    def forward(self, bev: BevFeatures, batch: Batch) -> tuple[BevFeatures, LanguageOutput]:
        """The features shaped by the cues of the batch, and what `loss`, `decode` and `context` need.

        Raises:
            ValueError: the embeddings have another width than the gate was built for.
        """
        text, has_text = batch.cue_embedding, batch.cue_mask
        if text is None or has_text is None or not has_text.any():
            cue = bev.data.new_zeros((batch.batch_size, self.out_channels))
            return bev, LanguageOutput(cue=cue, grid=bev.grid)
        if text.shape[1] != self.embedding_dim:
            raise ValueError(
                f"the cues have embeddings of {text.shape[1]} numbers, the gate was built for {self.embedding_dim}: "
                "use cues of the text encoder that the model was trained with"
            )
        given = has_text & self._kept(has_text)
        freshness = self._freshness(batch.cue_age_s, text)
        mean, cue = _mean_of_valid(bev), self.project(text)
        vision, words = self._weighed(mean, cue, freshness)
        lit = self._lit(bev.data, cue)
        fused = (vision[..., None, None] * bev.data + lit * words[..., None, None]).to(bev.data.dtype)
        output = LanguageOutput(
            cue=torch.where(given[:, None], freshness[:, None] * cue, 0.0),
            grid=bev.grid,
            attention=torch.where(given[:, None, None], lit[:, 0], 0.0).detach(),
            share=torch.where(given, _share(vision, bev.data, words, lit), 0.0),
            text=text,
            told=None if self.distillation is None else self.tell(mean),
            has_text=has_text,
        )
        return replace(bev, data=torch.where(given[:, None, None, None], fused, bev.data)), output

    def loss(self, output: LanguageOutput, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """The term "distillation": how far what the features say is from the texts, over the frames that have one.

        Zero without such a frame; no term at all in a gate without distillation. The texts are the target, so no label
        is read and no gradient reaches them.
        """
        if self.distillation is None:
            return {}
        if output.text is None or output.told is None or output.has_text is None:
            return {"distillation": output.cue.new_zeros(())}
        told = nn.functional.normalize(output.told[output.has_text].float(), dim=1)
        text = nn.functional.normalize(output.text[output.has_text].float(), dim=1)
        if self.distillation == "cosine":
            return {"distillation": (1 - (told * text).sum(dim=1)).mean()}
        own = torch.eye(len(text), dtype=torch.bool, device=text.device)
        is_same = (text @ text.T > _SAME_TEXT) & ~own
        alike = (told @ text.T / _CONTRAST_TEMPERATURE).masked_fill(is_same, -torch.inf)
        return {"distillation": nn.functional.cross_entropy(alike, torch.arange(len(text), device=text.device))}

    def decode(self, output: LanguageOutput) -> list[CueAttention]:
        """Where the cue of each frame has lit up the features, and how much it counts; zero in frames without one."""
        size = len(output.cue)
        if output.attention is None or output.share is None:
            dark = np.zeros(output.grid.shape_yx, np.float32)
            return [CueAttention(weights=dark, grid=output.grid, cue_weight=0.0)] * size
        weights, shares = output.attention.float().cpu().numpy(), output.share.tolist()
        return [CueAttention(weights=weights[b], grid=output.grid, cue_weight=shares[b]) for b in range(size)]

    def context(self, output: LanguageOutput) -> dict[str, Float[Tensor, "B C"]]:
        """What the heads of the second stage see of the cues."""
        return {"cue_embedding": output.cue}

    def _kept(self, has_text: Bool[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Frames from which text dropout does not take the cue: all but in training."""
        if not self.training or self.text_dropout == 0:
            return torch.ones_like(has_text)
        return torch.rand(len(has_text), device=has_text.device) >= self.text_dropout

    def _freshness(self, age_s: Float[Tensor, " B"] | None, text: Tensor) -> Float[Tensor, " B"]:
        """1 for a cue of this very frame, half of it after each half-life."""
        if age_s is None:
            return text.new_ones(len(text))
        return torch.exp2(-age_s.clamp_min(0) / self.log_half_life_s.exp())

    def _weighed(
        self, mean: Float[Tensor, "B C"], cue: Float[Tensor, "B C"], freshness: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "B C"]]:
        """By what the features are multiplied, and what is added to them where a cell is wholly lit up."""
        of_text = self.weigh(torch.cat((mean, cue), dim=1)).softmax(dim=1)[:, 1:] * freshness[:, None]
        vision = 1 - of_text
        if self.form == "residual":
            return torch.ones_like(vision), self.gamma * of_text / vision.clamp_min(_MIN_VISION_SHARE) * cue
        return vision, of_text * cue

    def _lit(self, data: Float[Tensor, "B C Y X"], cue: Float[Tensor, "B C"]) -> Float[Tensor, "B 1 Y X"]:
        """How much the text lights up each cell."""
        if self.form == "weighted":
            return data.new_ones((len(data), 1, *data.shape[2:]))
        cells = nn.functional.normalize(self.match(data), dim=1)
        cosine = torch.einsum("bcyx,bc->byx", cells, nn.functional.normalize(cue, dim=1))
        return (cosine / self.log_temperature.exp()).sigmoid()[:, None]


def _weighing(channels: int, initial_weight: float) -> nn.Sequential:
    """Mean of the features and cue to the logits of w_b and w_t; the learned constants are the last bias."""
    hidden = channels // 2 + 1
    last = nn.Linear(hidden, 2)
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.0, math.log(initial_weight / (1 - initial_weight))])
    return nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), last)


def _mean_of_valid(bev: BevFeatures) -> Float[Tensor, "B C"]:
    """Mean of the features over the cells that a sensor sees."""
    total = torch.where(bev.valid, bev.data, 0.0).sum(dim=(2, 3), dtype=torch.float32)
    return total / bev.valid.sum(dim=(2, 3)).clamp_min(1)


@torch.no_grad()
def _share(
    vision: Float[Tensor, "B 1"], data: Float[Tensor, "B C Y X"], words: Float[Tensor, "B C"], lit: Tensor
) -> Float[Tensor, " B"]:
    """Mean size of what the cue adds, against that of both parts together."""
    of_cue = words.abs().mean(dim=1) * lit.mean(dim=(1, 2, 3))
    of_features = vision[:, 0] * data.abs().mean(dim=(1, 2, 3))
    return of_cue / (of_cue + of_features).clamp_min(1e-12)
