"""Where a plan comes from and why, as planning files and reports carry it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOrigin:
    """Of one plan; empty where a file does not say."""

    source: str = ""
    """Of our planners `learned`, `candidate` or `fallback_stop`, see `bevstack.types.trajectory.Plan`."""
    reasons: tuple[str, ...] = ()
    """Why candidates were rejected or the fallback was taken."""

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "PlanOrigin":
        """From the fields `source` and `reasons` of a plan in a file, each of which may be left out or null.

        Raises:
            ValueError: a field is none of text; the message begins with its name.
        """
        source, reasons = record.get("source"), record.get("reasons")
        if source is not None and not isinstance(source, str):
            raise ValueError(f"field 'source' is {source!r}, it must be text or null")
        if reasons is not None and not (isinstance(reasons, list) and all(isinstance(each, str) for each in reasons)):
            raise ValueError(f"field 'reasons' is {reasons!r}, it must be a list of texts or null")
        return cls(source=source or "", reasons=tuple(reasons or ()))

    def record(self) -> dict[str, Any]:
        """The fields of a plan in a file; none where nothing is said."""
        record: dict[str, Any] = {"source": self.source, "reasons": list(self.reasons)}
        return record if self != PlanOrigin() else {}


def said_origins(origins: Sequence[PlanOrigin]) -> tuple[PlanOrigin, ...]:
    """The origins of all plans; none where no plan says anything."""
    return tuple(origins) if any(each != PlanOrigin() for each in origins) else ()


def joined_origins(parts: Sequence[tuple[int, tuple[PlanOrigin, ...]]]) -> tuple[PlanOrigin, ...]:
    """Of several sets of plans, each with its number of plans and its origins, one after the other."""
    return said_origins([each for count, origins in parts for each in origins or (PlanOrigin(),) * count])
