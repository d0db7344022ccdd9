import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures.nuscenes_tiny import SCENE, SPLIT, VERSION, Tables, token, write_tiny

from bevstack.data import index as index_module
from bevstack.data.index import find_version, index_folder, open_index
from bevstack.data.index_build import central_difference, predefined_splits
from bevstack.data.tables import StringColumn, TokenLookup, pack_strings, stream_records, token_keys
from bevstack.types.errors import CalibrationError, DatasetError


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny")


def build_count(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    built: list[Path] = []
    real = index_module.build_index
    monkeypatch.setattr(
        index_module, "build_index", lambda root, version, out, **k: (built.append(out), real(root, version, out, **k))
    )
    return built


# -- tables -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk_bytes", [7, 64, 1000, 1 << 20])
def test_records_are_the_same_whatever_the_size_of_a_piece(tmp_path: Path, chunk_bytes: int) -> None:
    records = [
        {"token": f"{i:x}", "text": 'a "},{" b', "list": [[1, 2], [3, i]], "inner": [{"x": 1}, {"y": 2}]}
        for i in range(40)
    ]
    for indent in (None, 0, 2):
        path = tmp_path / f"table{indent}.json"
        path.write_text(json.dumps(records, indent=indent))
        assert [r for part in stream_records(path, chunk_bytes=chunk_bytes) for r in part] == records


@pytest.mark.parametrize("text", ["", "{}", '[{"token": "a"}', '[{"token": "a"}, {"tok', "[1, 2]", "no table"])
def test_a_table_that_is_cut_short_or_no_table_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sample.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match="sample.json"):
        list(stream_records(path))


def test_nan_written_by_python_reaches_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "ego_pose.json"
    path.write_text(json.dumps([{"token": "a", "translation": [float("nan"), 0.0, 0.0]}]))
    [[record]] = stream_records(path)
    assert np.isnan(record["translation"][0])


def test_tokens_of_any_form_are_found_again() -> None:
    tokens = [token(str(i)) for i in range(50)] + ["scene-9000-5", "ABCDEF0123456789ABCDEF0123456789", "ä", "1"]
    lookup = TokenLookup(token_keys(tokens))
    assert lookup.rows(token_keys(tokens)).tolist() == list(range(len(tokens)))
    assert lookup.rows(token_keys(["", "absent", token("x")])).tolist() == [-1, -1, -1]


def test_keys_that_share_their_first_half_are_told_apart() -> None:
    tokens = ["0123456789abcdef" + f"{i:016x}" for i in (7, 3, 9, 1)]
    lookup = TokenLookup(token_keys(tokens))
    assert lookup.rows(token_keys(tokens + ["0123456789abcdef" + f"{5:016x}"])).tolist() == [0, 1, 2, 3, -1]


def test_strings_survive_packing() -> None:
    texts = ["samples/a.jpg", "", "später", "x" * 300]
    column = StringColumn(*pack_strings(texts))
    assert [column[i] for i in range(len(column))] == texts


# -- content ----------------------------------------------------------------------------------------------------------
def test_samples_are_in_time_order_with_their_tokens(tmp_path: Path) -> None:
    root = write_tiny(tmp_path, edit=lambda tables: tables["sample"].reverse())
    index = open_index(root)
    assert [index.sample_tokens[i] for i in range(2)] == [token("sample0"), token("sample1")]
    assert index.scenes[0].name == SCENE and index.scenes[0].location == "boston-seaport"
    assert index.sample_row(token("sample1")) == 1


def test_sweeps_run_backwards_from_the_key_frame(tiny: Path) -> None:
    index = open_index(tiny)
    paths = [index.data_paths[row] for row in index.sweep_rows(1, 10)]
    assert paths == ["samples/LIDAR_TOP/10.pcd.bin"] + [f"sweeps/LIDAR_TOP/{i}.pcd.bin" for i in range(9, 0, -1)]
    assert len(index.sweep_rows(0, 10)) == 1


def test_tokens_that_are_not_hexadecimal_work_too(tmp_path: Path) -> None:
    index = open_index(write_tiny(tmp_path, rename=lambda old: f"t-{old[:6]}"))
    assert index.sample_tokens[1] == f"t-{token('sample1')[:6]}"
    assert index.annotation_tokens[0] == f"t-{token('car0')[:6]}"
    assert len(index.sweep_rows(1, 10)) == 10


def test_a_data_set_without_annotations_opens(tmp_path: Path) -> None:
    def edit(tables: Tables) -> None:
        for name in ("instance", "sample_annotation", "visibility", "attribute"):
            del tables[name]

    index = open_index(write_tiny(tmp_path, edit=edit))
    assert index.num_annotations == 0 and list(index.annotation_rows(1)) == []


def test_velocity_is_nan_across_a_gap_and_for_a_single_annotation() -> None:
    translation = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    previous, following = np.array([-1, 0, 1, -1]), np.array([1, 2, -1, -1])
    velocity = central_difference(translation, np.array([0.0, 0.5, 3.5, 4.0]), previous, following)
    assert velocity[0].tolist() == [2.0, 0.0, 0.0]
    assert np.isnan(velocity[1]).all(), "3.5 s is more than twice 1.5 s"
    assert np.isnan(velocity[2]).all(), "3 s is more than 1.5 s"
    assert np.isnan(velocity[3]).all()


def test_a_damaged_link_between_two_sensors_ends_the_chain(tmp_path: Path) -> None:
    def edit(tables: Tables) -> None:
        lidar = [record for record in tables["sample_data"] if "LIDAR" in record["filename"]]
        lidar[8]["prev"] = tables["sample_data"][0]["token"]

    assert len(open_index(write_tiny(tmp_path, edit=edit)).sweep_rows(1, 10)) == 3


def test_a_reference_to_nowhere_is_named(tmp_path: Path) -> None:
    root = write_tiny(tmp_path, edit=lambda tables: tables["sample_data"][3].update(ego_pose_token="f" * 32))
    with pytest.raises(DatasetError, match=r"ego_pose_token f+, which does not exist"):
        open_index(root)


# -- transforms -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("ego_pose", "translation", [float("nan"), 0.0, 0.0]),
        ("ego_pose", "rotation", [2.0, 0.0, 0.0, 0.0]),
        ("ego_pose", "rotation", [None, 0.0, 0.0, 0.0]),
        ("calibrated_sensor", "rotation", [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_a_transform_that_is_not_rigid_is_named_when_it_is_used(
    tmp_path: Path, table: str, field: str, value: list
) -> None:
    index = open_index(write_tiny(tmp_path, edit=lambda tables: tables[table][0].update({field: value})))
    row = index.key_data_row(0, "CAM_FRONT")
    with pytest.raises(CalibrationError, match=rf"{index.data_tokens[row]}.*{table}.json"):
        (index.T_global_ego if table == "ego_pose" else index.T_ego_sensor)([row])


def test_a_camera_matrix_with_zero_focal_length_is_refused(tmp_path: Path) -> None:
    def edit(tables: Tables) -> None:
        tables["calibrated_sensor"][0]["camera_intrinsic"] = [[0, 0, 1], [0, 1, 1], [0, 0, 1]]

    index = open_index(write_tiny(tmp_path, edit=edit))
    with pytest.raises(CalibrationError, match="not a camera matrix"):
        index.K_sensor(index.key_data_row(0, "CAM_FRONT"))


# -- opening ----------------------------------------------------------------------------------------------------------
def test_the_second_opening_builds_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build_count(monkeypatch)
    first, second = open_index(tiny), open_index(tiny)
    assert len(built) == 1 and first.data_hash == second.data_hash


def test_a_changed_table_is_read_again(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_index(tiny)
    built = build_count(monkeypatch)
    path = tiny / VERSION / "scene.json"
    path.write_text(path.read_text().replace("One car ahead", "Two cars ahead"))
    assert "Two cars" in open_index(tiny).scenes[0].description
    assert len(built) == 1


def test_a_touched_table_with_the_same_content_is_not_read_again(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_index(tiny)
    built = build_count(monkeypatch)
    os.utime(tiny / VERSION / "scene.json", (1, 1))
    open_index(tiny)
    assert not built


def test_an_index_without_manifest_is_built_again(tiny: Path) -> None:
    path = open_index(tiny).path
    (path / "manifest.json").unlink()
    assert open_index(tiny).num_samples == 2


def test_a_build_that_fails_leaves_the_old_index_and_no_scratch(tiny: Path) -> None:
    path = open_index(tiny).path
    table = tiny / VERSION / "sample_annotation.json"
    complete = table.read_text()
    table.write_text(complete[: len(complete) // 2])
    with pytest.raises(DatasetError, match="not a complete JSON table"):
        open_index(tiny)
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]
    table.write_text(complete)
    assert open_index(tiny).num_annotations == 4


def test_a_full_disk_is_named_and_leaves_nothing_behind(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(path: Path, column: np.ndarray) -> None:
        raise OSError(f"{column.size} requested and 0 written")

    monkeypatch.setattr("bevstack.data.index_build.np.save", save)
    with pytest.raises(DatasetError, match="the disk is full"):
        open_index(tiny)
    assert [path.suffix for path in (tiny / ".bevstack").iterdir()] == [".lock"]


def test_an_interrupt_leaves_nothing_behind(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bevstack.data.index_build.central_difference", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_index(tiny)
    assert [path.suffix for path in (tiny / ".bevstack").iterdir()] == [".lock"]


def test_processes_that_start_together_build_once(tiny: Path) -> None:
    script = (
        "import sys, logging; logging.basicConfig(level='INFO')\n"
        "from bevstack.data.index import open_index\n"
        "print(open_index(sys.argv[1]).num_samples)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tiny)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    results = [process.communicate() for process in started]
    assert [out.strip() for out, _ in results] == ["2", "2"]
    assert sum("building the index" in log for _, log in results) == 1


def test_leftovers_of_a_killed_build_are_swept_away(tiny: Path) -> None:
    folder = index_folder(tiny, VERSION)
    leftover = folder.parent / f"{folder.name}.tmp-new"
    leftover.mkdir(parents=True)
    (leftover / "half.npy").write_text("half")
    open_index(tiny)
    assert not leftover.exists()


def test_a_root_that_cannot_be_written_is_indexed_in_the_cache(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index_module.os, "access", lambda path, mode: False)
    index = open_index(tiny)
    assert index.path.is_relative_to(tmp_path / "cache") and not (tiny / ".bevstack").exists()


def test_a_pickled_index_carries_no_data(tiny: Path) -> None:
    index = open_index(tiny)
    packed = pickle.dumps(index)
    assert len(packed) < 1000
    assert pickle.loads(packed).sample_tokens[0] == index.sample_tokens[0]


# -- versions and splits ----------------------------------------------------------------------------------------------
def test_the_only_version_is_found_and_a_mistyped_one_corrected(tiny: Path, tmp_path: Path) -> None:
    assert find_version(tiny) == VERSION
    with pytest.raises(DatasetError, match=r"no version 'v1.0-tyni' \(did you mean v1.0-tiny\?\)"):
        find_version(tiny, "v1.0-tyni")
    with pytest.raises(DatasetError, match="give its parent"):
        find_version(tiny / VERSION)
    with pytest.raises(DatasetError, match="is not a nuScenes data set"):
        find_version(tmp_path / "tiny" / "samples")
    with pytest.raises(DatasetError, match="does not exist"):
        find_version(tmp_path / "nowhere")


def test_two_versions_must_be_told_apart(tiny: Path) -> None:
    (tiny / "v1.0-other").mkdir()
    (tiny / "v1.0-other" / "sample.json").write_text("[]")
    with pytest.raises(DatasetError, match="several versions, choose one: v1.0-other, v1.0-tiny"):
        find_version(tiny)


def test_a_missing_table_names_the_archive(tiny: Path) -> None:
    (tiny / VERSION / "ego_pose.json").unlink()
    with pytest.raises(DatasetError, match=r"lacks ego_pose.json; unpack .*v1.0-trainval_meta.tgz"):
        open_index(tiny)


def test_a_mistyped_split_gets_the_nearest_name(tiny: Path) -> None:
    index = open_index(tiny)
    assert index.samples_of_split(SPLIT).tolist() == [0, 1]
    with pytest.raises(DatasetError, match=r"no split 'tinny'.*did you mean tiny\?"):
        index.samples_of_split("tinny")


def test_a_split_that_names_an_unknown_scene_is_refused(tiny: Path) -> None:
    (tiny / VERSION / "splits.json").write_text(json.dumps({"own": ["scene-9002"]}))
    with pytest.raises(DatasetError, match=r"names scene-9002 \(did you mean scene-9001\?\)"):
        open_index(tiny).samples_of_split("own")


def test_splits_json_is_read_at_each_opening(tiny: Path) -> None:
    open_index(tiny)
    (tiny / VERSION / "splits.json").write_text(json.dumps({"late": [SCENE]}))
    assert set(open_index(tiny).splits()) == {"late"}


def test_official_splits_keep_the_scenes_that_are_present() -> None:
    splits = predefined_splits(["scene-0103", "scene-0061", "scene-9001"])
    assert splits["mini_val"] == ["scene-0103"] and splits["mini_train"] == ["scene-0061"]
    assert "test" not in splits and predefined_splits(["scene-9001"]) == {}
