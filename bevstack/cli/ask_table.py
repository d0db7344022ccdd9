"""Tables that `bevstack ask` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.asking.answer import Answer
    from bevstack.asking.drivelm_run import QuestionFile
    from bevstack.evaluation.language.driving_qa import DrivingQaScores, TermScores
    from bevstack.evaluation.language.driving_qa_files import Question


def drivelm_table(
    file: "QuestionFile", answers: Sequence[tuple["Question", "Answer"]], scores: "DrivingQaScores"
) -> str:  # fmt: skip
    """Terms by kind of question."""
    answered = sum(answer.answered for _, answer in answers)
    oracle = "  [oracle: from annotations]" if any(answer.oracle for _, answer in answers) else ""
    head = f"{len(answers)} questions about {scores.num_frames} key frames, {answered} answered{oracle}"
    first = "exact" if not file.tagged else "accuracy"
    rows = [f"{'':<22}{'questions':>10}{first:>10}{'language':>10}{'match F1':>10}{'final':>8}"]
    rows += [_row(kind, terms) for kind, terms in scores.by_kind.items()]
    if file.tagged:
        counting = f"{'all that count':<22}{scores.num_questions:>10}"
        terms = (scores.accuracy, scores.language, scores.match_f1)
        rows.append(counting + "".join(f"{_number(value):>10}" for value in terms) + f"{_number(scores.final):>8}")
        note = f"{scores.num_skipped} left out: the first answer missed an object that they name; "
        note += f"{scores.num_left_to_judge} are for a judge and not scored"
    else:
        note = "the file has no tags: every question by exact match and by language, none left out"
    rows.append(_row("all", scores.all_questions))
    return "\n".join([head, *rows, note])


def _row(name: str, terms: "TermScores") -> str:
    values = "".join(f"{_number(value):>10}" for value in (terms.accuracy, terms.language, terms.match_f1))
    return f"{name:<22}{terms.num_questions:>10}{values}{_number(terms.final):>8}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
