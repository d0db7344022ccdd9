from dataclasses import replace
from functools import partial

import pytest
import torch
from fixtures.batches import SMALL_GRID, make_labels
from torch import Tensor, nn

from bevstack.perception.heads.detection_queries import DetectionReadout
from bevstack.perception.heads.joint_decoder import JointDecoder, JointLayer, TaskScaling
from bevstack.perception.heads.joint_types import Decoded, Queries, Stem, TaskReadout
from bevstack.types import BevFeatures, Labels
from bevstack.types.scene import MapSegmentation

CELLS = torch.tensor([[3.5, 7.5], [20.5, 4.5], [12.2, 30.9]])


class PlacesReadout(nn.Module):
    """A task that asks at fixed places; the last query of the first frame is padding full of rubbish."""

    def __init__(self, *, channels: int, in_channels: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(len(CELLS), channels))
        self.seen: list[tuple[str, ...]] = []

    def queries(self, stem: Stem) -> Queries:
        self.seen.append(tuple(stem.earlier))
        size = len(stem.features)
        mask = torch.ones(size, len(CELLS), dtype=torch.bool)
        mask[0, -1] = False
        start = torch.where(mask[..., None], self.start, torch.nan)
        return Queries(
            features=start,
            position=torch.zeros(size, *self.start.shape),
            reference_cells=CELLS.expand(size, -1, -1),
            mask=mask,
        )

    def forward(self, decoded: Decoded) -> Decoded:
        return decoded

    def loss(self, output: Decoded, labels: Labels) -> dict[str, Tensor]:
        return {"size": output.features.square().mean()}

    def decode(self, output: Decoded) -> list[MapSegmentation]:
        return [MapSegmentation(probabilities=frame.detach().numpy(), grid=output.grid) for frame in output.bev]


def make_decoder(**changes: object) -> JointDecoder:
    """Two tasks whose channel scaling is not the identity."""
    settings = {"channels": 16, "layers": 2, "heads": 4, "points": 2, "feedforward": 32}
    readouts = {"detection": partial(DetectionReadout, num_queries=12), "places": PlacesReadout}
    decoder = JointDecoder(**{"in_channels": 6, "readouts": readouts, **settings, **changes}).eval()
    for module in decoder.modules():
        if isinstance(module, TaskScaling):
            nn.init.normal_(module[2].weight, std=0.5)
    return decoder


def bev(batch_size: int = 2) -> BevFeatures:
    return BevFeatures(
        data=torch.randn(batch_size, 6, 32, 32),
        valid=torch.ones((batch_size, 1, 32, 32), dtype=torch.bool),
        grid=SMALL_GRID,
    )


def one_frame(features: BevFeatures, index: int) -> BevFeatures:
    cut = slice(index, index + 1)
    return replace(features, data=features.data[cut], valid=features.valid[cut])


def test_readouts_speak_the_protocol_and_see_the_tasks_before_them() -> None:
    decoder = make_decoder()
    assert all(isinstance(readout, TaskReadout) for readout in decoder.readouts.values())
    decoder(bev())
    assert decoder.readouts["places"].seen == [("detection",)]


def test_outputs_losses_and_parts_are_named_by_task_and_ordered() -> None:
    decoder, features = make_decoder(), bev()
    output = decoder(features)
    assert list(output) == ["detection", "places"]
    terms = decoder.loss(output, make_labels([[], []]))
    assert "places/size" in terms and "detection/heatmap" in terms
    parts = decoder.decode(output)
    assert len(parts) == 2 and all(isinstance(frame[1], MapSegmentation) for frame in parts)


def test_two_frames_at_once_equal_each_alone() -> None:
    decoder, features = make_decoder(), bev()
    together = decoder(features)
    for index in range(2):
        alone = decoder(one_frame(features, index))
        kept = together["places"].queries.mask[index] & alone["places"].queries.mask[0]
        pairs = [
            (together["detection"].peaks.heatmap[index], alone["detection"].peaks.heatmap[0]),
            (together["detection"].numbers[index], alone["detection"].numbers[0]),
            (together["detection"].class_logits[index], alone["detection"].class_logits[0]),
            (together["places"].features[index][kept], alone["places"].features[0][kept]),
            (together["places"].bev[index], alone["places"].bev[0]),
            (together["places"].task_scale[index], alone["places"].task_scale[0]),
        ]
        for joint, single in pairs:
            torch.testing.assert_close(joint, single, rtol=1e-3, atol=1e-4)


def test_padding_has_no_influence_and_is_finite() -> None:
    output = make_decoder()(bev())["places"]
    assert output.features.isfinite().all() and output.bev.isfinite().all()


def test_unit_gains_make_scaling_the_identity() -> None:
    scaled, features = make_decoder(), bev()
    for module in scaled.modules():
        if isinstance(module, TaskScaling):
            nn.init.zeros_(module[2].weight)  # the bias is one from the start
    plain = make_decoder(task_scaling=False)
    assert not plain.load_state_dict(scaled.state_dict(), strict=False).missing_keys
    with_scaling, without = scaled(features), plain(features)
    assert torch.equal(with_scaling["detection"].numbers, without["detection"].numbers)
    assert torch.equal(with_scaling["places"].features, without["places"].features)
    assert (with_scaling["places"].task_scale == 1).all() and (without["places"].task_scale == 1).all()


def test_the_gains_of_a_task_change_that_task_alone_and_may_be_negative() -> None:
    decoder, features = make_decoder(), bev()
    before = decoder(features)
    for layer in decoder.layers:
        layer.scaling["places"][2].bias.data.fill_(-2.0)
    after = decoder(features)
    assert torch.equal(before["detection"].numbers, after["detection"].numbers)
    assert torch.equal(before["places"].bev, after["places"].bev)
    assert (after["places"].task_scale < 0).any()
    assert not torch.allclose(before["places"].features, after["places"].features)


def test_the_given_gains_are_those_of_the_last_layer_at_its_tokens() -> None:
    layer = JointLayer(channels=8, heads=2, points=2, feedforward=16, scaled_tasks=("a",))
    nn.init.normal_(layer.scaling["a"][2].weight)
    tokens, queries = torch.randn(1, 6, 8), {"a": torch.randn(1, 3, 8)}
    references = {"a": torch.rand(1, 3, 2) * 2}
    out, _, scales = layer(
        tokens, torch.randn(6, 8), torch.rand(1, 6, 2) * 2, queries, {"a": torch.zeros(1, 3, 8)}, references, (2, 3)
    )
    first, second = layer.scaling["a"][0], layer.scaling["a"][2]
    torch.testing.assert_close(scales["a"], second(torch.nn.functional.gelu(first(out))))


def test_checkpointing_changes_neither_loss_nor_gradient() -> None:
    features, gradients = bev(), []
    decoder = make_decoder().train()
    state = {name: value.clone() for name, value in decoder.state_dict().items()}
    for frugal in (False, True):
        decoder.load_state_dict(state)
        decoder.zero_grad()
        decoder.checkpoint = frugal
        terms = decoder.loss(decoder(features), make_labels([[], []]))
        torch.stack(list(terms.values())).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in decoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_weights_of_fewer_tasks_fit_by_name() -> None:
    single = make_decoder(readouts={"detection": partial(DetectionReadout, num_queries=12)})
    report = make_decoder().load_state_dict(single.state_dict(), strict=False)
    assert not report.unexpected_keys
    assert all(".places" in name for name in report.missing_keys)


def test_a_grid_of_another_size_needs_no_other_weights() -> None:
    decoder = make_decoder()
    small = BevFeatures(
        data=torch.randn(1, 6, 16, 16),
        valid=torch.ones((1, 1, 16, 16), dtype=torch.bool),
        grid=SMALL_GRID.strided(2),
    )
    assert decoder(small)["places"].bev.shape == (1, 16, 16, 16)


def test_a_decoder_without_tasks_or_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="must name a task"):
        make_decoder(readouts={})
    with pytest.raises(ValueError, match="layers=0"):
        make_decoder(layers=0)
