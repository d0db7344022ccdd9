"""All questions of a DriveLM file answered, written as the challenge wants them, and scored."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bevstack.asking.answer import Answer
from bevstack.asking.believed import MIN_SCORE, Belief, believe
from bevstack.asking.drivelm_frames import NATIVE, KeyFrame, frame_of
from bevstack.asking.sources import bare
from bevstack.asking.template import Answerer
from bevstack.evaluation.checkpoint import Checkpoint
from bevstack.evaluation.language.driving_qa import Answered, DrivingQaScores, join_answers, score
from bevstack.evaluation.language.driving_qa_files import KINDS, Question, read_questions
from bevstack.evaluation.modality import restrict

UNTAGGED = (0, 2)
"""What questions without tags are measured by: letter by letter, and by their language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionFile:
    """The questions of a file; a training file has no tags."""

    questions: tuple[Question, ...]
    tagged: bool


def read_question_file(path: str | Path) -> QuestionFile:
    """Questions of a test or training file, key frame by key frame.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is malformed.
    """
    try:
        return QuestionFile(questions=read_questions(path), tagged=True)
    except ValueError as error:
        if "field 'tag' is None" not in str(error):
            raise
    content = orjson.loads(Path(path).read_bytes())
    return QuestionFile(questions=tuple(_untagged(content)), tagged=False)


def answer_questions(
    questions: Sequence[Question], belief_of: Callable[[str], Belief], answerer: Answerer
) -> Iterator[tuple[Question, Answer]]:
    """Each question with its answer; the belief of a key frame is made once.

    The answerer sees one question at a time: what a later one gives away is of no use to an earlier one.
    """
    token, belief = None, None
    for question in questions:
        if question.frame != token or belief is None:
            token, belief = question.frame, belief_of(question.frame)
        yield question, answerer.answer(question.text, belief)


def submission(answers: Sequence[tuple[Question, Answer]], method: str) -> dict[str, Any]:
    """The official prediction file; fields about the team are left to who submits."""
    results = [
        {"id": question.id, "question": question.text, "answer": answer.text} for question, answer in answers
    ]  # fmt: skip
    about = {"team": "", "authors": [], "email": "", "institution": "", "country": ""}
    return {"method": method, **about, "results": results}


def score_answers(file: QuestionFile, answers: Sequence[tuple[Question, Answer]]) -> DrivingQaScores:
    """Scores of `driving-qa/deterministic`; without tags all questions count, by exact match and language."""
    if file.tagged:
        return score(join_answers(file.questions, {question.id: answer.text for question, answer in answers}))
    return score([Answered(question=question, answer=answer.text, counts=True) for question, answer in answers])


def picture_beliefs(
    checkpoint: Checkpoint,
    key_frames: dict[str, KeyFrame],
    root: str | Path,
    device: str,
    min_score: float = MIN_SCORE,
) -> Callable[[str], Belief]:
    """Beliefs of a model from the pictures of key frames alone, with the nominal rig.

    Raises:
        ValueError: the model needs LiDAR, or a key frame is asked that `key_frames` lacks.
    """
    checkpoint.modalities("camera" if checkpoint.num_sweeps else None)
    session = checkpoint.session(device)

    def belief_of(token: str) -> Belief:
        if token not in key_frames:
            raise ValueError(f"key frame {token} is not in the file of --objects, which names the pictures")
        frame = bare(frame_of(key_frames[token], root, checkpoint.image_size))
        session.reset()
        estimate = session.step(restrict(frame, "camera"))
        return believe(estimate, frame, min_score=min_score, picture_size=NATIVE)

    return belief_of


def _untagged(content: dict[str, Any]) -> Iterator[Question]:
    for scene, entry in content.items():
        for frame, of_frame in entry["key_frames"].items():
            number = 0
            for kind in KINDS:
                for asked in of_frame["QA"].get(kind, []):
                    identity = f"{scene}_{frame}_{number}"
                    number += 1
                    yield Question(
                        id=identity,
                        scene=scene,
                        frame=frame,
                        kind=kind,
                        text=asked["Q"],
                        answer=asked["A"],
                        tags=UNTAGGED,
                    )
