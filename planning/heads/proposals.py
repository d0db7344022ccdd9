"""From points that a network has chosen to proposals: headings and speeds are those of the motion through the points.

Letters: B frames, K proposals, T steps.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bevstack.planning.path_motion import headings_along, speeds_along
from bevstack.types.scene import PlanProposals
from bevstack.types.trajectory import FUTURE_STEP_S

CREEPING_MPS = 0.5
"""A vehicle that seems to back up more slowly stands: a network's points are not exact to the centimetre."""


def proposals_of(points: Float[Tensor, "B K T 2"], scores: Float[Tensor, "B K"], planner: str) -> list[PlanProposals]:
    """Proposals of each frame.

    Args:
        points: (x, y) of the rear axle in metres, best first.
        scores: Descending.
        planner: Who proposes.
    """
    headings = headings_along(points)
    speeds = speeds_along(points, headings, FUTURE_STEP_S)
    speeds = torch.where((speeds < 0) & (speeds > -CREEPING_MPS), 0.0, speeds)
    poses = torch.cat((points, headings[..., None]), dim=-1)
    return [
        PlanProposals(
            poses_ego=frame_poses.cpu().numpy(),
            speeds_mps=frame_speeds.cpu().numpy(),
            scores=frame_scores.cpu().numpy(),
            dt_s=FUTURE_STEP_S,
            planner=planner,
        )
        for frame_poses, frame_speeds, frame_scores in zip(poses, speeds, scores, strict=True)
    ]
