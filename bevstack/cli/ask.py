"""`bevstack ask`: questions about a drive, and commands given to it, answered from what was perceived."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from bevstack.asking.believed import Belief
    from bevstack.asking.sources import AskedRun
    from bevstack.asking.template import Answerer

_EPILOG = """examples:
  bevstack ask demo "how many cars are ahead?" --data worlds/val --scene scene-9000 --frame 7
  bevstack ask predictions.parquet "why did it brake?" --data worlds/val --scene scene-9000
  bevstack ask eval/val "what should the driver look at?" --data worlds/val --json answers.json
  bevstack ask demo --drivelm test_eval.json --objects train.json --data drivelm --json submission.json
  bevstack ask "is there a pedestrian on the left?" --data worlds/val --from-annotations

RUN is a file of predictions, a folder of 'bevstack eval' with one in it, or a checkpoint, which then runs on the frame
and the few before it. Without --scene and --frame the first frame is asked; --scene alone asks all its frames and
prints an answer where it changes. Every answer comes with its grounds. Questions that the perception has no answer to
get none.

--drivelm answers all questions of a DriveLM file (v1.1) in the words of that data set, writes the prediction file of
the challenge and scores it where the file has tags. Key frames are looked up in ROOT by their sample tokens; with
--objects, a training file that names the pictures, ROOT only needs samples/: a model then sees the pictures with a
nominal rig, and --from-annotations takes the key objects of that file.

Answers never rest on ground truth, but with --from-annotations, which marks them as an upper bound.
"""


def run(arguments: list[str]) -> int:
    """Answer."""
    args = _parser().parse_args(arguments)
    if args.data is None:
        raise ValueError("--data ROOT is missing: answers need the pictures and poses of the data set")
    name, question = _words(args)
    if args.drivelm is not None:
        return _drivelm(args, name or question)
    if question is None:
        raise ValueError('ask something: bevstack ask RUN "how many cars are ahead?" --data ROOT')
    return _question(args, name, question)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bevstack ask",
        description="Ask about a drive in words, or give it a command.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage='bevstack ask RUN "QUESTION" --data ROOT [OPTIONS]',
    )
    parser.add_argument("words", nargs="*", metavar="RUN QUESTION", help="what is asked, and the question in quotes")
    parser.add_argument("--data", metavar="ROOT", type=Path, help="folder with the v1.0-... folder")
    parser.add_argument("--version", metavar="V", help="version folder (default: the only one)")
    parser.add_argument("--split", metavar="S", help="split (default: the only one, or that of the file)")
    parser.add_argument("--scene", metavar="NAME", help="which scene")
    parser.add_argument("--frame", metavar="TOKEN", help="sample token, or the number of the frame in --scene")
    parser.add_argument("--limit", metavar="N", type=int, help="only N frames, spread evenly")
    parser.add_argument("--min-score", metavar="S", type=float, default=0.3, help="objects from this score on (0.3)")
    parser.add_argument("--drivelm", metavar="FILE", type=Path, help="answer all questions of this DriveLM file")
    parser.add_argument(
        "--objects", metavar="FILE", type=Path, help="with --drivelm: training file with its key frames"
    )
    parser.add_argument("--from-annotations", action="store_true", help="answer from ground truth: an upper bound")
    parser.add_argument("--device", metavar="D", help="where a model runs (default: a GPU where there is one)")
    parser.add_argument("--json", metavar="OUT", type=Path, help="write the answers to this file")
    return parser


def _words(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """RUN and QUESTION; with annotations, or in a mode that asks nothing, one of them may be left out."""
    words = args.words
    if len(words) > 2:
        raise ValueError(f"put the question in quotes: {' '.join(words[1:])!r}")
    if len(words) == 1:
        return (None, words[0]) if args.from_annotations else (words[0], None)
    return (words[0], words[1]) if words else (None, None)


def _open(args: argparse.Namespace, name: str | None) -> "AskedRun":
    from bevstack.asking.sources import open_run

    return open_run(
        name,
        args.data,
        version=args.version,
        split=args.split,
        device=args.device,
        min_score=args.min_score,
        from_annotations=args.from_annotations,
    )


def _answerer(args: argparse.Namespace, otherwise: "Answerer") -> "Answerer":
    return otherwise


def _question(args: argparse.Namespace, name: str | None, question: str) -> int:
    from bevstack.asking.drive import ask_frames, frames_asked
    from bevstack.asking.template import TemplateAnswerer

    asked = _open(args, name)
    tokens = frames_asked(asked.beliefs, args.scene, args.frame, args.limit)
    records, last = [], ""
    for each in ask_frames(asked.beliefs, _answerer(args, TemplateAnswerer()), question, tokens):
        answer = each.answer
        records.append({"sample_token": each.token, "scene": each.scene, "time_s": each.time_s, **answer.to_json()})
        if answer.text != last:
            print(f"{each.scene} frame {each.position} ({each.time_s:.1f} s, {each.token})")
            print(f"  {answer.text}{'  [oracle: from annotations]' if answer.oracle else ''}")
            for ground in answer.grounds:
                print(f"    - {ground}")
        last = answer.text
    _write(args, {"run": asked.name, "question": question, "answers": records})
    return 0


def _drivelm(args: argparse.Namespace, name: str | None) -> int:
    from tqdm import tqdm

    from bevstack.asking.drivelm import DriveLmAnswerer
    from bevstack.asking.drivelm_run import answer_questions, read_question_file, score_answers, submission
    from bevstack.cli.ask_table import drivelm_table

    file = read_question_file(args.drivelm)
    belief_of = _key_frame_beliefs(args, name)
    answerer = _answerer(args, DriveLmAnswerer())
    given = answer_questions(file.questions, belief_of, answerer)
    answers = list(tqdm(given, total=len(file.questions), desc="ask", unit="question", leave=False))
    print(drivelm_table(file, answers, score_answers(file, answers)))
    _write(args, submission(answers, f"bevstack, {name or 'annotations (oracle)'}"))
    return 0


def _key_frame_beliefs(args: argparse.Namespace, name: str | None) -> "Callable[[str], Belief]":
    from bevstack.asking.drivelm_frames import annotated_belief, read_key_frames
    from bevstack.asking.drivelm_run import picture_beliefs

    if args.objects is None:
        return _open(args, name).beliefs.belief
    key_frames = read_key_frames(args.objects)
    if args.from_annotations:
        return lambda token: annotated_belief(key_frames[token])
    if name is None:
        raise ValueError("name a checkpoint to look at the pictures with, or ask --from-annotations")
    from bevstack.evaluation.checkpoint import choose_device, open_checkpoint

    device = choose_device(args.device)
    return picture_beliefs(open_checkpoint(name), key_frames, args.data, device, args.min_score)


def _write(args: argparse.Namespace, content: dict[str, Any]) -> None:
    if args.json is None:
        return
    from bevstack.evaluation.predictions.submission import write_json

    write_json(args.json, content)
    print(f"written  {args.json}")
