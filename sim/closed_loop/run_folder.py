"""What a finished run leaves behind: one folder, complete or not there at all.

scenario.yaml   the scenario with all values
log.npz         the run (`log_file.read_log`)
row.parquet     its row of the results
run.json        the same for readers: seed, versions, agent, verdicts, scores, wall times
"""

import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bevstack import __version__
from bevstack.sim.closed_loop.jobs import DriveJob
from bevstack.sim.closed_loop.log_file import LOG_FORMAT, write_log
from bevstack.sim.closed_loop.one_run import Driven
from bevstack.sim.closed_loop.verdict import EXPECTATION_KINDS
from bevstack.sim.metrics.summary import METRICS_VERSION, json_ready
from bevstack.sim.scenario.writing import scenario_yaml

RUNS = "runs"
_ROW, _JSON, _LOG, _SCENARIO = "row.parquet", "run.json", "log.npz", "scenario.yaml"


def versions() -> dict[str, str]:
    """What a result may depend on besides the scenario and the agent."""
    return {
        "bevstack": __version__,
        "metrics": METRICS_VERSION,
        "log": LOG_FORMAT,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def is_finished(out: Path, job: DriveJob) -> bool:
    """Whether this very run lies in a results folder; one of the same name but of another scenario does not count."""
    file = out / RUNS / job.key / _JSON
    return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["fingerprint"] == job.fingerprint


def save_run(out: Path, driven: Driven, agent: Mapping[str, Any]) -> None:
    """Write a run beside its place and move it there when it is complete.

    Args:
        out: The suite's folder.
        driven: The run.
        agent: What the agent is made of: checkpoint, data hash, modality.
    """
    place = out / RUNS / driven.job.key
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    (beside / _SCENARIO).write_text(scenario_yaml(driven.job.scenario), encoding="utf-8")
    write_log(driven.log, beside / _LOG)
    pq.write_table(_row(driven, agent), beside / _ROW)
    content = json.dumps(_for_readers(driven, agent), indent=1) + "\n"
    (beside / _JSON).write_text(content, encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    beside.rename(place)


def read_row(out: Path, job: DriveJob) -> pa.Table:
    """The row of a finished run."""
    return pq.read_table(out / RUNS / job.key / _ROW)


def read_summary(out: Path, job: DriveJob) -> dict[str, Any]:
    """`run.json` of a finished run."""
    return json.loads((out / RUNS / job.key / _JSON).read_text(encoding="utf-8"))


def log_path(out: Path, job: DriveJob) -> Path:
    """Where the log of a finished run is."""
    return out / RUNS / job.key / _LOG


def _row(driven: Driven, agent: Mapping[str, Any]) -> pa.Table:
    """One row; the same run gives the same bytes on every machine and at any time."""
    met = {kind: _met(driven, kind) for kind in EXPECTATION_KINDS}
    columns: dict[str, pa.Array] = {
        "run": pa.array([driven.job.key]),
        "group": pa.array([driven.job.group]),
        "standard": pa.array([driven.job.scenario.standard]),
        "passed": pa.array([driven.passed]),
        "not_met": pa.array(["; ".join(verdict.kind for verdict in driven.verdicts if not verdict.passed)]),
        **{f"expect_{kind}": pa.array([value], pa.bool_()) for kind, value in met.items()},
        "remark": pa.array([driven.log.remark]),
        "weather": pa.array([driven.job.scenario.weather.kind]),
        "faults": pa.array(["; ".join(fault.kind for fault in driven.job.scenario.faults)]),
        "parameters": pa.array([json.dumps(driven.log.parameters, sort_keys=True)]),
        "hash": pa.array([driven.hash]),
        "checkpoint": pa.array([str(agent.get("checkpoint", ""))]),
        "weights_sha256": pa.array([str(agent.get("weights_sha256", ""))]),
        "modality": pa.array([str(agent.get("modality", ""))]),
        **{f"version_{name}": pa.array([value]) for name, value in versions().items()},
    }
    record = {name: pa.array([value]) for name, value in driven.record.items()}
    return pa.table(columns | record)


def _met(driven: Driven, kind: str) -> bool | None:
    """Whether all expectations of a kind were met; None where there is none."""
    found = [verdict.passed for verdict in driven.verdicts if verdict.kind == kind]
    return all(found) if found else None


def _for_readers(driven: Driven, agent: Mapping[str, Any]) -> dict[str, Any]:
    seconds = driven.log.step_seconds
    return {
        "scenario": driven.job.name,
        "group": driven.job.group,
        "seed": driven.job.seed,
        "fingerprint": driven.job.fingerprint,
        "agent": {"name": driven.log.agent, **agent},
        "versions": versions(),
        "passed": driven.passed,
        "ending": driven.log.ending,
        "remark": driven.log.remark,
        "expectations": [
            {"kind": verdict.kind, "passed": verdict.passed, "words": verdict.words} for verdict in driven.verdicts
        ],
        "parameters": driven.log.parameters,
        "hash": driven.hash,
        "wall_s": round(driven.wall_s, 3),
        "agent_step_ms": round(1e3 * float(seconds.mean()), 3) if len(seconds) else None,
        "record": json_ready(driven.record),
    }
