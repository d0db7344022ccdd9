"""Where annotated objects go: known paths, gaps, ends of scenes, frames of reference, agreement with the devkit."""

from pathlib import Path

import numpy as np
import pytest
from fixtures.drives import Track, annotation_row, drive, straight
from nuscenes import NuScenes
from nuscenes.prediction import PredictHelper

from bevstack.data.index import DatasetIndex, open_index
from bevstack.evaluation.motion.agent_future import agent_futures, past_velocity

SCENE = "scene-9001"


def rows(index: DatasetIndex, *places: tuple[str, int], scene: str = SCENE) -> np.ndarray:
    return np.array([annotation_row(index, scene, name, frame) for name, frame in places], np.int64)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    """A car that drives north at 4 m/s, one that is not seen in frames 3 and 4, and another scene behind them."""
    north = straight(205.0, 210.0, yaw=np.pi / 2, speed=4.0)
    scenes = {
        SCENE: {"north": Track(path=north), "hidden": Track(path=north, frames=(0, 1, 2, 5, 6, 7))},
        "scene-9002": {"other": Track(path=straight(190.0, 190.0))},
    }
    return drive(tmp_path_factory.mktemp("drive") / "root", scenes)


def test_a_car_that_drives_4_metres_a_second_is_2_metres_further_at_each_step(index: DatasetIndex) -> None:
    futures = agent_futures(index, rows(index, ("north", 0)))
    steps = np.arange(1, 13)
    assert futures.is_complete.all() and futures.positions_global.shape == (1, 12, 3)
    np.testing.assert_allclose(futures.positions_global[0, :, 1], 210.0 + 2.0 * steps)
    np.testing.assert_allclose(futures.yaw_global, np.pi / 2)
    np.testing.assert_allclose(futures.in_agent()[0], np.stack((2.0 * steps, 0.0 * steps), axis=1), atol=1e-9)
    # The vehicle stands at (200, 200) and looks north as well: 5 m to its right means y = -5.
    np.testing.assert_allclose(futures.in_ego(index)[0], np.stack((10 + 2.0 * steps, -5 + 0.0 * steps), axis=1))


def test_steps_without_an_annotation_are_unknown_and_later_ones_keep_their_time(index: DatasetIndex) -> None:
    futures = agent_futures(index, rows(index, ("hidden", 1)), horizon_s=3.0)
    assert futures.is_known.tolist() == [[True, False, False, True, True, True]]
    assert np.isnan(futures.positions_global[0, 1:3]).all() and futures.has_any.all()
    np.testing.assert_allclose(futures.positions_global[0, 3, 1], 210.0 + 4.0 * 2.5)


def test_no_future_reaches_into_the_next_scene(index: DatasetIndex) -> None:
    futures = agent_futures(index, rows(index, ("north", 13), ("north", 11)))
    assert futures.is_known.sum(axis=1).tolist() == [0, 2]
    assert futures.has_any.tolist() == [False, True] and not futures.is_complete.any()


def test_rows_in_any_order_and_one_by_one_give_the_same(index: DatasetIndex) -> None:
    chosen = np.arange(index.num_annotations)[::-1].copy()
    together = agent_futures(index, chosen)
    for place, row in enumerate(chosen):
        alone = agent_futures(index, np.array([row]))
        np.testing.assert_array_equal(together.positions_global[place], alone.positions_global[0])
    assert len(agent_futures(index, np.zeros(0, np.int64)).in_agent()) == 0


def test_a_key_frame_that_comes_more_than_a_quarter_second_late_is_no_truth_for_its_step(tmp_path: Path) -> None:
    late = drive(tmp_path / "root", {SCENE: {"a": Track(path=straight(0, 0))}}, delays_us={2: 260_000, 3: 240_000})
    futures = agent_futures(late, rows(late, ("a", 0)), horizon_s=2.0)
    assert futures.is_known.tolist() == [[True, False, True, True]]


def test_an_impossible_horizon_is_refused(index: DatasetIndex) -> None:
    for horizon_s in (0.0, -1.0, 0.7):
        with pytest.raises(ValueError, match="multiple of 0.5"):
            agent_futures(index, rows(index, ("north", 0)), horizon_s=horizon_s)


def test_past_velocity_looks_back_only(index: DatasetIndex) -> None:
    velocity = past_velocity(index, rows(index, ("north", 1), ("north", 0), ("hidden", 5)))
    np.testing.assert_allclose(velocity, [(0.0, 4.0), (np.nan, np.nan), (np.nan, np.nan)], atol=1e-9)
    assert past_velocity(index, np.zeros(0, np.int64)).shape == (0, 2)


def test_real_futures_are_those_of_the_devkit_where_no_annotation_is_missing(
    nuscenes_real: Path, tmp_path: Path
) -> None:
    root = tmp_path / "mini"
    root.mkdir()
    (root / "v1.0-mini").symlink_to(nuscenes_real / "mini_val" / "derived_tables" / "v1.0-mini")
    (root / "maps").symlink_to(nuscenes_real / "maps")
    real = open_index(root, "v1.0-mini", out=tmp_path / "index")
    helper = PredictHelper(NuScenes(version="v1.0-mini", dataroot=str(root), verbose=False))
    chosen = np.arange(0, real.num_annotations, 7)
    futures = agent_futures(real, chosen)
    num_compared = 0
    for place, row in enumerate(chosen):
        known = futures.is_known[place]
        if known[: known.sum()].all():  # without a gap
            names = real.instance_tokens[int(real["annotation_instance"][row])]
            sample = real.sample_tokens[int(futures.sample_rows[place])]
            theirs = helper.get_future_for_agent(names, sample, 6, in_agent_frame=False).reshape(-1, 2)
            np.testing.assert_array_equal(futures.positions_global[place, : len(theirs), :2], theirs)
            assert known.sum() == len(theirs)
            in_agent = helper.get_future_for_agent(names, sample, 6, in_agent_frame=True).reshape(-1, 2)
            ours = futures.in_agent()[place, : len(theirs)]
            np.testing.assert_allclose(np.stack((-ours[:, 1], ours[:, 0]), axis=1), in_agent, atol=1e-6)
            num_compared += len(theirs) > 0
    assert num_compared > 300
