"""Losses by step, in `metrics.csv` and for TensorBoard. A resumed run continues the file where it stopped."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

LEADING_COLUMNS = ("step", "epoch", "elapsed_s", "lr", "samples_per_s", "data_wait", "train/grad_norm")


def columns_for(terms: Sequence[str], more: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of `metrics.csv`: `train/loss`, `train/<head>/<term>`, the same under `val/`, and `more`."""
    names = ("loss", *terms)
    return (*LEADING_COLUMNS, *(f"train/{name}" for name in names), *(f"val/{name}" for name in names), *more)


class MetricsLog:
    """Writes one row per logged step; validation makes a row of its own.

    Args:
        csv_file: made or continued.
        tensorboard_folder: made or continued; None writes the table only.
        columns: from `columns_for`.
        first_step: rows of later steps than this come from work that was lost when the run was killed; they go.
    """

    def __init__(
        self, csv_file: Path, tensorboard_folder: Path | None, columns: Sequence[str], *, first_step: int
    ) -> None:
        self.elapsed_before_s = 0.0
        rows = [row for row in read_metrics(csv_file) if row["step"] <= first_step] if first_step else []
        if rows:
            self.elapsed_before_s = rows[-1]["elapsed_s"]
        # What was logged before the run was resumed with other settings stays.
        self._columns = tuple(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
        self._file = csv_file.open("w", newline="")
        self._table = csv.DictWriter(self._file, self._columns, restval="")
        self._table.writeheader()
        self._table.writerows(rows)
        self._file.flush()
        self._board = (
            None
            if tensorboard_folder is None
            else SummaryWriter(str(tensorboard_folder), purge_step=first_step + 1 if first_step else None)
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row. `values` by column name; a column that is not given stays empty."""
        self._table.writerow({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if name not in ("epoch", "elapsed_s"):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush everything to disk."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(csv_file: Path) -> list[dict[str, float]]:
    """Rows of a `metrics.csv`, without empty cells; none where there is no file. A row cut short is left out."""
    if not csv_file.is_file():
        return []
    with csv_file.open(newline="") as opened:
        table = csv.DictReader(opened)
        rows = [row for row in table if None not in row.values()]
    return [{name: float(text) for name, text in row.items() if text} for row in rows if row.get("step")]
