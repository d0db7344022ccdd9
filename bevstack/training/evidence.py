"""What is kept of a step whose loss was not finite: enough to run that very forward pass again (`replay.py`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bevstack.types import Batch, Labels

EVIDENCE_FORMAT = "bevstack-evidence-1"


def step_seed(seed: int, batch_idx: int, rank: int) -> int:
    """The seed of one micro-batch: every random number in it follows from these three."""
    return hash((seed, batch_idx, rank)) % 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Saves the batch, the labels and the weights of a step, with what else it depended on."""

    folder: Path
    config_text: str
    """The configuration that the model was built from, as YAML."""
    precision: str
    """32, bf16 or 16: what the run really used."""

    def save(
        self,
        *,
        batch: Batch,
        labels: Labels,
        state: Mapping[str, Tensor],
        step: int,
        rank: int,
        torch_seed: int,
        terms: Sequence[str],
    ) -> Path:
        """Write one file for the first bad micro-batch of a process; tensors and plain values only.

        Args:
            batch: as the model got it.
            labels: of its frames.
            state: the whole state dict of the model.
            step: optimizer steps before this one.
            rank: of the process.
            torch_seed: with which torch was seeded before the forward pass.
            terms: names of the terms that were not finite.
        """
        file = self.folder / f"not_finite_step{step}_rank{rank}.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "format": EVIDENCE_FORMAT,
            "batch": _plain(batch),
            "labels": _plain(labels),
            "model": dict(state),
            "config": self.config_text,
            "precision": self.precision,
            "step": step,
            "rank": rank,
            "torch_seed": torch_seed,
            "threads": torch.get_num_threads(),
            "terms": list(terms),
        }
        torch.save(content, file)
        return file


def read_evidence(file: str | Path) -> dict[str, Any]:
    """The content of a file from `Evidence.save`; `batch` and `labels` are objects again.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or of another kind.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"there is no file {file}; a run leaves it in RUN/evidence/not_finite_*.pt")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, torch.serialization.pickle.UnpicklingError) as error:
        raise ValueError(f"{file} is damaged ({str(error).splitlines()[0]}): copy it again") from error
    if not isinstance(content, dict) or content.get("format") != EVIDENCE_FORMAT:
        raise ValueError(f"{file} is no evidence of a training step: give RUN/evidence/not_finite_*.pt")
    return {**content, "batch": Batch(**content["batch"]), "labels": Labels(**content["labels"])}


def _plain(item: Any) -> dict[str, Any]:
    """The fields of a slotted dataclass, so that `torch.load(weights_only=True)` reads them."""
    return {name: getattr(item, name) for name in item.__dataclass_fields__}
