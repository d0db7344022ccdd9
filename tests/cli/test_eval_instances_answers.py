"""`bevstack eval --predictions` on future instances and on answers to questions about scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.drives import SPLIT
from fixtures.scored_drives import SCENES, write_drives

from bevstack.cli.main import main
from bevstack.data.index import DatasetIndex
from bevstack.evaluation.comparison.scene_statistics import read_statistics
from bevstack.evaluation.dense.instance_folder import InstanceFolder, write_instances
from bevstack.evaluation.dense.instance_statistics import InstanceStatistics
from bevstack.evaluation.dense.instance_truth import present_samples, true_instances
from bevstack.evaluation.language.statistics import DrivingQaStatistics

SENSORS = {"use_camera": True, "use_lidar": False}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    return write_drives(tmp_path_factory.mktemp("drives") / "data")


@pytest.fixture(scope="module")
def instances(index: DatasetIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth of two samples of each scene that can be scored, all others with nothing found."""
    sequences = {}
    for number, sample in enumerate(present_samples(index, SPLIT).tolist()):
        truth = true_instances(index, sample)
        sequences[index.sample_tokens[sample]] = truth if number % 5 == 0 else np.zeros_like(truth)
    return write_instances(tmp_path_factory.mktemp("instances") / "mine", sequences, SENSORS)


def evaluated(index: DatasetIndex, file: Path, out: Path, *more: str) -> int:
    words = ["eval", "--predictions", str(file), "--data", str(index.root), "--out", str(out), "--frames", "0"]
    return main([*words, *more])


def questions(index: DatasetIndex, scenes: tuple[str, ...] = SCENES) -> dict:
    """One question about the first key frame of each scene."""
    frames = {scene.name: (scene.token, index.sample_tokens[scene.first_sample]) for scene in index.scenes}
    return {
        frames[name][0]: {
            "key_frames": {frames[name][1]: {"QA": {"perception": [{"Q": "Which scene?", "A": name, "tag": [0]}]}}}
        }
        for name in scenes
    }


def answers(asked: dict, num_right: int) -> list[dict[str, str]]:
    given = []
    for number, (scene, entry) in enumerate(asked.items()):
        ((frame, content),) = entry["key_frames"].items()
        right = content["QA"]["perception"][0]["A"]
        given.append({"id": f"{scene}_{frame}_0", "answer": right if number < num_right else "none"})
    return given


def test_a_folder_of_instances_is_scored_with_its_baselines(index, instances: Path, tmp_path: Path, capsys) -> None:
    assert evaluated(index, instances, tmp_path / "out") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    numbers = metrics["results"]["submission"]["instance"]["instance/vpq"]
    count = len(present_samples(index, SPLIT))
    assert metrics["protocols"] == ["instance/vpq"] and numbers["num_sequences"] == count
    assert numbers["sq"]["100x100"] == 1.0 and 0 < numbers["vpq"]["100x100"] < 0.6
    assert set(numbers["baselines"]) == {
        "copy last",
        "empty",
        "annotated, constant velocity",
        "annotated, copy last",
    }
    assert numbers["baselines"]["empty"]["vpq"]["100x100"] == 0.0
    assert "instance/vpq (video panoptic quality): vpq" in capsys.readouterr().out
    kept = read_statistics(tmp_path / "out" / "scene_statistics.npz").tasks["submission"]["instance"]
    assert json.loads(json.dumps(kept.numbers())) == {"instance/vpq": numbers}


def test_instances_by_scene_merge_and_draw(index, instances: Path) -> None:
    folder = InstanceFolder(instances)
    asked = [index.sample_tokens[int(row)] for row in present_samples(index, SPLIT)]

    def statistics(scenes: tuple[str, ...]) -> InstanceStatistics:
        def is_own(token: str) -> bool:
            return index.scene_of_sample(index.sample_row(token)).name in scenes

        own = [index.sample_tokens[int(row)] for row in index.samples_of_split(SPLIT)]
        sequences = ((token, *folder.sequence(token)) for token in asked if is_own(token))
        return InstanceStatistics.of(sequences, "mine", index, [token for token in own if is_own(token)])

    first, second = statistics(SCENES[:2]), statistics(SCENES[2:4])
    merged = InstanceStatistics.merge([first, second])
    assert merged.numbers() == statistics(SCENES[:4]).numbers()
    ones = np.array([0, 0, 1, 1])
    assert merged.numbers(ones)["instance/vpq"] == second.numbers(np.ones(2))["instance/vpq"]


def test_a_missing_or_odd_sequence_is_named(index, instances: Path, tmp_path: Path, capsys) -> None:
    token = index.sample_tokens[int(present_samples(index, SPLIT)[0])]
    for name, array, message in (
        ("gone", None, f"sample {token} is missing"),
        ("small", np.zeros((5, 10, 10), np.int32), "of shape (5, 10, 10), not whole numbers of (5, 200, 200)"),
        ("negative", np.full((5, 200, 200), -1), "has the identity -1"),
        ("real", np.zeros((5, 200, 200)), "is float64"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for file in instances.iterdir():
            (folder / file.name).symlink_to(file)
        (folder / f"{token}.npz").unlink()
        if array is not None:
            np.savez_compressed(folder / f"{token}.npz", instances=array)
        assert evaluated(index, folder, tmp_path / "out") == 1
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_answers_are_scored_with_their_questions(index, tmp_path: Path, capsys) -> None:
    asked = questions(index)
    (tmp_path / "questions.json").write_text(json.dumps(asked))
    (tmp_path / "answers.json").write_text(json.dumps({"results": answers(asked, 6)}))
    more = ["--questions", str(tmp_path / "questions.json")]
    assert evaluated(index, tmp_path / "answers.json", tmp_path / "out", *more) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    numbers = metrics["results"]["submission"]["driving-qa"]["driving-qa/deterministic"]
    assert (numbers["accuracy"], numbers["num_questions"], numbers["num_frames"]) == (0.75, 8, 8)
    kept = read_statistics(tmp_path / "out" / "scene_statistics.npz").tasks["submission"]["driving-qa"]
    drawn = kept.numbers(np.array([3, 0, 0, 0, 0, 0, 1, 0]))["driving-qa/deterministic"]
    assert drawn["accuracy"] == 0.75 and kept.scene_names == SCENES
    assert isinstance(kept, DrivingQaStatistics)
    assert evaluated(index, tmp_path / "answers.json", tmp_path / "none") == 1
    assert "with --questions" in capsys.readouterr().err


def test_answers_about_other_scenes_or_too_few_are_refused(index, tmp_path: Path, capsys) -> None:
    asked = questions(index)
    (tmp_path / "questions.json").write_text(json.dumps(asked))
    (tmp_path / "answers.json").write_text(json.dumps(answers(asked, 8)[1:]))
    more = ["--questions", str(tmp_path / "questions.json")]
    assert evaluated(index, tmp_path / "answers.json", tmp_path / "out", *more) == 1
    assert "lack 1 of 8 answers" in capsys.readouterr().err
    odd = {f"x{scene}": entry for scene, entry in asked.items()}
    (tmp_path / "questions.json").write_text(json.dumps(odd))
    (tmp_path / "answers.json").write_text(json.dumps(answers(odd, 8)))
    assert evaluated(index, tmp_path / "answers.json", tmp_path / "out", *more) == 1
    assert "nor is any other" in capsys.readouterr().err and not (tmp_path / "out").exists()
