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


def cue_condition(args: argparse.Namespace) -> "CueCondition":
    """What the options say."""
    from bevstack.evaluation.cue_condition import CueCondition

    return CueCondition(name=args.cues, age_s=args.cue_age, wrong_seed=args.wrong_cues, is_absent=args.no_cues)
