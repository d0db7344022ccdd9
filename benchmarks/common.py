"""What every benchmark shares: alternating timing of rivals on the same input, machine facts, one result format."""

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """CPU time of one candidate over alternated runs, in milliseconds."""

    min_ms: float
    median_ms: float
    iqr_ms: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One comparison: the same input, equal outputs, every candidate timed in one process."""

    suite: str
    case: str
    baseline: str
    timings: Mapping[str, Timing]
    ratios: Mapping[str, float]
    """How many times faster than the baseline each candidate is, by minimum CPU time."""
    equality: str
    """What was asserted about the outputs before timing."""
    peak_rss_mb: float
    machine: Mapping[str, str | float] = field(default_factory=dict)


def compare(
    suite: str,
    case: str,
    candidates: Mapping[str, Callable[[], object]],
    *,
    baseline: str,
    equality: str,
    runs: int = 5,
) -> Result:
    """Time candidates in turns (a b c a b c ...) after one warm-up each; the caller has asserted equal outputs.

    CPU time of this process is used, so that other work on the machine disturbs less.
    """
    for run in candidates.values():
        run()
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, run in candidates.items():
            start = time.process_time()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            samples[name].append((time.process_time() - start) * 1e3)
    timings = {name: timing_of(values) for name, values in samples.items()}
    return Result(
        suite=suite,
        case=case,
        baseline=baseline,
        timings=timings,
        ratios={name: timings[baseline].min_ms / max(timing.min_ms, 1e-6) for name, timing in timings.items()},
        equality=equality,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        machine=machine_facts(),
    )


def timing_of(values: list[float]) -> Timing:
    """Smallest, median and spread of CPU times in milliseconds."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Timing(min_ms=min(values), median_ms=median, iqr_ms=high - low, runs=len(values))


def machine_facts() -> dict[str, str | float]:
    """Processor, cores, how busy they were, versions: what a reader needs to judge a figure."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "processor": model,
        "cores": os.cpu_count() or 0,
        "load": round(os.getloadavg()[0], 1),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def report(results: list[Result]) -> None:
    """Print a table and write results/<suite>.json (replaced as a whole)."""
    for result in results:
        print(f"{result.suite} / {result.case}   ({result.equality})")
        for name, timing in result.timings.items():
            mark = "baseline" if name == result.baseline else f"{result.ratios[name]:.1f}x"
            print(f"  {name:<28} min {timing.min_ms:10.2f} ms  median {timing.median_ms:10.2f} ms  {mark}")
    RESULTS.mkdir(exist_ok=True)
    for suite in sorted({result.suite for result in results}):
        rows = [asdict(result) for result in results if result.suite == suite]
        partial = RESULTS / f"{suite}.json.partial"
        partial.write_text(json.dumps(rows, indent=1) + "\n")
        partial.rename(RESULTS / f"{suite}.json")
