"""Captioners: models of the hub from a folder, the offline one, and the describer that knows the truth."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from fixtures.scenes import empty_road, one_car_ahead, pedestrian_left, scene_of
from fixtures.tiny_language_models import tiny_blip2, tiny_qwen2_vl, tiny_smolvlm
from PIL import Image

from bevstack.perception.language import efficientnet_lite, hub
from bevstack.perception.language.captioner import Captioner
from bevstack.perception.language.captioners import captioner_of
from bevstack.perception.language.describer import ORACLE_NAME, OracleDescriber
from bevstack.perception.language.hugging_face import HuggingFaceCaptioner
from bevstack.perception.language.imagenet_names import imagenet_names
from bevstack.perception.language.zero_shot import STATEMENTS, ZeroShotCaptioner
from bevstack.types.errors import DatasetError


@pytest.fixture(scope="module")
def zero_shot() -> ZeroShotCaptioner:
    return ZeroShotCaptioner()


# -- models of the hub ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=[tiny_blip2, tiny_qwen2_vl, tiny_smolvlm])
def saved_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    torch.manual_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield str(request.param(tmp_path_factory.mktemp(request.param.__name__)))


def test_a_model_is_loaded_from_its_folder_and_answers_every_question(saved_model: str, monkeypatch) -> None:
    captioner = HuggingFaceCaptioner(model=saved_model, max_new_tokens=4)
    asked = []
    real = captioner._ask
    monkeypatch.setattr(captioner, "_ask", lambda image, question: asked.append(question) or real(image, question))
    text = captioner.caption(one_car_ahead())
    assert isinstance(captioner, Captioner) and captioner.name == f"hf:{saved_model}"
    assert len(asked) == 3 and captioner.prompt_version == "driver-1"
    assert text == captioner.caption(one_car_ahead())  # greedy: the same picture gives the same text
    assert "Question" not in text or not text.startswith("Question")


def test_the_question_is_no_part_of_the_answer(saved_model: str) -> None:
    captioner = HuggingFaceCaptioner(model=saved_model, max_new_tokens=5)
    echoed = []

    def generate(**inputs):
        asked = inputs["input_ids"]
        word = captioner._processor.tokenizer.convert_tokens_to_ids("truck")
        echoed.append(torch.cat((asked, torch.full((1, 2), word)), dim=1))
        return echoed[-1]

    captioner._model.generate = generate
    assert captioner.caption(one_car_ahead()) == "truck truck."


def test_other_cameras_than_the_front_one_are_named_in_the_text(saved_model: str) -> None:
    captioner = HuggingFaceCaptioner(model=saved_model, cameras=("CAM_BACK_LEFT",), prompts="brief-1")
    captioner._ask = lambda image, question: "a truck"
    assert captioner.caption(one_car_ahead()) == "behind on the left: a truck."
    assert captioner.caption(dataclasses.replace(one_car_ahead(), cameras=())) == ""


def test_instructions_are_given_only_to_models_that_take_them(
    saved_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = HuggingFaceCaptioner(model=saved_model)
    monkeypatch.setattr(captioner, "ask", lambda images, text: captioner._prompt(text, len(images)))
    prompt = captioner._ask(Image.new("RGB", (8, 8)), "What is ahead?")
    assert ("windscreen" in prompt) == captioner.takes_instructions == ("blip2" not in saved_model)
    assert "What is ahead?" in prompt


def test_a_model_that_cannot_be_had_is_one_error_with_name_and_remedy(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetError, match=r"model nobody/nothing-at-all cannot be had .* download it"):
        HuggingFaceCaptioner(model="nobody/nothing-at-all")


def test_an_unreachable_hub_is_one_error_with_name_and_remedy() -> None:
    class Loader:
        @staticmethod
        def from_pretrained(model: str) -> None:
            raise ConnectionError("HTTPSConnectionPool: Max retries exceeded")

    with pytest.raises(DatasetError, match=r"model owner/name cannot be had .*Max retries.*give the folder"):
        hub.load_from_hub(Loader, "owner/name")


def test_a_folder_without_a_model_is_refused(tmp_path) -> None:
    with pytest.raises(DatasetError, match="cannot be had"):
        HuggingFaceCaptioner(model=str(tmp_path))


# -- offline ----------------------------------------------------------------------------------------------------------
def test_there_are_a_thousand_different_class_names_in_the_usual_order() -> None:
    names = imagenet_names()
    assert len(set(names)) == 1000
    assert (names[0], names[468], names[920], names[999]) == ("tench", "cab", "traffic light", "toilet tissue")


def test_the_classifier_treats_two_pictures_like_each_by_itself() -> None:
    network = efficientnet_lite.imagenet_classifier()
    pictures = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        both, single = network(pictures), torch.cat([network(pictures[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(both, single, rtol=1e-4, atol=1e-4)
    assert both.shape == (2, 1000)


def test_the_offline_captioner_says_only_what_is_in_its_list(zero_shot: ZeroShotCaptioner) -> None:
    text = zero_shot.caption(one_car_ahead())
    said = [sentence.partition(" there is ")[2] for sentence in text.rstrip(".").split(". ") if sentence]
    assert set(said) <= set(STATEMENTS)
    assert zero_shot.caption(dataclasses.replace(one_car_ahead(), cameras=())) == ""


def test_the_fit_of_a_statement_is_a_cosine_and_the_best_comes_first(zero_shot: ZeroShotCaptioner) -> None:
    (fits,) = zero_shot.fits(one_car_ahead().cameras[:1])
    cosines = [fit.cosine for fit in fits]
    assert cosines == sorted(cosines, reverse=True) and -1 <= cosines[-1] <= cosines[0] <= 1


@pytest.mark.nuscenes
def test_the_offline_captioner_sees_the_truck_of_the_real_frame(zero_shot: ZeroShotCaptioner, nuscenes_real) -> None:
    import cv2

    (file,) = (nuscenes_real / "frames" / "scene-0061" / "samples" / "CAM_FRONT").glob("*.jpg")
    rgb = np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
    front = dataclasses.replace(one_car_ahead().cameras[0], rgb=rgb)
    assert "a truck on the road" in zero_shot.caption(dataclasses.replace(one_car_ahead(), cameras=(front,)))


def test_an_absent_weights_package_names_the_extra(monkeypatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "WEIGHTS_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(DatasetError, match=r"offline captioner needs the package no-such.*bevstack\[cues\]"):
        efficientnet_lite.imagenet_classifier()


# -- the oracle -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("objects", "sentence"),
    [
        ([("pedestrian", 15.4, -3.0, np.pi / 2, 1.4)], "A pedestrian crosses 12 m ahead from the right."),
        ([("pedestrian", 15.4, 3.0, -np.pi / 2, 1.4)], "A pedestrian crosses 12 m ahead from the left."),
        ([("pedestrian", 15.4, 3.0, np.pi / 2, 1.4)], "A pedestrian walks 12 m ahead on the left."),
        ([("pedestrian", 15.4, -3.0, 0.0, 0.0)], "A pedestrian stands 12 m ahead on the right."),
        ([("car", 15.7, 0.0, 0.0, 5.0)], "A car drives 10 m ahead in our lane."),
        ([("car", 15.7, 0.0, 0.0, 2.0)], "A car drives 10 m ahead in our lane, slower than we do."),
        ([("car", 15.7, 0.0, 0.0, 0.0)], "A car stands still 10 m ahead in our lane."),
        ([("truck", 17.4, 3.5, np.pi, 6.0)], "A truck comes towards us 10 m ahead on the left."),
    ],
)
def test_the_describer_speaks_like_a_driver(objects: list, sentence: str) -> None:
    assert OracleDescriber().caption(scene_of(objects)).startswith(sentence)


def test_an_empty_road_is_said_to_be_clear() -> None:
    assert OracleDescriber().caption(empty_road()) == "Our lane ahead is clear."


def test_the_describer_says_nothing_of_what_no_camera_sees() -> None:
    frame = scene_of([("car", -20.0, 0.0, 0.0, 5.0)])
    assert "car" not in OracleDescriber().caption(frame)
    assert "car" in OracleDescriber(cameras=("CAM_BACK",)).caption(frame)
    hidden = dataclasses.replace(one_car_ahead().annotations, visibility=np.array([1]))
    assert "car" not in OracleDescriber().caption(dataclasses.replace(one_car_ahead(), annotations=hidden))


def test_many_objects_are_counted_and_the_most_pressing_comes_first() -> None:
    parked = [("car", 12.0 + 6 * i, -6.0, 0.0, 0.0) for i in range(3)]
    text = OracleDescriber().caption(scene_of([*parked, ("pedestrian", 20.0, 1.0, -np.pi / 2, 1.0)]))
    assert text.startswith("A pedestrian crosses")
    assert "Three cars are parked on the right, the nearest" in text
    assert OracleDescriber(max_sentences=1).caption(pedestrian_left()).count(".") == 1


def test_the_describer_needs_the_truth_and_says_so_in_its_name() -> None:
    assert "oracle" in OracleDescriber().name == ORACLE_NAME
    with pytest.raises(ValueError, match="has no annotations"):
        OracleDescriber().caption(dataclasses.replace(empty_road(), annotations=None))


# -- by name ----------------------------------------------------------------------------------------------------------
def test_captioners_are_found_by_name() -> None:
    assert isinstance(captioner_of("describer-oracle"), OracleDescriber)
    assert captioner_of("describer-oracle", cameras=("CAM_BACK",)).cameras == ("CAM_BACK",)
    with pytest.raises(ValueError, match="did you mean zero-shot"):
        captioner_of("zeroshot")
    with pytest.raises(ValueError, match="hf:OWNER/NAME"):
        captioner_of("hf:")
