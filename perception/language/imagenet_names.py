"""Names of the 1000 ImageNet classes (Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015).

One a line in `imagenet_names.txt`, in the order of the outputs of every ImageNet classifier.
"""

from functools import cache
from importlib import resources

NUM_CLASSES = 1000


@cache
def imagenet_names() -> tuple[str, ...]:
    """The names, each of them once."""
    text = resources.files(__package__ or __name__).joinpath("imagenet_names.txt").read_text(encoding="utf-8")
    return tuple(text.split("\n")[:NUM_CLASSES])
