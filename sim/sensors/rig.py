"""The sensor rig of a nuScenes vehicle: six cameras around the car and one LiDAR on its roof.

Calibration facts of the nuScenes recording vehicle (Caesar et al., nuScenes, CVPR 2020, section 3.1), rounded to
0.1 pixels, 1 mm and 1e-4 in the quaternion.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import from_quaternion

NATIVE_WIDTH_PX = 1600
NATIVE_HEIGHT_PX = 900

SWEEP_PERIOD_S = 0.05
"""One turn of the LiDAR (20 Hz)."""


class _HeightWidth(Protocol):
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSpec:
    """One camera: what it sees at full size, where it sits on the car, when it fires."""

    name: str
    K_cam: Float[np.ndarray, "3 3"]
    """Camera coordinates (x right, y down, z forward) to pixels of the 1600x900 image."""
    T_ego_cam: Float[np.ndarray, "4 4"]
    exposure_offset_s: float
    """Exposure time minus the end of the LiDAR sweep (the key frame): a camera fires as the beam passes it."""


def _camera(
    name: str,
    focal_px: float,
    center_px: tuple[float, float],
    quaternion_wxyz: tuple[float, float, float, float],
    translation_m: tuple[float, float, float],
    exposure_offset_s: float,
) -> CameraSpec:
    K_cam = np.array([[focal_px, 0, center_px[0]], [0, focal_px, center_px[1]], [0, 0, 1]], np.float64)
    T_ego_cam = from_quaternion(np.array(quaternion_wxyz), np.array(translation_m))
    return CameraSpec(name=name, K_cam=K_cam, T_ego_cam=T_ego_cam, exposure_offset_s=exposure_offset_s)


# In the order of bevstack.data.class_names.CAMERA_NAMES.
NUSCENES_CAMERAS = (
    _camera("CAM_FRONT", 1266.4, (816.3, 491.5), (0.4998, -0.5030, 0.4998, -0.4974), (1.701, 0.016, 1.511), -0.035),
    _camera(
        "CAM_FRONT_RIGHT", 1260.8, (808.0, 495.3), (0.2060, -0.2027, 0.6825, -0.6714), (1.551, -0.493, 1.496), -0.028
    ),
    _camera(
        "CAM_BACK_RIGHT", 1259.5, (807.3, 501.2), (0.1228, -0.1324, -0.7004, 0.6905), (1.015, -0.481, 1.562), -0.020
    ),
    _camera("CAM_BACK", 809.2, (829.2, 481.8), (0.5038, -0.4974, -0.4942, 0.5045), (0.028, 0.003, 1.579), -0.010),
    _camera("CAM_BACK_LEFT", 1256.7, (792.1, 492.8), (0.6924, -0.7032, -0.1165, 0.1120), (1.036, 0.485, 1.591), -0.001),
    _camera(
        "CAM_FRONT_LEFT", 1272.6, (826.6, 479.8), (0.6757, -0.6736, 0.2121, -0.2112), (1.524, 0.495, 1.509), -0.043
    ),
)
"""The six cameras, clockwise from the front."""

T_EGO_LIDAR: Float[np.ndarray, "4 4"] = np.array(
    [[0.0, 1.0, 0.0, 0.94], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.84], [0.0, 0.0, 0.0, 1.0]]
)
"""LIDAR_TOP on the car: its x points right, its y forward."""


def camera_matrix(spec: CameraSpec, size: _HeightWidth) -> Float[np.ndarray, "3 3"]:
    """Intrinsics after resizing 1600x900 to the width of `size` and cropping rows from the top to its height.

    Pixel (0, 0) is the centre of the top-left pixel, so u' = s (u + 0.5) - 0.5.

    Raises:
        ValueError: the resized picture has fewer rows than `size.height`.
    """
    scale = size.width / NATIVE_WIDTH_PX
    rows = round(NATIVE_HEIGHT_PX * scale)
    if rows < size.height or size.height < 1:
        raise ValueError(
            f"an image {size.width} wide has {rows} rows: the height must be 1 to {rows}, got {size.height}"
        )
    shift = 0.5 * scale - 0.5
    A_img = np.array([[scale, 0, shift], [0, scale, shift - (rows - size.height)], [0, 0, 1]], np.float64)
    return A_img @ spec.K_cam
