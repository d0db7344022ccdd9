"""Which samples are scored: the split that a user means, and its samples in order."""

from bevstack.data.index import DatasetIndex
from bevstack.types.errors import DatasetError

_DEFAULT_SPLITS = ("val", "mini_val")


def split_tokens(index: DatasetIndex, split: str) -> tuple[str, ...]:
    """Sample tokens of a split, in order of scene and time.

    Raises:
        DatasetError: there is no such split, or none of its scenes is in the tables.
    """
    tokens = tuple(index.sample_tokens[int(row)] for row in index.samples_of_split(split))
    if not tokens:
        raise DatasetError(f"split '{split}' of {index.folder} is empty; name another one with --split")
    return tokens


def choose_split(index: DatasetIndex, split: str | None) -> str:
    """The split to use: the one asked for, else the data set's only one, else nuScenes' validation split.

    Raises:
        DatasetError: several splits fit and none was named.
    """
    if split is not None:
        return split
    splits = index.splits()
    if len(splits) == 1:
        return next(iter(splits))
    for name in _DEFAULT_SPLITS:
        if name in splits:
            return name
    raise DatasetError(f"{index.folder} has the splits {', '.join(splits) or 'none'}: name one with --split")
