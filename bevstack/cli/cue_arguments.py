"""Arguments that say which text a model is given while it is scored."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.evaluation.cue_condition import CueCondition


def add_cue_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a model that reads text; without them it gets the cues that it was trained with."""
    cues = parser.add_argument_group("text for a model that reads cues (default: the cues that it was trained with)")
    cues.add_argument("--cues", metavar="NAME", help="the cues in DATA/cues/NAME, from 'bevstack cues make'")
    cues.add_argument("--cue-age", metavar="S", type=float, help="each frame gets the cue of S seconds before it")
    cues.add_argument("--wrong-cues", metavar="SEED", type=int, help="each frame gets a cue of another scene")
    cues.add_argument("--no-cues", action="store_true", help="no text at all")
    cues.add_argument(
        "--live-cues",
        metavar="CAPTIONER",
        help="describe the frames on the way (zero-shot or hf:OWNER/NAME): each gets the cue of the frame before it",
    )
    cues.add_argument(
        "--text-encoder", metavar="NAME", default="minilm", help="who embeds what --live-cues says (default minilm)"
    )


def cue_condition(args: argparse.Namespace) -> "CueCondition":
    """What the options say."""
    from bevstack.evaluation.cue_condition import CueCondition

    return CueCondition(
        name=args.cues,
        age_s=args.cue_age,
        wrong_seed=args.wrong_cues,
        is_absent=args.no_cues,
        captioner=args.live_cues,
        encoder=args.text_encoder,
    )


def names_cues(args: argparse.Namespace) -> bool:
    """Whether an option says which text is meant."""
    given = (args.cues, args.cue_age, args.wrong_cues, args.live_cues)
    return args.no_cues or any(value is not None for value in given)
