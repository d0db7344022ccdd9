"""Lamps after dark: street lamps, headlamps, tail lamps, sorted into a ground grid so that a pixel asks only a few."""

from collections.abc import Sequence

import numba
import numpy as np
from jaxtyping import Float, Int16

from bevstack.sim.sensors.scene import ActorPose, SensorScene, nearby
from bevstack.sim.world.mesh import Material

CELL_M = 4.0
GRID_CELLS = 40
"""The grid covers 160 m around the camera."""
_SLOTS = 8

# Columns of a light: x y z, r g b (intensity in radiance times m^2), direction, cosine of the cone, reach [m].
LIGHT_COLUMNS = 11

_STREET_RGB = (5.6, 4.5, 3.0)
_HEAD_RGB = (17.0, 16.5, 15.0)
_TAIL_RGB = (0.30, 0.02, 0.015)
_EGO_HEADLAMPS = ((3.6, 0.62, 0.68), (3.6, -0.62, 0.68))


def collect_lights(
    scene: SensorScene,
    actors: Sequence[ActorPose],
    camera_global: Float[np.ndarray, "3"],
    T_global_ego: Float[np.ndarray, "4 4"] | None,
) -> Float[np.ndarray, "L 11"]:
    """Lamps within reach of the light grid, nearest first; none by daylight.

    `T_global_ego` adds the own car's headlamps; None leaves them off.
    """
    if not scene.weather.is_dark:
        return np.zeros((0, LIGHT_COLUMNS))
    rows = []
    reach = 0.5 * GRID_CELLS * CELL_M
    if T_global_ego is not None:
        direction = T_global_ego[:3, :3] @ np.array((0.999, 0.0, -0.04))
        for lamp in _EGO_HEADLAMPS:
            position = T_global_ego[:3, :3] @ np.array(lamp) + T_global_ego[:3, 3]
            rows.append((*position, *_HEAD_RGB, *direction, 0.86, 60.0))
    for lamp in scene.street_lamps:
        if np.hypot(*(lamp[:2] - camera_global[:2])) < reach:
            rows.append((*lamp, *_STREET_RGB, 0.0, 0.0, -1.0, 0.20, 22.0))
    for actor in nearby(actors, camera_global, reach):
        for lamp in scene.model_of(actor.mesh).lamps:
            position = actor.T_global_actor[:3, :3] @ lamp[:3] + actor.T_global_actor[:3, 3]
            direction = actor.T_global_actor[:3, :3] @ lamp[4:7]
            is_head = lamp[3] == Material.HEADLAMP
            rgb, cone, distance = (_HEAD_RGB, 0.86, 45.0) if is_head else (_TAIL_RGB, -0.2, 6.0)
            rows.append((*position, *rgb, *direction, cone, distance))
    if not rows:
        return np.zeros((0, LIGHT_COLUMNS))
    lights = np.array(rows, np.float64)
    order = np.argsort(np.hypot(lights[:, 0] - camera_global[0], lights[:, 1] - camera_global[1]), kind="stable")
    return lights[order]


@numba.njit(cache=True, nogil=True)
def light_grid(lights: Float[np.ndarray, "L 11"], camera_global: Float[np.ndarray, "3"]) -> Int16[np.ndarray, "G G S"]:
    """Indices of the lights that may reach each cell around the camera, -1 padded; the nearest lights go first."""
    grid = np.full((GRID_CELLS, GRID_CELLS, _SLOTS), -1, np.int16)
    used = np.zeros((GRID_CELLS, GRID_CELLS), np.int16)
    origin_x = camera_global[0] - 0.5 * GRID_CELLS * CELL_M
    origin_y = camera_global[1] - 0.5 * GRID_CELLS * CELL_M
    for index in range(len(lights)):
        x, y, reach, cone = lights[index, 0], lights[index, 1], lights[index, 10], lights[index, 9]
        low_i = max(0, int((x - reach - origin_x) / CELL_M))
        high_i = min(GRID_CELLS - 1, int((x + reach - origin_x) / CELL_M))
        low_j = max(0, int((y - reach - origin_y) / CELL_M))
        high_j = min(GRID_CELLS - 1, int((y + reach - origin_y) / CELL_M))
        for j in range(low_j, high_j + 1):
            for i in range(low_i, high_i + 1):
                dx, dy = origin_x + (i + 0.5) * CELL_M - x, origin_y + (j + 0.5) * CELL_M - y
                far = np.hypot(dx, dy)
                if far - 0.71 * CELL_M > reach:
                    continue
                # A horizontal beam misses what lies to its side and behind.
                if cone > 0.5 and (dx * lights[index, 6] + dy * lights[index, 7]) < cone * far - 2.0 * CELL_M:
                    continue
                slot = used[j, i]
                if slot < _SLOTS:
                    grid[j, i, slot] = index
                    used[j, i] += 1
    return grid
