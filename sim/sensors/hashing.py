"""Random numbers that depend on what they belong to (seed, pixel, ray, purpose) and not on the order of evaluation.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

import numba
import numpy as np

_SCALE_53 = 1.0 / 9007199254740992.0


@numba.njit(cache=True, nogil=True)
def mix(key: np.uint64, counter: np.uint64) -> np.uint64:
    """64 random bits (uint64) for a counter under a key (both uint64)."""
    z = key + (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def uniform(bits: np.uint64) -> float:
    """A number in [0, 1) from 64 random bits."""
    return float(bits >> np.uint64(11)) * _SCALE_53


@numba.njit(cache=True, nogil=True)
def bell(bits: np.uint64) -> float:
    """A number of mean 0 and variance 1, close to normal within 2.5 sigma: the sum of four 16-bit uniforms."""
    mask = np.uint64(0xFFFF)
    total = (
        float(bits & mask)
        + float((bits >> np.uint64(16)) & mask)
        + float((bits >> np.uint64(32)) & mask)
        + float(bits >> np.uint64(48))
    )
    return (total - 131070.0) * 2.6429e-5
