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
  bevstack ask demo --command "stop behind the white car" --data worlds/val --scene scene-9000 --frame 7
  bevstack ask demo --measure-commands 3 --data worlds/val --limit 20
  bevstack ask demo --talk2car val_commands.json --data /data/nuscenes --version v1.0-trainval --split val
  bevstack ask "is there a pedestrian on the left?" --data worlds/val --from-annotations

RUN is a file of predictions, a folder of 'bevstack eval' with one in it, or a checkpoint, which then runs on the frame
and the few before it. Without --scene and --frame the first frame is asked; --scene alone asks all its frames and
prints an answer where it changes. Every answer comes with its grounds. Questions that the perception has no answer to
get none.

--drivelm answers all questions of a DriveLM file (v1.1) in the words of that data set, writes the prediction file of
the challenge and scores it where the file has tags. Key frames are looked up in ROOT by their sample tokens; with
--objects, a training file that names the pictures, ROOT only needs samples/: a model then sees the pictures with a
nominal rig, and --from-annotations takes the key objects of that file.

--command finds the object that a command refers to, with the runners-up and their reasons, and the stop or route goal
that follows. --measure-commands makes N commands a frame over the ground truth of a world, each about an object that
its words describe uniquely, and counts how often the right one is found. --talk2car does the same on the real commands
of that data set (AP50 of the 2D box, where ROOT has their frames; what the file alone allows, without --data).

--vlm gives the pictures and what was perceived to a vision-language model; without it, fixed rules answer.

Answers never rest on ground truth, but with --from-annotations, which marks them as an upper bound.
"""


def run(arguments: list[str]) -> int:
    """Answer."""
    args = _parser().parse_args(arguments)
    if args.talk2car is not None:
        return _talk2car(args)
    if args.data is None:
        raise ValueError("--data ROOT is missing: answers need the pictures and poses of the data set")
    name, question = _words(args)
    if args.drivelm is not None:
        return _drivelm(args, name or question)
    if args.command is not None:
        return _command(args, name or question)
    if args.measure_commands is not None:
        return _measure_commands(args, name or question)
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
    parser.add_argument("--command", metavar="TEXT", help="understand a command instead of a question")
    parser.add_argument("--measure-commands", metavar="N", type=int, help="accuracy over N made commands a frame")
    parser.add_argument("--talk2car", metavar="FILE", type=Path, help="accuracy over the commands of this file")
    parser.add_argument("--planner", choices=("rule", "learned", "none"), help="who plans around a checkpoint")
    parser.add_argument("--vlm", metavar="NAME", help="let this model of the Hugging Face hub (or folder) answer")
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
        planner=args.planner,
        from_annotations=args.from_annotations,
    )


def _answerer(args: argparse.Namespace, otherwise: "Answerer") -> "Answerer":
    """The answerer without a language model, or one around it."""
    if args.vlm is None:
        return otherwise
    from bevstack.asking.language_model import open_language_model
    from bevstack.evaluation.checkpoint import choose_device

    return open_language_model(args.vlm, otherwise, choose_device(args.device))


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


def _command(args: argparse.Namespace, name: str | None) -> int:
    from bevstack.asking.drive import frames_asked
    from bevstack.asking.goals import understand
    from bevstack.cli.ask_table import command_lines, command_record

    asked = _open(args, name)
    records = []
    for token in frames_asked(asked.beliefs, args.scene, args.frame, args.limit):
        understood = understand(args.command, asked.beliefs.belief(token))
        print(command_lines(token, understood))
        records.append({"sample_token": token, **command_record(understood)})
    _write(args, {"run": asked.name, "command": args.command, "understood": records})
    return 0


def _measure_commands(args: argparse.Namespace, name: str | None) -> int:
    from bevstack.asking.made_commands import count_found
    from bevstack.asking.sources import open_run
    from bevstack.cli.ask_table import counts_table
    from bevstack.evaluation.predict import spread

    asked = _open(args, name)
    frames = asked.beliefs.frames
    tokens = [frames.token(index) for index in spread(len(frames), args.limit)]
    truth = open_run(None, args.data, version=args.version, split=frames.split, from_annotations=True).beliefs.frames
    counts = count_found(
        asked.beliefs,
        tokens,
        per_frame=args.measure_commands,
        oracle=args.from_annotations,
        truth_frames=truth,
    )
    print(counts_table(counts, asked.name, len(tokens)))
    content = {"run": asked.name, "frames": len(tokens), "oracle": args.from_annotations, "accuracy": counts.accuracy}
    _write(args, {**content, "commands": counts.num_commands, "by_kind": counts.by_kind})
    return 0


def _talk2car(args: argparse.Namespace) -> int:
    from bevstack.asking.talk2car import AP_IOU, choose_among_referred, class_accuracy, read_commands, referred_iou

    commands = read_commands(args.talk2car)
    right, known = class_accuracy(commands)
    choice = choose_among_referred(commands)
    print(
        f"{len(commands)} commands; class of the referred object read right: {right} of {known} ({right / known:.1%})"
    )
    chance = choice.by_chance / max(1, choice.num_commands)
    share = choice.num_right / max(1, choice.num_commands)
    among = f"{share:.1%} of {choice.num_commands} (chance {chance:.1%})  [oracle: from annotations]"
    print(f"chosen among the objects referred to in its frame: {among}")
    if args.data is None:
        return 0
    name, question = _words(args)
    beliefs = _open(args, name or question).beliefs
    tokens = {beliefs.frames.token(index) for index in range(len(beliefs.frames))}
    present = [command for command in commands if command.sample_token in tokens]
    if not present:
        print(f"no frame of these commands is in {args.data}: AP50 is not measured")
        return 0
    overlaps = [referred_iou(command, beliefs.belief(command.sample_token)) for command in present]
    hits = sum(overlap >= AP_IOU for overlap in overlaps)
    print(f"AP50 {hits / len(present):.3f}, mean IoU {sum(overlaps) / len(present):.3f} over {len(present)} commands")
    return 0


def _write(args: argparse.Namespace, content: dict[str, Any]) -> None:
    if args.json is None:
        return
    from bevstack.evaluation.predictions.submission import write_json

    write_json(args.json, content)
    print(f"written  {args.json}")
