"""Frames that lose a sensor during training, so that one model works with cameras only, with LiDAR only, and with both.

The idea is the modality dropout of the robust fusion literature (for example Ge et al., MetaBEV, ICCV 2023, section 3.4).
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from bevstack.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorDropout:
    """Shares of the training frames that keep only one kind of sensor, and of cameras that are lost singly.

    Raises:
        ValueError: a share outside [0, 1], or both together above 1.
    """

    camera_only: float = 0.0
    lidar_only: float = 0.0
    lost_camera: float = 0.0
    """Probability of each single camera in frames that keep their cameras; at least one always stays."""

    def __post_init__(self) -> None:
        shares = (self.camera_only, self.lidar_only, self.lost_camera)
        if min(shares) < 0 or max(shares) > 1 or self.camera_only + self.lidar_only > 1:
            raise ValueError(f"camera_only, lidar_only, lost_camera = {shares} must lie in [0, 1], the first two add")

    def __call__(self, batch: Batch, *, seed: int) -> Batch:
        """The batch without what was drawn to be lost.

        A frame's draw depends on the seed and its token alone, not on its place in the batch or on the process. A
        frame that has only one kind of sensor keeps it.
        """
        camera_mask, lidar_mask = batch.camera_mask.clone(), batch.lidar_mask.clone()
        for index, token in enumerate(batch.tokens):
            random = np.random.default_rng([seed, zlib.crc32(token.encode())])
            draw, camera_draws = random.random(), random.random(camera_mask.shape[1])
            has_both = bool(lidar_mask[index]) and bool(camera_mask[index].any())
            if has_both and draw < self.camera_only:
                lidar_mask[index] = False
            elif has_both and draw < self.camera_only + self.lidar_only:
                camera_mask[index] = False
            else:
                kept = camera_mask[index] & torch.from_numpy(camera_draws >= self.lost_camera).to(camera_mask.device)
                if kept.any():
                    camera_mask[index] = kept
        return masked(batch, camera_mask=camera_mask, lidar_mask=lidar_mask)


def masked(batch: Batch, *, camera_mask: torch.Tensor, lidar_mask: torch.Tensor) -> Batch:
    """The batch with only these cameras (B, N) and LiDARs (B,): pictures of the others are zero, points removed."""
    kept = lidar_mask[batch.point_frame_index]
    return replace(
        batch,
        images=batch.images * camera_mask[:, :, None, None, None].to(batch.images.dtype),
        camera_mask=camera_mask,
        points_ego=batch.points_ego[kept],
        point_frame_index=batch.point_frame_index[kept],
        lidar_mask=lidar_mask,
    )
