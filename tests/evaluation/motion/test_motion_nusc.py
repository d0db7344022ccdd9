"""The prediction challenge: agreement with the devkit's own classes, known values, files there and back, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.drives import LOCATION, SPLIT, Track, drive, straight
from fixtures.map_writer import MapWriter, city
from fixtures.nuscenes_tiny import VERSION, token
from nuscenes import NuScenes
from nuscenes.eval.prediction.compute_metrics import compute_metrics
from nuscenes.eval.prediction.config import PredictionConfig
from nuscenes.eval.prediction.data_classes import Prediction
from nuscenes.eval.prediction.metrics import MinADEK, MinFDEK, MissRateTopK, OffRoadRate, RowMean
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.prediction import PredictHelper
from shapely.geometry import box

from bevstack.data.index import DatasetIndex
from bevstack.data.maps import read_vector_map
from bevstack.evaluation.motion.agent_future import agent_futures
from bevstack.evaluation.motion.baselines import CONSTANT_VELOCITY, COPY_LAST, EMPTY
from bevstack.evaluation.motion.nusc import (
    PROTOCOL,
    Agents,
    agents_to_predict,
    measure,
    score,
    score_with_baselines,
)
from bevstack.evaluation.motion.predictions import (
    MAX_MODES,
    MotionPredictions,
    read_motion_predictions,
    write_motion_predictions,
)
from bevstack.evaluation.planning.drivable_area import DrivableArea
from bevstack.types.errors import DatasetError

SCENES = {
    "scene-9001": {
        "east": Track(path=straight(150.0, 150.0, speed=4.0)),
        "north": Track(path=straight(160.0, 100.0, yaw=1.5, speed=8.0)),
        "still": Track(path=straight(120.0, 120.0), category="vehicle.truck"),
        "walker": Track(path=straight(130.0, 120.0, speed=1.0), category="human.pedestrian.adult"),
        "gone": Track(path=straight(150.0, 170.0), frames=range(6)),
    },
    "scene-9002": {"bus": Track(path=straight(60.0, 220.0, yaw=-2.0, speed=6.0), category="vehicle.bus.rigid")},
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    root = tmp_path_factory.mktemp("challenge") / "root"
    city().write(root)
    return drive(root, SCENES)


@pytest.fixture(scope="module")
def agents(index: DatasetIndex) -> Agents:
    return agents_to_predict(index, SPLIT)


def predictions_of(
    agents: Agents, index: DatasetIndex, *, noise_m: float, modes: int | None, seed: int = 0
) -> MotionPredictions:
    """The truth with noise, in `modes` modes (a different number for each object if None)."""
    rng = np.random.default_rng(seed)
    truth = agent_futures(index, agents.annotation_rows).positions_global[..., :2]
    counts = rng.integers(1, MAX_MODES + 1, len(agents)) if modes is None else np.full(len(agents), modes)
    paths = [own + rng.normal(0, noise_m, (count, 12, 2)) for own, count in zip(truth, counts, strict=True)]
    weights = [rng.random(count) for count in counts]
    return MotionPredictions.of(agents.instance_tokens, agents.sample_tokens, paths, weights)


def test_vehicles_whose_next_six_seconds_are_annotated_are_asked_for(agents: Agents) -> None:
    # Two key frames of each scene have twelve more behind them; the walker is no vehicle, and one car disappears.
    assert len(agents) == 2 * 4 and not agents.is_official
    assert token("scene-9001 walker") not in agents.instance_tokens
    assert token("scene-9001 gone") not in agents.instance_tokens


def test_the_truth_as_prediction_has_no_error_and_misses_nothing(index: DatasetIndex, agents: Agents) -> None:
    scores = score(measure(predictions_of(agents, index, noise_m=0.0, modes=3), index, agents))
    assert scores.protocol == PROTOCOL and scores.num_objects == 8
    for numbers in (scores.min_ade_m, scores.min_fde_m, scores.miss_rate):
        assert numbers == {"1": 0.0, "5": 0.0, "10": 0.0}


def test_a_mode_that_is_a_metre_to_the_side_and_one_that_ends_three_metres_off(
    index: DatasetIndex, agents: Agents
) -> None:
    truth = agent_futures(index, agents.annotation_rows).positions_global[..., :2]
    aside, late = truth + (0.0, 1.0), truth.copy()
    late[:, -1, 0] += 3.0
    paths = [np.stack((a, b)) for a, b in zip(aside, late, strict=True)]
    weights = [np.array((0.4, 0.6))] * len(agents)
    found = score(
        measure(MotionPredictions.of(agents.instance_tokens, agents.sample_tokens, paths, weights), index, agents)
    )
    assert found.min_ade_m["1"] == pytest.approx(3.0 / 12) and found.min_fde_m["1"] == pytest.approx(3.0)
    assert found.miss_rate == {"1": 1.0, "5": 0.0, "10": 0.0}
    # The best mode may be another one for each number.
    assert found.min_ade_m["5"] == pytest.approx(0.25) and found.min_fde_m["5"] == pytest.approx(1.0)


def test_of_modes_of_equal_probability_the_later_one_comes_first(index: DatasetIndex, agents: Agents) -> None:
    truth = agent_futures(index, agents.annotation_rows).positions_global[..., :2]
    paths = [np.stack((own + 5.0, own)) for own in truth]
    even = [np.array((0.5, 0.5))] * len(agents)
    found = measure(MotionPredictions.of(agents.instance_tokens, agents.sample_tokens, paths, even), index, agents)
    assert score(found).min_ade_m["1"] == 0.0


@pytest.mark.parametrize(("noise_m", "modes"), [(0.3, None), (3.0, 1), (1.0, 7), (2.0, MAX_MODES)])
def test_all_numbers_are_those_of_the_devkit(
    index: DatasetIndex, agents: Agents, noise_m: float, modes: int | None
) -> None:
    helper = PredictHelper(NuScenes(version=VERSION, dataroot=str(index.root), verbose=False))
    means = [RowMean()]
    metrics = [MinADEK([1, 5, 10], means), MinFDEK([1, 5, 10], means), MissRateTopK([1, 5, 10], means, 2)]
    predictions = predictions_of(agents, index, noise_m=noise_m, modes=modes)
    theirs = compute_metrics(predictions.to_records(), helper, PredictionConfig(metrics))
    ours = score(measure(predictions, index, agents))
    assert list(ours.min_ade_m.values()) == theirs["MinADEK"]["RowMean"]
    assert list(ours.min_fde_m.values()) == theirs["MinFDEK"]["RowMean"]
    assert list(ours.miss_rate.values()) == theirs["MissRateTopK_2"]["RowMean"]


def test_the_off_road_rate_of_each_object_is_that_of_the_devkit(index: DatasetIndex, agents: Agents) -> None:
    helper = PredictHelper(NuScenes(version=VERSION, dataroot=str(index.root), verbose=False))
    devkit_map = NuScenesMap(str(index.root), LOCATION)
    # The devkit draws the whole of Boston; the written town is a corner of it, drawn by the same function.
    metric = OffRoadRate.__new__(OffRoadRate)
    mask = devkit_map.get_map_mask((200.0, 200.0, 400.0, 400.0), 0, ["drivable_area"], (4000, 4000))[0]
    metric.helper, metric.drivable_area_polygons = helper, {LOCATION: mask}
    metric.pixels_per_meter, metric.number_of_points = 10, 200
    predictions = predictions_of(agents, index, noise_m=0.2, modes=6, seed=2)
    ours = measure(predictions, index, agents).off_road_share
    assert ours is not None
    records = predictions.to_records()
    theirs = np.concatenate([metric(np.zeros(0), Prediction.deserialize(record)) for record in records])
    np.testing.assert_array_equal(ours, theirs)
    assert 0 < ours.mean() < 1


def test_tiles_of_the_road_join_without_a_seam_and_nothing_outside_the_map_is_road(tmp_path: Path) -> None:
    writer = MapWriter().add("drivable_area", box(100, 100, 700, 120))
    writer.document["canvas_edge"] = [600.0, 500.0]
    area = DrivableArea(read_vector_map(writer.write(tmp_path)))
    x = np.arange(100.5, 599.9, 0.1)
    assert area.contains(np.stack((x, np.full_like(x, 110.0)), axis=1)).all()
    outside = np.array([(50.0, 110.0), (600.1, 110.0), (300.0, 99.0), (300.0, 121.0), (-5.0, 110.0), (300.0, 501.0)])
    assert not area.contains(outside).any()


def test_without_a_vector_map_there_is_no_off_road_rate(tmp_path: Path) -> None:
    bare = drive(tmp_path / "root", {"scene-9001": {"car": Track(path=straight(0.0, 0.0, speed=2.0))}})
    agents = agents_to_predict(bare, SPLIT)
    scores = score_with_baselines({}, bare, agents)
    assert all(each.off_road_rate is None for each in scores.values())


def test_baselines_stand_beside_every_result_and_do_not_know_the_future(index: DatasetIndex, agents: Agents) -> None:
    rows = score_with_baselines({"model": predictions_of(agents, index, noise_m=0.1, modes=5)}, index, agents)
    assert list(rows) == ["model", CONSTANT_VELOCITY, COPY_LAST, EMPTY]
    # Everything drives straight on; only in the first key frame no velocity is known yet.
    speeds = np.array([4.0, 8.0, 0.0, 6.0])
    assert rows[CONSTANT_VELOCITY].min_fde_m["1"] == pytest.approx(speeds.mean() * 6 / 2)
    assert rows[COPY_LAST].min_fde_m["1"] == pytest.approx(speeds.mean() * 6)
    assert rows[EMPTY].miss_rate == {"1": 1.0, "5": 1.0, "10": 1.0} and rows[EMPTY].min_ade_m["1"] is None


def test_a_split_without_objects_has_no_numbers(tmp_path: Path) -> None:
    short = drive(tmp_path / "root", {"scene-9001": {"car": Track(path=straight(0, 0))}}, num_keyframes=5)
    agents = agents_to_predict(short, SPLIT)
    scores = score_with_baselines({}, short, agents)
    assert all(each.num_objects == 0 and each.min_ade_m["1"] is None for each in scores.values())


def test_the_challenges_own_list_decides_where_the_data_set_has_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    index = drive(root, SCENES)
    path = root / "maps" / "prediction" / "prediction_scenes.json"
    path.parent.mkdir(parents=True)
    listed = f"{token('scene-9002 bus')}_{token('scene-9002 1')}"
    path.write_text(json.dumps({"scene-9002": [listed], "scene-0001": ["a_b"]}))
    agents = agents_to_predict(index, SPLIT)
    assert agents.is_official and agents.instance_tokens == (token("scene-9002 bus"),)
    path.write_text(json.dumps({"scene-9002": [f"{token('dog')}_{token('scene-9002 1')}"]}))
    with pytest.raises(DatasetError, match="not annotated"):
        agents_to_predict(index, SPLIT)


def test_files_are_read_back_to_the_last_bit_and_by_the_devkit(
    tmp_path: Path, index: DatasetIndex, agents: Agents
) -> None:
    predictions = predictions_of(agents, index, noise_m=1.0, modes=None)
    path = tmp_path / "out" / "motion.json"
    write_motion_predictions(path, predictions)
    again = read_motion_predictions(path)
    np.testing.assert_array_equal(again.trajectories, predictions.trajectories)
    np.testing.assert_array_equal(again.probabilities, predictions.probabilities)
    assert (again.instance_tokens, again.sample_tokens) == (predictions.instance_tokens, predictions.sample_tokens)
    records = json.loads(path.read_text())
    assert [Prediction.deserialize(record).serialize() for record in records] == records


def test_predictions_of_too_few_or_other_objects_are_refused(index: DatasetIndex, agents: Agents) -> None:
    predictions = predictions_of(agents, index, noise_m=1.0, modes=2)
    records = predictions.to_records()
    with pytest.raises(ValueError, match=f"lack 1 of 8 objects, the first is instance {agents.instance_tokens[0]}"):
        measure(MotionPredictions.from_records(records[1:]), index, agents)
    other = {**records[0], "instance": "someone"}
    with pytest.raises(ValueError, match="1 predicted objects are none of the split's 8, for example instance someone"):
        measure(MotionPredictions.from_records([*records, other]), index, agents)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": [[[0.0, 0.0]] * 11]}, r"'prediction' has shape \(1, 11, 2\)"),
        ({"prediction": [[[0.0, 0.0]] * 12] * 26}, "1 to 25 modes"),
        ({"prediction": [[[0.0, float("nan")]] * 12] * 2}, "no finite number"),
        ({"prediction": [[[0.0]], [[0.0, 1.0]]]}, "no array of numbers"),
        ({"probabilities": [1.0]}, "for 2 modes"),
        ({"probabilities": [1.0, -0.5]}, "none may be negative"),
        ({"probabilities": None}, "'probabilities' has a value that is no finite number"),
        ({"sample": 7}, "field 'sample' is 7"),
    ],
)
def test_a_malformed_entry_is_named_with_its_field(change: dict, message: str) -> None:
    entry = {"instance": "a", "sample": "b", "prediction": [[[0.0, 0.0]] * 12] * 2, "probabilities": [0.5, 0.5]}
    MotionPredictions.from_records([entry])
    with pytest.raises(ValueError, match="file.json: entry 1.*" + message):
        MotionPredictions.from_records([entry, {**entry, "sample": "c", **change}], source="file.json")


def test_a_broken_file_and_a_double_entry_are_named(tmp_path: Path) -> None:
    entry = {"instance": "a", "sample": "b", "prediction": [[[0.0, 0.0]] * 12], "probabilities": [1.0]}
    path = tmp_path / "motion.json"
    path.write_text(json.dumps([entry, entry]))
    with pytest.raises(ValueError, match="entry 1 .* is there twice"):
        read_motion_predictions(path)
    path.write_text(json.dumps([entry])[:-9])
    with pytest.raises(ValueError, match="is not JSON"):
        read_motion_predictions(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="must be a list"):
        read_motion_predictions(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_motion_predictions(tmp_path / "none.json")
