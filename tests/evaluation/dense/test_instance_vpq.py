"""Future instances from above: rasters of known boxes, known values, agreement with the definition, sums of parts."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from fixtures.drives import SPLIT, Track, drive, straight

from bevstack.data.index import DatasetIndex
from bevstack.evaluation.dense.instance_truth import (
    GRID,
    annotated_baselines,
    present_samples,
    true_instances,
    vehicle_rows,
)
from bevstack.evaluation.dense.instance_vpq import (
    PROTOCOL,
    RANGES_M,
    InstanceScorer,
    InstanceScores,
    count_instances,
    score,
    score_with_baselines,
)
from bevstack.evaluation.motion.baselines import CONSTANT_VELOCITY, COPY_LAST, EMPTY
from bevstack.types.errors import DatasetError


def blank() -> np.ndarray:
    return np.zeros((5, *GRID.shape_yx), np.int32)


def with_box(raster: np.ndarray, name: int, row: int, column: int, *, rows: int = 8, columns: int = 4) -> np.ndarray:
    """The same rectangle of cells in all frames, counted from the middle of the grid."""
    out, middle = raster.copy(), GRID.shape_yx[0] // 2
    out[:, middle + row : middle + row + rows, middle + column : middle + column + columns] = name
    return out


def scores_of(prediction: np.ndarray, truth: np.ndarray) -> InstanceScores:
    return score(count_instances(prediction, truth), 1)


def two_cars() -> np.ndarray:
    """One within 15 m, one outside."""
    return with_box(with_box(blank(), 1, 2, 2), 2, 60, 2)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    """The vehicle stands at (200, 200) and looks along y; a car crosses ahead of it, another one waits to its left."""
    tracks = {
        "crosses": Track(path=straight(180.0, 210.0, speed=4.0)),
        "waits": Track(path=straight(190.0, 200.0, yaw=np.pi / 2)),
        "hidden": Track(path=straight(220.0, 200.0), visibility="1"),
        "walker": Track(path=straight(205.0, 200.0), category="human.pedestrian.adult"),
        "cyclist": Track(path=straight(200.0, 230.0), category="vehicle.bicycle", frames=range(3, 8)),
    }
    return drive(tmp_path_factory.mktemp("drive") / "root", {"scene-9001": tracks}, num_keyframes=8)


def test_boxes_are_drawn_where_they_will_be_in_the_frame_of_the_vehicle_now(index: DatasetIndex) -> None:
    truth = true_instances(index, 0)
    assert truth.shape == (5, 200, 200) and set(np.unique(truth)) == {0, 1, 2, 3}
    for step in range(5):
        # x ahead, y to the left: the crossing car is 10 m ahead, and 20 m to the left less 2 m for each step.
        rows, columns = np.nonzero(truth[step] == 1)
        centre = np.array((columns.mean(), rows.mean())) * 0.5 - 50.0 + 0.25
        np.testing.assert_allclose(centre, (10.0, 20.0 - 2.0 * step), atol=1e-9)
        assert len(rows) == 8 * 4  # 4 m along y, 2 m along x
        assert (truth[step] == 2).sum() == 8 * 4
    assert [(truth[step] == 3).sum() for step in range(5)] == [0, 0, 0, 32, 32]


def test_pedestrians_and_hardly_visible_vehicles_are_no_truth(index: DatasetIndex) -> None:
    assert len(vehicle_rows(index, 0)) == 2 and len(index.annotation_rows(0)) == 4


def test_only_samples_with_two_key_frames_before_and_four_after_count(index: DatasetIndex) -> None:
    assert present_samples(index, SPLIT).tolist() == [2, 3]
    with pytest.raises(DatasetError, match="ends before 4 key frames after"):
        true_instances(index, 4)


def test_the_truth_scores_one_and_nothing_scores_zero() -> None:
    truth = two_cars()
    best = scores_of(truth, truth)
    assert best.protocol == PROTOCOL and list(RANGES_M) == ["30x30", "100x100"]
    assert best.vpq == best.sq == best.rq == best.vehicle_iou == {"30x30": 1.0, "100x100": 1.0}
    worst = scores_of(blank(), truth)
    assert worst.vpq == worst.rq == worst.vehicle_iou == {"30x30": 0.0, "100x100": 0.0}
    assert worst.sq == {"30x30": None, "100x100": None}
    assert worst.num_false_negative == {"30x30": 5, "100x100": 10}


def test_other_numbers_for_the_same_vehicles_change_nothing() -> None:
    truth = two_cars()
    assert scores_of(np.where(truth > 0, 700 - truth, 0), truth) == scores_of(truth, truth)


def test_a_missing_vehicle_counts_half() -> None:
    found = scores_of(with_box(blank(), 5, 2, 2), two_cars())
    assert found.vpq == {"30x30": 1.0, "100x100": pytest.approx(5 / (5 + 5 / 2))}
    assert found.sq["100x100"] == 1.0 and found.vehicle_iou["100x100"] == 0.5


def test_swapped_identities_cost_the_frame_of_the_swap_only() -> None:
    truth = two_cars()
    swapped = truth.copy()
    swapped[2:] = np.where(truth[2:] > 0, 3 - truth[2:], 0)
    found = scores_of(swapped, truth)
    # In the third frame both vehicles are false and missed; the other four frames are right.
    assert (found.num_true_positive["100x100"], found.num_false_positive["100x100"]) == (8, 2)
    assert found.vpq["100x100"] == pytest.approx(8 / (8 + 2 / 2 + 2 / 2)) and found.vehicle_iou["100x100"] == 1.0


def test_an_overlap_of_exactly_half_is_no_match_and_one_cell_more_is() -> None:
    truth = with_box(blank(), 1, 2, 2, rows=6, columns=1)
    half = with_box(blank(), 1, 2, 2, rows=3, columns=1)
    assert scores_of(half, truth).num_true_positive["30x30"] == 0
    more = with_box(blank(), 1, 2, 2, rows=4, columns=1)
    assert scores_of(more, truth).sq["30x30"] == pytest.approx(4 / 6)


def test_vehicle_cells_may_be_predicted_apart_from_identities() -> None:
    truth = two_cars()
    counts = count_instances(blank(), truth, is_vehicle=truth > 0)
    assert score(counts, 1).vehicle_iou["100x100"] == 1.0 and score(counts, 1).vpq["100x100"] == 0.0


def naive(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, int, int, int]:
    """The definition, pair by pair."""
    iou_sum, right, false, missed = 0.0, 0, 0, 0
    was: dict[int, int] = {}
    for found, own in zip(prediction, truth, strict=True):
        free = set(np.unique(found[found > 0]).tolist())
        for name in np.unique(own[own > 0]).tolist():
            overlap = {
                k: ((found == k) & (own == name)).sum() / ((found == k) | (own == name)).sum()
                for k in np.unique(found[found > 0]).tolist()
            }
            best = max(overlap, key=overlap.__getitem__, default=None)
            if best is None or overlap[best] <= 0.5:
                missed += 1
                continue
            free.discard(best)
            if was.get(name, best) == best:
                right, iou_sum = right + 1, iou_sum + overlap[best]
            else:
                false, missed = false + 1, missed + 1
            was[name] = best
        false += len(free)
    return iou_sum, right, false, missed


def test_counts_are_those_of_the_definition_and_parts_add_up() -> None:
    rng = np.random.default_rng(0)
    scorers = [InstanceScorer(), InstanceScorer()]
    sums = np.zeros(4)
    for sequence in range(6):
        truth, prediction = blank(), blank()
        for name in range(1, 9):
            row, column = rng.integers(-90, 80, 2)
            truth = with_box(truth, name, row, column)
            for step in range(5):
                shift = rng.integers(-1, 2, 2)
                moved = with_box(blank(), int(rng.choice((name, name, 10 + name))), row + shift[0], column + shift[1])
                prediction[step][moved[step] > 0] = moved[step][moved[step] > 0]
        sums += naive(prediction, truth)
        scorers[sequence % 2].add(str(sequence), prediction, truth)
    scorers[0].merge(scorers[1])
    found = scorers[0].result()[PROTOCOL]
    counted = [found.num_true_positive, found.num_false_positive, found.num_false_negative]
    assert [of["100x100"] for of in counted] == sums[1:].tolist() and min(sums) > 5
    assert found.vpq["100x100"] == pytest.approx(sums[0] / (sums[1] + (sums[2] + sums[3]) / 2))
    with pytest.raises(ValueError, match="counted already"):
        scorers[0].merge(scorers[1])


def test_baselines_stand_beside_the_predictions(index: DatasetIndex) -> None:
    samples = present_samples(index, SPLIT).tolist()
    truth = {str(sample): true_instances(index, sample) for sample in samples}
    oracles = {str(sample): annotated_baselines(index, sample) for sample in samples}
    moving = {token: of[CONSTANT_VELOCITY] for token, of in oracles.items()}
    rows = score_with_baselines({CONSTANT_VELOCITY: moving, "truth": truth}, truth)
    assert list(rows) == [CONSTANT_VELOCITY, "truth", COPY_LAST, EMPTY]
    assert rows["truth"].vpq["100x100"] == 1.0
    # All cars move evenly; only the cyclist that comes later is missed.
    assert rows[CONSTANT_VELOCITY].sq["100x100"] == 1.0
    vpq = [rows[name].vpq["100x100"] or 0.0 for name in (EMPTY, COPY_LAST, CONSTANT_VELOCITY, "truth")]
    assert sorted(set(vpq)) == vpq
    stays = {token: of[COPY_LAST] for token, of in oracles.items()}
    assert asdict(score_with_baselines({"still": stays}, truth)["still"]) == asdict(rows[COPY_LAST])


def test_a_scene_without_vehicles_has_no_numbers(tmp_path: Path) -> None:
    walker = {"walker": Track(path=straight(200.0, 210.0), category="human.pedestrian.adult")}
    empty = drive(tmp_path / "root", {"scene-9001": walker}, num_keyframes=7)
    truth = true_instances(empty, 2)
    assert not truth.any()
    assert scores_of(blank(), truth).vpq == {"30x30": None, "100x100": None}
    assert InstanceScorer().result() == {}


def test_what_does_not_fit_is_refused() -> None:
    truth = two_cars()
    with pytest.raises(ValueError, match=r"prediction has shape \(5, 100, 200\)"):
        count_instances(truth[:, :100], truth)
    with pytest.raises(ValueError, match=r"prediction has shape \(4, 200, 200\)"):
        count_instances(truth[:4], truth)
    with pytest.raises(ValueError, match="negative"):
        count_instances(-truth, truth)
    with pytest.raises(ValueError, match="lack 1 of 1 sequences, the first is that of sample a"):
        score_with_baselines({"model": {}}, {"a": truth})
