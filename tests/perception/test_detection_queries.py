import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_labels

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES
from bevstack.perception.heads.box_numbers import BOX_CHANNELS
from bevstack.perception.heads.detection_queries import (
    DetectionReadout,
    HeatmapPeaks,
    QueryDetections,
    best_peaks,
    sigmoid_focal,
)
from bevstack.perception.heads.joint_types import Decoded, Stem
from bevstack.types import BevFeatures, Labels

SCENE = [
    ("car", "vehicle.moving", 6.3, -4.1, 0.9, 4.6, 1.9, 1.7, 0.4, 5.0, 2.0),
    ("car", "vehicle.parked", -7.2, 9.9, 0.8, 4.2, 1.8, 1.5, -3.1, 0.0, 0.0),
    ("bus", "vehicle.stopped", 2.1, 7.7, 1.6, 11.0, 2.9, 3.4, 1.6, 0.1, 0.0),
    ("pedestrian", "pedestrian.standing", -3.3, -3.3, 0.9, 0.7, 0.7, 1.8, 2.2, 0.0, 0.1),
    ("pedestrian", "pedestrian.moving", -3.3, -4.1, 0.9, 0.7, 0.7, 1.8, 2.2, 0.0, 1.1),
    ("traffic_cone", None, 11.1, 11.4, 0.4, 0.4, 0.4, 0.9, 1.0, 0.0, 0.0),
    ("barrier", None, 0.2, -11.0, 0.5, 0.5, 2.5, 1.0, -0.7, 0.0, 0.0),
]
TERMS = {"heatmap", "class", "offset", "height", "size", "yaw", "velocity", "attribute"}
_IS_UNFILTERED = torch.tensor([name in ("pedestrian", "traffic_cone") for name in DETECTION_CLASSES])[:, None, None]


def make_readout(**changes: object) -> DetectionReadout:
    return DetectionReadout(**{"channels": 8, "in_channels": 6, "num_queries": 20, "branch_channels": 8, **changes})


def read(readout: DetectionReadout, features: torch.Tensor) -> QueryDetections:
    """The readout right behind its stem, as if the decoder changed nothing."""
    valid = torch.ones((len(features), 1, 32, 32), dtype=torch.bool)
    stem = Stem(features=features, bev=BevFeatures(data=features, valid=valid, grid=SMALL_GRID))
    queries = readout.queries(stem)
    return readout(
        Decoded(
            queries=queries,
            features=queries.features,
            bev=features,
            task_scale=torch.ones_like(features),
            grid=SMALL_GRID,
        )
    )


def perfect_output(readout: DetectionReadout, labels: Labels) -> QueryDetections:
    """What would have to be said to be exactly right, from queries that start a cell beside the objects."""
    targets = readout.targets(labels, SMALL_GRID)
    heatmap = targets.heatmap.clamp(1e-4, 1 - 1e-4).logit()
    class_index, cell, score = best_peaks(heatmap, _IS_UNFILTERED, readout.num_queries)
    class_logits = torch.full((*cell.shape, len(DETECTION_CLASSES)), -12.0)
    numbers = torch.zeros(*cell.shape, sum(BOX_CHANNELS.values()))
    for row in range(len(targets.cell_index)):
        frame, own = divmod(int(targets.cell_index[row]), 1024)
        query = int(((cell[frame] == own) & (class_index[frame] == targets.class_index[row])).nonzero()[0, 0])
        cell[frame, query] += 1 if own % 32 < 31 else -1
        moved = own % 32 - cell[frame, query] % 32
        attribute = torch.zeros(len(ATTRIBUTES))
        if targets.attribute_index[row] >= 0:
            attribute[targets.attribute_index[row]] = 9.0
        offset = targets.offset[row] + torch.tensor([float(moved), 0.0])
        parts = (offset, targets.height[row], targets.log_size[row], targets.heading[row])
        numbers[frame, query] = torch.cat((*parts, targets.velocity[row].nan_to_num(), attribute))
        class_logits[frame, query, targets.class_index[row]] = 12.0
    peaks = HeatmapPeaks(heatmap=heatmap, class_index=class_index, cell=cell, score=score)
    features = torch.randn(*cell.shape, 8)
    return QueryDetections(peaks=peaks, class_logits=class_logits, numbers=numbers, features=features, grid=SMALL_GRID)


def test_decoding_the_encoded_boxes_gives_the_boxes() -> None:
    readout = make_readout(score_threshold=0.9)
    for found, rows in zip(
        readout.decode(perfect_output(readout, make_labels([SCENE, SCENE[:2]]))), (SCENE, SCENE[:2]), strict=True
    ):
        assert len(found) == len(rows)
        for row in rows:
            index = int(np.hypot(found.boxes.rows[:, 0] - row[2], found.boxes.rows[:, 1] - row[3]).argmin())
            assert DETECTION_CLASSES[found.boxes.class_index[index]] == row[0]
            np.testing.assert_allclose(found.boxes.rows[index], row[2:], atol=1e-4)
            attribute = found.attribute_index[index]
            assert (ATTRIBUTES[attribute] if attribute >= 0 else None) == row[1]


def test_a_perfect_output_has_almost_no_loss_and_a_wrong_one_has_more() -> None:
    readout, labels = make_readout(), make_labels([SCENE, SCENE[:2]])
    perfect = perfect_output(readout, labels)
    good = readout.loss(perfect, labels)
    assert set(good) == TERMS
    assert all(value < 1e-4 for name, value in good.items() if name not in ("heatmap", "attribute"))
    assert good["attribute"] < 0.01
    peaks = replace(perfect.peaks, heatmap=perfect.peaks.heatmap.roll(3, -1))
    worse = readout.loss(
        replace(perfect, peaks=peaks, numbers=perfect.numbers + 0.5, class_logits=-perfect.class_logits), labels
    )
    assert all(worse[name] > good[name] for name in good if name != "attribute")


def test_every_object_gets_the_query_that_describes_it() -> None:
    readout, labels = make_readout(), make_labels([SCENE[:2], SCENE])
    output = perfect_output(readout, labels)
    targets = readout.targets(labels, SMALL_GRID)
    objects, queries = readout.assignment(output, targets)
    assert objects.tolist() == list(range(len(targets.cell_index)))
    says = output.class_logits.flatten(0, 1)[queries].argmax(dim=1)
    assert torch.equal(says, targets.class_index[objects])
    assert torch.equal(queries // readout.num_queries, targets.cell_index // 1024)


def test_with_fewer_queries_than_objects_each_query_answers_for_one() -> None:
    readout, labels = make_readout(num_queries=3), make_labels([SCENE])
    output = read(readout, torch.randn(1, 8, 32, 32))
    objects, queries = readout.assignment(output, readout.targets(labels, SMALL_GRID))
    assert sorted(queries.tolist()) == [0, 1, 2] and len(set(objects.tolist())) == 3
    assert all(value.isfinite() for value in readout.loss(output, labels).values())


def test_an_object_far_from_every_query_teaches_no_box_where_a_limit_is_set() -> None:
    labels = make_labels([SCENE, SCENE[:2]])
    output = perfect_output(make_readout(), labels)
    everywhere, nearby = make_readout(), make_readout(match_within_m=0.5)
    targets = nearby.targets(labels, SMALL_GRID)
    cell = output.peaks.cell.clone()
    cell[0] = targets.cell_index[0]  # all queries of the first frame start at its first object
    cell[1, :2] = targets.cell_index[-2:] % 1024
    moved = replace(output, peaks=replace(output.peaks, cell=cell))
    assert len(everywhere.assignment(moved, targets)[0]) == len(SCENE) + 2
    objects, queries = nearby.assignment(moved, targets)
    in_first = queries < nearby.num_queries
    assert in_first.sum() == 1 and (~in_first).sum() == 2
    assert (targets.cell_index[objects[in_first]] == cell[0, 0]).all()


def test_unknown_velocity_does_not_count() -> None:
    readout = make_readout()
    labels = make_labels([[(*SCENE[0][:9], math.nan, math.nan), SCENE[1]]])
    output = perfect_output(readout, labels)
    output.numbers[..., 8:10] += 1.0
    terms = readout.loss(output, labels)
    assert terms["velocity"] == pytest.approx(2.0, abs=1e-5)
    assert all(value.isfinite() for value in terms.values())


def test_frames_without_boxes_have_a_finite_loss_and_gradient() -> None:
    readout = make_readout().train()
    terms = readout.loss(read(readout, torch.randn(2, 8, 32, 32)), make_labels([[], []]))
    torch.stack(list(terms.values())).sum().backward()
    assert all(value.isfinite() for value in terms.values())
    for name, parameter in readout.named_parameters():
        # Without a decoder between, position embeddings are not read.
        assert name.startswith("position.") or parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_turning_the_heat_map_by_half_a_turn_turns_the_queries() -> None:
    heatmap = torch.randn(2, len(DETECTION_CLASSES), 32, 24)
    class_index, cell, score = best_peaks(heatmap, _IS_UNFILTERED, 30)
    turned_class, turned_cell, turned_score = best_peaks(heatmap.flip(2, 3), _IS_UNFILTERED, 30)
    assert torch.equal(class_index, turned_class) and torch.equal(score, turned_score)
    assert torch.equal(turned_cell, 32 * 24 - 1 - cell)


def test_of_neighbouring_cars_one_starts_a_query_and_of_neighbouring_pedestrians_both() -> None:
    heatmap = torch.full((1, len(DETECTION_CLASSES), 8, 8), -9.0)
    for name in ("car", "pedestrian"):
        heatmap[0, DETECTION_CLASSES.index(name), 3, 3:5] = torch.tensor([3.0, 2.0])
    class_index, cell, score = best_peaks(heatmap, _IS_UNFILTERED, 5)
    strong = score[0] > 0.5
    found = {(DETECTION_CLASSES[c], int(k)) for c, k in zip(class_index[0][strong], cell[0][strong], strict=True)}
    assert found == {("car", 27), ("pedestrian", 27), ("pedestrian", 28)}


def test_a_peak_at_the_rim_of_the_grid_counts() -> None:
    heatmap = torch.full((1, len(DETECTION_CLASSES), 8, 8), -9.0)
    heatmap[0, 0, 0, 7] = 2.0
    class_index, cell, _ = best_peaks(heatmap, _IS_UNFILTERED, 1)
    assert class_index.item() == 0 and cell.item() == 7


def test_queries_start_with_the_features_of_their_cell_and_the_vector_of_their_class() -> None:
    readout, features = make_readout().eval(), torch.randn(2, 8, 32, 32)
    valid = torch.ones((2, 1, 32, 32), dtype=torch.bool)
    queries = readout.queries(Stem(features=features, bev=BevFeatures(data=features, valid=valid, grid=SMALL_GRID)))
    column, row = (queries.reference_cells[1, 4] - 0.5).long().tolist()
    vectors = readout.class_vectors(readout.class_embedding)
    class_index = queries.context.class_index[1, 4]
    torch.testing.assert_close(queries.features[1, 4], features[1, :, row, column] + vectors[class_index])


def test_the_score_is_the_belief_in_the_class_of_the_peak_times_the_peak() -> None:
    readout = make_readout(score_threshold=0.0).eval()
    output = read(readout, torch.randn(1, 8, 32, 32))
    (found,) = readout.decode(output)
    own = output.class_logits[0].gather(1, output.peaks.class_index[0][:, None])[:, 0].sigmoid()
    expected = (own * output.peaks.score[0]).sort(descending=True).values.detach().numpy()
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)
    assert len(found) == 20 and np.isfinite(found.boxes.rows).all() and (found.boxes.sizes > 0).all()


def test_two_boxes_in_one_place_stay_unless_suppression_is_asked_for() -> None:
    beside = ("car", None, 8.0, -3.6, 0.9, 4.6, 1.9, 1.7, 0.4, 0, 0)
    for nms_iou, expected in ((None, 2), (0.2, 1)):
        readout = make_readout(score_threshold=0.3, nms_iou=nms_iou)
        assert len(readout.decode(perfect_output(readout, make_labels([[SCENE[0], beside]])))[0]) == expected


def test_the_focal_loss_has_the_paper_s_values() -> None:
    loss = sigmoid_focal(torch.tensor([0.0, 0.0, math.log(3)]), torch.tensor([1.0, 0.0, 1.0]))
    expected = [0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2), -0.25 * 0.25**2 * math.log(0.75)]
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_more_queries_than_cells_and_unknown_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="as many cells"):
        best_peaks(torch.zeros(1, 2, 3, 3), torch.zeros(2, 1, 1, dtype=torch.bool), 19)
    with pytest.raises(ValueError, match="num_queries=0"):
        make_readout(num_queries=0)
    with pytest.raises(ValueError, match="'tram'"):
        make_readout(unfiltered_classes=("tram",))
