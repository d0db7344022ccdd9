"""What a user who mistypes sees: one line with the nearest valid keys."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bevstack.build import build_frames, build_model, compose, instantiate, override_keys, portable_yaml
from bevstack.planning.vocabulary import kinematic_vocabulary, write_vocabulary
from bevstack.training.fit import flat_weights

FUSION = "experiment=fusion_small"


def _message(*overrides: str) -> str:
    with pytest.raises(ValueError) as caught:
        compose(overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_mistyped_experiment_gets_the_nearest() -> None:
    assert "did you mean fusion_small" in _message("experiment=fusion_smal")


def test_a_mistyped_key_gets_the_nearest() -> None:
    assert "trainer.max_epochs" in _message(FUSION, "trainer.max_epoch=3")


def test_a_key_without_its_section_is_found() -> None:
    assert "did you mean trainer.max_steps" in _message(FUSION, "max_steps=3")


def test_the_wrong_one_of_several_overrides_is_named() -> None:
    message = _message(FUSION, "seed=3", "grid.cell=0.4", "trainer.max_steps=3")
    assert "'grid.cell'" in message
    assert "grid.cell_m" in message


def test_without_an_experiment_all_are_listed() -> None:
    message = _message()
    assert "lidar_small" in message and "fusion_nuscenes" in message


def test_a_mistyped_experiment_key_is_pointed_at() -> None:
    assert "'experimnt' is no key" in _message("experimnt=fusion_small")


def test_a_mistyped_option_of_a_group_lists_the_options() -> None:
    assert "worlds" in _message(FUSION, "data=world")


def test_what_is_no_assignment_is_shown_an_example() -> None:
    assert "trainer.max_epochs=10" in _message("fusion_small")


def test_a_refused_value_is_named_with_its_full_key() -> None:
    with pytest.raises(ValueError, match=r"model\.encoders\.camera\.lift\.grid.*0\.7 m cells"):
        build_model(compose([FUSION, "grid.cell_m=0.7"]))


def test_an_unknown_argument_is_named_with_its_full_key() -> None:
    with pytest.raises(ValueError, match=r"model\.encoders\.lidar.*depth_bin"):
        build_model(compose([FUSION, "+model.encoders.lidar.depth_bin=3"]))


def test_a_missing_root_says_how_to_give_it() -> None:
    with pytest.raises(ValueError, match=r"data\.root=FOLDER"):
        build_frames(compose([FUSION]), "train")


def test_a_part_that_is_null_is_left_out() -> None:
    model = build_model(compose([FUSION, "model.encoders.camera=null"]))
    assert list(model.encoders) == ["lidar"]


def test_lists_become_tuples_that_nobody_can_change() -> None:
    assert instantiate(compose([FUSION]), "grid").x_range_m == (-51.2, 51.2)
    assert instantiate(OmegaConf.create({"a": {"b": [1, [2]]}}), "a") == {"b": (1, (2,))}


def test_stored_configurations_refuse_unknown_keys() -> None:
    stored = compose([FUSION])
    assert override_keys(stored, ["trainer.max_steps=7"]).trainer.max_steps == 7
    with pytest.raises(ValueError, match="trainer.max_steps"):
        override_keys(stored, ["trainer.max_step=7"])


def test_loss_weights_are_named_by_their_path_and_what_is_null_is_left_out() -> None:
    weights = {"m3net": {"detection": {"heatmap": 6, "class": 2.0}, "map": None}, "extra": {"term": 1, "off": None}}
    assert flat_weights(OmegaConf.create(weights)) == {
        "m3net/detection/heatmap": 6.0,
        "m3net/detection/class": 2.0,
        "extra/term": 1.0,
    }


def test_the_configuration_in_a_weights_file_names_no_file_of_the_machine_that_trained(tmp_path: Path) -> None:
    file = tmp_path / "driven.npz"
    write_vocabulary(file, kinematic_vocabulary(8))
    words = ["data.root=/a", "data.val_root=/b", "model.behaviour.planning.vocabulary.size=8"]
    config = compose(
        ["experiment=planning_small", *words, f"model.behaviour.planning.vocabulary.weights={file}", "run_root=/c"]
    )
    text = portable_yaml(config)
    assert not [name for name in (str(file), "/a", "/b", "/c", "init_from") if name in text]
    assert OmegaConf.create(text).model.behaviour.planning.vocabulary.weights is None
    assert OmegaConf.create(text).model.encoders.camera.backbone.weights == "imagenet"  # a name means the same anywhere
