"""Found objects and their motion: known values, both conventions beside their authors' loops, parts that join."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.drives import Track, drive, straight
from fixtures.epa_reference import uniad_reference, vad_reference
from fixtures.nuscenes_tiny import token

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.index import DatasetIndex
from bevstack.evaluation.motion.baselines import CONSTANT_VELOCITY, COPY_LAST, EMPTY
from bevstack.evaluation.motion.columns import MotionColumns, MotionTruth, read_motion_truth
from bevstack.evaluation.motion.epa import MATCHERS, UNIAD, VAD, score, score_with_baselines
from bevstack.evaluation.motion.matching import MotionMatches, match_uniad, match_vad
from bevstack.evaluation.predictions.box_columns import BoxColumns

NUM_KEYFRAMES = 16


def crowd(seed: int, count: int) -> dict[str, Track]:
    """Objects of all kinds around the vehicle at (200, 200), some of them with gaps, ends and no points."""
    rng = np.random.default_rng(seed)
    kinds = ("vehicle.car", "vehicle.truck", "vehicle.motorcycle", "vehicle.construction", "human.pedestrian.adult")
    tracks = {}
    for number in range(count):
        x, y = 200 + rng.uniform(-32, 32, 2)
        path = straight(float(x), float(y), yaw=float(rng.uniform(-3, 3)), speed=float(rng.uniform(0, 6)))
        frames = [k for k in range(NUM_KEYFRAMES) if rng.random() > 0.1] if number % 3 == 0 else range(NUM_KEYFRAMES)
        points = 0 if number % 7 == 6 else 9
        kind = kinds[number % len(kinds)]
        tracks[f"o{number}"] = Track(path=path, category=kind, frames=frames, num_lidar_points=points)
    return tracks


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    root = tmp_path_factory.mktemp("crowd") / "root"
    return drive(root, {"scene-9001": crowd(1, 45), "scene-9002": crowd(2, 40)}, num_keyframes=NUM_KEYFRAMES)


@pytest.fixture(scope="module")
def truth(index: DatasetIndex) -> MotionTruth:
    return read_motion_truth(index, [index.sample_tokens[k] for k in range(0, index.num_samples, 3)])


def found_as(truth: MotionTruth, *, noise_m: float = 0.0, modes: int = 6, keep: float = 1.0, seed: int = 0):  # type: ignore[no-untyped-def]
    """The annotated boxes with their futures as if found, and false ones where `keep` is below 1."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(rng.random(len(truth.futures)) < keep)
    count = len(rows)
    here = truth.positions[rows] + rng.normal(0, 1, (count, 3)) * noise_m
    paths = np.where(truth.futures.is_known[rows][..., None], truth.futures.positions_global[rows, :, :2], 0.0)
    paths = paths[:, None] + rng.normal(0, 2, (count, modes, 12, 2)) * noise_m
    boxes = BoxColumns(
        sample_tokens=truth.sample_tokens,
        sample_index=truth.sample_index[rows],
        translation=here,
        size_wlh=np.ones((count, 3)),
        rotation_wxyz=np.tile((1.0, 0.0, 0.0, 0.0), (count, 1)),
        velocity=np.zeros((count, 2)),
        class_index=truth.class_index[rows].astype(np.int8),
        score=0.5 + 0.5 * np.round(rng.random(count), 1) if keep < 1 else np.full(count, 0.9),
        attribute_index=np.full(count, -1, np.int8),
    )
    return MotionColumns(boxes=boxes, trajectories=paths, probabilities=rng.random((count, modes)))


def one_car(tmp_path: Path, *, speed: float = 2.0) -> tuple[MotionTruth, MotionColumns]:
    """A car 10 m ahead of the vehicle seen from the first key frame, found as it is."""
    index = drive(tmp_path / "root", {"scene-9001": {"car": Track(path=straight(200.0, 210.0, speed=speed))}})
    truth = read_motion_truth(index, [token("scene-9001 0")])
    return truth, found_as(truth)


@pytest.mark.parametrize("protocol", [UNIAD, VAD])
def test_the_truth_as_prediction_hits_all_that_can_be_hit(truth: MotionTruth, protocol: str) -> None:
    scores = score(MATCHERS[protocol](found_as(truth), truth), protocol)
    assert scores.protocol == protocol and scores.num_samples == len(truth.sample_tokens)
    for group in scores.groups.values():
        assert group.num_objects > 3 and group.min_ade_m == group.min_fde_m == group.miss_rate == 0.0
        if protocol == UNIAD:  # objects without points are false when found, and some have no future
            assert group.epa_ceiling == group.num_hits / group.num_objects and group.recall == 1.0


@pytest.mark.parametrize("protocol", [UNIAD, VAD])
def test_finding_nothing_has_no_errors_and_an_epa_of_zero(truth: MotionTruth, protocol: str) -> None:
    empty = found_as(truth).baselines()[EMPTY]
    for group in score(MATCHERS[protocol](empty, truth), protocol).groups.values():
        assert group.epa == 0.0 and group.num_found == 0 and group.num_objects > 0
        assert group.min_ade_m is None and group.miss_rate is None and group.min_ade_as_published_m is None


def test_a_known_car_with_two_known_modes(tmp_path: Path) -> None:
    truth, found = one_car(tmp_path)
    future = truth.futures.positions_global[0, :, :2]
    late = future.copy()
    late[-1, 0] += 3.0  # 6 s ahead: beyond what VAD looks at
    both = replace(found, trajectories=np.stack((future + (0, 1.0), late))[None], probabilities=np.array([[0.1, 0.9]]))
    uniad, vad = (score(MATCHERS[name](both, truth), name).groups["car"] for name in (UNIAD, VAD))
    assert uniad.min_ade_m == pytest.approx(3.0 / 12) and uniad.min_fde_m == pytest.approx(1.0)
    assert uniad.miss_rate == 0.0 and uniad.epa == 1.0
    assert vad.min_ade_m == 0.0 and vad.min_fde_m == 0.0 and vad.epa == 1.0


def test_every_false_box_costs_half_an_object(tmp_path: Path) -> None:
    truth, found = one_car(tmp_path)
    thrice = found.take(np.array((0, 0, 0)))
    for protocol in (UNIAD, VAD):
        group = score(MATCHERS[protocol](thrice, truth), protocol).groups["car"]
        assert (group.num_hits, group.num_false) == (1, 2) and group.epa == pytest.approx(1.0 - 0.5 * 2)


def test_a_miss_by_uniad_is_a_path_off_somewhere_and_by_vad_an_end_that_is_off(tmp_path: Path) -> None:
    truth, found = one_car(tmp_path)
    bulge = found.trajectories.copy()
    bulge[:, :, 2] += (0.0, 5.0)
    bent = replace(found, trajectories=bulge)
    assert score(match_uniad(bent, truth), UNIAD).groups["car"].miss_rate == 1.0
    assert score(match_vad(bent, truth), VAD).groups["car"].miss_rate == 0.0
    assert score(match_uniad(bent, truth), UNIAD).groups["car"].epa == 1.0  # the end decides the hit


def test_only_the_six_most_probable_modes_count(tmp_path: Path) -> None:
    truth, found = one_car(tmp_path)
    future = found.trajectories[:, :1]
    seven = np.concatenate((np.repeat(future + 50.0, 6, axis=1), future), axis=1)
    weights = np.array([[*[0.5] * 6, 0.1]])
    far = MotionColumns(boxes=found.boxes, trajectories=seven, probabilities=weights)
    assert score(match_uniad(far, truth), UNIAD).groups["car"].num_hits == 0
    near = replace(far, probabilities=np.array([[*[0.5] * 6, 0.9]]))
    assert score(match_uniad(near, truth), UNIAD).groups["car"].num_hits == 1


def test_an_unknown_future_is_no_zero_error_but_the_published_code_books_it_as_one(tmp_path: Path) -> None:
    tracks = {
        "gone": Track(path=straight(200.0, 210.0), frames=(0,)),
        "stays": Track(path=straight(200.0, 190.0, speed=2.0)),
    }
    index = drive(tmp_path / "root", {"scene-9001": tracks})
    truth = read_motion_truth(index, [token("scene-9001 0")])
    found = found_as(truth)
    ranked = replace(found.boxes, score=np.array((0.9, 0.8)))
    off = replace(found, boxes=ranked, trajectories=found.trajectories + (0.0, 1.0))
    group = score(match_uniad(off, truth), UNIAD).groups["car"]
    assert group.num_objects == 2 and group.num_matched == 2 and group.epa_ceiling == 0.5
    assert group.min_ade_m == pytest.approx(1.0) and group.min_fde_m == pytest.approx(1.0)
    assert group.min_ade_as_published_m is not None and group.min_ade_as_published_m < 0.9
    # VAD leaves such objects out of its count altogether.
    assert score(match_vad(off, truth), VAD).groups["car"].num_objects == 1


def test_a_path_that_ends_early_is_judged_by_its_last_known_step_in_uniad_only(tmp_path: Path) -> None:
    index = drive(tmp_path / "root", {"scene-9001": {"car": Track(path=straight(200.0, 210.0), frames=(0, 1, 2))}})
    truth = read_motion_truth(index, [token("scene-9001 0")])
    found = found_as(truth)
    away = found.trajectories.copy()
    away[:, :, 1] += (1.5, 0.0)
    short = replace(found, trajectories=away)
    uniad, vad = (score(MATCHERS[name](short, truth), name).groups["car"] for name in (UNIAD, VAD))
    assert uniad.min_fde_m == pytest.approx(1.5) and uniad.min_ade_m == pytest.approx(0.75) and uniad.num_hits == 1
    assert vad.min_ade_m == pytest.approx(0.75) and vad.min_fde_m is None and vad.num_objects == 0 and vad.epa is None


@pytest.mark.parametrize("seed", range(4))
def test_uniad_counts_and_published_averages_are_those_of_the_authors_loop(truth: MotionTruth, seed: int) -> None:
    found = found_as(truth, noise_m=0.8, keep=0.8, seed=seed)
    scores = score(match_uniad(found, truth), UNIAD)
    for name, group in scores.groups.items():
        expected = uniad_reference(found, truth, name)
        counts = {
            "hits": group.num_hits, "false": group.num_false, "objects": group.num_objects,
            "matched": group.num_matched,
        }  # fmt: skip
        assert counts == {key: expected[key] for key in counts}
        published = [group.min_ade_as_published_m, group.min_fde_as_published_m, group.miss_rate_as_published]
        assert published == pytest.approx([expected[key] for key in ("ade", "fde", "missed")], rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_vad_numbers_are_those_of_the_authors_loop(truth: MotionTruth, seed: int) -> None:
    found = found_as(truth, noise_m=0.8, keep=0.8, seed=10 + seed)
    scores, expected = score(match_vad(found, truth), VAD), vad_reference(found, truth)
    for name, group in scores.groups.items():
        own = {key.removesuffix(f"_{name}"): value for key, value in expected.items() if key.endswith(name)}
        assert (group.num_objects, group.num_hits, group.num_false) == (own["gt"], own["hit"], own["fp"])
        assert group.epa == pytest.approx((own["hit"] - 0.5 * own["fp"]) / own["gt"])
        assert group.min_ade_m == pytest.approx(own["ADE"] / own["cnt_ade"])
        assert group.min_fde_m == pytest.approx(own["FDE"] / own["cnt_fde"])
        assert group.miss_rate == pytest.approx(own["MR"] / own["cnt_fde"])


@pytest.mark.parametrize("protocol", [UNIAD, VAD])
def test_scenes_matched_apart_join_to_the_whole(truth: MotionTruth, index: DatasetIndex, protocol: str) -> None:
    found = found_as(truth, noise_m=0.8, keep=0.8)
    whole = MATCHERS[protocol](found, truth)
    parts = []
    for scene in (0, 1):
        tokens = [t for t, own in zip(truth.sample_tokens, truth.sample_scene, strict=True) if own == scene]
        parts.append(MATCHERS[protocol](found.select(tokens), read_motion_truth(index, tokens)))
    assert asdict(score(MotionMatches.join(parts), protocol)) == asdict(score(whole, protocol))
    by_scene = whole.by_scene()
    for scene, part in zip(by_scene, parts, strict=True):
        assert asdict(score(by_scene[scene], protocol)) == asdict(score(part, protocol))


def test_baselines_move_the_found_boxes_of_the_first_row(tmp_path: Path) -> None:
    truth, found = one_car(tmp_path)
    moving = replace(found, boxes=replace(found.boxes, velocity=np.array([(2.0, 0.0)])))
    rows = score_with_baselines({"model": moving}, truth, UNIAD)
    assert list(rows) == ["model", CONSTANT_VELOCITY, COPY_LAST, EMPTY]
    cars = {name: scores.groups["car"] for name, scores in rows.items()}
    assert cars[CONSTANT_VELOCITY].min_fde_m == pytest.approx(0.0) and cars[CONSTANT_VELOCITY].epa == 1.0
    assert cars[COPY_LAST].min_fde_m == pytest.approx(12.0) and cars[COPY_LAST].epa == 0.0
    assert cars[EMPTY].epa == 0.0 and rows["model"].mean_epa == 1.0  # there is no pedestrian
    with pytest.raises(ValueError, match="at least one set"):
        score_with_baselines({}, truth, UNIAD)


def test_ranges_and_classes_are_those_of_each_convention(tmp_path: Path) -> None:
    tracks = {
        "ahead": Track(path=straight(200.0, 245.0)),  # 45 m: in UniAD's range only
        "builder": Track(path=straight(200.0, 205.0), category="vehicle.construction"),  # "car" in UniAD only
        "far walker": Track(path=straight(200.0, 242.0), category="human.pedestrian.adult"),
        "walker": Track(path=straight(205.0, 200.0), category="human.pedestrian.adult"),
        "cone": Track(path=straight(203.0, 200.0), category="movable_object.trafficcone"),
    }
    index = drive(tmp_path / "root", {"scene-9001": tracks})
    truth = read_motion_truth(index, [token("scene-9001 0")])
    found = found_as(truth)
    counts = {
        name: {group: each.num_objects for group, each in score(MATCHERS[name](found, truth), name).groups.items()}
        for name in (UNIAD, VAD)
    }
    assert counts == {UNIAD: {"car": 2, "pedestrian": 1}, VAD: {"car": 0, "pedestrian": 1}}
    assert DETECTION_CLASSES[truth.class_index[-1]] == "traffic_cone"


def test_what_does_not_fit_is_refused(truth: MotionTruth) -> None:
    found = found_as(truth)
    with pytest.raises(ValueError, match="the same samples in the same order"):
        match_uniad(found.select(truth.sample_tokens[::-1]), truth)
    with pytest.raises(ValueError, match="have 5 steps; this protocol looks 6 steps"):
        match_vad(replace(found, trajectories=found.trajectories[:, :, :5]), truth)
    with pytest.raises(ValueError, match="must be \\(N, K, T, 2\\)"):
        replace(found, probabilities=found.probabilities[:-1])
    broken = found.trajectories.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=f"a box of sample {truth.sample_tokens[0]} has a value"):
        replace(found, trajectories=broken)
    with pytest.raises(ValueError, match="'motion/epa' is none of"):
        score(match_vad(found, truth), "motion/epa")
