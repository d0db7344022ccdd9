"""Plans and the vehicle's own drive as a report shows them: the boxes that the polygon protocol scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bevstack.evaluation.planning.ego_future import EgoFuture
from bevstack.evaluation.planning.file import PlanColumns
from bevstack.evaluation.planning.origin import PlanOrigin
from bevstack.evaluation.planning.placement import place_expert, place_plan
from bevstack.types.trajectory import COMMANDS


def plan_rows(plans: PlanColumns, future: EgoFuture, tokens: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Plans of some samples by token: `boxes` (x, y of the centre, length, width, yaw in `ego`, now and at each step),
    `source`, `reasons` and `command`, which are empty where nothing is said.

    Args:
        plans: Of any samples, among them those asked for.
        future: Of the split; says how the LiDAR is mounted, which plans in its axes need.
        tokens: The samples to show.
    """
    row_of = {token: row for row, token in enumerate(plans.sample_tokens)}
    frame_of = {token: frame for frame, token in enumerate(future.sample_tokens)}
    chosen = plans.take([row_of[token] for token in tokens])
    placed = place_plan(chosen, future.take([frame_of[token] for token in tokens]))
    rows = {}
    for place, token in enumerate(tokens):
        origin = chosen.origins[place] if chosen.origins else PlanOrigin()
        command = int(chosen.command_index[place])
        rows[token] = {
            "boxes": np.round(placed.boxes_ego[place], 3).tolist(),
            "source": origin.source,
            "reasons": list(origin.reasons),
            "command": COMMANDS[command].value if command >= 0 else "",
        }
    return rows


def driven_boxes(future: EgoFuture, tokens: Sequence[str]) -> dict[str, list[list[float]]]:
    """Where the vehicle itself went after some samples, by token: boxes as in `plan_rows`, as many as are known."""
    frame_of = {token: frame for frame, token in enumerate(future.sample_tokens)}
    own = future.take([frame_of[token] for token in tokens])
    boxes, known = place_expert(own).boxes_ego, own.valid.sum(axis=1)
    return {token: np.round(boxes[place, : known[place] + 1], 3).tolist() for place, token in enumerate(tokens)}
