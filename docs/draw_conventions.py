"""Draws the figures of conventions.md: the frames of the vehicle, the BEV grid, and a box with its yaw."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Polygon, Rectangle

HERE = Path(__file__).resolve().parent / "figures"
X, Y, Z, INK, SOFT = "#c23b22", "#2e7d32", "#1f5fa8", "#22262b", "#8b949e"


def arrow(ax: plt.Axes, start: tuple[float, float], step: tuple[float, float], color: str, text: str) -> None:
    """A labelled axis arrow."""
    end = (start[0] + step[0], start[1] + step[1])
    ax.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2.2})
    side = "left" if step[0] > 0 else "right" if step[0] < 0 else "center"
    pad = 0.12 * (step[0] > 0) - 0.12 * (step[0] < 0)
    ax.text(end[0] + pad, end[1] + 0.12 * step[1], text, color=color, ha=side, va="center", fontsize=10)


def out_of_page(ax: plt.Axes, at: tuple[float, float], color: str, text: str, away: bool = False) -> None:
    """An axis that points at the reader (dot) or away (cross)."""
    ax.plot(*at, marker="o", ms=11, mfc="white", mec=color, mew=1.8)
    ax.plot(*at, marker="x" if away else ".", ms=6, color=color, mew=1.8)
    ax.text(at[0] - 0.1, at[1] - 0.5, text, color=color, fontsize=10, ha="right")


def finish(ax: plt.Axes, title: str) -> None:
    """Equal axes, no ticks."""
    ax.set_aspect("equal")
    ax.axis("off")
    ax.set_title(title, fontsize=11, color=INK, pad=10)


def draw_frames() -> None:
    """ego, lidar and cam seen from above; driving direction is up."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2))
    for ax in axes:
        ax.add_patch(Rectangle((-0.95, -1.0), 1.9, 4.4, fc="#eef1f4", ec=SOFT, lw=1.2))
        ax.add_patch(Polygon([(-0.75, 2.2), (0.75, 2.2), (0.6, 1.5), (-0.6, 1.5)], fc="#c9d3dd", ec=SOFT))
        ax.set_xlim(-3.6, 3.6)
        ax.set_ylim(-2.2, 5.4)
    ego, lidar, cam = axes
    ego.plot([-0.95, 0.95], [0, 0], color=SOFT, lw=3)
    arrow(ego, (0, 0), (0, 2.2), X, "x forward")
    arrow(ego, (0, 0), (-2.0, 0), Y, "y left")
    out_of_page(ego, (0, 0), Z, "z up")
    finish(ego, "ego: rear-axle centre on the ground")
    arrow(lidar, (0, 0.94), (2.0, 0), X, "x right")
    arrow(lidar, (0, 0.94), (0, 2.2), Y, "y forward")
    out_of_page(lidar, (0, 0.94), Z, "z up")
    finish(lidar, "lidar (LIDAR_TOP): raw files only")
    arrow(cam, (0, 1.7), (2.0, 0), X, "x right")
    arrow(cam, (0, 1.7), (0, 2.2), Z, "z forward")
    out_of_page(cam, (0, 1.7), Y, "y down", away=True)
    finish(cam, "cam (front camera)")
    save(figure, "frames.svg")


def draw_grid() -> None:
    """Axis order of a BEV tensor beside the ground that it covers."""
    figure, (ground, tensor) = plt.subplots(1, 2, figsize=(10, 4.6))
    for ax in (ground, tensor):
        for k in range(7):
            ax.plot([0, 6], [k, k], color="#d5dbe1", lw=0.8)
            ax.plot([k, k], [0, 6], color="#d5dbe1", lw=0.8)
    ground.add_patch(Rectangle((5, 0), 1, 1, fc="#f6c9bf", ec=X))
    ground.text(5.5, 0.5, "(0, 0)", ha="center", va="center", fontsize=8)
    ground.add_patch(Rectangle((2.8, 2.5), 0.4, 0.9, fc="#c9d3dd", ec=SOFT))
    arrow(ground, (3, 3), (0, 2.0), X, "x forward")
    arrow(ground, (3, 3), (-1.9, 0), Y, "y left")
    ground.text(6.1, -0.35, "right, behind: (x_min, y_min)", ha="right", fontsize=8, color=SOFT)
    finish(ground, "the ground, seen from above")
    tensor.add_patch(Rectangle((0, 5), 1, 1, fc="#f6c9bf", ec=X))
    tensor.text(0.5, 5.5, "(0, 0)", ha="center", va="center", fontsize=8)
    arrow(tensor, (0.0, 6.35), (2.4, 0), X, "last axis X: along x")
    arrow(tensor, (-0.6, 5.8), (0, -3.0), Y, "axis Y:\nalong y")
    tensor.set_ylim(-0.2, 7.2)
    finish(tensor, "the tensor (..., Y, X)")
    tensor.set_xlim(-2.2, 7)
    save(figure, "grid.svg")


def draw_box() -> None:
    """Length, width, yaw and velocity of a box."""
    figure, ax = plt.subplots(figsize=(5.2, 3.8))
    yaw = 0.6
    rotation = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    local = np.array([(2.3, 0.95), (-2.3, 0.95), (-2.3, -0.95), (2.3, -0.95)])
    ax.add_patch(Polygon(local @ rotation.T, fc="#eef1f4", ec=INK, lw=1.6))
    ax.plot(*np.stack(((rotation @ (2.3, 0.95)), (rotation @ (2.3, -0.95)))).T, color=X, lw=3)
    ax.plot([0, 3.6], [0, 0], color=SOFT, lw=1, ls="--")
    ax.text(3.7, -0.1, "x", color=SOFT)
    angle = np.linspace(0, yaw, 30)
    ax.plot(1.5 * np.cos(angle), 1.5 * np.sin(angle), color=Z, lw=1.6)
    ax.text(1.75, 0.45, "yaw > 0", color=Z, fontsize=10)
    ax.text(*(rotation @ (-0.4, 1.25)), "length", ha="center", rotation=34, fontsize=9)
    ax.text(*(rotation @ (-2.75, 0.0)), "width", ha="center", rotation=-56, fontsize=9)
    ax.text(*(rotation @ (2.9, 0.0)), "front", color=X, ha="center", fontsize=9, rotation=34)
    ax.plot(0, 0, "o", color=INK, ms=4)
    ax.text(0.05, -0.55, "(x, y, z): centre", fontsize=9, ha="center")
    ax.set_xlim(-3.6, 4.2)
    ax.set_ylim(-2.6, 3.0)
    finish(ax, "a box (x, y, z, length, width, height, yaw, vx, vy)")
    save(figure, "box.svg")


def save(figure: plt.Figure, name: str) -> None:
    """Write one figure; no date inside, so that drawing again changes nothing."""
    HERE.mkdir(exist_ok=True)
    matplotlib.rcParams["svg.hashsalt"] = "bevstack"
    figure.savefig(HERE / name, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw_frames()
    draw_grid()
    draw_box()
