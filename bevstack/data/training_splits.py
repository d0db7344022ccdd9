"""Which splits ground truth may be read of to make an input: those for training, and no other.

A name decides, because a name is what a user chooses on purpose: the official training splits, and splits of one's own
whose name begins with "train". Whatever else a split is called (val, test, the whole of a world), it is refused. Where
the scenes are known too, a training split that shares a scene with a split of another kind is refused as well.
"""

from bevstack.data.index import DatasetIndex

_OFFICIAL = ("train", "mini_train", "train_detect", "train_track")
_HELD_OUT_WORDS = ("val", "test", "held", "eval")


def is_training_split(split: str) -> bool:
    """Whether a split is one to learn from, by its name."""
    words = split.lower().replace("-", "_").split("_")
    is_held_out = any(word.startswith(_HELD_OUT_WORDS) for word in words)
    return split in _OFFICIAL or (words[0] == "train" and not is_held_out)


def check_training_split(split: str, index: DatasetIndex | None = None) -> None:
    """Refuse ground truth of a split that is not for training.

    Args:
        split: name of the split.
        index: of the data set; with it, scenes that are in a held-out split too are found.

    Raises:
        ValueError: the split is not for training, or shares scenes with one that is held out.
    """
    if not is_training_split(split):
        raise ValueError(
            f"split '{split}' is not for training: text refined with its ground truth would carry the answers into "
            "the input. Refine it with estimates, or not at all; to train on scenes of your own, name them in a split "
            'whose name begins with "train" (splits.json beside the tables)'
        )
    if index is None:
        return
    scenes = set(index.scenes_of_split(split))
    for other in index.splits():
        if not _is_held_out(other):
            continue
        shared = scenes.intersection(index.scenes_of_split(other))
        if shared:
            name = index.scenes[min(shared)].name
            raise ValueError(
                f"split '{split}' has {len(shared)} scenes of the held-out split '{other}', {name} for one: text "
                f"refined with their ground truth would carry the answers into the input. Take them out of '{split}'"
            )


def _is_held_out(split: str) -> bool:
    return any(word.startswith(_HELD_OUT_WORDS) for word in split.lower().replace("-", "_").split("_"))
