"""One training run from configuration to weights file: what `bevstack train` does between parsing and evaluating."""

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from omegaconf import DictConfig, OmegaConf

from bevstack.build import build_frames, build_loader, build_model, instantiate, portable_yaml
from bevstack.training.balancing import FixedWeights
from bevstack.training.checkpoint import Averaging, Checkpointing, TrainingInterrupted, signals_collected
from bevstack.training.data import SampleStream, TrainingData
from bevstack.training.ema import WeightAverage
from bevstack.training.evidence import Evidence
from bevstack.training.gradient_cosine import cosine_columns
from bevstack.training.metrics_log import MetricsLog, columns_for
from bevstack.training.module import TrainingModule
from bevstack.training.precision import resolved_precision, uses_gpu
from bevstack.training.progress import Progress
from bevstack.training.run_folder import RunFolder, create_run_folder, data_hash
from bevstack.training.settings import Strategy, TrainerSettings
from bevstack.training.tasks import tasks_of
from bevstack.training.transfer import load_matching
from bevstack.types import FrameSource
from bevstack.weights_file import RUN_WEIGHTS, SHIPPED, describe, read_checkpoint, weights_path, write_weights

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a run left behind."""

    folder: Path
    weights: Path | None
    """The averaged weights; None where the run was interrupted."""
    checkpoint: Path
    steps: int
    losses: dict[str, float]
    """Of the last step, and `val/...` of the last validation."""
    signal_number: int = 0
    """What interrupted the run; 0 where it went to its end."""
    is_first_process: bool = True
    """False in the other processes of a distributed run, which have nothing to report."""


@dataclass(frozen=True, slots=True)
class _Processes:
    """This process among those that train together (started by torchrun), and their number on this machine."""

    rank: int
    world_size: int
    local_world_size: int

    @classmethod
    def from_environment(cls) -> "_Processes":
        return cls(*(int(os.environ.get(name, default)) for name, default in
                     (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_WORLD_SIZE", "1"))))  # fmt: skip


def run_training(
    config: DictConfig,
    *,
    resume: RunFolder | None = None,
    sources: Mapping[str, FrameSource] | None = None,
    say: Callable[[str], None] = _LOG.info,
) -> TrainingResult:
    """Train the configured model.

    Args:
        config: from `compose`, or the stored one of the run that is resumed.
        resume: continue this run from its newest checkpoint; the weights at the end are those that the run would have
            had without the interruption, bit by bit on the same machine and number of threads.
        sources: frames to use for "train" and "val" in place of the configured data.
        say: receives lines for the user, on the first process only.

    Raises:
        ValueError: the configuration does not fit together, the loss is not finite, or the data of a resumed run has
            changed.
        DatasetError: the data is not usable.
    """
    processes = _Processes.from_environment()
    config = resolved_precision(config)
    settings: TrainerSettings = instantiate(config, "trainer")
    torch.set_num_threads(settings.thread_count(processes.local_world_size))
    seed_everything(int(config.seed), verbose=False)
    # A debugging aid that costs a write of every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    say = say if processes.rank == 0 else _silent
    run = _Run(config, settings, processes, sources or {}, say)
    folder, checkpoint = run.open_folder(resume)
    with signals_collected() as stop_signals:
        return run.train(folder, checkpoint, stop_signals)


class _Run:
    """The parts of one run, made in the order in which they need each other."""

    def __init__(
        self,
        config: DictConfig,
        settings: TrainerSettings,
        processes: _Processes,
        sources: Mapping[str, FrameSource],
        say: Callable[[str], None],
    ) -> None:
        self.config, self.settings, self.processes, self.say = config, settings, processes, say
        self.is_first = processes.rank == 0
        self.data_hash = "" if "train" in sources else _configured_hash(config)
        train_source = sources.get("train") or build_frames(config, "train")
        self.train_loader = self._loader(train_source, "train")
        self.val_loader = None
        if settings.validate_every_epochs is not None:
            self.val_loader = self._loader(sources.get("val") or build_frames(config, "val"), "val")
        self.steps_per_epoch = len(self.train_loader) / settings.accumulate
        self.total_steps = settings.total_steps(self.steps_per_epoch)
        say(
            f"{len(train_source)} training frames, {self.total_steps} steps of {settings.batch_size} frames "
            f"({self.total_steps / max(self.steps_per_epoch, 1e-9):.1f} epochs), {processes.world_size} process"
            f"{'es' if processes.world_size > 1 else ''} x {torch.get_num_threads()} threads"
        )

    def open_folder(self, resume: RunFolder | None) -> tuple[RunFolder, Path | None]:
        """The run folder, new or resumed, and the checkpoint to go on from."""
        if resume is not None:
            checkpoint = resume.newest_checkpoint()
            stored = read_checkpoint(checkpoint)["bevstack"]["metadata"]
            if stored["data_hash"] != self.data_hash:
                raise ValueError(
                    f"the training data is not that of {resume.path} any more (data hash {self.data_hash}, was "
                    f"{stored['data_hash']}): restore it, or start a new run with init_from={checkpoint}"
                )
            return resume, checkpoint
        agreed = ["", ""]
        if self.is_first:
            if self.config.init_from not in (None, *SHIPPED):
                # `latest` means the run before this one, and the stored configuration says which that was.
                self.config.init_from = str(weights_path(self.config.init_from).resolve())
            made = create_run_folder(self.config.run_root, self.config.name, self.config, self.data_hash)
            agreed = [str(made.path), self.config.init_from or ""]
        path, init_from = _from_first_process(agreed, self.processes.world_size, uses_gpu(self.settings.accelerator))
        self.config.init_from = init_from or None
        return RunFolder(Path(path)), None

    def train(self, folder: RunFolder, checkpoint: Path | None, stop_signals: list[int]) -> TrainingResult:
        """Fit, and leave the averaged weights in the folder."""
        module = self._module(folder, is_resumed=checkpoint is not None)
        first_step = 0 if checkpoint is None else int(read_checkpoint(checkpoint)["global_step"])
        average = WeightAverage(module.model, self.settings.ema_decay)
        description = describe(portable_yaml(self.config), step=0, data_hash=self.data_hash)
        checkpointing = Checkpointing(
            folder,
            minutes=self.settings.checkpoint_minutes,
            steps=self.settings.checkpoint_steps,
            keep=self.settings.keep_checkpoints,
            max_minutes=self.settings.max_minutes,
            stop_signals=stop_signals,
        )
        accumulate = self.settings.accumulate
        stream = SampleStream(self.train_loader, first=first_step * accumulate, total=self.total_steps * accumulate)
        progress = self._progress(folder, module, first_step)
        _quieten_lightning()
        trainer = self._trainer([Averaging(average, description), checkpointing, progress], len(stream))
        self.say(f"run folder {folder.path}" + (f", resumed at step {first_step}" if checkpoint else ""))
        signal_number = 0
        try:
            data = TrainingData(stream, self.val_loader)
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except TrainingInterrupted as interruption:
            signal_number = interruption.signal_number
        averaged = average.whole(module.model)  # all processes take part
        weights = None
        if not signal_number and self.is_first:
            weights = write_weights(
                folder.path / RUN_WEIGHTS, averaged, {**description, "step": str(trainer.global_step)}
            )
        losses = {**module.latest, **{f"val/{name}": value for name, value in module.validation.items()}}
        return TrainingResult(
            folder=folder.path,
            weights=weights,
            checkpoint=folder.checkpoint_of(trainer.global_step),
            steps=trainer.global_step,
            losses=losses,
            signal_number=signal_number,
            is_first_process=self.is_first,
        )

    def _loader(self, source: FrameSource, part: Any) -> Any:
        return build_loader(
            self.config,
            source,
            part,
            batch_size=self.settings.micro_batch_size(self.processes.world_size),
            num_workers=self.settings.workers,
            num_replicas=self.processes.world_size,
            rank=self.processes.rank,
            pin_memory=uses_gpu(self.settings.accelerator),
        )

    def _module(self, folder: RunFolder, *, is_resumed: bool) -> TrainingModule:
        model = build_model(self.config)
        if self.config.get("init_from") is not None and not is_resumed:
            report = load_matching(model, self.config.init_from)
            self.say("\n".join([f"weights from {self.config.init_from}:", *report.lines()]))
        if self.settings.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = flat_weights(self.config.loss_weights)
        return TrainingModule(
            model=model,
            loss_weights=weights,
            optim=instantiate(self.config, "optim"),
            total_steps=self.total_steps,
            seed=int(self.config.seed),
            grad_clip=self.settings.grad_clip,
            balance=self._balance(weights),
            gradient_cosine_every=self.settings.gradient_cosine_every,
            evidence=Evidence(
                folder=folder.path / "evidence",
                config_text=portable_yaml(self.config),
                precision=str(self.settings.precision),
            ),
            shards_parameters=self._shards_parameters,
        )

    @property
    def _shards_parameters(self) -> bool:
        return self.settings.strategy == "fsdp" and self.processes.world_size > 1

    def _balance(self, weights: Mapping[str, float]) -> FixedWeights:
        """How the losses of the tasks are weighed against each other.

        Raises:
            ValueError: it needs the gradient of each task by itself, and the other settings do not give that.
        """
        tasks = tasks_of(weights)
        make_balance = instantiate(self.config, "balance") if self.config.get("balance") else FixedWeights
        balance = make_balance(tasks=tasks)
        if balance.needs_task_gradients or self.settings.gradient_cosine_every is not None:
            what = f"balance={type(balance).__name__}" if balance.needs_task_gradients else "gradient_cosine_every"
            if str(self.settings.precision) == "16":
                raise ValueError(f"{what} takes gradients that no scaler protects: use trainer.precision=bf16 or 32")
            if self._shards_parameters:
                raise ValueError(f"{what} needs whole parameters in each process: use trainer.strategy=ddp")
        return balance

    def _progress(self, folder: RunFolder, module: TrainingModule, first_step: int) -> Progress:
        log = None
        if self.is_first:
            more = [f"train/balance/{name}" for name in module.balance.values()]
            if module.gradient_cosine_every is not None:
                more += cosine_columns(module.tasks)
            columns = columns_for(list(module.loss_weights), more)
            log = MetricsLog(folder.metrics_file, folder.path / "tensorboard", columns, first_step=first_step)
        return Progress(
            total_steps=self.total_steps,
            batch_size=self.settings.batch_size,
            steps_per_epoch=self.steps_per_epoch,
            log=log,
            log_every_steps=self.settings.log_every_steps,
            is_shown=self.is_first,
        )

    def _trainer(self, callbacks: list[Any], num_batches: int) -> Trainer:
        settings, world_size = self.settings, self.processes.world_size
        validate_every = settings.validate_every_epochs
        interval = 0 if validate_every is None else round(validate_every * len(self.train_loader))
        gpu = uses_gpu(settings.accelerator)
        return Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=self.processes.local_world_size,
            num_nodes=world_size // self.processes.local_world_size,
            strategy=_strategy(settings.strategy, world_size, gpu),
            plugins=[TorchElasticEnvironment() if world_size > 1 else LightningEnvironment()],
            precision=_precision(settings),
            max_epochs=1,  # one pass over the stream is the whole run
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.grad_clip,
            val_check_interval=min(max(interval, 1), num_batches),
            check_val_every_n_epoch=None,
            limit_val_batches=(settings.val_batches or 1.0) if self.val_loader is not None else 0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the loader shards by itself
            sync_batchnorm=settings.sync_batchnorm and gpu and world_size > 1,
            deterministic="warn" if settings.deterministic else False,
            benchmark=gpu and not settings.deterministic,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def _precision(settings: TrainerSettings) -> Any:
    """Lightning's name of the precision."""
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[str(settings.precision)]


def _strategy(kind: Strategy, world_size: int, gpu: bool) -> Any:
    if world_size == 1:
        return "auto"
    backend = "nccl" if gpu else "gloo"
    if kind == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=world_size,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,  # one file with whole tensors, as every other run leaves
            process_group_backend=backend,
        )
    # Frames without cameras or LiDAR leave an encoder without gradient in that process.
    # Validation gives processes different numbers of batches, so buffers must not be exchanged in each forward pass.
    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False, process_group_backend=backend)


def flat_weights(loss_weights: DictConfig) -> dict[str, float]:
    """`{m3net: {detection: {heatmap: 1}}}` as `{"m3net/detection/heatmap": 1}`, to any depth; null is left out."""

    def flat(node: Any, path: str) -> dict[str, float]:
        if not isinstance(node, dict):
            return {} if node is None else {path: float(node)}
        return {name: value for key, below in node.items() for name, value in flat(below, f"{path}/{key}").items()}

    weights = flat(OmegaConf.to_container(loss_weights, resolve=True), "")
    return {name.removeprefix("/"): value for name, value in weights.items()}


def _configured_hash(config: DictConfig) -> str:
    data = config.data
    if OmegaConf.is_missing(data, "root") or not data.root:
        return ""  # build_frames says what is missing
    return data_hash(data.root, data.version, data.train_split)


def _from_first_process(values: list[str], world_size: int, gpu: bool) -> list[str]:
    """What the first process says, in all processes, which give lists of the same length."""
    if world_size == 1:
        return values
    if not torch.distributed.is_initialized():  # the trainer finds it and makes no other
        if gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if gpu else "gloo")
    torch.distributed.broadcast_object_list(values, src=0)
    return values


def _quieten_lightning() -> None:
    """Advice that does not apply: the stream does resume, workers are chosen, eval-mode parts are meant."""
    advice = ("is not resumable", "does not have many workers", "in eval mode", "number of training batches",
              "treespec", "broadcast_buffers", "`IterableDataset`", "non-empty")  # fmt: skip
    for words in advice:
        warnings.filterwarnings("ignore", message=f"(?s).*{words}.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _silent(_: str) -> None:
    """Only the first process speaks."""
