"""One training step: forward, named losses, one weighted sum. Everything else in this package serves these lines."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from bevstack.model import DrivingModel
from bevstack.training.balancing import FixedWeights
from bevstack.training.evidence import Evidence, step_seed
from bevstack.training.frozen import freeze, keep_still
from bevstack.training.gradient_cosine import gradient_cosines
from bevstack.training.optim import OptimSettings
from bevstack.training.sharding import gathered_state, is_sharded, shard, whole
from bevstack.training.task_gradients import TaskGradients
from bevstack.training.tasks import shared_parameters, task_losses, tasks_of
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
        balance: how the losses of several tasks are weighed against each other; None adds them up.
        gradient_cosine_every: compare the gradients of the tasks every so many steps; None never.
        evidence: saves the batch of a step with a non-finite loss; None saves nothing.
        shards_parameters: each process keeps a part of every parameter (FSDP2).
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
        balance: FixedWeights | None = None,
        gradient_cosine_every: int | None = None,
        evidence: Evidence | None = None,
        shards_parameters: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self._frozen = freeze(model, optim.frozen)
        keep_still(self._frozen)
        self.loss_weights = dict(loss_weights)
        self.optim = optim
        self.total_steps = total_steps
        self.seed = seed
        self.grad_clip = grad_clip
        self.tasks = tasks_of(self.loss_weights)
        self.balance = balance or FixedWeights(tasks=self.tasks)
        self.gradient_cosine_every = gradient_cosine_every
        self.evidence = evidence
        self.shards_parameters = shards_parameters
        self.latest: dict[str, float] = {}
        """Losses (mean over the whole batch of a step) and gradient norm of the latest step, for the log."""
        self.validation: dict[str, float] = {}
        """Mean losses of the latest validation."""
        self.cosines: dict[str, float] = {}
        """From `gradient_cosines`, in the steps that compare the gradients of the tasks; else empty."""
        self._task_gradients: TaskGradients | None = None
        if self.balance.needs_task_gradients or gradient_cosine_every is not None:
            shared = shared_parameters(model, self.tasks, self.balance.shared)
            self._task_gradients = TaskGradients(self.tasks, list(shared.values()))
        self._step_terms: list[Tensor] = []
        self._validation_sums: dict[str, float] = {}
        self._validation_frames = 0

    def train(self, mode: bool = True) -> "TrainingModule":
        """Training or evaluation mode; what is frozen stays in the latter."""
        super().train(mode)
        keep_still(self._frozen)
        return self

    def training_step(self, sample: Sample, batch_idx: int) -> Tensor:
        """The loss of one micro-batch."""
        batch, labels = sample
        seed = step_seed(self.seed, batch_idx, self.global_rank)
        torch.manual_seed(seed)
        terms = self.model.loss(self.model(batch), labels)
        losses = self._task_losses(terms)
        self._check_finite(terms, batch, labels, seed)
        if self._task_gradients is not None and (self.balance.needs_task_gradients or self._compares_gradients):
            self._task_gradients.add(losses, 1.0 / self.trainer.accumulate_grad_batches)
        total = torch.stack([loss.detach() for loss in losses.values()]).sum()
        self._step_terms.append(torch.stack([total, *(terms[name].detach() for name in self.loss_weights)]))
        return self.balance.objective(losses)

    def weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss that is logged, whatever the balance: all terms with their fixed weights.

        Raises:
            ValueError: a term has no weight, or a weight no term.
        """
        return torch.stack(list(self._task_losses(terms).values())).sum()

    def configure_model(self) -> None:
        """Hand a part of every parameter to each process, where that is wanted."""
        if self.shards_parameters and not is_sharded(self.model):
            shard(self.model, self.device_mesh["data_parallel"])  # type: ignore[index]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Losses of the whole step; then the balance may change the gradient of the shared parameters."""
        values = self._mean_over_processes(torch.stack(self._step_terms).mean(dim=0)).tolist()
        self._step_terms = []
        self.latest = dict(zip(("loss", *self.loss_weights), values, strict=True))
        gradients = None
        self.cosines = {}
        if self._task_gradients is not None and (self.balance.needs_task_gradients or self._compares_gradients):
            gradients = self._task_gradients.take(self._mean_over_processes)
            if self._compares_gradients:
                self.cosines = gradient_cosines(gradients, self.tasks)
        if self.shards_parameters:  # what is not sharded is not averaged over the processes either
            for parameter in self.balance.parameters():
                parameter.grad = None if parameter.grad is None else self._mean_over_processes(parameter.grad)
        terms = {name: torch.tensor(self.latest[name], device=self.device) for name in self.loss_weights}
        losses = torch.stack(list(task_losses(terms, self.loss_weights).values()))
        generator = torch.Generator().manual_seed(step_seed(self.seed, self.global_step, 0))
        replacement = self.balance.after_backward(losses, gradients, generator)
        if replacement is not None:
            assert self._task_gradients is not None
            self._task_gradients.assign(replacement)
        self.latest |= {f"balance/{name}": value for name, value in self.balance.values().items()}

    def _task_losses(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if terms.keys() != self.loss_weights.keys():
            raise ValueError(
                f"loss_weights names {sorted(self.loss_weights)}, the model has the terms {sorted(terms)}: "
                "give each term exactly one weight"
            )
        return task_losses({name: terms[name] for name in self.loss_weights}, self.loss_weights)

    @property
    def _compares_gradients(self) -> bool:
        """Whether this step, by the number that the log gives it, compares the gradients of the tasks."""
        every = self.gradient_cosine_every
        return every is not None and ((self.global_step + 1) % every == 0 or self.global_step == 0)

    def _mean_over_processes(self, tensor: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(tensor, reduce_op="mean")

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limit the norm of all the model's gradients together; one that is not finite ends the run before it harms.

        With float16 the scaler skips such a step by itself and lowers its scale.
        """
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = float(whole(nn.utils.clip_grad_norm_(parameters, self.grad_clip or float("inf"))))
        self.latest["grad_norm"] = norm
        if not math.isfinite(norm) and str(self.trainer.precision) != "16-mixed":
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
        learned = list(self.balance.parameters())
        more = [{"params": learned, "lr_scale": getattr(self.balance, "lr_scale", 1.0), "weight_decay": 0.0}]
        optimizer, scheduler = self.optim.build(self.model, self.total_steps, more if learned else ())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _check_finite(self, terms: Mapping[str, Tensor], batch: Batch, labels: Labels, seed: int) -> None:
        """End the run at the first term that is not finite, with what is needed to see why.

        Raises:
            ValueError: names the term, the step, the frames and the saved batch.
        """
        values = torch.stack([term.detach().float() for term in terms.values()])  # one look for all: one GPU wait
        is_wrong = bool((~torch.isfinite(values)).any())
        state = None
        if self.shards_parameters:  # all processes must take part where one wants the whole weights
            anywhere = torch.tensor(float(is_wrong), device=values.device)
            if self.trainer.strategy.reduce(anywhere, reduce_op="sum") > 0:
                state = gathered_state(self.model)
        if not is_wrong:
            return
        wrong = [name for name, value in zip(terms, values.tolist(), strict=True) if not math.isfinite(value)]
        saved = ""
        if self.evidence is not None:
            file = self.evidence.save(
                batch=batch,
                labels=labels,
                state=self.model.state_dict() if state is None else state,
                step=self.global_step,
                rank=self.global_rank,
                torch_seed=seed,
                terms=wrong,
            )
            saved = f"; batch and weights are in {file}: bevstack replay {file}"
        named = [f"{name} is {float(terms[name].detach())}" for name in wrong]
        raise ValueError(
            f"the loss is not finite at step {self.global_step}: {', '.join(named)} (frames "
            f"{', '.join(batch.tokens)}){saved}; lower optim.optimizer.lr or look at these frames"
        )
