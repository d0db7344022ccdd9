"""A scenario seen from above: road, everybody at the begin, and where an unprotected drive leads."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon as Outline
from shapely import get_parts

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.scenario.check import check_concrete
from bevstack.sim.scenario.motion import Body, EgoMotion, corners_of
from bevstack.sim.scenario.placing import EGO, ego_way
from bevstack.sim.scenario.schema import Scenario
from bevstack.sim.scenario.script import Script, advance, bodies
from bevstack.sim.scenario.unprotected import first_contact

_MARGIN_M = 12.0
_GHOST_EVERY_S = 1.0
_COLOURS = {"pedestrian": "#d1495b", "bicycle": "#d1495b", "motorcycle": "#d1495b"}
_EGO_COLOUR, _OTHER_COLOUR, _ROAD_COLOUR = "#1b6ca8", "#6b705c", "#e9e9e4"


def save_picture(scenario: Scenario, path: Path, vehicle: VehicleParams = NUSCENES_VEHICLE) -> None:
    """Draw a concrete scenario to a PNG file.

    Everybody stands where the scenario begins; outlines show them every second until an ego vehicle that keeps its
    speed and lane would touch somebody, or to the end.

    Raises:
        ValueError: the scenario cannot begin.
        OSError: the file cannot be written.
    """
    roads = check_concrete(scenario, vehicle)
    contact = first_contact(scenario, vehicle)
    until_s = contact.time_s if contact else float(scenario.duration_s)
    figure = Figure(figsize=(12, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for part in get_parts(roads.network.drivable):
        axes.add_patch(Outline(np.asarray(part.exterior.coords), facecolor=_ROAD_COLOUR, edgecolor="#9a9a94", lw=0.8))
    for line in (*roads.network.lane_dividers, *roads.network.road_dividers):
        axes.plot(*np.asarray(line.coords).T, color="#b8b8b0", lw=0.8, ls="--")
    seen = _draw_motion(axes, Script(scenario=scenario, roads=roads, vehicle=vehicle), until_s)
    if contact:
        axes.plot(contact.ego.x, contact.ego.y, marker="x", color="#d1495b", ms=9, mew=2)
        what = f"unprotected: touches {contact.actor} after {contact.time_s:.1f} s"
    else:
        what = "unprotected: touches nobody"
    low, high = np.min(seen, axis=0) - _MARGIN_M, np.max(seen, axis=0) + _MARGIN_M
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xlabel="x / m", ylabel="y / m")
    values = ", ".join(f"{name} {value:g}" for name, value in scenario.values.items())
    axes.set_title(f"{scenario.name}   {values}\n{what}", fontsize=9, loc="left")
    FigureCanvasAgg(figure).print_png(str(path))


def _draw_motion(axes: Axes, script: Script, until_s: float) -> list[tuple[float, float]]:
    """Outlines at the begin, filled, and later ones; returns where anybody was."""
    way, station, left = ego_way(script.scenario.ego, script.roads)
    speed = float(script.scenario.ego.speed_mps)
    state, seen = script.start(), []
    every = round(_GHOST_EVERY_S / DRIVE_STEP_S)
    for step in range(int(until_s / DRIVE_STEP_S) + 1):
        x, y, yaw = way.pose(station + speed * step * DRIVE_STEP_S, left)
        ego = EgoMotion(x=x, y=y, yaw=yaw, speed_mps=speed)
        if step % every == 0:
            for name, body in bodies(script, state, ego).items():
                colour = _EGO_COLOUR if name == EGO else _COLOURS.get(script.specs[name].class_name, _OTHER_COLOUR)
                _draw_body(axes, body, colour, is_first=step == 0)
                seen.append((body.x, body.y))
                if step == 0:
                    axes.annotate(name, (body.x, body.y), (0, 7), textcoords="offset points", fontsize=7, ha="center")
        state = advance(script, state, ego)
    return seen


def _draw_body(axes: Axes, body: Body, colour: str, *, is_first: bool) -> None:
    axes.add_patch(
        Outline(corners_of(body), facecolor=colour if is_first else "none", edgecolor=colour, lw=0.9,
                alpha=1.0 if is_first else 0.55)
    )  # fmt: skip
