import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.asking.believed import Belief, believe, believe_annotations
from bevstack.asking.drivelm import DriveLmAnswerer, choose, options_of
from bevstack.asking.drivelm_frames import annotated_belief, frame_of, read_key_frames
from bevstack.asking.drivelm_run import answer_questions, read_question_file, score_answers, submission
from bevstack.asking.references import Reference, named, reference_to, references_in, thing_of
from bevstack.cli.main import main
from bevstack.data.images import ImageSize
from bevstack.evaluation.language.driving_qa_files import read_answers, read_questions
from bevstack.sim.sensors.rig import NUSCENES_CAMERAS
from bevstack.types.scene import Detections, SceneEstimate
from tests.fixtures.scenes import scene_of

STREET = [
    ("car", 12.0, 0.0, 0.0, 5.0),
    ("car", 20.0, -3.0, 0.0, 0.0),
    ("truck", -15.0, 1.0, 0.0, 4.0),
    ("truck", -25.0, 2.0, 0.0, 0.0),
    ("pedestrian", 9.0, 4.0, -np.pi / 2, 1.5),
]


def street() -> Belief:
    frame = scene_of(STREET)
    truth = frame.annotations
    assert truth is not None
    found = Detections(
        boxes=truth.boxes, scores=np.ones(len(STREET), np.float32), attribute_index=truth.attribute_index
    )
    return believe(SceneEstimate(token=frame.token, timestamp_us=0, detections=found), frame)


def written(name: str, belief: Belief) -> str:
    """The reference to the nearest thing of a class."""
    thing = next(thing for thing in belief.things if thing.name == name)
    return str(reference_to(thing, "c1"))


def said(question: str, belief: Belief | None = None) -> str:
    return DriveLmAnswerer().answer(question, belief or street()).text


def test_every_visible_thing_is_found_again_by_its_reference() -> None:
    belief = street()
    visible = named(belief.things)
    assert len(visible) >= 4
    for thing, reference in visible:
        (read,) = references_in(f"What about {reference}?")
        found = thing_of(read, belief)
        assert read == reference and found is not None and found.number == thing.number


@given(x=st.floats(6, 40), y=st.floats(-15, 15), yaw=st.floats(-3, 3))
def test_a_lone_object_survives_the_way_through_a_camera_and_back(x: float, y: float, yaw: float) -> None:
    belief = believe_annotations(scene_of([("car", x, y, yaw, 0.0)]))
    reference = reference_to(belief.things[0], "c1")
    if reference is not None:
        assert thing_of(references_in(str(reference))[0], belief) == belief.things[0]


def test_references_are_pixels_of_the_picture_on_disk() -> None:
    frame = scene_of([("car", 15.0, 0.0, 0.0, 0.0)])
    small = believe_annotations(frame)
    # The same pictures, had they been read at a quarter of their size and without their upper 64 rows.
    large = believe_annotations(frame, picture_size=ImageSize(512, 704))
    a, b = (reference_to(belief.things[0], "c1") for belief in (small, large))
    assert a is not None and b is not None and a.camera == b.camera == "CAM_FRONT"
    assert b.u == pytest.approx(4 * (a.u + 0.5) - 0.5, abs=0.4)
    assert b.v == pytest.approx(4 * (a.v + 0.5) - 0.5 + 256, abs=0.4)


def test_a_pixel_where_nothing_was_perceived_means_nothing() -> None:
    assert thing_of(Reference(name="c1", camera="CAM_FRONT", u=5.0, v=5.0), street()) is None
    answer = DriveLmAnswerer().answer("What is the moving status of object <c1,CAM_FRONT,5.0,5.0>?", street())
    assert not answer.answered and "nothing was perceived at <c1,CAM_FRONT,5.0,5.0>" in answer.text


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the moving status of object {car}?", "Going ahead."),
        ("What is the observed status of object {car}?", "Moving."),
        ("What is the visual description of {car}?", "Red car."),
        ("What is the future state of {pedestrian}?", "Keep going straight."),
        ("Is {car} a traffic sign or a road barrier?", "No."),
        ("Are {car} and {pedestrian} traffic signs?", "Neither is a traffic sign."),
        ("Would {car} be in the moving direction of the ego vehicle?", "Yes."),
        ("Would {pedestrian} be in the moving direction of the ego vehicle?", "No."),
        ("Is {pedestrian} an object that the ego vehicle should consider in the current scene?", "Yes."),
        ("What actions taken by the ego vehicle can lead to a collision with {truck}?", "Back up."),
        ("What actions taken by the ego vehicle can lead to a collision with {car}?", "Accelerate and go straight."),
        ("What is the probability of colliding with {car} after the ego vehicle steps on the brakes?", "Low."),
        ("Which object is most likely to be occluded by {truck}? Would this object affect the ego vehicle?",
         "{truck2}, no, none."),
        ("What are objects to the front of the ego car?",
         "There are two cars and one pedestrian to the front of the ego car."),
        ("What are objects to the back left of the ego car?", "There are no objects to the back left of the ego car."),
        ("Are there moving trucks to the back of the ego car?", "Yes."),
        ("Are there barriers to the front left of the ego car?", "No."),
        ("What is the status of the trucks that are to the back of the ego car?",
         "One of the trucks is moving, and the other is stopped."),
        ("What is the status of the pedestrian that is to the front of the ego car?", "One pedestrian is moving."),
        ("Predict the behavior of the ego vehicle.",
         "The ego vehicle is steering to the left. The ego vehicle is driving with normal speed."),
        ("What is the target action of the ego vehicle?", "Go straight."),
    ],
)  # fmt: skip
def test_a_question_of_each_family_has_its_known_answer(question: str, answer: str) -> None:
    belief = street()
    trucks = [thing for thing in belief.things if thing.name == "truck"]
    names = {name: written(name, belief) for name in ("car", "pedestrian", "truck")}
    names["truck2"] = str(reference_to(trucks[1], f"c{trucks[1].number + 1}"))
    assert said(question.format(**names), belief) == answer.format(**names)


def test_important_objects_come_with_references_that_lead_back_to_them() -> None:
    text = said("What are the important objects in the current scene? Those objects will be considered.")
    assert text.startswith("There is a red car to the front of the ego vehicle") or "green pedestrian" in text
    assert {thing_of(each, street()).name for each in references_in(text)} >= {"car", "pedestrian"}  # type: ignore[union-attr]
    assert all(re.fullmatch(r"\d+\.\d", number) for number in re.findall(r"\d+\.\d*", text))


def test_the_three_to_notice_first_are_named_in_order_with_an_action() -> None:
    text = said("What object should the ego vehicle notice first when it is getting to the next possible location?")
    assert text.startswith("Firstly notice that <c1,CAM_") and "Thirdly" in text and "brak" in text


def test_traffic_lights_are_not_made_up() -> None:
    assert "not perceived" in said("What is the traffic signal that the ego vehicle should pay attention to?")


def test_options_are_read_and_the_fitting_letter_is_given() -> None:
    belief = street()
    question = (
        f"What is the moving status of object {written('car', belief)}? Please select the correct answer from the "
        "following options: A. Stopped. B. Back up. C. Turn left. D. Going ahead."
    )
    assert said(question, belief) == "D"
    asked, options = options_of(question)
    assert asked.endswith(">?") and options == {
        "A": "Stopped.",
        "B": "Back up.",
        "C": "Turn left.",
        "D": "Going ahead.",
    }
    assert choose({"A": "Stopped.", "B": "Turn right."}, "Going ahead.") == "B"


def test_the_option_nearest_to_the_own_behaviour_is_chosen() -> None:
    options = {
        "A": "The ego vehicle is steering to the right. The ego vehicle is driving fast.",
        "B": "The ego vehicle is slightly steering to the left. The ego vehicle is driving with normal speed.",
        "C": "The ego vehicle is going straight. The ego vehicle is not moving.",
    }
    assert choose(options, "The ego vehicle is going straight. The ego vehicle is driving with normal speed.") == "B"
    assert choose(options, "The ego vehicle is going straight. The ego vehicle is not moving.") == "C"


def test_a_question_is_answered_by_itself_whatever_later_ones_give_away() -> None:
    belief, answerer = street(), DriveLmAnswerer()
    first = "What are the important objects in the current scene? Those objects will be considered."
    before = answerer.answer(first, belief)
    answerer.answer("What is the moving status of object <c9,CAM_FRONT,87.0,30.0>?", belief)
    assert answerer.answer(first, belief) == before


# ---------------------------------------------------------------- the real key frames


def test_annotated_key_frames_give_the_measured_upper_bound(nuscenes_real: Path) -> None:
    folder = nuscenes_real / "drivelm"
    key_frames = read_key_frames(folder / "train_sample.json")
    file = read_question_file(folder / "test_eval.json")
    answers = list(
        answer_questions(file.questions, lambda token: annotated_belief(key_frames[token]), DriveLmAnswerer())
    )
    assert all(answer.oracle for _, answer in answers)
    scores = score_answers(file, answers)
    assert file.tagged and scores.num_skipped == 0 and scores.num_questions == 66
    assert scores.match_f1 == pytest.approx(1.0) and scores.by_kind["prediction"].accuracy == 1.0
    assert scores.by_kind["perception"].accuracy == pytest.approx(7 / 8)
    assert scores.language is not None and scores.language > 0.8


def test_the_file_that_is_written_is_read_by_the_protocol(nuscenes_real: Path, tmp_path: Path) -> None:
    folder = nuscenes_real / "drivelm"
    out = tmp_path / "submission.json"
    arguments = ["ask", "--drivelm", str(folder / "test_eval.json"), "--objects", str(folder / "train_sample.json")]
    assert main([*arguments, "--data", str(folder), "--from-annotations", "--json", str(out)]) == 0
    answers = read_answers(out)
    assert set(answers) == {question.id for question in read_questions(folder / "test_eval.json")}
    official = json.loads((folder / "submission.json").read_text())
    assert set(json.loads(out.read_text())) == set(official)


def test_a_training_file_is_measured_without_tags(nuscenes_real: Path) -> None:
    file = read_question_file(nuscenes_real / "drivelm" / "train_sample.json")
    assert not file.tagged and len(file.questions) == 790
    perfect = [(question, replace(DriveLmAnswerer().answer("how many cars?", street()), text=question.answer))
               for question in file.questions]  # fmt: skip
    scores = score_answers(file, perfect)
    assert scores.accuracy == 1.0 and scores.num_questions == 790
    assert submission(perfect, "x")["results"][0]["id"] == file.questions[0].id


def test_pictures_of_a_key_frame_come_with_the_nominal_rig(nuscenes_real: Path) -> None:
    key_frame = next(iter(read_key_frames(nuscenes_real / "drivelm" / "train_sample.json").values()))
    frame = frame_of(key_frame, nuscenes_real / "drivelm", ImageSize(256, 704))
    assert [camera.name for camera in frame.cameras] == [spec.name for spec in NUSCENES_CAMERAS]
    assert frame.cameras[0].rgb.shape == (256, 704, 3) and frame.annotations is None and frame.lidar is None
    assert frame.cameras[0].K_cam[0, 0] == pytest.approx(1266.4 * 704 / 1600)


def test_the_nominal_rig_is_that_of_the_real_cars(nuscenes_real: Path) -> None:
    infos = json.loads((nuscenes_real / "mini_val" / "nuscenes_infos_val.json").read_text())["infos"]
    for info in (infos[0], infos[-1]):
        for spec in NUSCENES_CAMERAS:
            real = info["cams"][spec.name]
            assert np.allclose(real["sensor2ego_translation"], spec.T_ego_cam[:3, 3], atol=0.06)
            assert np.allclose(np.array(real["camera_intrinsics"])[:2], spec.K_cam[:2], atol=50)
