"""The report as one HTML file: style, script, charts, pictures and data inside, nothing fetched from anywhere."""

import os
import tempfile
from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup

import bevstack
from bevstack.data.bird_rasters import Colour
from bevstack.data.class_names import CAMERA_NAMES, DETECTION_CLASSES
from bevstack.evaluation.dense.frame_counts import MATCH_DISTANCE_M
from bevstack.report.charts import Line, line_chart
from bevstack.report.content import ReportContent
from bevstack.report.dense_tasks import dense_sections, ground_kinds
from bevstack.report.other_tasks import other_sections
from bevstack.report.templates import FOLDER, filled_in

CLASS_COLOURS = {
    "car": "#4ea1ff",
    "truck": "#ff9f40",
    "bus": "#ffd84d",
    "trailer": "#b98cff",
    "construction_vehicle": "#c98a55",
    "pedestrian": "#ff5d8f",
    "motorcycle": "#35d6bd",
    "bicycle": "#7ee081",
    "traffic_cone": "#f583ff",
    "barrier": "#a9b8c8",
}
"""Told apart on the dark ground of the viewer and on pictures."""

_OBJECT_RGB: dict[str, Colour] = {
    name: (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)) for name, colour in CLASS_COLOURS.items()
}
_SCRIPTS = ("ground.js", "attention.js", "forecasts.js", "tracks.js", "plans.js", "viewer.js")
"""One after the other on the page; the viewer uses those before it."""
_DISTANCE_COLOURS = {"0.5": "var(--c1)", "1.0": "var(--c2)", "2.0": "var(--c3)", "4.0": "var(--c4)"}
_ERROR_UNITS = {"ATE": "m", "ASE": "1 - IoU", "AOE": "rad", "AVE": "m/s", "AAE": "1 - accuracy"}
_MIN_ERROR_RANGE = 0.1
"""Errors below this fill no chart: noise would look like a trend."""
_ERROR_TITLES = {
    "ATE": "translation",
    "ASE": "size",
    "AOE": "orientation",
    "AVE": "velocity",
    "AAE": "attribute",
}


def render(content: ReportContent) -> str:
    """HTML text of the whole report."""
    primary = next(iter(content.metrics["results"])) if content.metrics else None
    result = content.metrics["results"][primary] if content.metrics and primary else {}
    return filled_in(
        "report.html",
        {"number": _number},
        content=content,
        metrics=content.metrics,
        primary=primary,
        result=result,
        has_boxes="nds" in result,
        dense=dense_sections(content.metrics, _OBJECT_RGB),
        others=other_sections(content.metrics),
        classes=[(name, name.replace("_", " "), CLASS_COLOURS[name]) for name in DETECTION_CLASSES],
        errors=list(_ERROR_UNITS.items()),
        error_titles=_ERROR_TITLES,
        distances=_DISTANCE_COLOURS,
        precision_charts=_precision_charts(content, primary),
        error_charts=_error_charts(content, primary),
        training_charts=_training_charts(content.training),
        viewer_json=_script_json(_viewer_data(content, primary)) if content.frames else None,
        style=(FOLDER / "report.css").read_text(),
        script="".join((FOLDER / name).read_text() for name in _SCRIPTS),
        version=bevstack.__version__,
    )


def write_report(content: ReportContent, path: str | Path) -> Path:
    """Write the page, complete or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = render(content)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _viewer_data(content: ReportContent, primary: str | None) -> dict[str, Any]:
    assert content.metrics is not None
    return {
        "classes": [{"name": name.replace("_", " "), "colour": CLASS_COLOURS[name]} for name in DETECTION_CLASSES],
        "cameras": list(CAMERA_NAMES),
        "rows": list(content.metrics["results"]),
        "primary": primary,
        "thresholds": {name: row.get("score_threshold", 0.0) for name, row in content.metrics["results"].items()},
        "has_boxes": "nds" in content.metrics["results"][primary],
        "ground": ground_kinds(_OBJECT_RGB),
        "match_distance_m": MATCH_DISTANCE_M,
        "frames": content.frames,
    }


def _script_json(data: dict[str, Any]) -> Markup:
    """JSON that may stand inside a script element."""
    return Markup(orjson.dumps(data).decode().replace("<", "\\u003c"))


def _precision_charts(content: ReportContent, primary: str | None) -> list[str]:
    charts = []
    for name, curves in content.curves.get(primary or "", {}).items():
        ap = content.metrics["results"][primary]["class_ap"][name] if content.metrics else 0.0
        lines = [
            Line(label=f"{float(d):g} m", x=curves["recall"], y=y, colour=_DISTANCE_COLOURS[d])
            for d, y in curves["precision"].items()
        ]
        title = f"{name.replace('_', ' ')} · AP {ap:.3f}"
        charts.append(line_chart(title, lines, x_label="recall", y_label="precision", x_range=(0, 1), y_range=(0, 1)))
    return charts


def _error_charts(content: ReportContent, primary: str | None) -> list[str]:
    charts = []
    for error, unit in _ERROR_UNITS.items():
        lines = [
            Line(
                label=name.replace("_", " "),
                x=curves["recall"][: len(curves["errors"][error])],
                y=curves["errors"][error],
                colour=CLASS_COLOURS[name],
            )
            for name, curves in content.curves.get(primary or "", {}).items()
            if curves["errors"].get(error)
        ]
        if lines:
            title = f"{error}: {_ERROR_TITLES[error]}"
            highest = max((value for line in lines for value in line.y), default=0.0)
            y_range = (0.0, _MIN_ERROR_RANGE) if highest < _MIN_ERROR_RANGE else None
            charts.append(line_chart(title, lines, x_label="recall", y_label=unit, x_range=(0, 1), y_range=y_range))
    return charts


def _training_charts(rows: list[dict[str, float]]) -> list[str]:
    """Total loss and every term, training and validation in one picture; then learning rate and gradient norm."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    terms = [name.removeprefix("train/") for name in columns if name.startswith("train/") and "grad_norm" not in name]
    charts = []
    for term in terms:
        lines = [
            Line(
                label=kind,
                x=[row["step"] for row in rows if f"{kind}/{term}" in row],
                y=[row[f"{kind}/{term}"] for row in rows if f"{kind}/{term}" in row],
                colour=colour,
            )
            for kind, colour in (("train", "var(--c1)"), ("val", "var(--c2)"))
            if f"{kind}/{term}" in columns
        ]
        charts.append(line_chart(term, lines, x_label="step", y_label="loss", has_legend=len(lines) > 1))
    for name, title, unit in (("lr", "learning rate", ""), ("train/grad_norm", "gradient norm", "")):
        x = [row["step"] for row in rows if name in row]
        if x:
            line = Line(label=title, x=x, y=[row[name] for row in rows if name in row], colour="var(--c3)")
            charts.append(line_chart(title, [line], x_label="step", y_label=unit))
    return charts


def _number(value: float | None, decimals: int = 3) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"
