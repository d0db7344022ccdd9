"""Conditions under which a comparison fails: `det.NDS < -0.5` fails when B has lost more than half a point of NDS.

    [ROW:]FIGURE (< | <= | > | >=) NUMBER [significant]

The number is compared with B - A, in points where the figure is a fraction and in its own unit elsewhere. With
`significant` the condition holds only where the 95 % interval of the difference leaves out zero as well. Several
conditions stand in one text with ; or , between them; one that holds is enough to fail. A figure that was not measured
is an error, never a pass.
"""

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bevstack.types.errors import did_you_mean

_CONDITION = re.compile(
    r"^(?:(?P<row>[\w-]+):)?(?P<figure>[^<>=\s](?:[^<>=]*[^<>=\s])?)\s*(?P<sign><=|>=|<|>)\s*"
    r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?P<rest>.*)$"
)
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_EXAMPLE = "'det.NDS < -0.5' or 'fusion:det.mATE > 0.02 significant'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A difference as the table shows it."""

    difference: float | None
    """B - A, in points or the figure's own unit."""
    is_significant: bool | None
    """None where there is no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a gate."""

    text: str
    row: str | None
    """None means every row of the comparison."""
    figure: str
    sign: str
    number: float
    needs_significance: bool

    def holds(self, table: Mapping[str, Mapping[str, Shown]]) -> list[str]:
        """The rows in which it holds. The table is row -> figure -> difference.

        Raises:
            ValueError: a row or figure does not exist or was not measured, or significance is asked for without an
                interval.
        """
        if self.row is not None and self.row not in table:
            raise ValueError(
                f"'{self.text}': there is no row '{self.row}'{did_you_mean(self.row, table)}; there are "
                f"{', '.join(table)}"
            )
        return [name for name in table if self.row in (None, name) and self._holds_in(table[name])]

    def _holds_in(self, figures: Mapping[str, Shown]) -> bool:
        if self.figure not in figures:
            raise ValueError(f"'{self.text}': there is no figure '{self.figure}'{did_you_mean(self.figure, figures)}")
        shown = figures[self.figure]
        if shown.difference is None:
            raise ValueError(f"'{self.text}': {self.figure} was not measured in both runs, so the gate cannot tell")
        if self.needs_significance and shown.is_significant is None:
            raise ValueError(f"'{self.text}': {self.figure} has no interval here, so nothing is known of significance")
        is_met = bool(_OPERATORS[self.sign](shown.difference, self.number))
        return is_met and (not self.needs_significance or bool(shown.is_significant))


def parse_conditions(texts: Iterable[str]) -> tuple[Condition, ...]:
    """Read the texts of conditions.

    Raises:
        ValueError: one is not of the form that the file says.
    """
    conditions = []
    for part in (part.strip() for text in texts for part in re.split(r"[;,]", text)):
        if not part:
            raise ValueError(f"an empty condition; it must look like {_EXAMPLE}")
        found = _CONDITION.match(part)
        if found is None:
            raise ValueError(f"'{part}' is no condition: it must look like {_EXAMPLE}")
        rest = found["rest"].strip()
        if rest not in ("", "significant"):
            hint = did_you_mean(rest, ["significant"])
            raise ValueError(f"'{part}': what is '{rest}' after the number{hint}? Only 'significant' can stand there")
        conditions.append(
            Condition(
                text=part,
                row=found["row"],
                figure=found["figure"],
                sign=found["sign"],
                number=float(found["number"]),
                needs_significance=bool(rest),
            )
        )
    return tuple(conditions)
