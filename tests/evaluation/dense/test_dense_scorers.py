"""Counts by scene give the figures of map and occupancy back: whole, of some scenes, and from the file."""

from pathlib import Path

import numpy as np
import pytest
from fixtures.dense_labels import add_labels, nearly
from fixtures.scenes import one_car_ahead

from bevstack.evaluation.comparison.figure_names import figures_of
from bevstack.evaluation.comparison.scene_statistics import (
    SampleFacts,
    SceneStatistics,
    read_statistics,
    write_statistics,
)
from bevstack.evaluation.dense.rayiou import RayCounts
from bevstack.evaluation.dense.scorers import DenseScorers, DenseStatistics

SCENES = ("one", "two", "three")


def scorers_of(shifts: tuple[int, ...], number: int) -> DenseScorers:
    """Predictions that are shifted by some cells, with rays made up."""
    scorers = DenseScorers()
    frame = add_labels(one_car_ahead())
    for shift in shifts:
        found, truth = nearly(frame, shift), frame.annotations
        scorers.map.add(found.map, truth.map_masks)
        scorers.occupancy.add(found.occupancy, truth.occupancy)
    rays = np.random.default_rng(number).integers(50, 90, (5, 17))
    scorers.rays.counts[str(number)] = RayCounts(rays - np.array([0, 0, 40, 30, 20])[:, None])
    scorers.rays._grid = scorers.occupancy.grid
    return scorers


@pytest.fixture(scope="module")
def by_scene() -> dict[str, DenseScorers]:
    return {name: scorers_of(shifts, k) for k, (name, shifts) in enumerate(zip(SCENES, [(0, 1), (3,), (2, 2, 5)]))}


def merged(by_scene: dict[str, DenseScorers], *names: str) -> dict[str, float | None]:
    whole = DenseScorers()
    for name in names:
        whole.merge(by_scene[name])
    return figures_of(whole.scores())


def test_weights_of_one_give_the_figures_of_all_frames(by_scene: dict[str, DenseScorers]) -> None:
    statistics = DenseStatistics.of(by_scene, SCENES)
    expected = merged(by_scene, *SCENES)
    assert figures_of(statistics(np.ones(3))) == expected
    names = {name.partition(".mIoU")[0] for name in expected if name.endswith(".mIoU")}
    assert {"map.bevfusion-iou", "map.iou-fixed-0.5"} <= names and any("rayiou" in name for name in names)


def test_weights_choose_scenes_and_their_scale_does_not_matter(by_scene: dict[str, DenseScorers]) -> None:
    statistics = DenseStatistics.of(by_scene, SCENES)
    chosen = figures_of(statistics(np.array([2.0, 0.0, 2.0])))
    assert chosen == pytest.approx(merged(by_scene, "one", "three"))
    assert chosen != merged(by_scene, *SCENES)


def test_a_scene_without_frames_counts_nothing(by_scene: dict[str, DenseScorers]) -> None:
    statistics = DenseStatistics.of(by_scene, (*SCENES, "empty"))
    assert figures_of(statistics(np.ones(4))) == merged(by_scene, *SCENES)
    assert DenseStatistics.of({}, SCENES)(np.ones(3)) == {}


def test_the_file_keeps_counts_and_grids(by_scene: dict[str, DenseScorers], tmp_path: Path) -> None:
    statistics = DenseStatistics.of(by_scene, SCENES)
    slices = {"night": np.array([True, False, False])}
    facts = SampleFacts(
        sample_tokens=("a", "b", "c"), scene_names=SCENES, scene_index=np.arange(3, dtype=np.int32), slices=slices
    )
    kept = SceneStatistics(facts=facts, rows={}, dense={"fusion": statistics})
    again = read_statistics(write_statistics(tmp_path / "s.npz", kept))
    assert again.dense["fusion"].grid == statistics.grid
    assert figures_of(again.dense["fusion"](np.ones(3))) == merged(by_scene, *SCENES)
    assert again.facts.of_scenes("night").tolist() == [True, False, False]
