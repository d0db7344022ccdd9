"""Text to an embedding of length 1: one interface, the packaged sentence encoder, and CLIP's text tower by name."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32

from bevstack.perception.language.hub import load_from_hub, transformers_package
from bevstack.perception.language.minilm import SentenceEncoder
from bevstack.perception.language.mirror import mirrored_text

DEFAULT_ENCODER = "minilm"
_BATCH = 32


@runtime_checkable
class TextEncoder(Protocol):
    """Embeds texts."""

    name: str
    """As the cache names it."""
    width: int
    """Numbers in an embedding."""

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "N E"]:
        """One embedding of length 1 for each text."""


class ClipTextEncoder:
    """The text tower of a CLIP model (Radford et al., ICML 2021) with its projection. A `TextEncoder`.

    A text of more tokens than the model has positions (77 for the published ones) is cut there.

    Args:
        model: `owner/name` of the Hugging Face hub, or a folder as `save_pretrained` leaves it.
        device: where it runs.

    Raises:
        DatasetError: the model cannot be had, or is no CLIP.
    """

    def __init__(self, *, model: str = "openai/clip-vit-base-patch32", device: str = "cpu") -> None:
        package = transformers_package("CLIP's text encoder")
        self._tokenizer: Any = load_from_hub(package.AutoTokenizer, model)
        network: Any = load_from_hub(package.CLIPTextModelWithProjection, model)
        self._network = network.eval().to(device)
        self._device = device
        self.name = f"clip:{model}"
        self.width = int(network.config.projection_dim)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "N E"]:
        """One embedding of length 1 for each text."""
        parts = [self._embed(list(texts[first : first + _BATCH])) for first in range(0, len(texts), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    def _embed(self, texts: list[str]) -> np.ndarray:
        positions = int(self._network.config.max_position_embeddings)
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=positions, return_tensors="pt")
        inputs = {name: inputs[name].to(self._device) for name in ("input_ids", "attention_mask")}
        embeddings = self._network(**inputs).text_embeds.float()
        return torch.nn.functional.normalize(embeddings, dim=-1).cpu().numpy()


def text_encoder(name: str = DEFAULT_ENCODER, device: str = "cpu") -> TextEncoder:
    """The encoder of this name: "minilm", or "clip:OWNER/NAME" (or "clip:FOLDER"), or "clip" for the usual one.

    Raises:
        ValueError: no encoder is called so. DatasetError: its weights cannot be had.
    """
    kind, _, model = name.partition(":")
    if name == DEFAULT_ENCODER:
        return SentenceEncoder(device=device)
    if kind == "clip":
        return ClipTextEncoder(model=model, device=device) if model else ClipTextEncoder(device=device)
    raise ValueError(f"encoder={name!r} must be 'minilm', 'clip' or 'clip:OWNER/NAME'")


def embed_both(
    encoder: TextEncoder, texts: Sequence[str]
) -> tuple[Float32[np.ndarray, "N E"], Float32[np.ndarray, "N E"]]:
    """Embeddings of the texts, and of the texts with left and right exchanged."""
    both = encoder.encode([*texts, *(mirrored_text(text) for text in texts)])
    return both[: len(texts)], both[len(texts) :]
