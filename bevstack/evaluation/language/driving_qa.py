"""Answers to questions about a scene: the terms of the DriveLM challenge that need no judge.

`driving-qa/deterministic` (Sima et al., DriveLM, ECCV 2024, and the evaluation code of its 2024 challenge). The first
question of a key frame asks for the important objects, written as `<c1,CAM_BACK,1088.3,497.5>`; a later question that
names objects counts only if all of them were found by the first answer. Questions carry tags:

* 0, accuracy: the answer is the true one, letter by letter.
* 2, language: a third each of the mean of BLEU-1 to 4, ROUGE-L and CIDEr / 10.
* 3, match: F1 of the coordinates in the answer; each takes the nearest free true pair, right if |dx| + |dy| < 16 px.
* 1, judge: a score by a language model. **Not computed**: it drifts with the version of the judge, and differs from run
  to run. The challenge also averages half of its match term from it. Its final score (0.4 judge, 0.2 for each other)
  can therefore not be given; `final` here is the plain mean of accuracy, language and match F1.

Traps. Coordinates are all decimal numbers of a text in pairs: the camera is not looked at, and a coordinate without a
decimal point is none. A system that finds nothing in its first answer skips the hard questions; the numbers over all
questions stand beside the gated ones. CIDEr weighs words by their rarity in the scored set: it has no meaning for one
text, and subsets do not average to the set.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from bevstack.evaluation.language.driving_qa_files import KINDS, TAGS, Question, read_answers, read_questions
from bevstack.evaluation.language.metrics import LanguageScores, score_texts

PROTOCOL = "driving-qa/deterministic"
MATCH_PX = 16.0

_ACCURACY, _JUDGE, _LANGUAGE, _MATCH = TAGS
_DECIMAL = re.compile(r"\d+\.\d+")
_EPSILON = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A question with the answer that was given."""

    question: Question
    answer: str
    counts: bool
    """Whether the objects that it names were found by the first answer of its key frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TermScores:
    """The terms over some questions, 0 to 1; None where no question asks for one."""

    num_questions: int
    num_of_tag: dict[str, int]
    """Name of the tag -> questions; those of the judge are counted and not scored."""
    final: float | None
    """Mean of the three terms that could be measured; None if any could not."""
    accuracy: float | None
    language: float | None
    match_f1: float | None
    language_parts: LanguageScores | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivingQaScores:
    """The numbers of the protocol; those of the fields beside `by_kind` and `all_questions` are over what counts."""

    protocol: str
    num_frames: int
    num_questions: int
    """That count."""
    num_skipped: int
    """Left out because the first answer missed an object that they name."""
    num_left_to_judge: int
    """Counting questions whose judge term is left out."""
    final: float | None
    accuracy: float | None
    language: float | None
    match_f1: float | None
    by_kind: dict[str, TermScores]
    """Perception, prediction, planning, behavior; each a set of its own."""
    all_questions: TermScores
    """As if every first answer had found everything."""


def score_files(answers: str | Path, questions: str | Path) -> DrivingQaScores:
    """Score a file of answers.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is malformed, an answer is missing, or there is one too many.
    """
    return score(join_answers(read_questions(questions), read_answers(answers), source=str(answers)))


def join_answers(
    questions: Sequence[Question], answers: Mapping[str, str], *, source: str = "the answers"
) -> tuple[Answered, ...]:
    """Each question with its answer, and whether it counts.

    Args:
        questions: Key frame by key frame.
        answers: Id -> answer.
        source: What messages call the answers.

    Raises:
        ValueError: an answer is missing, one belongs to no question, or a text has half a coordinate pair.
    """
    missing = [question.id for question in questions if question.id not in answers]
    if missing:
        raise ValueError(f"{source} lack {len(missing)} of {len(questions)} answers, the first is {missing[0]}")
    extra = set(answers) - {question.id for question in questions}
    if extra:
        raise ValueError(f"{source} have {len(extra)} answers to no question, for example {min(extra)}")
    joined = []
    for _, of_frame in groupby(questions, key=lambda question: (question.scene, question.frame)):
        found: set[tuple[float, float]] = set()
        for number, question in enumerate(of_frame):
            if number == 0:
                found = set(match(answers[question.id], question)[0])
            counts = number == 0 or set(_pairs_of(question.text, question)) <= found
            joined.append(Answered(question=question, answer=answers[question.id], counts=counts))
    return tuple(joined)


def score(answered: Sequence[Answered]) -> DrivingQaScores:
    """The numbers of some answered questions, for example those of a scene."""
    counting = [each for each in answered if each.counts]
    terms = _terms(counting)
    return DrivingQaScores(
        protocol=PROTOCOL,
        num_frames=len({(each.question.scene, each.question.frame) for each in answered}),
        num_questions=terms.num_questions,
        num_skipped=len(answered) - terms.num_questions,
        num_left_to_judge=terms.num_of_tag[TAGS[_JUDGE]],
        final=terms.final,
        accuracy=terms.accuracy,
        language=terms.language,
        match_f1=terms.match_f1,
        by_kind={kind: _terms([each for each in counting if each.question.kind == kind]) for kind in KINDS},
        all_questions=_terms(answered),
    )


def match(answer: str, question: Question) -> tuple[list[tuple[float, float]], float]:
    """The true coordinate pairs that an answer found, and F1.

    Raises:
        ValueError: the true answer has half a pair.
    """
    true = _pairs_of(question.answer, question)
    num_true, found, num_said = len(true), [], 0
    numbers = [float(number) for number in _DECIMAL.findall(answer)]
    for x, y in zip(numbers[::2], numbers[1::2]):  # half a pair at the end is dropped
        num_said += 1
        distance = [abs(x - own[0]) + abs(y - own[1]) for own in true]
        if distance and min(distance) < MATCH_PX:
            found.append(true.pop(int(np.argmin(distance))))
    precision, recall = len(found) / (num_said + _EPSILON), len(found) / (num_true + _EPSILON)
    return found, 2 * precision * recall / (precision + recall + _EPSILON)


def language_of(parts: LanguageScores) -> float:
    """The language term."""
    return (float(np.mean(parts.bleu)) + parts.rouge_l + parts.cider / 10) / 3


def _terms(answered: Sequence[Answered]) -> TermScores:
    by_tag = {tag: [each for each in answered if tag in each.question.tags] for tag in TAGS}
    exact = [each.answer == each.question.answer for each in by_tag[_ACCURACY]]
    f1 = [match(each.answer, each.question)[1] for each in by_tag[_MATCH]]
    texts = by_tag[_LANGUAGE]
    parts = score_texts([each.answer for each in texts], [each.question.answer for each in texts]) if texts else None
    terms = {
        "accuracy": float(np.mean(exact)) if exact else None,
        "language": None if parts is None else language_of(parts),
        "match_f1": float(np.mean(f1)) if f1 else None,
    }
    known = [value for value in terms.values() if value is not None]
    return TermScores(
        num_questions=len(answered),
        num_of_tag={name: len(by_tag[tag]) for tag, name in TAGS.items()},
        final=float(np.mean(known)) if len(known) == len(terms) else None,
        language_parts=parts,
        **terms,
    )


def _pairs_of(text: str, question: Question) -> list[tuple[float, float]]:
    numbers = [float(number) for number in _DECIMAL.findall(text)]
    if len(numbers) % 2:
        raise ValueError(f"question {question.id} has {len(numbers)} coordinates in '{text[:80]}'; they come in pairs")
    return list(zip(numbers[::2], numbers[1::2], strict=True))
