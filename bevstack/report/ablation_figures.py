"""The figures that an ablation is told in: what each table shows of an evaluation, and reading them from its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.evaluation.comparison.figure_names import figures_of, kind_of
from bevstack.evaluation.comparison.runs import row_statistic
from bevstack.evaluation.comparison.scene_statistics import STATISTICS_FILE, TURNING
from bevstack.evaluation.comparison.slices import EVENTS
from bevstack.evaluation.run_results import METRICS_NAME, read_run

_PROTOCOLS = {
    "plan/uniad": {"l2_m": "L2", "collision": "collision"},
    "plan/stp3": {"l2_m": "L2", "collision": "collision"},
    "plan/vad": {"l2_m": "L2", "collision": "collision"},
    "plan/polygon": {"collision_until.vehicles_and_pedestrians": "collision"},
    "plan/boundary": {"leaves_until": "off the road"},
}
"""Protocol of planning -> its figures and their titles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureGroup:
    """What one table shows."""

    title: str
    columns: dict[str, str]
    """Name of the figure -> head of its column."""


_PERCEPTION = {
    "det.NDS": "NDS",
    "det.mAP": "mAP",
    "map.bevfusion-iou.mIoU": "map mIoU",
    "occ.occ3d-miou.mIoU": "occupancy mIoU",
    "track.amota": "AMOTA",
    "track.amotp": "AMOTP",
}
_MOTION = {
    "motion.found-nusc.min_ade_m.1": "minADE of 1",
    "motion.found-nusc.min_ade_m.5": "minADE of 5",
    "motion.found-nusc.miss_rate.5": "miss rate of 5",
    "motion.epa-uniad.min_ade_m.car": "minADE car (UniAD)",
    "motion.epa-uniad.epa.car": "EPA car (UniAD)",
    "motion.epa-uniad.epa.pedestrian": "EPA pedestrian (UniAD)",
    "motion.epa-vad.epa.car": "EPA car (VAD)",
    "motion.epa-vad.epa.pedestrian": "EPA pedestrian (VAD)",
}
_OF_EVENTS = {
    "det.mAP": "mAP",
    "track.amota": "AMOTA",
    "motion.found-nusc.min_ade_m.5": "minADE of 5",
    "plan.uniad.l2_m.at_3s": "L2 3 s (UniAD)",
    "plan.uniad.collision.at_3s": "collision 3 s (UniAD)",
    "plan.polygon.collision_until.vehicles_and_pedestrians.at_3s": "collision by 3 s (polygon)",
}
HEADLINES = {
    "det.NDS": "NDS",
    "det.mAP": "mAP",
    "map.bevfusion-iou.mIoU": "map mIoU",
    "track.amota": "AMOTA",
    "motion.found-nusc.min_ade_m.5": "minADE",
    "plan.uniad.l2_m.at_3s": "L2 3 s",
    "plan.uniad.l2_m.at_3s@turning": "L2 3 s turning",
    "plan.polygon.collision_until.vehicles_and_pedestrians.at_3s": "collision by 3 s",
}
"""What a short table shows."""


def _planning(part: str = "") -> dict[str, dict[str, str]]:
    """Protocol -> columns, of all frames or of a part of them."""
    return {
        protocol: {
            f"{protocol.replace('/', '.')}.{figure}.at_{second}s{part}": f"{title} {second} s"
            for figure, title in figures.items()
            for second in (1, 2, 3)
        }
        for protocol, figures in _PROTOCOLS.items()
    }


GROUPS = (
    FigureGroup(title="Perception and tracking", columns=_PERCEPTION),
    FigureGroup(title="Forecasts", columns=_MOTION),
    *(FigureGroup(title=f"Planning, {name}", columns=columns) for name, columns in _planning().items()),
    *(
        FigureGroup(title=f"Planning, {name}, turning frames", columns=columns)
        for name, columns in _planning(f"@{TURNING}").items()
    ),
    *(
        FigureGroup(title=f"Scenes made for: {event}", columns={f"{n}@{event}": t for n, t in _OF_EVENTS.items()})
        for event in EVENTS
    ),
)
FIGURES = tuple(dict.fromkeys(name for group in GROUPS for name in group.columns))


def shown_unit(name: str) -> str:
    """Of a figure in its table: points for fractions."""
    return kind_of(name).unit


def read_figures(folder: Path) -> dict[str, float]:
    """The figures of a results folder, as they are shown; those that were not measured are left out.

    Args:
        folder: of `bevstack eval`; its first row counts. Figures of events come from what it keeps by scene.
    """
    results = json.loads((folder / METRICS_NAME).read_text())["results"]
    row, numbers = next(iter(results.items()))
    found = figures_of(numbers)
    if (folder / STATISTICS_FILE).is_file():
        found |= _figures_of_events(folder, row)
    return {name: value * kind_of(name).scale for name in FIGURES if (value := found.get(name)) is not None}


def read_facts(folder: Path) -> dict[str, Any]:
    """What else an evaluation says: its data, its protocols, and which text the model was given."""
    content = json.loads((folder / METRICS_NAME).read_text())
    data = {key: content["data"][key] for key in ("version", "split", "hash", "num_frames", "num_scenes")}
    return {"data": data, "protocols": content["protocols"], "cues": content.get("cues")}


def _figures_of_events(folder: Path, row: str) -> dict[str, float | None]:
    run = read_run(str(folder))
    facts = run.statistics.facts
    there = [event for event in EVENTS if event in facts.slices and facts.slices[event].any()]
    statistic = row_statistic(run, row, there) if there else None
    if statistic is None:
        return {}
    return {name: value for name, value in statistic(np.ones(len(facts.scene_names))).items() if "@" in name}
