from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bevstack.asking.believed import Belief, believe
from bevstack.asking.drivelm import DriveLmAnswerer
from bevstack.asking.language_model import LanguageModelAnswerer, cameras_for, context, open_language_model
from bevstack.asking.template import TemplateAnswerer
from bevstack.types.cue import Cue
from bevstack.types.errors import DatasetError
from bevstack.types.scene import Detections, SceneEstimate
from tests.fixtures.scenes import TIMESTAMP_US, scene_of

transformers = pytest.importorskip("transformers")


class Parrot:
    """Says what it is told to say, and remembers what it was asked."""

    name = "parrot"

    def __init__(self, says: str) -> None:
        self.says = says
        self.asked: list[tuple[int, str]] = []

    def ask(self, images: Sequence[Image.Image], text: str) -> str:
        self.asked.append((len(images), text))
        return self.says


def street() -> Belief:
    frame = scene_of([("car", 12.0, 0.0, 0.0, 5.0)])
    truth = frame.annotations
    assert truth is not None
    found = Detections(boxes=truth.boxes, scores=np.ones(1, np.float32), attribute_index=truth.attribute_index)
    return believe(SceneEstimate(token=frame.token, timestamp_us=0, detections=found), frame)


def test_the_model_is_told_what_was_perceived_and_the_measured_answer() -> None:
    chat = Parrot("There is one car.")
    answer = LanguageModelAnswerer(chat, TemplateAnswerer()).answer("How many cars are ahead?", street())
    assert (answer.text, answer.answerer, answer.oracle) == ("There is one car.", "parrot", False)
    ((count, text),) = chat.asked
    assert count == 1 and "car 0: 12.0 m ahead, moving at 5.0 m/s" in text and "own motion: 5.0 m/s" in text
    assert "measured answer: There is one car ahead." in text and "Question: How many cars are ahead?" in text
    assert answer.grounds[-1] == "pictures: CAM_FRONT"


def test_annotations_are_not_in_the_context() -> None:
    full = scene_of([("car", 12.0, 0.0, 0.0, 5.0)])
    nothing = SceneEstimate(token=full.token, timestamp_us=0, detections=Detections.empty())
    assert context(believe(nothing, full)) == context(believe(nothing, replace(full, annotations=None)))
    assert "no objects were perceived" in context(believe(nothing, full))


def test_the_cue_is_in_the_context() -> None:
    cue = Cue(
        text="a child runs", embedding=np.array([1.0], np.float32), mirrored_embedding=None, frame_token="frame-0",
        timestamp_us=TIMESTAMP_US, source="test",
    )  # fmt: skip
    assert "attention cue: a child runs" in context(replace(street(), cue=cue))


def test_an_empty_answer_is_replaced_by_the_template_and_counted() -> None:
    answerer = LanguageModelAnswerer(Parrot(""), TemplateAnswerer())
    answer = answerer.answer("How many cars are ahead?", street())
    assert (answer.text, answer.answerer, answerer.num_empty) == ("There is one car ahead.", "template", 1)
    assert "said nothing" in answer.grounds[-1]


def test_without_pictures_the_model_is_not_asked() -> None:
    chat = Parrot("anything")
    answer = LanguageModelAnswerer(chat, TemplateAnswerer()).answer("How many cars?", replace(street(), cameras=()))
    assert answer.answerer == "template" and not chat.asked


@pytest.mark.parametrize(
    ("question", "cameras"),
    [
        ("What is ahead?", ("CAM_FRONT",)),
        ("What is behind us on the left?", ("CAM_BACK", "CAM_BACK_LEFT")),
        ("Is there a truck on the right?", ("CAM_FRONT", "CAM_FRONT_RIGHT")),
        ("What is <c1,CAM_BACK_RIGHT,10.0,20.0>?", ("CAM_BACK_RIGHT",)),
    ],
)
def test_the_pictures_are_those_that_the_question_is_about(question: str, cameras: tuple[str, ...]) -> None:
    assert cameras_for(question, street()) == cameras


def _tiny(name: str) -> Callable[[Path], Path]:
    from fixtures import tiny_language_models

    found: Callable[[Path], Path] = getattr(tiny_language_models, name)
    return found


@pytest.mark.parametrize("name", ["tiny_smolvlm", "tiny_qwen2_vl", "tiny_blip2"])
def test_a_model_from_disk_answers_the_same_each_time(name: str, tmp_path: Path) -> None:
    answerer = open_language_model(str(_tiny(name)(tmp_path / name)), DriveLmAnswerer())
    question = "Is there a truck behind us on the left?"
    first, again = (answerer.answer(question, street()) for _ in range(2))
    assert first == again
    assert first.answerer in (f"hf:{tmp_path / name}", "template")  # of random weights, nothing may come


def test_a_model_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no-such-model"):
        open_language_model(str(tmp_path / "no-such-model"), TemplateAnswerer())
