"""The language gate: nothing without a cue, less of an old one, light where a cell matches, and what is distilled."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch, make_labels
from torch import Tensor

from bevstack.fusion.language_gate import LanguageGate
from bevstack.types import Batch, BevFeatures

CHANNELS, WIDTH = 6, 10
FORMS = ("weighted", "spatial", "residual")
LABELS = make_labels([[]])


def gate(form: str = "spatial", *, trained: bool = True, **settings: object) -> LanguageGate:
    """With random weights as after training, or as made."""
    made = LanguageGate(in_channels=CHANNELS, embedding_dim=WIDTH, form=form, **settings).eval()
    for name, parameter in made.named_parameters():
        if trained and not name.startswith("log_"):
            torch.nn.init.normal_(parameter, std=0.5)
    return made


def bev(size: int = 2) -> BevFeatures:
    rows, columns = SMALL_GRID.shape_yx
    valid = torch.ones((size, 1, rows, columns), dtype=torch.bool)
    return BevFeatures(data=torch.randn(size, CHANNELS, rows, columns), valid=valid, grid=SMALL_GRID)


def texts(size: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(size, WIDTH), dim=1)


def batch_of(has_cue: list[bool], age_s: list[float] | None = None, text: Tensor | None = None) -> Batch:
    """Frames with and without cues, as the loader makes them."""
    size, mask = len(has_cue), torch.tensor(has_cue)
    batch = make_batch([np.zeros((0, 5))] * size, num_cameras=1, image_size=(2, 2))
    if not any(has_cue):
        return batch
    return replace(
        batch,
        cue_embedding=torch.where(mask[:, None], texts(size) if text is None else text, 0.0),
        cue_mask=mask,
        cue_age_s=torch.tensor(age_s or [0.0] * size),
    )


# ---------------------------------------------------------------- without a cue


@pytest.mark.parametrize("form", FORMS)
def test_where_no_frame_has_a_cue_the_features_are_handed_on_and_nothing_is_computed(form: str) -> None:
    made, features = gate(form), bev()
    made.project.register_forward_hook(lambda *_: pytest.fail("the gate has worked without a cue"))
    all_masked = replace(batch_of([True, True]), cue_mask=torch.tensor([False, False]))
    for batch in (batch_of([False, False]), all_masked):
        shaped, output = made(features, batch)
        assert shaped is features
        assert not made.context(output)["cue_embedding"].any()
        assert made.loss(output, LABELS)["distillation"] == 0
        for attention in made.decode(output):
            assert attention.cue_weight == 0 and not attention.weights.any() and attention.grid == SMALL_GRID


@pytest.mark.parametrize("form", FORMS)
def test_of_a_mixed_batch_frames_without_a_cue_keep_every_bit_and_the_others_equal_those_alone(form: str) -> None:
    made, features, batch = gate(form), bev(3), batch_of([True, False, True], [0.0, 0.0, 3.0])
    shaped, output = made(features, batch)
    assert torch.equal(shaped.data[1], features.data[1])
    assert made.decode(output)[1].cue_weight == 0 and not made.context(output)["cue_embedding"][1].any()
    for b in (0, 2):
        cut = slice(b, b + 1)
        alone = batch_of([True], [batch.cue_age_s[b].item()], batch.cue_embedding[cut])
        own = BevFeatures(data=features.data[cut], valid=features.valid[cut], grid=SMALL_GRID)
        single, of_single = made(own, alone)
        torch.testing.assert_close(shaped.data[cut], single.data)
        assert not torch.allclose(shaped.data[b], features.data[b])
        np.testing.assert_allclose(made.decode(output)[b].weights, made.decode(of_single)[0].weights, atol=1e-6)


def test_the_residual_form_starts_as_a_model_without_language_and_learns_from_there() -> None:
    made, features, batch = gate("residual", trained=False), bev(), batch_of([True, True])
    shaped, output = made(features, batch)
    assert torch.equal(shaped.data, features.data)
    assert [attention.cue_weight for attention in made.decode(output)] == [0.0, 0.0]
    shaped.data.square().mean().backward()
    assert made.gamma.grad is not None and (made.gamma.grad != 0).all()


# ---------------------------------------------------------------- with one


def test_the_weighted_form_is_the_sum_that_its_equation_says() -> None:
    made, features, batch = gate("weighted", trained=False, initial_weight=0.25), bev(), batch_of([True, True])
    shaped, output = made(features, batch)
    cue = made.project(batch.cue_embedding)
    torch.testing.assert_close(shaped.data, 0.75 * features.data + 0.25 * cue[..., None, None])
    torch.testing.assert_close(made.context(output)["cue_embedding"], cue)
    assert all((attention.weights == 1).all() for attention in made.decode(output))


def test_the_spatial_form_lights_up_the_cells_that_match_the_text() -> None:
    made, features, batch = gate("spatial", trained=False, temperature=0.1), bev(), batch_of([True, True])
    with torch.no_grad():
        made.match.weight.copy_(torch.eye(CHANNELS)[..., None, None])
        made.match.bias.zero_()
    cue = made.project(batch.cue_embedding).detach()
    features.data[:, :, 3, 20] = 2 * cue
    features.data[:, :, 9, 5] = -cue
    _, output = made(features, batch)
    for attention in made.decode(output):
        assert attention.weights[3, 20] == pytest.approx(1 / (1 + math.exp(-10)), abs=1e-4)
        assert attention.weights[9, 5] == pytest.approx(1 / (1 + math.exp(10)), abs=1e-4)
        assert attention.weights.max() <= 1 and attention.weights.min() >= 0


@pytest.mark.parametrize("form", FORMS)
def test_the_older_a_cue_the_less_it_counts_whatever_is_learned(form: str) -> None:
    made, features, text = gate(form), bev(1), texts(1)
    for half_life in (-2.0, 1.0, 3.0):
        torch.nn.init.constant_(made.log_half_life_s, half_life)
        outputs = [made(features, batch_of([True], [age_s], text)) for age_s in (0.0, 0.5, 2.0, 10.0, 1e4)]
        shares = [made.decode(output)[0].cue_weight for _, output in outputs]
        assert shares == sorted(shares, reverse=True) and shares[0] > shares[2] > shares[-1]
        torch.testing.assert_close(outputs[-1][0].data, features.data)


def test_a_cue_counts_half_after_the_documented_time() -> None:
    made, features, text = gate("weighted", trained=False, initial_weight=0.2, half_life_s=4.0), bev(1), texts(1)
    shaped, output = made(features, batch_of([True], [4.0], text))
    cue = made.project(text)
    torch.testing.assert_close(shaped.data, 0.9 * features.data + 0.1 * cue[..., None, None])
    torch.testing.assert_close(made.context(output)["cue_embedding"], 0.5 * cue)


def test_cells_that_no_sensor_sees_have_no_say_in_the_weights() -> None:
    made, features, batch = gate("weighted"), bev(), batch_of([True, True])
    features.valid[..., :16] = False
    before = made(features, batch)[0].data[..., 16:].clone()
    features.data[..., :16] = 100.0
    torch.testing.assert_close(made(features, batch)[0].data[..., 16:], before)


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_is_kept_and_near_to_full(form: str) -> None:
    made, features, batch = gate(form), bev(), batch_of([True, False])
    full = made(features, batch)[0].data
    with torch.autocast("cpu", torch.bfloat16):
        half, output = made(replace(features, data=features.data.bfloat16()), batch)
        loss = made.loss(output, LABELS)["distillation"]
    assert half.data.dtype == torch.bfloat16 and loss.isfinite()
    torch.testing.assert_close(half.data.float(), full, rtol=0.1, atol=0.2)


# ---------------------------------------------------------------- training


def test_text_dropout_withholds_its_share_of_the_cues_in_training_only() -> None:
    made, size = gate("spatial", text_dropout=0.4), 400
    small = bev(1)
    features = replace(small, data=small.data.expand(size, -1, -1, -1), valid=small.valid.expand(size, -1, -1, -1))
    batch = batch_of([True] * size)
    assert all(attention.cue_weight > 0 for attention in made.decode(made(features, batch)[1]))
    shaped, output = made.train()(features, batch)
    withheld = np.array([attention.cue_weight == 0 for attention in made.decode(output)])
    assert 0.3 < withheld.mean() < 0.5
    assert all(torch.equal(shaped.data[b], features.data[b]) for b in np.flatnonzero(withheld)[:5])
    assert output.has_text.all()


def test_what_is_withheld_is_still_what_the_features_must_say() -> None:
    made = gate("spatial", text_dropout=1.0).train()
    features, batch = bev(), batch_of([True, False])
    features.data.requires_grad_()
    shaped, output = made(features, batch)
    assert torch.equal(shaped.data, features.data)
    made.loss(output, LABELS)["distillation"].backward()
    gradient = features.data.grad
    assert gradient is not None and gradient[0].abs().sum() > 0 and gradient[1].abs().sum() == 0
    assert made.tell.weight.grad is not None and made.project[0].weight.grad is None


@pytest.mark.parametrize("kind", ["cosine", "contrastive"])
def test_features_that_say_the_text_have_no_loss_and_others_have(kind: str) -> None:
    made, features, batch = gate(distillation=kind), bev(), batch_of([True, True])
    _, output = made(features, batch)
    right = made.loss(replace(output, told=3 * output.text), LABELS)["distillation"]
    wrong = made.loss(replace(output, told=output.text.flip(0)), LABELS)["distillation"]
    assert right < 0.02 < wrong


def test_the_cosine_loss_is_two_where_features_say_the_opposite() -> None:
    made = gate()
    _, output = made(bev(), batch_of([True, False]))
    assert made.loss(replace(output, told=-output.text), LABELS)["distillation"] == pytest.approx(2.0, abs=1e-5)


def test_frames_with_the_same_text_are_no_wrong_answers_for_each_other() -> None:
    made, text = gate(distillation="contrastive"), texts(1).expand(3, -1)
    _, output = made(bev(3), batch_of([True] * 3, text=text))
    assert made.loss(output, LABELS)["distillation"] == 0


def test_a_gate_without_distillation_has_no_loss_term() -> None:
    made = gate(distillation=None)
    assert made.loss(made(bev(), batch_of([True, True]))[1], LABELS) == {}
    assert made.loss(made(bev(), batch_of([False, False]))[1], LABELS) == {}


# ---------------------------------------------------------------- what is refused


def test_cues_of_another_text_encoder_are_refused() -> None:
    with pytest.raises(ValueError, match="7 numbers, the gate was built for 10"):
        gate()(bev(1), batch_of([True], text=torch.ones(1, 7)))


@pytest.mark.parametrize(
    "wrong",
    [{"form": "sum"}, {"distillation": "mse"}, {"text_dropout": 1.5}, {"initial_weight": 0.0}, {"half_life_s": 0.0}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LanguageGate(in_channels=CHANNELS, **wrong)


# ---------------------------------------------------------------- what it can learn


@pytest.mark.parametrize("form", ["spatial", "residual"])
def test_it_learns_to_find_what_the_text_names(form: str) -> None:
    """Four kinds of things lie about, only the text says which is asked for: without it 3 of 4 cells can be right."""
    size, grid = 32, SMALL_GRID.strided(8)
    made = LanguageGate(
        in_channels=16, embedding_dim=WIDTH, form=form, text_dropout=0.0, distillation=None, initial_weight=0.5
    )
    readout = torch.nn.Conv2d(16, 1, 1)
    looks, words = torch.randn(4, 16), torch.nn.functional.normalize(torch.randn(4, WIDTH), dim=1)
    optimizer = torch.optim.Adam([*made.parameters(), *readout.parameters()], lr=0.05)
    right = []
    for _ in range(200):
        kinds, asked = torch.randint(4, (size, 4, 4)), torch.randint(4, (size,))
        data = looks[kinds].permute(0, 3, 1, 2) + 0.1 * torch.randn(size, 16, 4, 4)
        features = BevFeatures(data=data, valid=torch.ones((size, 1, 4, 4), dtype=torch.bool), grid=grid)
        shaped, _ = made(features, batch_of([True] * size, text=words[asked]))
        found, truth = readout(shaped.data)[:, 0], kinds == asked[:, None, None]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(found, truth.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right.append(((found > 0) == truth).float().mean().item())
    assert np.mean(right[-20:]) > 0.85
