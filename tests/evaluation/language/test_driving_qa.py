"""Questions about a scene: known values, gating, files and their faults, the real key frames of DriveLM."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bevstack.evaluation.language.driving_qa import (
    PROTOCOL,
    DrivingQaScores,
    join_answers,
    language_of,
    match,
    score,
    score_files,
)
from bevstack.evaluation.language.driving_qa_files import Question, read_answers, read_questions
from bevstack.evaluation.language.metrics import LanguageScores

FIRST = "The important objects are <c1,CAM_BACK,1088.3,497.5> and <c2,CAM_FRONT,100.0,50.0>."
QUESTIONS = {
    "scene": {
        "key_frames": {
            "frame": {
                "QA": {
                    "perception": [
                        {"Q": "What are the important objects?", "A": FIRST, "tag": [2]},
                        {"Q": "Is <c1,CAM_BACK,1088.3,497.5> moving?", "A": "Yes.", "tag": [0]},
                    ],
                    "prediction": [
                        {"Q": "What comes first?", "A": "<c2,CAM_FRONT,100.0,50.0> comes first.", "tag": [3]},
                        {"Q": "Is <c2,CAM_FRONT,100.0,50.0> a car?", "A": "No.", "tag": [0]},
                    ],
                    "planning": [{"Q": "What is safe?", "A": "Slow down.", "tag": [1]}],
                    "behavior": [{"Q": "How does the vehicle drive?", "A": "B", "tag": [0]}],
                }
            }
        }
    }
}
TRUE = {
    "scene_frame_0": FIRST,
    "scene_frame_1": "Yes.",
    "scene_frame_2": "<c2,CAM_FRONT,100.0,50.0> comes first.",
    "scene_frame_3": "No.",
    "scene_frame_4": "Slow down.",
    "scene_frame_5": "B",
}


@pytest.fixture
def questions(tmp_path: Path) -> tuple[Question, ...]:
    return read_questions(write(tmp_path / "questions.json", QUESTIONS))


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def scores_of(questions: tuple[Question, ...], **answers: str) -> DrivingQaScores:
    return score(join_answers(questions, TRUE | {f"scene_{name}": text for name, text in answers.items()}))


def test_questions_are_counted_through_all_kinds_of_a_key_frame(questions: tuple[Question, ...]) -> None:
    assert [question.id for question in questions] == list(TRUE)
    assert [question.kind for question in questions] == [
        "perception", "perception", "prediction", "prediction", "planning", "behavior",
    ]  # fmt: skip


def test_true_answers_score_one_and_empty_ones_zero(questions: tuple[Question, ...]) -> None:
    best = score(join_answers(questions, TRUE))
    assert best.protocol == PROTOCOL and best.num_skipped == 0 and best.num_left_to_judge == 1
    assert best.accuracy == 1.0 and best.match_f1 == pytest.approx(1.0)
    worst = score(join_answers(questions, dict.fromkeys(TRUE, "")))
    assert worst.accuracy == worst.match_f1 == worst.language == worst.final == 0.0
    assert worst.num_questions + worst.num_skipped == 6


def test_a_question_counts_only_if_the_first_answer_found_all_that_it_names(questions: tuple[Question, ...]) -> None:
    only_first = scores_of(questions, frame_0="I see <c1,CAM_BACK,1090.0,500.0>.", frame_1="No.", frame_3="wrong")
    # Question 3 names the object that was not found. Question 1 counts, and is wrong; the last one is right.
    assert only_first.num_skipped == 1 and only_first.accuracy == pytest.approx(1 / 2)
    assert only_first.all_questions.accuracy == pytest.approx(1 / 3)
    assert only_first.by_kind["perception"].accuracy == 0.0 and only_first.by_kind["behavior"].accuracy == 1.0
    nothing = scores_of(questions, frame_0="Nothing.")
    assert nothing.num_skipped == 2 and nothing.accuracy == 1.0  # the flattering side of the rule


def test_accuracy_is_letter_by_letter(questions: tuple[Question, ...]) -> None:
    assert scores_of(questions, frame_5="b").accuracy == pytest.approx(2 / 3)


def test_the_language_term_takes_a_third_of_each(questions: tuple[Question, ...]) -> None:
    parts = LanguageScores(bleu=(0.8, 0.6, 0.4, 0.2), rouge_l=0.7, cider=3.0)
    assert language_of(parts) == pytest.approx((0.5 + 0.7 + 0.3) / 3)
    found = scores_of(questions)
    assert found.language == pytest.approx((1 + 1 + 0) / 3)  # one text has no rare words: CIDEr is 0
    assert found.final == pytest.approx((1 + 2 / 3 + 1) / 3)


@pytest.mark.parametrize(
    ("answer", "f1"),
    [
        ("<c1,CAM_BACK,10.0,20.0> and <c2,CAM_BACK,200.0,200.0>", 1.0),
        ("<c1,CAM_FRONT,17.9,28.0>", 2 * 1 * 0.5 / 1.5),  # 15.9 px off, whatever the camera; the other one is missed
        ("<c1,CAM_BACK,18.0,28.0>", 0.0),  # 16 px are too many
        ("10.0 20.0 10.0 20.0", 2 * 0.5 * 0.5 / 1.0),  # a true pair is found once
        ("<c1,CAM_BACK,10,20>", 0.0),  # no decimal point, no coordinate
        ("10.0 20.0 and 7.5", 2 * 1 * 0.5 / 1.5),  # half a pair is dropped
        ("", 0.0),
    ],
)
def test_coordinates_match_within_16_pixels_of_the_sum_of_both_distances(
    questions: tuple[Question, ...], answer: str, f1: float
) -> None:
    question = replace(questions[0], answer="<c1,CAM_BACK,10.0,20.0>, <c2,CAM_BACK,200.0,200.0>")
    assert match(answer, question)[1] == pytest.approx(f1, abs=1e-6)


def test_each_given_pair_takes_the_nearest_free_true_one_in_turn(questions: tuple[Question, ...]) -> None:
    question = replace(questions[0], answer="<c1,C,10.0,10.0> <c2,C,20.0,10.0>")
    found, _ = match("<c1,C,14.0,10.0> <c2,C,11.0,10.0>", question)
    assert found == [(10.0, 10.0), (20.0, 10.0)]


def test_the_challenges_submission_and_a_plain_list_are_both_read(
    tmp_path: Path, questions: tuple[Question, ...]
) -> None:
    entries = [{"id": name, "answer": text} for name, text in TRUE.items()]
    plain = write(tmp_path / "plain.json", entries)
    submission = write(tmp_path / "submission.json", {"method": "m", "results": entries})
    assert read_answers(plain) == read_answers(submission) == TRUE
    found = score_files(plain, write(tmp_path / "q.json", QUESTIONS))
    assert found == score_files(submission, tmp_path / "q.json") == score(join_answers(questions, TRUE))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"id": "a"}], "entry 0: field 'answer' is None"),
        ([{"id": 3, "answer": "x"}], "entry 0: field 'id' is 3"),
        ([{"id": "a", "answer": "x"}, {"id": "a", "answer": "y"}], "entry 1: there are two answers with the id a"),
        (["text"], "entry 0: field 'id'"),
        ({"answers": []}, "must be a list of answers, or an object whose field 'results'"),
    ],
)
def test_malformed_answers_are_named(tmp_path: Path, entries: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"answers.json.*{message}"):
        read_answers(write(tmp_path / "answers.json", entries))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({}, "key frame f: field 'QA' must be an object"),
        ({"QA": {"perception": [], "poetry": []}}, "it has perception, poetry"),
        ({"QA": {"perception": [{"Q": "?", "A": "!"}]}}, "question 0: field 'tag' is None"),
        ({"QA": {"perception": [{"Q": "?", "A": "!", "tag": [7]}]}}, r"field 'tag' is \[7\]"),
        ({"QA": {"planning": [{"Q": "?", "A": None, "tag": [1]}]}}, "question 0: field 'A' is None"),
    ],
)
def test_malformed_questions_are_named(tmp_path: Path, frame: Any, message: str) -> None:
    path = write(tmp_path / "questions.json", {"s": {"key_frames": {"f": frame}}})
    with pytest.raises(ValueError, match=f"questions.json: scene s, {message}|questions.json.*{message}"):
        read_questions(path)


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.json"):
        read_answers(tmp_path / "none.json")
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(QUESTIONS)[:-3])
    with pytest.raises(ValueError, match="cut.json is not JSON"):
        read_questions(path)


def test_missing_and_surplus_answers_and_half_pairs_are_refused(questions: tuple[Question, ...]) -> None:
    with pytest.raises(ValueError, match="lack 1 of 6 answers, the first is scene_frame_3"):
        join_answers(questions, {name: text for name, text in TRUE.items() if name != "scene_frame_3"})
    with pytest.raises(ValueError, match="1 answers to no question, for example x"):
        join_answers(questions, TRUE | {"x": "y"})
    half = (questions[0], replace(questions[1], text="Is <c1,CAM_BACK,1088.3> moving?"))
    with pytest.raises(ValueError, match="scene_frame_1 has 1 coordinates"):
        join_answers(half, {name: TRUE[name] for name in ("scene_frame_0", "scene_frame_1")})


def test_the_real_key_frames_of_drivelm_are_scored_from_their_own_example_files(nuscenes_real: Path) -> None:
    folder = nuscenes_real / "drivelm"
    questions = read_questions(folder / "test_eval.json")
    best = score(join_answers(questions, {question.id: question.answer for question in questions}))
    assert (best.num_frames, best.num_questions, best.num_skipped, best.num_left_to_judge) == (9, 66, 0, 27)
    assert best.final == pytest.approx(1.0, abs=1e-6)
    for name in ("output.json", "submission.json"):
        found = score_files(folder / name, folder / "test_eval.json")
        # Neither example says a coordinate: no object is found, and questions about one do not count.
        assert (found.num_questions, found.num_skipped, found.match_f1) == (31, 35, 0.0)
        assert found.language is not None and 0.0 < found.language < 0.1
    assert found.accuracy == pytest.approx(1 / 9) and found.all_questions.accuracy == pytest.approx(3 / 26)
    with pytest.raises(ValueError, match="the training file has none"):
        read_questions(folder / "train_sample.json")
