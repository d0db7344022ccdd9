"""Faults of cameras: of the picture itself, and of when it arrives."""

from collections import deque
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from bevstack.data.class_names import CAMERA_NAMES
from bevstack.geometry.transforms import rigid_inverse
from bevstack.sim.scenario.schema import FaultEntry
from bevstack.sim.sensing.fault import Fault, with_rows
from bevstack.types.frame import CameraImage

_MUD_RGB = (58, 50, 42)
_DIRT_GRID = (48, 132)
_GAMMA = 2.2
"""Of the tone curve of `sensors/develop.py`, below its shoulder."""


class CameraDrop(Fault):
    """Pictures that are missing."""

    def cameras(  # noqa: D102
        self, images: tuple[CameraImage, ...], T_global_ego: Float[np.ndarray, "4 4"], time_s: float
    ) -> tuple[CameraImage, ...]:
        if not self.is_active(time_s) or not self.strikes(time_s):
            return images
        return with_rows(images, dict.fromkeys(self.sensors))


class CameraFreeze(Fault):
    """The last picture from before the window, again and again; where there was none, the first one in it."""

    def __init__(self, entry: FaultEntry) -> None:
        super().__init__(entry)
        self._last: dict[str, CameraImage] = {}

    def reset(self) -> None:  # noqa: D102
        self._last = {}

    def cameras(  # noqa: D102
        self, images: tuple[CameraImage, ...], T_global_ego: Float[np.ndarray, "4 4"], time_s: float
    ) -> tuple[CameraImage, ...]:
        own = [image for image in images if image.name in self.sensors]
        if not self.is_active(time_s):
            self._last = {image.name: image for image in own}
            return images
        return with_rows(
            images, {image.name: replace(image, rgb=self._last.setdefault(image.name, image).rgb) for image in own}
        )


class CameraDelay(Fault):
    """Pictures of some frames ago, placed where the camera was then. At the begin of a run the first one is all."""

    def __init__(self, entry: FaultEntry) -> None:
        super().__init__(entry)
        self._past: deque[tuple[np.ndarray, dict[str, CameraImage]]] = deque(maxlen=int(self.parameters["frames"]) + 1)

    def reset(self) -> None:  # noqa: D102
        self._past.clear()

    def cameras(  # noqa: D102
        self, images: tuple[CameraImage, ...], T_global_ego: Float[np.ndarray, "4 4"], time_s: float
    ) -> tuple[CameraImage, ...]:
        self._past.append((T_global_ego, {image.name: image for image in images if image.name in self.sensors}))
        if not self.is_active(time_s):
            return images
        T_global_then, old = self._past[0]
        T_ego_then = rigid_inverse(T_global_ego) @ T_global_then
        late = {name: replace(image, T_ego_cam=T_ego_then @ image.T_ego_cam) for name, image in old.items()}
        return with_rows(images, {name: late.get(name) for name in self.sensors})


class CameraDirt(Fault):
    """Blotches of mud close to the lens: soft, dark, and always at the same place."""

    def picture(self, name: str, rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:  # noqa: D102
        noise = self.generator(CAMERA_NAMES.index(name)).standard_normal(_DIRT_GRID)
        blotches = np.asarray(cv2.GaussianBlur(noise, (0, 0), 4.0))
        edge = np.quantile(blotches, 1.0 - self.parameters["coverage"])
        soft = np.clip((blotches - edge) / (0.15 * blotches.std()), 0.0, 1.0)
        if self.parameters["coverage"] >= 1.0:
            soft[:] = 1.0
        cover = np.asarray(cv2.resize(soft, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR))
        cover = self.parameters["opacity"] * cover[..., None]
        return np.asarray(np.round(rgb * (1.0 - cover) + cover * np.array(_MUD_RGB)), np.uint8)


class CameraExposure(Fault):
    """Too much or too little light on the sensor."""

    def picture(self, name: str, rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:  # noqa: D102
        codes = np.arange(256) * self.parameters["gain"] ** (1.0 / _GAMMA)
        return np.clip(np.round(codes), 0, 255).astype(np.uint8)[rgb]


class CameraBlur(Fault):
    """Out of focus: a Gaussian point spread."""

    def picture(self, name: str, rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:  # noqa: D102
        sigma = self.parameters["sigma_px"]
        return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)


class CameraCrop(Fault):
    """A margin that is black."""

    def picture(self, name: str, rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:  # noqa: D102
        height, width = rgb.shape[:2]
        rows = round(self.parameters["top"] * height), height - round(self.parameters["bottom"] * height)
        columns = round(self.parameters["left"] * width), width - round(self.parameters["right"] * width)
        cut = np.zeros_like(rgb)
        cut[rows[0] : rows[1], columns[0] : columns[1]] = rgb[rows[0] : rows[1], columns[0] : columns[1]]
        return cut
