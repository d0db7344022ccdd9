"""One training step: forward, named losses, one weighted sum. Everything else in this package serves these lines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from bevstack.model import DrivingModel
from bevstack.training.optim import OptimSettings
from bevstack.types import Batch, Labels

Sample = tuple[Batch, Labels]


class TrainingModule(LightningModule):
    """A model with its losses, for the trainer.

    Args:
        model: forward(batch) -> outputs; loss(outputs, labels) -> unweighted terms named "head/term".
        loss_weights: weight of every term; each term needs one and no other may be named. Applied here, once.
        optim: optimizer and schedule.
        total_steps: optimizer steps of the run, for the schedule.
        seed: every random number of step n follows from (seed, n), so a resumed run draws the same ones.
        grad_clip: largest norm of all gradients together; None for no limit.
        evidence_folder: where the batch of a step with a non-finite loss is saved.
    """

    def __init__(
        self,
        *,
        model: DrivingModel,
        loss_weights: Mapping[str, float],
        optim: OptimSettings,
        total_steps: int,
        seed: int,
        grad_clip: float | None = None,
        evidence_folder: Path | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss_weights = dict(loss_weights)
        self.optim = optim
        self.total_steps = total_steps
        self.seed = seed
        self.grad_clip = grad_clip
        self.evidence_folder = evidence_folder
        self.latest: dict[str, float] = {}
        """Losses (mean over the whole batch of a step) and gradient norm of the latest step, for the log."""
        self.validation: dict[str, float] = {}
        """Mean losses of the latest validation."""
        self._step_terms: list[Tensor] = []
        self._validation_sums: dict[str, float] = {}
        self._validation_frames = 0

    def training_step(self, sample: Sample, batch_idx: int) -> Tensor:
        """The loss of one micro-batch."""
        batch, labels = sample
        torch.manual_seed(hash((self.seed, batch_idx, self.global_rank)) % 2**63)
        terms = self.model.loss(self.model(batch), labels)
        loss = self.weighted_sum(terms)
        self._check_finite(terms, batch, labels)
        self._step_terms.append(torch.stack([loss.detach(), *(terms[name].detach() for name in self.loss_weights)]))
        return loss

    def weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The one loss.

        Raises:
            ValueError: a term has no weight, or a weight no term.
        """
        if terms.keys() != self.loss_weights.keys():
            raise ValueError(
                f"loss_weights names {sorted(self.loss_weights)}, the model has the terms {sorted(terms)}: "
                "give each term exactly one weight"
            )
        return torch.stack([self.loss_weights[name] * term for name, term in terms.items()]).sum()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limit the norm of all gradients together; a gradient that is not finite ends the run before it does harm.

        With float16 the scaler skips such a step by itself and lowers its scale.
        """
        parameters = [parameter for parameter in self.parameters() if parameter.grad is not None]
        norm = float(nn.utils.clip_grad_norm_(parameters, self.grad_clip or float("inf")))
        means = torch.stack(self._step_terms).mean(dim=0)
        self._step_terms = []
        values = self.trainer.strategy.reduce(means, reduce_op="mean").tolist()
        self.latest = dict(zip(("loss", *self.loss_weights), values, strict=True)) | {"grad_norm": norm}
        if not torch.isfinite(torch.tensor(norm)) and str(self.trainer.precision) != "16-mixed":
            raise ValueError(
                f"the gradient is not finite at step {self.global_step} although the loss is: lower "
                "optim.optimizer.lr, or train with trainer.precision=32"
            )

    def validation_step(self, sample: Sample, batch_idx: int) -> None:
        """Add the losses of one batch to the running mean."""
        batch, labels = sample
        terms = self.model.loss(self.model(batch), labels)
        values = {"loss": float(self.weighted_sum(terms)), **{name: float(term) for name, term in terms.items()}}
        for name, value in values.items():
            self._validation_sums[name] = self._validation_sums.get(name, 0.0) + value * batch.batch_size
        self._validation_frames += batch.batch_size

    def on_validation_epoch_end(self) -> None:
        """Mean over the frames of all processes."""
        names = sorted(self._validation_sums)
        sums = torch.tensor(
            [float(self._validation_frames), *(self._validation_sums[name] for name in names)],
            dtype=torch.float64,
            device="cpu" if self.device.type == "cpu" else self.device,
        )
        totals = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        self.validation = {name: total / max(totals[0], 1.0) for name, total in zip(names, totals[1:], strict=True)}
        self._validation_sums, self._validation_frames = {}, 0

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule; the schedule advances with each optimizer step."""
        optimizer, scheduler = self.optim.build(self.model, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _check_finite(self, terms: Mapping[str, Tensor], batch: Batch, labels: Labels) -> None:
        """End the run at the first term that is not finite, with what is needed to see why.

        Raises:
            ValueError: names the term, the step, the frames and the saved batch.
        """
        values = torch.stack([term.detach().float() for term in terms.values()])  # one look for all: one GPU wait
        if bool(torch.isfinite(values).all()):
            return
        wrong = [f"{name} is {value}" for name, value in zip(terms, values.tolist(), strict=True)
                 if not torch.isfinite(torch.tensor(value))]  # fmt: skip
        saved = ""
        if self.evidence_folder is not None:
            file = self.evidence_folder / f"not_finite_step{self.global_step}_rank{self.global_rank}.pt"
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"batch": _plain(batch), "labels": _plain(labels), "model": self.model.state_dict()}, file)
            saved = f"; batch and weights are in {file}"
        raise ValueError(
            f"the loss is not finite at step {self.global_step}: {', '.join(wrong)} (frames "
            f"{', '.join(batch.tokens)}){saved}; lower optim.optimizer.lr or look at these frames"
        )


def _plain(item: Any) -> dict[str, Any]:
    """The fields of a slotted dataclass, so that `torch.load(weights_only=True)` reads them."""
    return {name: getattr(item, name) for name in item.__dataclass_fields__}
