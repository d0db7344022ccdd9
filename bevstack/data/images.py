"""Camera pictures from JPEG files, resized and cropped on the way in.

The rule is the same everywhere: resize so that the width fits, then crop rows from the top, where there is only sky,
so that the bottom row stays. Both steps are one affine map `A_img` of pixels, and the caller folds it into the
calibration (`K_cam := A_img @ K_cam`). Pixel (0, 0) is the centre of the top-left pixel, hence
u' = s * (u + 0.5) - 0.5 for a resize by s.

Two ways of resampling. `fast` lets the JPEG decoder do most of the reduction inside its inverse cosine transform and
resizes what is left with OpenCV. `exact` gives the bytes of Pillow's `resize(..., BICUBIC)` followed by `crop`, which
is what most published image pipelines trained with. Both touch only the rows that are kept, plus a filter's width.
"""

from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Float64, UInt8

from bevstack.data.resample import resize_bicubic
from bevstack.types.errors import DatasetError

ReadMode = Literal["fast", "exact"]

_FILTER_MARGIN = 4
"""Output rows that are computed above the crop and thrown away, so that no filter sees the edge of the cut."""

_CUBIC_FROM_RATIO = 0.75


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Height and width of an image, in pixels.

    Raises:
        ValueError: a side is not a positive whole number.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height != int(self.height) or self.width != int(self.width) or min(self.height, self.width) < 1:
            raise ValueError(f"image size {self.height} x {self.width} must be two positive whole numbers")
        object.__setattr__(self, "height", int(self.height))
        object.__setattr__(self, "width", int(self.width))

    @property
    def height_width(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class ResizeCrop:
    """How a picture of one size becomes one of another: resize all of it, then drop rows from the top.

    Raises:
        ValueError: the resized picture is shorter than the wanted one.
    """

    source: ImageSize
    target: ImageSize

    def __post_init__(self) -> None:
        if self.resized_height < self.target.height:
            raise ValueError(
                f"a {self.source.width} x {self.source.height} picture resized to width {self.target.width} is "
                f"{self.resized_height} rows high: ask for at most that height, not {self.target.height}"
            )

    @property
    def resized_height(self) -> int:
        """Rows of the whole picture after the resize, before the crop."""
        return max(1, round(self.source.height * self.target.width / self.source.width))

    @property
    def crop_top(self) -> int:
        """Rows dropped from the top of the resized picture."""
        return self.resized_height - self.target.height

    @property
    def A_img(self) -> Float64[np.ndarray, "3 3"]:
        """Pixels of the source picture to pixels of the target picture."""
        scale_u = self.target.width / self.source.width
        scale_v = self.resized_height / self.source.height
        return np.array(
            [
                [scale_u, 0.0, 0.5 * scale_u - 0.5],
                [0.0, scale_v, 0.5 * scale_v - 0.5 - self.crop_top],
                [0.0, 0.0, 1.0],
            ]
        )

    def kept_rows(self, source_height: int) -> tuple[int, int]:
        """(first source row needed, resized rows that lie above it), on a pixel boundary of both pictures.

        `source_height` is the height of the picture that is resampled: that of `source`, or of a reduced decode.
        Source and resized rows meet every source/g and resized/g rows (g the greatest common divisor); cutting there
        keeps the sampling positions of the whole picture.
        """
        meeting_points = gcd(source_height, self.resized_height)
        resized_step = self.resized_height // meeting_points
        steps = max(0, self.crop_top - _FILTER_MARGIN) // resized_step
        return steps * (source_height // meeting_points), steps * resized_step


def read_image(
    path: Path | str, size: ImageSize, mode: ReadMode = "fast"
) -> tuple[UInt8[np.ndarray, "H W 3"], Float64[np.ndarray, "3 3"]]:
    """The picture in a JPEG file as RGB of `size`, and the map A_img from the file's pixels to the returned pixels.

    Args:
        path: JPEG file.
        size: height and width of the result; see the module for the rule.
        mode: "fast", or "exact" for the bytes of Pillow's bicubic resize and crop.

    Raises:
        DatasetError: the file is missing, is not a JPEG, is cut short or damaged.
        ValueError: the resized picture is shorter than `size.height`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; extract the archive that holds this image again") from error
    return decode_image(data, size, mode, source=path)


def decode_image(
    data: bytes, size: ImageSize, mode: ReadMode = "fast", *, source: Path | str = "picture"
) -> tuple[UInt8[np.ndarray, "H W 3"], Float64[np.ndarray, "3 3"]]:
    """As `read_image`, of the bytes of a JPEG file; `source` names them in messages.

    Raises:
        DatasetError, ValueError: as for `read_image`.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise _damaged(source, data, error) from error
    plan = ResizeCrop(ImageSize(height, width), size)
    decode = {"fast": _decode_fast, "exact": _decode_exact}[mode]
    try:
        rgb = decode(data, plan)
    except ValueError as error:  # strict decoding: what libjpeg would repair with grey is an error here
        raise _damaged(source, data, error) from error
    return rgb, plan.A_img


def _damaged(path: Path | str, data: bytes, error: Exception) -> DatasetError:
    return DatasetError(f"{path}: not a complete JPEG ({error}; {len(data)} bytes on disk): fetch this file again")


def _decode_fast(data: bytes, plan: ResizeCrop) -> np.ndarray:
    """Decode reduced by k/8 where that keeps whole pixels, then resize what is left of the rows that stay."""
    source, target = plan.source, plan.target
    height, width, _, _ = simplejpeg.decode_jpeg_header(data, min_height=plan.resized_height, min_width=target.width)
    # A reduction by k/8 that does not divide the sides pads the last block: pixel positions would drift.
    if height * source.width != width * source.height:
        height, width = source.height, source.width
    reduced = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
    first_row, rows_above = plan.kept_rows(height)
    resized_rows = plan.resized_height - rows_above
    resized = reduced[first_row:]
    if resized.shape[:2] != (resized_rows, target.width):
        # Cubic is sharp and cheap, but takes four pixels whatever the ratio: it aliases where much is left to do.
        filter_kind = cv2.INTER_CUBIC if target.width >= _CUBIC_FROM_RATIO * width else cv2.INTER_AREA
        resized = cv2.resize(resized, (target.width, resized_rows), interpolation=filter_kind)
    return np.ascontiguousarray(resized[plan.crop_top - rows_above :])


def _decode_exact(data: bytes, plan: ResizeCrop) -> np.ndarray:
    """The bytes of Pillow's decode, bicubic resize and crop; the decoder is the same libjpeg, so only speed differs."""
    full = simplejpeg.decode_jpeg(data, "RGB")
    return resize_bicubic(full, plan.resized_height, plan.target.width, plan.crop_top)
