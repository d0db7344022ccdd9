"""Tables that `bevstack ask` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bevstack.asking.goals import RouteGoal, StopGoal
from bevstack.asking.selection import described

if TYPE_CHECKING:
    from bevstack.asking.answer import Answer
    from bevstack.asking.drivelm_run import QuestionFile
    from bevstack.asking.goals import Understood
    from bevstack.asking.made_commands import CommandCounts
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


def command_lines(token: str, understood: "Understood") -> str:
    """A command with its candidates and goal."""
    oracle = "  [oracle: from annotations]" if understood.oracle else ""
    command = understood.command
    parts = [command.action, command.direction.value if command.direction else "", command.relation or ""]
    meant = f"'{command.reference.text}'" if command.reference else "no object"
    lines = [f"{token}: {' '.join(part for part in parts if part)}, {meant}", f"  {understood.said}{oracle}"]
    for candidate in understood.candidates:
        lines.append(f"    {candidate.share:4.0%} {described(candidate.thing)}: {', '.join(candidate.reasons)}")
    return "\n".join(lines)


def command_record(understood: "Understood") -> dict[str, Any]:
    """For a file."""
    goal = understood.goal
    stop, route = None, None
    if isinstance(goal, StopGoal):
        stop = {"front_ego": goal.front_ego, "along_m": goal.along_m, "side": goal.side}
    elif isinstance(goal, RouteGoal):
        route = {"command": goal.command.value, "after_m": goal.after_m}
    return {
        "said": understood.said,
        "action": understood.command.action,
        "oracle": understood.oracle,
        "stop_goal": stop,
        "route_goal": route,
        "candidates": [
            {"class": each.thing.name, "box": each.thing.row.tolist(), "share": each.share, "reasons": each.reasons}
            for each in understood.candidates
        ],
    }


def counts_table(counts: "CommandCounts", name: str, num_frames: int) -> str:
    """Accuracy over made commands, by what makes them unique."""
    total = max(1, counts.num_commands)
    lines = [
        f"{name}: {counts.num_commands} commands in {num_frames} frames",
        f"  right object first   {counts.num_right:>4} of {counts.num_commands} ({counts.num_right / total:.1%})",
        f"  object perceived     {counts.num_perceived:>4} of {counts.num_commands} "
        f"({counts.num_perceived / total:.1%})",
    ]
    lines += [f"    by {kind:<10} {right:>4} of {count}" for kind, (right, count) in counts.by_kind.items()]
    return "\n".join(lines)


def _row(name: str, terms: "TermScores") -> str:
    values = "".join(f"{_number(value):>10}" for value in (terms.accuracy, terms.language, terms.match_f1))
    return f"{name:<22}{terms.num_questions:>10}{values}{_number(terms.final):>8}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
