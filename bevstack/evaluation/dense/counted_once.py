"""What scorers keep of each sample. A sample that two processes have both scored would count twice: it is refused."""

from typing import TypeVar

KeptT = TypeVar("KeptT")


class CountedOnce(dict[str, KeptT]):
    """Sample token -> what is kept of it; a token can be set but once."""

    def __setitem__(self, token: str, kept: KeptT) -> None:
        """Keep what was counted in a sample.

        Raises:
            ValueError: the sample is there already.
        """
        if token in self:
            raise ValueError(f"sample {token} is counted already: give each to one scorer only")
        super().__setitem__(token, kept)

    def merge(self, other: "CountedOnce[KeptT]") -> None:
        """Take over all samples of another scorer, or none.

        Raises:
            ValueError: a sample is in both.
        """
        if both := self.keys() & other.keys():
            raise ValueError(f"sample {min(both)} is counted already: give each to one scorer only")
        self.update(other)
