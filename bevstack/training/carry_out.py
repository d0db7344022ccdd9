"""Carry out the planned runs of an experiment, each in a process of its own, and leave finished ones be."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from bevstack.build import compose, data_location
from bevstack.training.planned_runs import PlannedRun, Scoring, Variant, seconds_per_step
from bevstack.weights_file import newest_checkpoint

Say = Callable[[str], None]
_MEASURED_STEPS = 4


def carry_out(runs: Sequence[PlannedRun], *, processes: int, limit: int | None, say: Say) -> None:
    """Train and evaluate every run that is not finished; an interrupted one goes on from its last checkpoint.

    Args:
        runs: from `plan_runs`.
        processes: runs at the same time, which share out the cores.
        limit: frames for each evaluation; None for all.
        say: receives a line for each run that begins or ends.

    Raises:
        ValueError: runs failed; the others were carried out.
    """
    open_runs = [run for run in runs if not run.is_finished]
    say(f"{len(runs) - len(open_runs)} of {len(runs)} runs are finished already")
    failed = []
    with ThreadPoolExecutor(max_workers=processes) as pool:
        futures = {pool.submit(_train_and_evaluate, run, processes, limit, say): run for run in open_runs}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                run, error = futures[future], future.exception()
                failed += [f"{run.folder.name}: {error}"] if error else []
                state = f"FAILED, {error}" if error else "done"
                say(f"[{done}/{len(open_runs)}] {run.variant.name} seed {run.seed}: {state}")
        except KeyboardInterrupt:
            pool.shutdown(wait=True, cancel_futures=True)  # the running ones got the signal too, and save
            raise
    if failed:
        raise ValueError(f"{len(failed)} runs failed, the same command tries them again: {'; '.join(failed)}")


def measured_step_seconds(runs: Sequence[PlannedRun], say: Say) -> dict[Variant, float]:
    """Seconds of a training step of each variant: from runs that have begun, else from a few steps made for it.

    Args:
        runs: from `plan_runs`.
        say: receives a line before each trial, which takes a minute or so.

    Raises:
        ValueError: the variant does not train.
    """
    found: dict[Variant, float] = {}
    for run in runs:
        seconds = None if run.variant in found else seconds_per_step(run)
        if seconds is not None:
            found[run.variant] = seconds
    for run in runs:
        if run.variant not in found:
            say(f"measuring {_MEASURED_STEPS} steps of {run.variant.name} ...")
            found[run.variant] = _trial(run)
    return found


def _trial(run: PlannedRun) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        short = (
            f"trainer.max_steps={_MEASURED_STEPS}",
            "trainer.validate_every_epochs=null",
            "trainer.max_epochs=null",
        )
        trial = replace(run, folder=Path(scratch), overrides=(*run.overrides, *short))
        _call(trial, ["train", *trial.overrides, f"run_root={trial.folder}"], 1)
        seconds = seconds_per_step(trial)
    assert seconds is not None
    return seconds


def _train_and_evaluate(run: PlannedRun, processes: int, limit: int | None, say: Say) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    log = run.folder / "log.txt"
    if not run.is_trained:
        say(f"training {run.variant.name} seed {run.seed}, {run.steps} steps: {log}")
        has_begun = run.run.exists() and newest_checkpoint(run.run) is not None
        threads = [f"trainer.threads={max(1, len(os.sched_getaffinity(0)) // processes)}"] if processes > 1 else []
        fresh = [*run.overrides, f"run_root={run.folder}"]
        _call(run, ["train", *([f"resume={run.run}"] if has_begun else fresh), *threads], processes)
    for scoring in run.scorings:
        if not run.metrics_of(scoring).is_file():
            say(f"scoring {run.variant.name} seed {run.seed}, {scoring.folder}: {log}")
            _score(run, scoring, processes, limit)


def _score(run: PlannedRun, scoring: Scoring, processes: int, limit: int | None) -> None:
    root, version, split = data_location(compose(run.overrides), "val")
    data = ["--data", root, "--version", version, "--split", split]
    some = [] if limit is None else ["--limit", str(limit)]
    out = ["--out", str(run.metrics_of(scoring).parent)]
    _call(run, ["eval", "--checkpoint", str(run.run), *data, *scoring.words, *out, *some], processes)


def _call(run: PlannedRun, words: Sequence[str], processes: int) -> None:
    """One bevstack command; what it says goes to the log of the run."""
    log = run.folder / "log.txt"
    environment = dict(os.environ)
    if processes > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // processes))
    with log.open("a") as opened:
        opened.write(f"$ bevstack {' '.join(words)}\n")
        opened.flush()
        command = [sys.executable, "-m", "bevstack", *words]
        code = subprocess.run(command, stdout=opened, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if code:
        last = log.read_text().strip().splitlines()[-1]
        raise ValueError(f"bevstack {words[0]} ended with {code}: {last} (see {log})")
