"""Weights files carry everything needed to build the model again, and refuse what does not fit."""

from pathlib import Path

import pytest
import torch
from fixtures.training_runs import shrunk
from omegaconf import DictConfig

from bevstack import weights_file
from bevstack.build import build_model, load_model, save_weights
from bevstack.cli import weights as command
from bevstack.model import DrivingModel
from bevstack.training.transfer import load_matching
from bevstack.weights_file import describe, read_weights, write_weights


@pytest.fixture
def config(tmp_path: Path) -> DictConfig:
    return shrunk("lidar_small", tmp_path, "data.root=/somewhere/on/this/machine")


@pytest.fixture
def model(config: DictConfig) -> DrivingModel:
    return build_model(config)


def test_a_saved_model_comes_back_with_its_configuration(
    model: DrivingModel, config: DictConfig, tmp_path: Path
) -> None:
    file = save_weights(tmp_path / "a.safetensors", model, config, step=7, data_hash="abc")
    loaded = load_model(file)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert loaded.config.model == config.model
    assert loaded.config.input == config.input
    assert (loaded.metadata["step"], loaded.metadata["data_hash"]) == ("7", "abc")


def test_a_weights_file_names_no_local_folder(model: DrivingModel, config: DictConfig, tmp_path: Path) -> None:
    file = save_weights(tmp_path / "a.safetensors", model, config)
    metadata = read_weights(file)[2]
    assert set(metadata) == set(weights_file.DESCRIPTION_KEYS)
    assert "/somewhere" not in str(metadata)
    assert str(tmp_path) not in str(metadata)


def test_half_precision_halves_the_file_and_keeps_three_digits(
    model: DrivingModel, config: DictConfig, tmp_path: Path
) -> None:
    full = save_weights(tmp_path / "full.safetensors", model, config)
    half = save_weights(tmp_path / "half.safetensors", model, config, half=True)
    assert half.stat().st_size < 0.55 * full.stat().st_size
    for name, tensor in load_model(half).model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=2e-3, atol=1e-4)


def test_missing_unexpected_and_reshaped_tensors_are_named(
    model: DrivingModel, config: DictConfig, tmp_path: Path
) -> None:
    file = save_weights(tmp_path / "a.safetensors", model, config)
    _, tensors, metadata = read_weights(file)
    first, second = list(tensors)[:2]
    changed = {name: tensor for name, tensor in tensors.items() if name != first}
    changed |= {"surplus": torch.zeros(1), second: torch.zeros(2, 3, 5)}
    write_weights(file, changed, metadata)
    with pytest.raises(ValueError, match=rf"missing {first}; unexpected surplus; {second} is \(2, 3, 5\) instead of"):
        load_model(file)


def test_damaged_and_foreign_files_are_refused_in_one_line(
    model: DrivingModel, config: DictConfig, tmp_path: Path
) -> None:
    file = save_weights(tmp_path / "a.safetensors", model, config)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:1000])
    checkpoint = tmp_path / "cut.ckpt"
    checkpoint.write_bytes(b"PK nonsense")
    foreign = write_weights(tmp_path / "foreign.safetensors", {"a": torch.zeros(1)}, {"made": "elsewhere"})
    for wrong, words in ((cut, "damaged"), (checkpoint, "damaged"), (foreign, "not written by bevstack")):
        with pytest.raises(ValueError, match=words) as caught:
            load_model(wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_model(tmp_path / "absent.safetensors")


def test_weights_that_are_not_finite_do_not_replace_good_ones(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    metadata = describe("", step=0, data_hash="")
    write_weights(file, {"a": torch.ones(1)}, metadata)
    for wrong, half in ((torch.tensor([float("nan")]), False), (torch.tensor([1e6]), True)):
        with pytest.raises(ValueError, match="a is not finite"):
            write_weights(file, {"a": wrong}, metadata, half=half)
    assert [found.name for found in tmp_path.iterdir()] == ["a.safetensors"]
    assert read_weights(file)[1]["a"].item() == 1.0


def test_weights_of_another_kind_of_model_are_no_start(model: DrivingModel, tmp_path: Path) -> None:
    file = write_weights(tmp_path / "a.safetensors", {"other": torch.ones(1)}, describe("", step=0, data_hash=""))
    with pytest.raises(ValueError, match="no tensor in common"):
        load_matching(model, file)


def test_the_command_packs_and_shows(
    model: DrivingModel, config: DictConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save_weights(tmp_path / "a.safetensors", model, config, step=7)
    packed = tmp_path / "packed.safetensors"
    assert command.run(["pack", str(file), str(packed), "--half"]) == 0
    assert command.run(["show", str(packed), "--config"]) == 0
    shown = capsys.readouterr().out
    assert "encoders.lidar" in shown and "float16" in shown and "PillarEncoder" in shown
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        command.run(["pack", str(file), str(tmp_path / "packed.pt")])
