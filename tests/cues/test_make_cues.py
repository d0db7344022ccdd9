"""Cues of a data set: made, taken up again, counted where they are no cues, refined without a leak."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures.worlds import tiny_world  # noqa: F401

from bevstack.cli.cues import cue_name
from bevstack.cli.cues import run as run_cues
from bevstack.cues.make import make_cues
from bevstack.cues.refinement import AnnotationFacts, EstimateFacts
from bevstack.data.cue_cache import CueCache
from bevstack.data.cued_frames import CuedFrames
from bevstack.data.images import ImageSize
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.perception.language.describer import OracleDescriber
from bevstack.types import Detections, SceneEstimate
from bevstack.types.errors import DatasetError

SIZE = ImageSize(128, 352)
HELD_OUT, LEARNED = "val_mine", "train_mine"


class Letters:
    """A text encoder that counts letters: left and right differ."""

    name, width = "letters", 26

    def encode(self, texts):
        rows = [[text.lower().count(chr(97 + k)) + 0.01 for k in range(26)] for text in texts]
        counts = np.array(rows, np.float32).reshape(-1, 26)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class Says:
    """A captioner with prepared answers, in order; counts how often it is asked."""

    name, prompt_version, cameras = "says", "none", ("CAM_FRONT",)

    def __init__(self, *answers: str, stops_after: int = 10**9) -> None:
        self.answers, self.num_asked, self.stops_after = answers, 0, stops_after

    def caption(self, frame) -> str:
        if self.num_asked == self.stops_after:
            raise KeyboardInterrupt
        self.num_asked += 1
        return self.answers[(self.num_asked - 1) % len(self.answers)]


@pytest.fixture(scope="module")
def world(tiny_world, tmp_path_factory) -> Path:  # noqa: F811
    """The tiny world with a split to learn from (scenes 0, 1), one held out (scene 2), and one that has both."""
    root = tmp_path_factory.mktemp("cued") / "world"
    shutil.copytree(tiny_world, root)
    path = next(root.glob("*/splits.json"))
    (names,) = json.loads(path.read_text()).values()
    splits = {"worlds": names, LEARNED: names[:2], HELD_OUT: names[2:], "train_leak": names}
    path.write_text(json.dumps(splits))
    return root


def _frames(root: Path, split: str = "worlds", **more) -> NuScenesFrames:
    return NuScenesFrames(root=root, split=split, image_size=SIZE, num_sweeps=0, **more)


def _make(root: Path, folder: Path, captioner, split: str = "worlds", **more):
    return make_cues(_frames(root, split), folder, captioner=captioner, encoder=Letters(), **more)


def test_every_frame_gets_a_cue_of_its_own_pictures(world, tmp_path) -> None:
    summary = _make(world, tmp_path / "c", Says("A car is on the left.", "A truck is ahead on the right."))
    assert (summary.num_made, summary.num_present, dict(summary.faults)) == (9, 0, {})
    frames = CuedFrames(_frames(world), CueCache(tmp_path / "c"))
    cues = [frames[i].cue for i in range(9)]
    assert [cue.text for cue in cues[:2]] == ["A car is on the left.", "A truck is ahead on the right."]
    assert not frames.num_without and cues[0].source == summary.settings.source
    np.testing.assert_allclose(cues[0].embedding, Letters().encode([cues[0].text])[0], atol=1e-6)
    np.testing.assert_allclose(cues[0].mirrored_embedding, Letters().encode(["A car is on the right."])[0], atol=1e-6)


def test_pictures_of_another_size_are_the_same_pictures(world, tmp_path) -> None:
    _make(world, tmp_path / "c", Says("A car is ahead."))
    smaller = NuScenesFrames(root=world, split="worlds", image_size=ImageSize(64, 176), num_sweeps=1, cameras=())
    assert CuedFrames(smaller, CueCache(tmp_path / "c"))[4].cue.text == "A car is ahead."


def test_an_interrupted_call_goes_on_where_it_stopped(world, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _make(world, tmp_path / "c", Says("A car is ahead.", stops_after=4))
    again = Says("A car is ahead.")
    summary = _make(world, tmp_path / "c", again)
    assert (summary.num_present, summary.num_made, again.num_asked) == (4, 5, 5)
    _make(world, tmp_path / "whole", Says("A car is ahead."))
    for scene in CueCache(tmp_path / "c").scene_names:
        assert (tmp_path / "c" / f"{scene}.parquet").read_bytes() == (
            tmp_path / "whole" / f"{scene}.parquet"
        ).read_bytes()


def test_a_split_adds_its_scenes_to_what_is_there(world, tmp_path) -> None:
    _make(world, tmp_path / "c", Says("A car is ahead."), split=LEARNED)
    summary = _make(world, tmp_path / "c", Says("A car is ahead."))
    assert (summary.num_present, summary.num_made) == (6, 3)


def test_changed_pictures_and_damaged_files_are_described_again(world, tmp_path) -> None:
    root = tmp_path / "world"
    shutil.copytree(world, root)
    _make(root, tmp_path / "c", Says("A car is ahead."))
    frames = _frames(root)
    row = frames.index.key_data_row(int(frames.sample_rows[1]), "CAM_FRONT")
    other = frames.index.key_data_row(int(frames.sample_rows[8]), "CAM_FRONT")
    shutil.copy(root / frames.index.data_paths[other], root / frames.index.data_paths[row])
    stale = CuedFrames(_frames(root), CueCache(tmp_path / "c"))
    assert stale[1].cue is None and stale[0].cue is not None
    assert stale.num_without == {"the cue describes other pictures": 1}
    scene = tmp_path / "c" / f"{frames.scenes[2].name}.parquet"
    scene.write_bytes(b"nothing")
    summary = _make(root, tmp_path / "c", Says("A car is ahead."))
    assert (summary.num_made, summary.num_outdated, summary.num_present) == (4, 1, 5)


def test_answers_that_are_no_cue_are_named_and_counted(world, tmp_path) -> None:
    answers = ("", "A car is ahead. " * 200, "前方有一辆卡车和行人", "A car is ahead.", "?? ??")
    summary = _make(world, tmp_path / "c", Says(*answers))
    assert summary.faults == {"empty": 2, "too long": 2, "not English": 2, "senseless": 1}
    assert "empty" in summary.first_fault and _frames(world).token(0) in summary.first_fault
    frames = CuedFrames(_frames(world), CueCache(tmp_path / "c"))
    assert [frames[i].cue is not None for i in range(5)] == [False, False, False, True, False]
    assert frames.num_without == {f"answer {name}": 1 for name in ("empty", "too long", "not English", "senseless")}


def test_a_frame_without_its_pictures_gets_no_cue(world, tmp_path) -> None:
    root = tmp_path / "world"
    shutil.copytree(world, root)
    frames = _frames(root, missing="mask")
    (root / frames.index.data_paths[frames.index.key_data_row(int(frames.sample_rows[0]), "CAM_FRONT")]).unlink()
    captioner = Says("A car is ahead.")
    summary = make_cues(frames, tmp_path / "c", captioner=captioner, encoder=Letters())
    assert summary.faults == {"no picture": 1} and captioner.num_asked == 8


def test_the_oracle_describes_a_world_and_names_itself(world, tmp_path) -> None:
    summary = _make(world, tmp_path / "c", OracleDescriber(), split=HELD_OUT)
    assert summary.num_made == 3 and not summary.faults
    assert "oracle" in CuedFrames(_frames(world, HELD_OUT), CueCache(tmp_path / "c"))[0].cue.source


# -- refinement and leaks ---------------------------------------------------------------------------------------------
def test_training_text_is_refined_with_annotations_and_begins_with_the_route(world, tmp_path) -> None:
    facts = AnnotationFacts(LEARNED, _frames(world).index)
    summary = _make(world, tmp_path / "c", Says("It rains. An elephant bus of barriers."), split=LEARNED, facts=facts)
    assert summary.settings.refinement == "annotations"
    rows = CueCache(tmp_path / "c").rows(_frames(world).scenes[0].name)
    assert all(row.text.startswith("We ") and "It rains." in row.text for row in rows)
    assert rows[0].raw_text == "It rains. An elephant bus of barriers."


@pytest.mark.parametrize("split", ["worlds", HELD_OUT, "train_leak"])
def test_annotations_of_held_out_scenes_are_refused_whatever_the_split_is_called(world, split: str) -> None:
    with pytest.raises(ValueError, match="would carry the answers into the"):
        AnnotationFacts(split, _frames(world).index)


def test_training_cues_planted_in_a_held_out_split_are_refused(world, tmp_path) -> None:
    facts = AnnotationFacts(LEARNED, _frames(world).index)
    _make(world, tmp_path / "c", Says("It rains."), split=LEARNED, facts=facts)
    cache = CueCache(tmp_path / "c")
    CuedFrames(_frames(world, LEARNED), cache)
    for split in ("worlds", HELD_OUT, "train_leak"):
        with pytest.raises(ValueError, match="would carry the answers into the"):
            CuedFrames(_frames(world, split), cache)


class Finds:
    """In place of a session: finds what it is told, and sees frames without ground truth only."""

    def __init__(self, boxes) -> None:
        self.boxes = boxes

    def step(self, frame) -> SceneEstimate:
        found = Detections(
            boxes=self.boxes,
            scores=np.ones(len(self.boxes), np.float32),
            attribute_index=np.full(len(self.boxes), -1, np.int64),
        )
        return SceneEstimate(token=frame.token, timestamp_us=frame.timestamp_us, detections=found)


def test_held_out_text_is_refined_with_what_a_model_finds(world, tmp_path) -> None:
    from fixtures.scenes import scene_of

    ahead = scene_of([("pedestrian", 12.0, -1.0, np.pi / 2, 1.0)]).annotations.boxes
    facts = EstimateFacts(Finds(ahead), _frames(world, HELD_OUT, with_annotations=False))
    summary = _make(world, tmp_path / "c", Says("A bus is ahead. It rains."), split=HELD_OUT, facts=facts)
    assert (summary.settings.refinement, summary.num_dropped, summary.num_added) == ("estimates", 3, 3)
    cue = CuedFrames(_frames(world, HELD_OUT), CueCache(tmp_path / "c"))[0].cue
    assert "A pedestrian crosses 8 m ahead from the right. It rains." in cue.text


def test_a_text_of_which_nothing_is_left_is_no_cue(world, tmp_path) -> None:
    from bevstack.types.boxes import Boxes3D

    frames = _frames(world, HELD_OUT)
    frames.routes = type("NoRoutes", (), {"route": lambda *_: None})()
    facts = EstimateFacts(Finds(Boxes3D.empty()), frames)
    summary = make_cues(frames, tmp_path / "c", captioner=Says("A bus is ahead."), encoder=Letters(), facts=facts)
    assert summary.faults == {"nothing left": 3}


# -- command line -----------------------------------------------------------------------------------------------------
def test_the_command_makes_cues_takes_them_up_and_shows_them(world, capsys) -> None:
    arguments = [
        "make",
        str(world),
        "--split",
        HELD_OUT,
        "--captioner",
        "describer-oracle",
        "--quiet",
        "--device",
        "cpu",
    ]
    assert run_cues(arguments) == 0
    first = capsys.readouterr().out
    assert "upper bound" in first and "3 cues made, 0 were there" in first
    assert run_cues(arguments) == 0 and "0 cues made, 3 were there" in capsys.readouterr().out
    assert run_cues(["show", str(world), "--raw"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "describer-oracle" in lines[0] and len([line for line in lines if " s  " in line]) == 3


def test_the_command_refuses_a_leak_before_anything_is_loaded(world) -> None:
    with pytest.raises(ValueError, match="not for training"):
        run_cues(["make", str(world), "--split", HELD_OUT, "--refine", "annotations", "--quiet"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--refine", "estimates"], "belong together"),
        (["--checkpoint", "demo"], "belong together"),
        (["--cameras", "CAM_FRNT"], "did you mean CAM_FRONT"),
        (["--captioner", "blip"], "must be one of zero-shot"),
        (["--name", "../up"], "must be the name of a folder"),
        (["--width", "10"], "from 64 to 4096"),
    ],
)
def test_wrong_usage_says_what_would_be_right(world, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_cues(["make", str(world), "--split", HELD_OUT, "--quiet", *arguments])


def test_showing_what_is_not_there_says_how_to_make_it(tmp_path, world) -> None:
    with pytest.raises(ValueError, match="bevstack cues make"):
        run_cues(["show", str(tmp_path)])
    with pytest.raises(DatasetError, match="bevstack cues make"):
        run_cues(["show", str(world), "--name", "nothing"])


def test_unnamed_cues_are_called_after_captioner_and_refinement() -> None:
    assert cue_name("hf:Salesforce/blip2-opt-2.7b", "annotations") == "blip2-opt-2.7b-annotations"
    assert cue_name("zero-shot", "none") == "zero-shot" and cue_name("hf:/tmp/my model/", "none") == "my-model"
