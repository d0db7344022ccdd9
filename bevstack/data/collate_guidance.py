"""What a batch holds beside sensor data: own motion, the route and the cue of each frame."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from bevstack.data.routes import ROUTE_WAYPOINTS
from bevstack.types.frame import Frame
from bevstack.types.trajectory import COMMANDS

NO_COMMAND = -1


class Guidance(TypedDict):
    """Fields of `Batch`, under their own names."""

    ego_status: Tensor
    route_command: Tensor | None
    route_ego: Tensor | None
    speed_limit_mps: Tensor | None
    cue_embedding: Tensor | None
    cue_mask: Tensor | None
    cue_age_s: Tensor | None


def collate_guidance(frames: Sequence[Frame]) -> Guidance:
    """Own motion, routes and cues as `Batch` has them; None where no frame has a route, or a cue.

    Raises:
        ValueError: cues differ in width, or one is younger than its frame.
    """
    states = [frame.ego for frame in frames]
    status = np.array([(ego.speed_mps, ego.acceleration_mps2, ego.yaw_rate_radps) for ego in states], np.float32)
    commands, waypoints, limits = _routes(frames)
    embeddings, mask, ages = _cues(frames)
    return Guidance(
        ego_status=torch.from_numpy(status),
        route_command=commands,
        route_ego=waypoints,
        speed_limit_mps=limits,
        cue_embedding=embeddings,
        cue_mask=mask,
        cue_age_s=ages,
    )


def _routes(frames: Sequence[Frame]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Commands, waypoints (at least `ROUTE_WAYPOINTS` of them, so that networks may count on it) and speed limits."""
    routes = [frame.route for frame in frames]
    present = [route for route in routes if route is not None]
    if not present:
        return None, None, None
    longest = max(ROUTE_WAYPOINTS, *(len(route.waypoints_ego) for route in present))
    commands = np.full(len(frames), NO_COMMAND, np.int64)
    waypoints = np.full((len(frames), longest, 2), np.nan, np.float32)
    limits = np.full(len(frames), np.nan, np.float32)
    for b, route in enumerate(routes):
        if route is not None:
            commands[b] = COMMANDS.index(route.command)
            waypoints[b, : len(route.waypoints_ego)] = route.waypoints_ego
            limits[b] = route.speed_limit_mps
    return torch.from_numpy(commands), torch.from_numpy(waypoints), torch.from_numpy(limits)


def _cues(frames: Sequence[Frame]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Embeddings, which frames have one, and how old they are."""
    widths: dict[int, str] = {}
    for frame in frames:
        if frame.cue is not None:
            widths.setdefault(len(frame.cue.embedding), f"frame {frame.token} from {frame.cue.source}")
    if not widths:
        return None, None, None
    if len(widths) > 1:
        found = ", ".join(f"{width} ({where})" for width, where in widths.items())
        raise ValueError(f"cue embeddings of one batch must have one width, these have {found}: use one text encoder")
    embeddings = np.zeros((len(frames), next(iter(widths))), np.float32)
    mask, ages = np.zeros(len(frames), bool), np.zeros(len(frames), np.float32)
    for b, frame in enumerate(frames):
        if frame.cue is None:
            continue
        embeddings[b], mask[b] = frame.cue.embedding, True
        ages[b] = 1e-6 * (frame.timestamp_us - frame.cue.timestamp_us)
        if ages[b] < 0:
            raise ValueError(
                f"the cue of frame {frame.token} describes frame {frame.cue.frame_token}, {-ages[b]:.3f} s later: "
                "a cue may be older than its frame, never younger"
            )
    return torch.from_numpy(embeddings), torch.from_numpy(mask), torch.from_numpy(ages)
