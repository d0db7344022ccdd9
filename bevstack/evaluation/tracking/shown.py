"""Tracks of one frame as a report shows them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.geometry.transforms import rigid_inverse, transform_points

MAX_SHOWN_TRACKS = 80
TAIL_FRAMES = 6
"""How many frames back a tail goes: three seconds of key frames."""


def track_rows(
    tracks: BoxColumns,
    token: str,
    past_tokens: Sequence[str],
    T_global_ego: Float[np.ndarray, "4 4"],
) -> list[dict[str, Any]]:
    """`number` and `name` of each track of a sample, best first, with `class` (index), `score`, `size` (length, width,
    height), `yaw` and `way`: centres (x, y, z) in `ego` in metres, the oldest first and the last one now.

    Args:
        tracks: Boxes with identities.
        token: The sample.
        past_tokens: Samples before it in its scene, oldest first; only those that have tracks are looked at.
        T_global_ego: Pose of the vehicle.
    """
    first, place_of = tracks.sample_first, {known: place for place, known in enumerate(tracks.sample_tokens)}
    identity = np.zeros(0, np.int64) if tracks.track_index is None else tracks.track_index
    places = [place_of[each] for each in (*past_tokens, token) if each in place_of]
    rows_of = [np.arange(first[place], first[place + 1]) for place in places]
    own = rows_of[-1]
    own = own[np.argsort(-tracks.score[own], kind="stable")][:MAX_SHOWN_TRACKS]
    T_ego_global = rigid_inverse(np.asarray(T_global_ego, np.float64))
    rows = []
    for row in own.tolist():
        seen = [one for rows_then in rows_of for one in rows_then[identity[rows_then] == identity[row]][:1].tolist()]
        width, length, height = tracks.size_wlh[row].round(2).tolist()
        rows.append(
            {
                "number": int(identity[row]),
                "name": tracks.track_ids[int(identity[row])],
                "class": int(tracks.class_index[row]),
                "score": round(float(tracks.score[row]), 4),
                "size": [length, width, height],
                "yaw": round(_yaw(tracks.rotation_wxyz[row], T_ego_global), 3),
                "way": np.round(transform_points(T_ego_global, tracks.translation[seen]), 2).tolist(),
            }
        )
    return rows


def _yaw(quaternion: np.ndarray, T_ego_global: np.ndarray) -> float:
    """Where the x axis of a box points, seen from above in `ego`."""
    w, x, y, z = quaternion
    forward = np.array((1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)))
    ahead = T_ego_global[:3, :3] @ forward
    return float(np.arctan2(ahead[1], ahead[0]))
