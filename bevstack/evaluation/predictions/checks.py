"""Whether a file of predictions fits the samples that it is to be scored on: looked at before any metric."""

from collections.abc import Sequence

from bevstack.evaluation.predictions.files import PredictionFile
from bevstack.evaluation.predictions.predicted import DENSE_TASKS, Task

_OF_NAMED_OBJECTS: tuple[Task, ...] = ("motion",)
"""Tasks in which a sample may have nothing: the protocol itself asks for its objects."""

_ALWAYS_THERE: tuple[Task, ...] = (*DENSE_TASKS, "planning")
"""Tasks in which there is something to say of every sample."""


def check_predictions(file: PredictionFile, split: str, split_tokens: Sequence[str], tokens: Sequence[str]) -> None:
    """Read everything once, and compare its samples with those of the split.

    Args:
        file: The open file.
        split: Name of the split, for messages.
        split_tokens: All of its samples.
        tokens: Those of them that are to be scored.

    Raises:
        ValueError: a sample is missing or not of the split, or a value is not sound; the message names the file, and
            the sample and field where there is one.
    """
    known, there = set(split_tokens), set(file.sample_tokens)
    extra = [token for token in file.sample_tokens if token not in known]
    if extra:
        raise ValueError(
            f"{file.path}: sample {extra[0]} is not in split '{split}', nor are {len(extra) - 1} other samples of "
            f"{len(there)}: name the split that the file was made for with --split"
        )
    missing = [token for token in tokens if token not in there]
    if missing and any(task not in _OF_NAMED_OBJECTS for task in file.tasks):
        raise ValueError(
            f"{file.path}: sample {missing[0]} of split '{split}' is missing, with {len(missing) - 1} others of "
            f"{len(tokens)}; {_hint(file.tasks)}"
        )
    sparse = [task for task in file.tasks if task not in DENSE_TASKS]
    if sparse:
        file.read(*sparse)
    dense = [task for task in file.tasks if task in DENSE_TASKS]
    if dense:
        for _ in file.parts(*dense):
            pass


def _hint(tasks: Sequence[Task]) -> str:
    if any(task not in _ALWAYS_THERE for task in tasks):
        return "a sample in which nothing is found needs an empty list"
    what = " and ".join(tasks)
    return f"every sample needs its {what}: predict those that are missing, or score fewer samples with --limit"
