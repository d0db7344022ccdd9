"""The map readout: where its queries start, how strips become one map, and what counts in its loss."""

import math

import numpy as np
import pytest
import torch
from fixtures.batches import make_labels
from torch import Tensor

from bevstack.perception.heads.joint_types import Decoded, Queries, Stem, TaskReadout
from bevstack.perception.heads.map_segmentation import (
    MapOutput,
    MapReadout,
    covered_cells,
    crop,
    dice_loss,
    sample,
    sigmoid_focal_loss,
)
from bevstack.types import BevFeatures, BevGrid, Labels, MapSegmentation

CHANNELS = 16
GRID = BevGrid(x_range_m=(-9.6, 9.6), y_range_m=(-8.0, 8.0), z_range_m=(-5.0, 3.0), cell_m=0.8)
"""20 x 24 cells."""
MAP_GRID = BevGrid(x_range_m=(-9.0, 9.0), y_range_m=(-7.5, 7.5), z_range_m=(-5.0, 3.0), cell_m=0.5)
"""30 x 36 cells: five strips of six rows."""
WIDE_MAP = BevGrid(x_range_m=(-15.0, 15.0), y_range_m=(-15.0, 15.0), z_range_m=(-5.0, 3.0), cell_m=1.0)
"""30 x 30 cells, larger than the features on all sides."""


def make_readout(**changes: object) -> MapReadout:
    settings = {"channels": CHANNELS, "in_channels": 24, "map_grid": MAP_GRID, "attention_heads": 4}
    return MapReadout(**{**settings, **changes}).eval()


def make_stem(features: Tensor, earlier: dict[str, Queries] | None = None) -> Stem:
    bev = BevFeatures(
        data=torch.zeros(len(features), 24, *features.shape[-2:]),
        valid=torch.ones((len(features), 1, *features.shape[-2:]), dtype=torch.bool),
        grid=GRID,
    )
    return Stem(features=features, bev=bev, earlier=earlier or {})


def queries_at(cells: Tensor, mask: Tensor | None = None) -> Queries:
    """Queries of another task at cells (B, N, 2)."""
    shape = cells.shape[:2]
    return Queries(
        features=torch.zeros(*shape, CHANNELS),
        position=torch.zeros(*shape, CHANNELS),
        reference_cells=cells,
        mask=torch.ones(shape, dtype=torch.bool) if mask is None else mask,
    )


def decode_map(readout: MapReadout, stem: Stem, refined: Tensor | None = None) -> MapOutput:
    """The readout behind a decoder that changes nothing, or replaces the queries by `refined`."""
    queries = readout.queries(stem)
    generator = torch.Generator().manual_seed(5)
    scale = torch.rand((CHANNELS, *GRID.shape_yx), generator=generator).expand(len(stem.features), -1, -1, -1) + 0.5
    return readout(
        Decoded(
            queries=queries,
            features=queries.features if refined is None else refined,
            bev=stem.features,
            task_scale=scale,
            grid=GRID,
        )
    )


def map_labels(masks: Tensor, valid: Tensor | None = None) -> Labels:
    boxes = make_labels([[]] * len(masks))
    return Labels(
        boxes_ego=boxes.boxes_ego,
        class_index=boxes.class_index,
        attribute_index=boxes.attribute_index,
        num_points=boxes.num_points,
        map_masks=masks,
        map_valid=valid,
    )


def random_features(batch_size: int = 1) -> Tensor:
    return torch.randn(batch_size, CHANNELS, *GRID.shape_yx)


def test_it_is_a_task_readout() -> None:
    assert isinstance(make_readout(), TaskReadout)


@pytest.mark.parametrize("map_grid", [MAP_GRID, WIDE_MAP])
def test_shapes_are_those_of_the_map_whatever_the_grid_of_the_features(map_grid: BevGrid) -> None:
    readout = make_readout(map_grid=map_grid)
    output = decode_map(readout, make_stem(random_features(2)))
    assert output.logits.shape == output.coarse.shape == (2, 6, *map_grid.shape_yx)
    first, second = readout.decode(output)
    assert isinstance(first, MapSegmentation) and first.grid == map_grid
    assert first.probabilities.dtype == np.float32 and 0 <= first.probabilities.min() <= first.probabilities.max() <= 1
    assert not np.array_equal(first.probabilities, second.probabilities)


def test_a_crop_of_a_ramp_is_exact_in_metres() -> None:
    ramp = GRID.centers_m().movedim(-1, 0)[None]
    torch.testing.assert_close(crop(ramp, GRID, MAP_GRID)[0], MAP_GRID.centers_m().movedim(-1, 0), rtol=0, atol=1e-5)


def test_beyond_the_features_their_rim_is_repeated() -> None:
    ramp = GRID.centers_m().movedim(-1, 0)[None]
    wide = crop(ramp, GRID, WIDE_MAP)[0]
    expected = WIDE_MAP.centers_m().movedim(-1, 0)
    expected = torch.stack((expected[0].clamp(-9.2, 9.2), expected[1].clamp(-7.6, 7.6)))
    torch.testing.assert_close(wide, expected, rtol=0, atol=1e-5)


def test_a_sample_is_what_the_crop_has_there() -> None:
    features = random_features(2)
    cropped = crop(features, GRID, MAP_GRID)
    cells = torch.tensor([[[0, 0], [35, 29]], [[17, 4], [3, 21]]])
    found = sample(features, GRID.to_cells(MAP_GRID.to_metres(cells + 0.5)))
    for frame in range(2):
        for query, (column, row) in enumerate(cells[frame].tolist()):
            torch.testing.assert_close(found[frame, query], cropped[frame, :, row, column])


def test_half_precision_places_samples_as_precisely() -> None:
    features = random_features().round()
    half = crop(features.bfloat16(), GRID, MAP_GRID)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), crop(features, GRID, MAP_GRID), rtol=0.01, atol=0.01)


def test_each_query_starts_at_the_best_cell_of_its_strip_and_class() -> None:
    readout = make_readout()
    queries = readout.queries(make_stem(random_features(2)))
    coarse, cells = queries.context.coarse, queries.context.cells
    assert cells.shape == (2, 30, 2) and queries.mask.all()
    for frame in range(2):
        for query in range(30):
            strip, kind = divmod(query, 6)
            column, row = cells[frame, query].tolist()
            assert strip * 6 <= row < strip * 6 + 6
            assert coarse[frame, kind, row, column] == coarse[frame, kind, strip * 6 : strip * 6 + 6].max()
    torch.testing.assert_close(GRID.to_metres(queries.reference_cells), MAP_GRID.to_metres(cells + 0.5))


def test_turning_the_scene_around_turns_the_queries_around() -> None:
    readout, features = make_readout(), random_features()
    objects = torch.tensor([[[5.5, 3.5], [20.5, 11.5], [11.5, 16.5], [2.25, 9.0]]])
    turned_objects = torch.tensor(GRID.shape_yx).flip(0) - objects
    plain = readout.queries(make_stem(features, {"detection": queries_at(objects)}))
    turned = readout.queries(make_stem(features.flip(2, 3), {"detection": queries_at(turned_objects)}))
    torch.testing.assert_close(turned.context.coarse, plain.context.coarse.flip(2, 3), rtol=1e-4, atol=1e-5)
    reordered = turned.context.cells.view(1, 5, 6, 2).flip(1).flatten(1, 2)
    assert torch.equal(torch.tensor([35, 29]) - reordered, plain.context.cells)


def test_no_query_starts_on_an_object_and_without_objects_nothing_changes() -> None:
    readout, features = make_readout(), random_features(2)
    free = readout.queries(make_stem(features))
    nothing = queries_at(torch.full((2, 3, 2), 9.5), mask=torch.zeros((2, 3), dtype=torch.bool))
    assert torch.equal(readout.queries(make_stem(features, {"detection": nothing})).context.cells, free.context.cells)
    elsewhere = queries_at(torch.full((2, 1, 2), -40.0))
    assert torch.equal(readout.queries(make_stem(features, {"detection": elsewhere})).context.cells, free.context.cells)
    crowd = queries_at(free.reference_cells)
    moved = readout.queries(make_stem(features, {"detection": crowd}))
    distance_m = (
        MAP_GRID.to_metres(moved.context.cells + 0.5)[:, :, None] - GRID.to_metres(crowd.reference_cells)[:, None]
    ).abs()
    assert (distance_m.amax(dim=-1) > 0.4).all()  # half a cell of the features


def test_an_object_covers_the_map_cells_that_its_own_cell_overlaps() -> None:
    middle_m = torch.tensor([[[0.25, -0.25]]])  # the centre of map cell (18, 14); 0.8 m reach into both neighbours
    covered = covered_cells(GRID.to_cells(middle_m), torch.ones((1, 1), dtype=torch.bool), GRID, MAP_GRID)
    assert covered.nonzero().tolist() == [[0, row, column] for row in (13, 14, 15) for column in (17, 18, 19)]
    edge_m = torch.tensor([[[-9.0, 7.5]]])  # the corner: one of four cells is on the map
    corner = covered_cells(GRID.to_cells(edge_m), torch.ones((1, 1), dtype=torch.bool), GRID, MAP_GRID)
    assert corner.nonzero().tolist() == [[0, 29, 0]]
    fine = BevGrid(x_range_m=(-9.6, 9.6), y_range_m=(-8.0, 8.0), z_range_m=(-5.0, 3.0), cell_m=0.1)
    inside = covered_cells(fine.to_cells(middle_m), torch.ones((1, 1), dtype=torch.bool), fine, MAP_GRID)
    assert inside.nonzero().tolist() == [[0, 14, 18]]


def test_a_strip_full_of_objects_still_has_its_queries() -> None:
    rows, columns = GRID.shape_yx
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    everywhere = queries_at(torch.stack((x, y), dim=-1).view(1, -1, 2))
    queries = make_readout().queries(make_stem(random_features(), {"detection": everywhere}))
    assert queries.features.isfinite().all() and queries.features.shape == (1, 30, CHANNELS)
    strips = queries.context.cells[0, :, 1] // 6
    assert strips.tolist() == [strip for strip in range(5) for _ in range(6)]


def test_strips_with_the_same_queries_give_the_map_of_one_strip() -> None:
    five, one = make_readout(), make_readout(strips=1)
    one.load_state_dict(five.state_dict())
    stem, shared = make_stem(random_features(2)), torch.randn(2, 6, CHANNELS)
    stripped = decode_map(five, stem, shared.repeat(1, 5, 1)).logits
    torch.testing.assert_close(stripped, decode_map(one, stem, shared).logits, rtol=1e-4, atol=1e-5)


def test_the_map_is_the_product_of_each_strip_s_query_with_the_cropped_features() -> None:
    readout, stem = make_readout(), make_stem(random_features(2))
    queries = readout.queries(stem)
    scale = torch.rand(2, CHANNELS, *GRID.shape_yx)
    decoded = Decoded(queries=queries, features=queries.features, bev=stem.features, task_scale=scale, grid=GRID)
    features = crop(readout.to_map_features(stem.features) * scale, GRID, MAP_GRID)
    kernel = readout.to_kernels(queries.features).view(2, 5, 6, CHANNELS)
    expected = torch.einsum("bskc,bcsrx->bksrx", kernel, features.unflatten(2, (5, 6))).flatten(2, 3)
    torch.testing.assert_close(readout(decoded).logits, expected, rtol=1e-4, atol=1e-5)


def test_with_sub_cells_each_query_draws_a_finer_map_than_the_features() -> None:
    readout, stem = make_readout(sub_cells=2), make_stem(random_features(2))
    queries = readout.queries(stem)
    ones = torch.ones(2, CHANNELS, *GRID.shape_yx)
    decoded = Decoded(queries=queries, features=queries.features, bev=stem.features, task_scale=ones, grid=GRID)
    features = readout.to_map_features(stem.features)
    kernels = readout.to_kernels(queries.features).view(2, 5, 6, 2, 2, CHANNELS)
    fine = torch.einsum("bskvuc,bcyx->bskyvxu", kernels, features).flatten(5, 6).flatten(3, 4)  # (B, S, K, 2 Y, 2 X)
    strips = [crop(fine[:, strip], GRID, MAP_GRID).unflatten(2, (5, 6))[:, :, strip] for strip in range(5)]
    torch.testing.assert_close(readout(decoded).logits, torch.cat(strips, dim=2), rtol=1e-4, atol=1e-5)


def test_dice_is_zero_for_the_label_itself_and_one_for_its_opposite() -> None:
    masks = torch.zeros(2, 3, 4, 5, dtype=torch.bool)
    masks[:, 0, :2], masks[0, 1, 0, 0] = True, True  # the third class has no cell: it does not count
    valid = torch.ones(2, dtype=torch.bool)
    logits = torch.where(masks, 40.0, -40.0)
    assert dice_loss(logits, masks, valid) == pytest.approx(0.0, abs=1e-6)
    assert dice_loss(-logits, masks, valid) == pytest.approx(1.0)


def test_dice_counts_a_single_cell_as_much_as_half_the_map() -> None:
    masks = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    masks[0, 0, :2], masks[0, 1, 3, 3] = True, True
    logits = torch.where(masks, 40.0, -40.0)
    logits[0, 1, 3, 3] = -40.0
    assert dice_loss(logits, masks, torch.ones(1, dtype=torch.bool)) == pytest.approx(0.5)


def test_two_frames_at_once_equal_each_alone() -> None:
    readout, features = make_readout(), random_features(2)
    objects = torch.rand(2, 5, 2) * 20
    together = decode_map(readout, make_stem(features, {"detection": queries_at(objects)}))
    masks = torch.rand(2, 6, *MAP_GRID.shape_yx) > 0.7
    terms = readout.loss(together, map_labels(masks))
    alone = []
    for frame in range(2):
        cut = slice(frame, frame + 1)
        output = decode_map(readout, make_stem(features[cut], {"detection": queries_at(objects[cut])}))
        torch.testing.assert_close(output.logits, together.logits[cut], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.coarse, together.coarse[cut], rtol=1e-4, atol=1e-5)
        alone.append(readout.loss(output, map_labels(masks[cut])))
    for name, value in terms.items():
        torch.testing.assert_close(value, (alone[0][name] + alone[1][name]) / 2, rtol=1e-4, atol=1e-6)


def test_the_focal_loss_of_one_cell_is_the_paper_s_value() -> None:
    logits = torch.tensor([math.log(0.9 / 0.1), math.log(0.3 / 0.7)]).view(1, 2, 1, 1)
    targets = torch.tensor([True, False]).view(1, 2, 1, 1)
    expected = -(0.1**2 * math.log(0.9) + 0.3**2 * math.log(0.7))
    valid = torch.ones(1, dtype=torch.bool)
    assert sigmoid_focal_loss(logits, targets, valid) == pytest.approx(expected, rel=1e-5)


def test_classes_are_summed_and_cells_and_frames_averaged() -> None:
    targets = torch.zeros((3, 4, 5, 6), dtype=torch.bool)
    loss = sigmoid_focal_loss(torch.zeros(3, 4, 5, 6), targets, torch.ones(3, dtype=torch.bool))
    assert loss == pytest.approx(4 * 0.25 * math.log(2), rel=1e-6)


def test_frames_without_a_map_do_not_count() -> None:
    readout = make_readout()
    output = decode_map(readout, make_stem(random_features(2)))
    masks = torch.rand(2, 6, *MAP_GRID.shape_yx) > 0.5
    half = readout.loss(output, map_labels(masks, torch.tensor([False, True])))
    single = MapOutput(logits=output.logits[1:], coarse=output.coarse[1:], grid=MAP_GRID)
    torch.testing.assert_close(half, readout.loss(single, map_labels(masks[1:])))


@pytest.mark.parametrize(
    "labels", [make_labels([[]] * 2), map_labels(torch.ones(2, 6, 30, 36) > 0, torch.zeros(2) > 0)]
)
def test_without_any_map_the_loss_is_zero_and_still_has_gradients(labels: Labels) -> None:
    readout = make_readout()
    terms = readout.loss(decode_map(readout, make_stem(random_features(2))), labels)
    assert set(terms) == {"map", "coarse", "dice"} and all(value == 0 for value in terms.values())
    sum(terms.values()).backward()
    assert readout.to_map_features.weight.grad is not None and not readout.to_map_features.weight.grad.any()


def test_extreme_logits_have_a_finite_loss_and_gradient() -> None:
    logits = torch.tensor([500.0, -500.0, 500.0, -500.0]).view(1, 1, 2, 2).requires_grad_()
    targets = torch.tensor([True, True, False, False]).view(1, 1, 2, 2)
    loss = sigmoid_focal_loss(logits, targets, torch.ones(1, dtype=torch.bool))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_every_parameter_learns() -> None:
    readout = make_readout()
    terms = readout.loss(
        decode_map(readout, make_stem(random_features())), map_labels(torch.rand(1, 6, *MAP_GRID.shape_yx) > 0.5)
    )
    sum(terms.values()).backward()
    idle = [
        name for name, parameter in readout.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert not idle


def test_one_map_is_learned() -> None:
    readout, stem = make_readout().train(), make_stem(random_features())
    x_m, y_m = MAP_GRID.centers_m().unbind(dim=-1)
    bands = [(y_m.abs() < 3), (x_m > 2), (x_m < -4), (y_m > 1) & (x_m > 0), (x_m + y_m > 3), (y_m < -5)]
    masks = torch.stack(bands)[None]
    optimizer = torch.optim.Adam([*readout.parameters(), stem.features.requires_grad_()], lr=0.02)
    for _ in range(150):
        output = decode_map(readout, stem)
        terms = readout.loss(output, map_labels(masks))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    (found,) = readout.decode(output)
    assert terms["map"] < 0.05 and terms["coarse"] < 0.05
    wrong = (found.probabilities > 0.5) != masks[0].numpy()
    assert wrong.mean() < 0.02


def test_unfit_sizes_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="strips=4 must divide the 30 rows"):
        make_readout(strips=4)
    with pytest.raises(ValueError, match="multiple of attention_heads=5"):
        make_readout(attention_heads=5)
    readout = make_readout()
    output = decode_map(readout, make_stem(random_features()))
    with pytest.raises(ValueError, match="the same map_grid"):
        readout.loss(output, map_labels(torch.zeros((1, 6, 200, 200), dtype=torch.bool)))
