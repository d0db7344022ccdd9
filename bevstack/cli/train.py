"""`bevstack train`: a Hydra experiment from overrides to weights, scores and a report."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from bevstack.training.fit import TrainingResult
    from bevstack.training.run_folder import RunFolder

EXIT_SIGNAL = 128
"""Added to the signal's number where a signal ended the run: 130 after Ctrl-C, 143 after SIGTERM."""

_HELP = """usage: bevstack train experiment=NAME [KEY=VALUE ...]
       bevstack train resume=RUN [KEY=VALUE ...]
       torchrun --nproc_per_node N -m bevstack train experiment=NAME [KEY=VALUE ...]

Train a model. Everything is chosen by Hydra overrides; the run goes to runs/NAME/TIME, and runs/latest leads there.

experiments
{experiments}

important keys                          (bevstack train experiment=NAME --cfg shows all of them)
  data.root=DIR  data.val_root=DIR      folder to train on, folder to validate and evaluate on
  data=nuscenes                         another data set; data.version=v1.0-mini data.train_split=mini_train ...
  trainer.max_epochs=20                 length; or trainer.max_steps=1000, trainer.max_minutes=30
  trainer.batch_size=4                  frames per step, over all processes and trainer.accumulate together
  trainer.workers=1                     data loading processes of each training process
  trainer.precision=auto                32, bf16 or 16; auto: bf16 on a GPU that has it and on a CPU with AMX
  trainer.strategy=fsdp                 with torchrun: parameters shared out over the processes (FSDP2); auto is ddp
  balance=pcgrad                        losses of several tasks: fixed, uncertainty, gradnorm or pcgrad
  trainer.gradient_cosine_every=50      log how far the gradients of the tasks agree
  optim.optimizer.lr=0.002              highest learning rate; optim=fine_tune for weights that are good already
  init_from=FILE                        start from weights: a .safetensors, a .ckpt, a run folder, or demo
  resume=RUN                            continue an interrupted run, with the same result as without interruption
  dry_run=true                          the whole chain (training, evaluation, report) on two batches
  evaluate=false                        no metrics and report at the end
  model.encoders.camera=null            null takes a part out: this one leaves LiDAR alone
  seed=0

examples
  bevstack train experiment=fusion_small data.root=worlds/train data.val_root=worlds/val dry_run=true
  bevstack train experiment=fusion_small data.root=worlds/train data.val_root=worlds/val trainer.max_epochs=10
  bevstack train resume=runs/latest
  bevstack train experiment=fusion_small init_from=demo optim=fine_tune data.root=mine data.val_root=mine_val
  bevstack train experiment=fusion_nuscenes data.root=/data/nuscenes

Ctrl-C finishes the step, saves and exits with 130; resume=runs/latest goes on from there.
"""


def run(arguments: list[str]) -> int:
    """Train, then evaluate and report."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(), end="")
        return 0 if arguments else 2
    wants_config = "--cfg" in arguments
    overrides = [text for text in arguments if text != "--cfg"]
    unknown = [text for text in overrides if text.startswith("-")]
    if unknown:
        raise ValueError(f"{unknown[0]} is not known here: settings are KEY=VALUE, see bevstack train --help")
    _set_up_threads()
    config, resume = _configuration(overrides)
    if wants_config:
        from bevstack.build import config_yaml

        print(config_yaml(config), end="")
        return 0

    from bevstack.training.fit import run_training

    if config.dry_run:
        _shorten(config)
    result = run_training(config, resume=resume, say=lambda line: print(line, file=sys.stderr))
    if not result.is_first_process:
        return EXIT_SIGNAL + result.signal_number if result.signal_number else 0
    if result.signal_number:
        print(
            f"stopped at step {result.steps}, saved {result.checkpoint}\n"
            f"continue with: bevstack train resume={result.folder}",
            file=sys.stderr,
        )
        return EXIT_SIGNAL + result.signal_number
    print(f"weights  {result.weights}")
    if config.evaluate:
        _evaluate(config, result)
    return 0


def _configuration(overrides: list[str]) -> tuple["DictConfig", "RunFolder | None"]:
    """The configuration of a new run, or the stored one of a run to resume with the other overrides on top."""
    from bevstack.build import compose, override_keys

    resumed = [text.removeprefix("resume=") for text in overrides if text.startswith("resume=")]
    if not resumed:
        return compose(overrides), None
    from bevstack.training.run_folder import RunFolder

    folder = RunFolder(Path(resumed[-1]).resolve())
    config = folder.read_config()
    others = [text for text in overrides if not text.startswith("resume=")]
    same = f"experiment={config.name}"
    wrong = [text for text in others if text.startswith("experiment=") and text != same]
    if wrong:
        raise ValueError(f"{folder.path} is a run of {same}, not {wrong[0]}: a resumed run keeps its experiment")
    return override_keys(config, [text for text in others if text != same]), folder


def _shorten(config: "DictConfig") -> None:
    """Two batches of everything."""
    config.trainer.max_steps = 2
    config.trainer.val_batches = 2
    config.trainer.validate_every_epochs = None if config.trainer.validate_every_epochs is None else 1e-9


def _evaluate(config: "DictConfig", result: "TrainingResult") -> None:
    """Official metrics of the averaged weights on the validation data, then the page."""
    from bevstack.build import data_location
    from bevstack.cli import eval as evaluation
    from bevstack.cli import report

    root, version, split = data_location(config, "val")
    limit = ["--limit", str(2 * config.trainer.batch_size)] if config.dry_run else []
    data = ["--data", root, "--version", version, "--split", split]
    evaluation.run(["--checkpoint", str(result.folder), *data, "--out", str(result.folder / "eval"), *limit])
    report.run([str(result.folder)])


def _set_up_threads() -> None:
    """Waiting threads of OpenMP must sleep: spinning, they take the cores from data loading and other processes.

    Read once, when torch loads its OpenMP: so before anything else is imported.
    """
    import os

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")


def _help() -> str:
    from bevstack.build import CONFIG_FOLDER, experiment_names

    width = max(map(len, experiment_names()))
    lines = []
    for name in experiment_names():
        comments = (CONFIG_FOLDER / "experiment" / f"{name}.yaml").read_text().splitlines()[1]
        lines.append(f"  {name:<{width}}  {comments.removeprefix('# ')}")
    return _HELP.format(experiments="\n".join(lines))
