"""The outcome of a suite as text on one screen."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

SCORES = {
    "pdms": "PDMS",
    "epdms": "EPDMS",
    "nuplan_score": "nuPlan",
    "carla_driving_score": "CARLA",
    "hd_score": "HD",
    "neuroncap_score": "NeuroNCAP",
}
_LONGEST_LIST = 20


def table(results: Any, summaries: Sequence[dict[str, Any]]) -> str:
    """Passes by group with 95 % Wilson intervals, mean scores, endings, and what was not passed.

    Args:
        results: The table of `results.parquet`.
        summaries: `run.json` of every run, in the same order.
    """
    groups = list(dict.fromkeys(summary["group"] for summary in summaries))
    columns = {name: results.column(name).to_pylist() for name in SCORES}
    head = f"{'':<14}{'passed':>9}{'rate':>8}  {'95 % interval':<15}{'collided':>9}"
    lines = [head + "".join(f"{title:>11}" for title in SCORES.values())]
    for group in [*groups, *(["all"] if len(groups) > 1 else [])]:
        rows = [k for k, summary in enumerate(summaries) if group in ("all", summary["group"])]
        lines.append(_line(group, rows, summaries, columns))
    endings = Counter(summary["ending"] for summary in summaries)
    lines += ["", "endings  " + ", ".join(f"{name} {count}" for name, count in endings.most_common())]
    paces = [summary["agent_step_ms"] for summary in summaries if summary["agent_step_ms"] is not None]
    if paces:
        lines.append(f"agent    {sum(paces) / len(paces):.1f} ms a step (wall time; it decides nothing)")
    lines += _unmet(summaries)
    return "\n".join(lines)


def _line(
    group: str, rows: list[int], summaries: Sequence[dict[str, Any]], columns: dict[str, list[float | None]]
) -> str:
    from bevstack.sim.metrics.intervals import pass_rate

    passed = sum(summaries[k]["passed"] for k in rows)
    collided = sum(summaries[k]["ending"] == "collision" for k in rows)
    rate = pass_rate(passed, len(rows))
    scores = "".join(f"{_mean([columns[name][k] for k in rows]):>11}" for name in SCORES)
    interval = f"{rate.low:.1%} to {rate.high:.1%}"
    return f"{group:<14}{f'{passed}/{len(rows)}':>9}{rate.rate:>8.1%}  {interval:<15}{collided:>9}{scores}"


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "-"
    mean = sum(known) / len(known)
    return f"{mean:.1f}" if mean >= 10 else f"{mean:.3f}"


def _unmet(summaries: Sequence[dict[str, Any]]) -> list[str]:
    failed = [summary for summary in summaries if not summary["passed"]]
    if not failed:
        return []
    lines = ["", "not passed"]
    for summary in failed[:_LONGEST_LIST]:
        unmet = [verdict for verdict in summary["expectations"] if not verdict["passed"]]
        what = "; ".join(f"{verdict['kind']}: {verdict['words']}" for verdict in unmet) or summary["remark"]
        if summary["ending"] in ("agent_error", "diverged", "timeout", "impossible"):
            what = f"{summary['ending']}: {summary['remark']}"
        lines.append(f"  {summary['scenario']} (seed {summary['seed']})  {what}")
    if len(failed) > _LONGEST_LIST:
        lines.append(f"  ... and {len(failed) - _LONGEST_LIST} more: column not_met of the results")
    return lines
