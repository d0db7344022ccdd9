"""The cache of cues, and frames that carry them: fresh, stale, wrong, missing, of other pictures, and leaking."""

import dataclasses
import json
import logging
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.scenes import TIMESTAMP_US, empty_road
from hypothesis import given
from hypothesis import strategies as st

from bevstack.data.cue_cache import (
    CueCache,
    CueRow,
    CueSettings,
    claim_cache,
    cue_folder,
    find_cue_cache,
    read_scene,
    write_scene,
)
from bevstack.data.cued_frames import CuedFrames
from bevstack.data.picture_hash import picture_hash
from bevstack.data.training_splits import is_training_split
from bevstack.types.errors import DatasetError

SETTINGS = CueSettings(
    captioner="someone",
    prompt_version="driver-1",
    encoder="letters",
    refinement="none",
    cameras=("CAM_FRONT",),
    width=4,
)
SCENES, LENGTH = ("scene-0001", "scene-0002"), 8
STEP_US = 500_000


class Drives:
    """Two scenes of eight frames, half a second apart, each with pictures of its own."""

    split = "val"

    def __len__(self) -> int:
        return len(SCENES) * LENGTH

    def __getitem__(self, index: int):
        if not 0 <= index < len(self):
            raise IndexError(index)
        frame = empty_road()
        scene, step = divmod(index, LENGTH)
        cameras = tuple(dataclasses.replace(c, rgb=np.full_like(c.rgb, index)) for c in frame.cameras)
        return dataclasses.replace(
            frame,
            token=f"frame-{index}",
            scene_name=SCENES[scene],
            timestamp_us=TIMESTAMP_US + step * STEP_US,
            cameras=cameras,
        )


def _unit(number: int) -> np.ndarray:
    vector = np.random.default_rng(number).normal(size=4).astype(np.float32)
    return vector / np.linalg.norm(vector)


def _row(index: int, **changes) -> CueRow:
    frame = Drives()[index]
    row = CueRow(
        sample_token=frame.token,
        timestamp_us=frame.timestamp_us,
        picture_hash=picture_hash(Drives(), frame, SETTINGS.cameras),
        raw_text=f"raw {index}",
        text=f"text {index}",
        fault="",
        embedding=_unit(index),
        mirrored_embedding=_unit(100 + index),
    )
    return dataclasses.replace(row, **changes)


def _fault(index: int) -> CueRow:
    return _row(index, text="", fault="empty", embedding=None, mirrored_embedding=None)


def _written(folder, settings=SETTINGS, changed=()) -> CueCache:
    """A cache of both scenes; `changed` rows take the place of those of their frames."""
    claim_cache(folder, settings)
    by_token = {row.sample_token: row for row in changed}
    for number, scene in enumerate(SCENES):
        rows = [_row(number * LENGTH + step) for step in range(LENGTH)]
        write_scene(folder / f"{scene}.parquet", [by_token.get(r.sample_token, r) for r in rows], settings)
    return CueCache(folder)


# -- files ------------------------------------------------------------------------------------------------------------
def test_what_is_written_is_read_again(tmp_path) -> None:
    cache = _written(tmp_path / "c", changed=[_fault(3)])
    assert cache.settings == SETTINGS and cache.scene_names == SCENES
    rows = cache.rows("scene-0001")
    assert [row.sample_token for row in rows] == [f"frame-{i}" for i in range(LENGTH)]
    np.testing.assert_array_equal(rows[2].embedding, _unit(2))
    np.testing.assert_array_equal(rows[2].mirrored_embedding, _unit(102))
    assert rows[3].embedding is None and rows[3].fault == "empty"
    assert dataclasses.replace(rows[2], embedding=None, mirrored_embedding=None) == _row(
        2, embedding=None, mirrored_embedding=None
    )
    assert not list((tmp_path / "c").glob("*.tmp-*"))


def test_the_file_says_of_every_sample_how_its_cue_was_made(tmp_path) -> None:
    _written(tmp_path / "c")
    table = pq.read_table(tmp_path / "c" / "scene-0001.parquet")
    for name in ("captioner", "prompt_version", "encoder", "refinement"):
        assert set(table.column(name).to_pylist()) == {getattr(SETTINGS, name)}


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_comes_back_unchanged(tmp_path_factory, raw: str, text: str) -> None:
    clean = [part.encode("utf-8", "ignore").decode() for part in (raw, text)]
    path = tmp_path_factory.mktemp("text") / "s.parquet"
    write_scene(path, [_row(0, raw_text=clean[0], text=clean[1])], SETTINGS)
    (row,) = read_scene(path, SETTINGS)
    assert [row.raw_text, row.text] == clean


def test_a_scene_without_rows_is_a_scene_without_cues(tmp_path) -> None:
    write_scene(tmp_path / "s.parquet", [], SETTINGS)
    assert read_scene(tmp_path / "s.parquet", SETTINGS) == ()


def test_a_folder_keeps_to_the_settings_that_it_was_claimed_with(tmp_path) -> None:
    claim_cache(tmp_path / "c", SETTINGS)
    claim_cache(tmp_path / "c", SETTINGS)
    with pytest.raises(DatasetError, match=r"made otherwise \(encoder: letters\).*--name"):
        claim_cache(tmp_path / "c", dataclasses.replace(SETTINGS, encoder="words"))


def test_rows_made_otherwise_than_the_cache_says_are_refused(tmp_path) -> None:
    write_scene(tmp_path / "s.parquet", [_row(0)], dataclasses.replace(SETTINGS, refinement="annotations"))
    with pytest.raises(DatasetError, match="refinement annotations, the cache is of none"):
        read_scene(tmp_path / "s.parquet", SETTINGS)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 9}', '{"schema": 1, "cameras": []}'])
def test_a_damaged_or_foreign_note_is_refused(tmp_path, content: str) -> None:
    (tmp_path / "cues.json").write_text(content)
    with pytest.raises(DatasetError, match="again"):
        CueCache(tmp_path)


@pytest.mark.parametrize("name", ["", "..", ".x", "a/b", "a\\b"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be the name of a folder"):
        cue_folder("root", name)


# -- frames -----------------------------------------------------------------------------------------------------------
def test_every_frame_carries_its_own_cue(tmp_path) -> None:
    frames = CuedFrames(Drives(), _written(tmp_path / "c"))
    assert len(frames) == 16
    for index in range(len(frames)):
        cue = frames[index].cue
        assert cue.text == f"text {index}" and cue.frame_token == frames[index].token
        assert cue.timestamp_us == frames[index].timestamp_us
        np.testing.assert_array_equal(cue.embedding, _unit(index))
    assert "someone" in cue.source and "driver-1" in cue.source and "letters" in cue.source
    assert not frames.num_without


@pytest.mark.parametrize(("age_s", "steps"), [(0.5, 1), (2.0, 4), (0.6, 1)])
def test_a_stale_cue_is_that_of_the_frame_so_long_before(tmp_path, age_s: float, steps: int) -> None:
    frames = CuedFrames(Drives(), _written(tmp_path / "c"), age_s=age_s)
    for index in (*range(LENGTH), LENGTH, LENGTH + 7):
        cue, step = frames[index].cue, index % LENGTH
        if step < steps:
            assert cue is None  # never of the scene before
        else:
            assert cue.text == f"text {index - steps}"
            assert frames[index].timestamp_us - cue.timestamp_us == steps * STEP_US
    assert frames.num_without == {"nothing so old in its scene": steps + 1}


def test_a_cue_older_than_the_scene_is_no_cue(tmp_path) -> None:
    frames = CuedFrames(Drives(), _written(tmp_path / "c"), age_s=10.0)
    assert all(frames[index].cue is None for index in range(16))


def test_a_wrong_cue_is_of_another_scene_and_the_same_every_time(tmp_path) -> None:
    cache = _written(tmp_path / "c")
    first, again, other = (CuedFrames(Drives(), cache, wrong_seed=seed) for seed in (1, 1, 2))
    texts = [[frames[i].cue.text for i in range(16)] for frames in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]
    for index, text in enumerate(texts[0]):
        assert int(text.split()[1]) // LENGTH != index // LENGTH
    assert "wrong on purpose" in first[0].cue.source and first[0].cue.timestamp_us == first[0].timestamp_us


def test_a_wrong_cue_needs_another_scene(tmp_path) -> None:
    cache = _written(tmp_path / "c")
    (tmp_path / "c" / "scene-0002.parquet").unlink()
    frames = CuedFrames(Drives(), cache, wrong_seed=1)
    assert frames[0].cue is None and frames.num_without == {"no other scene has a cue": 1}


def test_without_a_cache_the_frames_go_on_and_it_is_said_once(tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        cache = find_cue_cache(tmp_path, "nothing")
        frames = CuedFrames(Drives(), cache)
        assert cache is None and all(frames[i].cue is None for i in range(4))
    assert frames.num_without == {"there is no cache": 4}
    assert sum("goes on without a cue" in message for message in caplog.messages) == 1
    assert any("bevstack cues make" in message for message in caplog.messages)


def test_a_cue_of_other_pictures_is_counted_and_left_out(tmp_path, caplog) -> None:
    frames = CuedFrames(Drives(), _written(tmp_path / "c", changed=[_row(2, picture_hash="0" * 64)]))
    with caplog.at_level(logging.WARNING):
        assert [frames[i].cue is None for i in (1, 2, 2, 3)] == [False, True, True, False]
    assert frames.num_without == {"the cue describes other pictures": 2}
    assert [m for m in caplog.messages if "frame-2" in m and "other pictures" in m]


def test_a_cue_of_another_time_or_token_is_not_taken(tmp_path) -> None:
    moved = _row(1, timestamp_us=TIMESTAMP_US + 1)
    renamed = _row(4, sample_token="frame-99")
    cache = _written(tmp_path / "c")
    rows = [moved, renamed, *(_row(i) for i in (0, 2, 3))]
    write_scene(tmp_path / "c" / "scene-0001.parquet", rows, SETTINGS)
    frames = CuedFrames(Drives(), cache)
    assert [frames[i].cue is None for i in range(5)] == [False, True, False, False, True]
    assert frames.num_without == {"not in the cache": 2}


def test_an_answer_that_was_no_cue_is_counted_by_its_fault(tmp_path) -> None:
    frames = CuedFrames(Drives(), _written(tmp_path / "c", changed=[_fault(0)]))
    assert frames[0].cue is None and frames.num_without == {"answer empty": 1}


def test_a_damaged_scene_is_named_and_its_frames_go_on_without(tmp_path, caplog) -> None:
    cache = _written(tmp_path / "c")
    path = tmp_path / "c" / "scene-0001.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    frames = CuedFrames(Drives(), cache)
    with caplog.at_level(logging.WARNING):
        assert frames[0].cue is None and frames[LENGTH].cue is not None
    assert any("scene-0001.parquet is damaged" in message for message in caplog.messages)


def test_embeddings_of_another_width_or_length_are_damage(tmp_path) -> None:
    for wrong in (_unit(0)[:3] / np.linalg.norm(_unit(0)[:3]), 2 * _unit(0), np.full(4, np.nan, np.float32)):
        write_scene(tmp_path / "s.parquet", [_row(0, embedding=wrong, mirrored_embedding=None)], SETTINGS)
        with pytest.raises(DatasetError, match="has not 4 numbers, or not the length 1"):
            read_scene(tmp_path / "s.parquet", SETTINGS)


def test_all_else_of_the_source_is_reached_and_a_copy_for_a_worker_works(tmp_path) -> None:
    frames = CuedFrames(Drives(), _written(tmp_path / "c"))
    assert frames.split == "val" and not hasattr(frames, "nothing_like_this")
    assert pickle.loads(pickle.dumps(frames))[3].cue.text == "text 3"
    without_truth = frames.inputs(3)
    assert without_truth.annotations is None and without_truth.cue.text == "text 3"


@pytest.mark.parametrize("age_s", [-0.5, np.nan, np.inf])
def test_an_impossible_age_is_refused(tmp_path, age_s: float) -> None:
    with pytest.raises(ValueError, match="must be 0"):
        CuedFrames(Drives(), None, age_s=age_s)


# -- leaks ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("split", ["val", "test", "worlds", None])
def test_cues_refined_with_annotations_are_refused_outside_of_training(tmp_path, split: str | None) -> None:
    cache = _written(tmp_path / "c", dataclasses.replace(SETTINGS, refinement="annotations"))
    source = Drives()
    source.split = split
    with pytest.raises(ValueError, match="not for training"):
        CuedFrames(source, cache)
    source.split = "train"
    assert CuedFrames(source, cache)[0].cue is not None


def test_a_note_that_was_changed_by_hand_does_not_hide_the_annotations(tmp_path, caplog) -> None:
    _written(tmp_path / "c", dataclasses.replace(SETTINGS, refinement="annotations"))
    note = tmp_path / "c" / "cues.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "refinement": "none"}))
    frames = CuedFrames(Drives(), CueCache(tmp_path / "c"))
    with caplog.at_level(logging.WARNING):
        assert all(frames[i].cue is None for i in range(16))
    assert any("refinement annotations" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("split", "is_training"),
    [
        ("train", True), ("mini_train", True), ("train_detect", True), ("train_track", True), ("train-mine", True),
        ("val", False), ("mini_val", False), ("test", False), ("worlds", False), ("trainval", False),
        ("train_val", False), ("held_out", False), ("training", False), ("my_train", False),
    ],
)  # fmt: skip
def test_a_split_is_for_training_by_its_name(split: str, is_training: bool) -> None:
    assert is_training_split(split) == is_training
