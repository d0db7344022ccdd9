"""What an evaluation keeps gives its figures back, whole, weighted, by slice, and from the file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.result_folders import evaluate_file, write_data, write_results

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.comparison.figure_names import figures_of, is_headline, kind_of
from bevstack.evaluation.comparison.scene_statistics import SAMPLE_SLICES, RowFigures, read_statistics, write_statistics
from bevstack.evaluation.comparison.slices import (
    OBJECT_SLICES,
    ObjectSlice,
    SlicedFigures,
    distance_to_path,
    slices_of_description,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("statistics")
    root = write_data(folder / "data")
    return evaluate_file(write_results(folder / "r.json", root, noise_m=0.4, found_share=0.8), root, folder / "run")


def test_weights_of_one_give_the_figures_of_the_evaluation_to_the_last_bit(run: Path) -> None:
    kept = read_statistics(run / "scene_statistics.npz")
    (row,) = kept.rows
    found = figures_of(RowFigures(kept.facts, kept.rows[row])(np.ones(8)))
    written = figures_of(json.loads((run / "metrics.json").read_text())["results"][row])
    assert found == {name: written[name] for name in found}
    assert found["det.NDS"] > 0.1 and len(found) > 60


def test_a_scene_that_counts_nothing_is_as_if_it_were_not_there(run: Path) -> None:
    kept = read_statistics(run / "scene_statistics.npz")
    (statistics,) = kept.rows.values()
    weights = np.array([1.0, 1, 1, 1, 0, 0, 0, 0])
    twice = RowFigures(kept.facts, statistics)(2 * weights)
    once = RowFigures(kept.facts, statistics)(weights)
    assert once["nds"] == pytest.approx(twice["nds"])
    assert once["nds"] != RowFigures(kept.facts, statistics)(np.ones(8))["nds"]


def test_a_class_that_a_draw_lacks_is_left_out_of_its_means_and_not_called_zero(run: Path) -> None:
    kept = read_statistics(run / "scene_statistics.npz")
    (statistics,) = kept.rows.values()
    counts = statistics.num_truth()
    for scene in range(8):
        weights = np.eye(8)[scene]
        found = RowFigures(kept.facts, statistics)(weights)
        lost = (counts.sum(axis=1) > 0) & (counts @ weights[kept.facts.scene_index] == 0)
        assert [found["class_ap"][name] is None for name in DETECTION_CLASSES] == lost.tolist()


def test_the_file_gives_back_what_was_written(run: Path, tmp_path: Path) -> None:
    kept = read_statistics(run / "scene_statistics.npz")
    again = read_statistics(write_statistics(tmp_path / "s.npz", kept))
    assert again.facts.sample_tokens == kept.facts.sample_tokens
    assert list(again.facts.slices) == list(SAMPLE_SLICES)
    (one,), (two,) = kept.rows.values(), again.rows.values()
    assert all(np.array_equal(one.classes[k].partner, two.classes[k].partner) for k in DETECTION_CLASSES)


def test_a_file_cut_short_is_refused_by_name(run: Path, tmp_path: Path) -> None:
    short = tmp_path / "scene_statistics.npz"
    short.write_bytes((run / "scene_statistics.npz").read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"scene_statistics.npz is damaged .* evaluate the run again"):
        read_statistics(short)
    with pytest.raises(FileNotFoundError, match="bevstack eval"):
        read_statistics(tmp_path / "none.npz")


def test_scenes_go_to_slices_by_whole_words() -> None:
    assert slices_of_description("Night, heavy rain, big street") == ("night", "rain")
    assert slices_of_description("Rainy day") == ("rain",)
    assert slices_of_description("Train station, knights, brainy drainage") == ()


def test_scenes_go_to_an_event_by_what_their_description_begins_with() -> None:
    assert slices_of_description("Crossing pedestrian, downtown, rain") == ("rain", "crossing pedestrian")
    assert slices_of_description("occluded pedestrian: a parked van") == ("occluded pedestrian",)
    assert slices_of_description("lead braking") == ("lead braking",)
    assert slices_of_description("Parked cars, crossing pedestrian, lead brakings") == ()


def test_a_slice_that_an_older_evaluation_did_not_look_for_is_named(run: Path) -> None:
    facts = read_statistics(run / "scene_statistics.npz").facts
    older = replace(facts, slices={name: mask for name, mask in facts.slices.items() if name != "lead braking"})
    assert not facts.of_scenes("lead braking").any()
    with pytest.raises(ValueError, match="no slice 'lead braking' of night, .*evaluate again"):
        older.of_scenes("lead braking")


def test_sample_slices_are_those_of_the_descriptions(run: Path) -> None:
    facts = read_statistics(run / "scene_statistics.npz").facts
    in_scene = {
        name: [bool(mask[facts.scene_index == k].all()) for k in range(8)] for name, mask in facts.slices.items()
    }
    assert in_scene["night"] == [False, True] * 4
    assert in_scene["rain"] == [True, True] + [False] * 6


def test_bands_of_distance_share_out_all_objects_and_matches(run: Path) -> None:
    kept = read_statistics(run / "scene_statistics.npz")
    (statistics,) = kept.rows.values()
    parts = [RowFigures(kept.facts, statistics, f"{band} m")(np.ones(8)) for band in ("0-20", "20-30", "30-50")]
    assert sum(part["num_truth"] for part in parts) == len(statistics.truth.class_index)
    assert all(part["nds"] is not None for part in parts)
    ways = [name for name in OBJECT_SLICES if name.startswith("path")]
    objects = [RowFigures(kept.facts, statistics, name)(np.ones(8))["num_truth"] for name in ways]
    assert sum(objects) == len(statistics.truth.class_index)


def test_a_slice_of_everything_scores_as_the_protocol_does(run: Path) -> None:
    kept = read_statistics(run / "scene_statistics.npz")
    (statistics,) = kept.rows.values()
    whole = RowFigures(kept.facts, statistics)(np.ones(8))
    part = SlicedFigures(statistics, ObjectSlice())(np.ones(len(kept.facts.sample_tokens)))
    present = [name for name, ap in part["class_ap"].items() if ap is not None]
    assert len(present) > 5
    for name in present:
        assert part["class_ap"][name] == pytest.approx(whole["class_ap"][name])
        assert part["class_errors"][name] == pytest.approx(whole["class_errors"][name])


def test_the_slice_of_rare_classes_has_only_them(run: Path) -> None:
    kept = read_statistics(run / "scene_statistics.npz")
    (statistics,) = kept.rows.values()
    found = RowFigures(kept.facts, statistics, "rare classes")(np.ones(8))
    named = {name for name, ap in found["class_ap"].items() if ap is not None}
    assert named and named <= {"bus", "trailer", "construction_vehicle", "motorcycle", "bicycle"}
    with pytest.raises(ValueError, match="no slice 'dusk'"):
        RowFigures(kept.facts, statistics, "dusk")


def test_distance_to_the_way_is_that_to_its_nearest_point() -> None:
    path = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    points = np.array([[5.0, 2.0], [-3.0, 4.0], [12.0, 5.0], [10.0, 13.0]])
    assert distance_to_path(points, path) == pytest.approx([2, 5, 2, 3])
    assert distance_to_path(points[:1], path[:1]) == pytest.approx([np.hypot(5, 2)])


def test_figures_have_a_name_a_unit_and_a_better_side() -> None:
    row = {"nds": 0.5, "errors": {"mATE": 0.3}, "class_errors": {"car": {"ATE": 0.2, "AAE": None}}, "matched": 7}
    row["map"] = {"map/iou-fixed-0.5": {"mean_iou": 0.4, "class_iou": {"divider": None}, "num_frames": 3}}
    assert figures_of(row) == {
        "det.NDS": 0.5,
        "det.mATE": 0.3,
        "det.ATE.car": 0.2,
        "det.AAE.car": None,
        "map.iou-fixed-0.5.mIoU": 0.4,
        "map.iou-fixed-0.5.IoU.divider": None,
    }
    assert (kind_of("det.NDS").unit, kind_of("det.mAP@night").unit, kind_of("det.mATE").unit) == ("pt", "pt", "m")
    assert kind_of("det.AVE.car").is_lower_better and not kind_of("map.iou-fixed-0.5.mIoU").is_lower_better
    assert [is_headline(name) for name in ("det.NDS", "map.iou-fixed-0.5.mIoU", "det.AP.car")] == [True, True, False]
