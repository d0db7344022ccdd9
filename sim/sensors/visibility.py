"""How much of each actor the cameras see: visible pixels over silhouette pixels, all six pictures together.

nuScenes annotates the same quantity by eye in four bins (Caesar et al., CVPR 2020, table of visibility levels).
"""

from collections.abc import Iterable

from bevstack.sim.sensors.cameras import CameraRender

VISIBILITY_LEVELS = (0.4, 0.6, 0.8)
"""Upper bounds of the first three nuScenes bins: v0-40, v40-60, v60-80, v80-100."""


def visible_fractions(renders: Iterable[CameraRender]) -> dict[int, float]:
    """Visible share, 0 to 1, of every actor that lies in at least one picture, by `ActorPose.instance`.

    The part of an actor outside every picture counts neither as visible nor as hidden.
    """
    silhouette: dict[int, int] = {}
    visible: dict[int, int] = {}
    for render in renders:
        for instance, pixels in render.silhouette_px.items():
            silhouette[instance] = silhouette.get(instance, 0) + pixels
            visible[instance] = visible.get(instance, 0) + render.visible_px[instance]
    # Rounding at shared edges can show a pixel more than the silhouette has.
    return {instance: min(1.0, visible[instance] / pixels) for instance, pixels in silhouette.items()}


def visibility_level(fraction: float) -> int:
    """Bin of nuScenes, 1 (0 to 40 %) to 4 (80 to 100 %) of a visible share."""
    return 1 + sum(fraction > bound for bound in VISIBILITY_LEVELS)
