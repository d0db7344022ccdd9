"""The weights that come with the package: they load by name, say how they were made, and are small."""

import pytest

from bevstack.build import load_model
from bevstack.weights_file import SHIPPED, WEIGHTS_FOLDER, weights_path

EXPERIMENTS = {"demo": "drive_small", "detection": "fusion_small"}


def test_every_file_has_a_name_and_every_name_a_file() -> None:
    assert {file.stem for file in WEIGHTS_FOLDER.glob("*.safetensors")} == set(SHIPPED) == set(EXPERIMENTS)


def test_all_of_them_fit_twenty_megabytes() -> None:
    assert sum(weights_path(name).stat().st_size for name in SHIPPED) < 20e6


@pytest.mark.parametrize("name", SHIPPED)
def test_a_name_loads_the_model_of_its_experiment(name: str) -> None:
    loaded = load_model(name)
    assert loaded.config.name == EXPERIMENTS[name]
    assert int(loaded.metadata["step"]) > 0 and len(loaded.metadata["data_hash"]) == 16


def test_an_unknown_name_is_answered_with_those_that_exist() -> None:
    with pytest.raises(FileNotFoundError, match="demo, detection"):
        weights_path("dmeo")
