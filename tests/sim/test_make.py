import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from fixtures.worlds import tiny_preset

from bevstack.cli import sim as command
from bevstack.sim import make
from bevstack.sim.make import make_worlds
from bevstack.sim.world.presets import PRESETS, SMOKE, WORLD_FORMAT_VERSION, preset_hash
from bevstack.types.errors import DatasetError

PRESET = dataclasses.replace(tiny_preset(), image_width_px=88, image_height_px=32, sweeps_per_keyframe=2)
MAKE = {"scenes": 2, "seed": 4, "preset": PRESET, "keyframes_per_scene": 1, "show_progress": False}


def content_hashes(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("make") / "world"
    make_worlds(root, **MAKE)
    return root


def test_two_workers_write_the_same_bytes_as_one(made, tmp_path):
    make_worlds(tmp_path / "other", workers=2, **MAKE)
    assert content_hashes(tmp_path / "other") == content_hashes(made)


def test_an_interrupted_call_leaves_no_data_set_and_the_next_one_takes_up_finished_scenes(made, tmp_path, monkeypatch):
    written = []

    def stops_at_the_second(partial, request, on_keyframe=lambda: None):
        if written:
            raise KeyboardInterrupt
        written.append(request.name)
        original(partial, request, on_keyframe)

    original = make.make_scene
    monkeypatch.setattr(make, "make_scene", stops_at_the_second)
    out = tmp_path / "world"
    with pytest.raises(KeyboardInterrupt):
        make_worlds(out, **MAKE)
    assert not out.exists()
    again = []
    monkeypatch.setattr(make, "make_scene", lambda p, r, c=lambda: None: (again.append(r.name), original(p, r, c)))
    make_worlds(out, **MAKE)
    assert again == ["scene-9001"]
    assert content_hashes(out) == content_hashes(made)
    assert not (tmp_path / "world.partial").exists()


def test_a_full_disk_is_one_error_and_leaves_good_data_alone(made, tmp_path, monkeypatch):
    def no_space(self, on_keyframe=lambda: None):
        raise OSError(28, "No space left on device")

    before = content_hashes(made)
    monkeypatch.setattr(make.SceneWriter, "write", no_space)
    with pytest.raises(OSError, match="No space left"):
        make_worlds(made, **(MAKE | {"seed": 5}), overwrite=True)
    assert content_hashes(made) == before


def test_a_folder_in_use_is_refused_and_foreign_folders_even_with_force(made, tmp_path):
    with pytest.raises(DatasetError, match="--force"):
        make_worlds(made, **MAKE)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="will not delete"):
        make_worlds(tmp_path, **MAKE, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_an_unfinished_data_set_of_other_arguments_is_refused(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(make, "make_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_worlds(tmp_path / "world", **MAKE)
    with pytest.raises(DatasetError, match="other arguments"):
        make_worlds(tmp_path / "world", **(MAKE | {"seed": 6}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("scenes", 0, "scenes must be 1 to 1000"), ("seed", -1, "seed"), ("keyframes_per_scene", 41, "keyframes"),
     ("workers", 0, "workers")],
)  # fmt: skip
def test_an_argument_out_of_range_is_refused_with_the_range(tmp_path, name, value, message):
    with pytest.raises(ValueError, match=message):
        make_worlds(tmp_path / "world", **(MAKE | {name: value}))


def test_the_world_file_says_how_the_data_were_made(made):
    record = json.loads((made / "world.json").read_text())
    assert record["preset_hash"] == preset_hash(PRESET)
    assert (record["seed"], record["scenes"], record["keyframes_per_scene"]) == (4, 2, 1)
    assert json.loads((made / "v1.0-world/splits.json").read_text()) == {"worlds": ["scene-9000", "scene-9001"]}


def test_the_presets_command_prints_names_and_hashes(capsys):
    assert command.run(["presets"]) == 0
    text = capsys.readouterr().out
    assert preset_hash(SMOKE) in text
    assert "standard" in text


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit) as stop:
        command.run(["--help"])
    assert stop.value.code == 0
    assert "bevstack sim make --scenes" in capsys.readouterr().out


def test_the_documentation_names_the_presets_by_their_present_hashes():
    text = (Path(__file__).parents[2] / "docs" / "worlds.md").read_text()
    assert f"World format version: **{WORLD_FORMAT_VERSION}**" in text
    for preset in PRESETS.values():
        assert f"| `{preset.name}` | `{preset_hash(preset)}` |" in text
