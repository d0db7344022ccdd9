"""Bicubic resize with the bytes of Pillow, several times faster and only for the rows that are wanted.

Pillow's 8-bit resize (`src/libImaging/Resample.c`) is separable: weights of the cubic convolution kernel (Keys, 1981,
with a = -1/2), stretched by the reduction, rounded to whole multiples of 2^-22; rows first, rounded back to 8 bits,
then columns. Whole-number arithmetic has one result in whatever order it is done. Here each pass runs along memory
(the picture is transposed for the first one), so that the compiler can work on many pixels at once.
"""

from functools import lru_cache
from math import ceil
from typing import no_type_check

import cv2
import numba
import numpy as np
from jaxtyping import UInt8

_PRECISION_BITS = 22


def resize_bicubic(
    rgb: UInt8[np.ndarray, "H W 3"], height: int, width: int, first_row: int = 0
) -> UInt8[np.ndarray, "R Q 3"]:
    """Rows `first_row` to `height` of the picture resized to (height, width)."""
    row_starts, row_weights = (values[first_row:] for values in _weights(len(rgb), height))
    if height == len(rgb):
        top, bottom = first_row, height
    else:
        top, bottom = int(row_starts[0]), int(row_starts[-1]) + row_weights.shape[1]
    kept = rgb[top:bottom]
    if width != rgb.shape[1]:
        turned = cv2.transpose(kept)
        kept = cv2.transpose(_combine(turned, *_weights(rgb.shape[1], width)))
    if height != len(rgb):
        return _combine(kept, row_starts - top, row_weights)
    return np.ascontiguousarray(kept)


@lru_cache(maxsize=16)
def _weights(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray]:
    """For each place of the result: the first place of the source that it takes, and the weights from there on."""
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    num_weights = ceil(support) * 2 + 1
    starts = np.zeros(size_out, np.int64)
    weights = np.zeros((size_out, num_weights), np.int32)
    for place in range(size_out):
        center = (place + 0.5) * scale
        start = max(0, int(center - support + 0.5))
        end = min(size_in, int(center + support + 0.5))
        # One weight after another, as Pillow sums them: another order could round differently.
        exact = [_cubic((source - center + 0.5) * (1.0 / stretch)) for source in range(start, end)]
        total = 0.0
        for weight in exact:
            total += weight
        for k, weight in enumerate(exact):
            scaled = weight / total * (1 << _PRECISION_BITS)
            weights[place, k] = int(scaled - 0.5) if weight < 0 else int(scaled + 0.5)
        starts[place] = start
    return starts, weights


def _cubic(x: float) -> float:
    a = -0.5
    x = abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return 0.0


def _combine(pixels: np.ndarray, starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sums of whole rows of (S, L, 3) pixels: (len(starts), L, 3)."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    out = np.empty((len(starts), rows.shape[1]), np.uint8)
    _combine_rows(rows, starts, weights, out)
    return out.reshape(len(starts), *pixels.shape[1:])


@numba.njit(nogil=True, cache=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _combine_rows(rows: np.ndarray, starts: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    length = rows.shape[1]
    sums = np.empty(length, np.int32)
    for place in range(len(starts)):
        sums[:] = 1 << (_PRECISION_BITS - 1)
        start = starts[place]
        for k in range(min(weights.shape[1], len(rows) - start)):
            weight = weights[place, k]
            if weight != 0:
                source = rows[start + k]
                for j in range(length):
                    sums[j] += weight * source[j]
        for j in range(length):
            out[place, j] = min(255, max(0, sums[j] >> _PRECISION_BITS))
