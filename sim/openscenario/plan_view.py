"""The reference line of an OpenDRIVE road: straight lines, arcs, clothoids and polynomials (ASAM OpenDRIVE 1.8, ch. 9).

Curves are integrated, not approximated by chords: a pose is right to less than a millimetre.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_CHORD_ERROR_M = 0.001
_LONGEST_STEP_M, _SHORTEST_STEP_M = 1.0, 0.05
_PIECE_RAD = 0.5
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanElement:
    """A stretch of the line whose curvature changes evenly: straight, arc or clothoid."""

    start_m: float
    """Station at which it begins."""
    x: float
    y: float
    heading: float
    length_m: float
    curvature: float = 0.0
    """At the begin, left positive."""
    curvature_end: float = 0.0

    def poses(self, local: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N 3"]:
        """x, y and heading at distances from the begin of the element."""
        if self.curvature == self.curvature_end:
            half = self.curvature * local / 2
            chord = local * np.sinc(half / np.pi)
            x, y = self.x + chord * np.cos(self.heading + half), self.y + chord * np.sin(self.heading + half)
            return np.stack((x, y, self.heading + 2 * half), axis=1)
        rate = (self.curvature_end - self.curvature) / self.length_m
        pieces = max(1, math.ceil(self.length_m * self.sharpest / _PIECE_RAD))
        # Gauss-Legendre in equal parts of [0, local].
        shares = ((_NODES + 1) / 2 + np.arange(pieces)[:, None]).ravel() / pieces
        along = local[:, None] * shares
        yaws = self.heading + self.curvature * along + rate * along**2 / 2
        weights = np.tile(_WEIGHTS, pieces) / 2 / pieces
        x, y = self.x + local * (np.cos(yaws) @ weights), self.y + local * (np.sin(yaws) @ weights)
        return np.stack((x, y, self.heading + self.curvature * local + rate * local**2 / 2), axis=1)

    @property
    def sharpest(self) -> float:
        """The largest curvature, without sign."""
        return max(abs(self.curvature), abs(self.curvature_end))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialElement:
    """A stretch given by two cubic polynomials in its own frame, u ahead and v to the left (`paramPoly3`, `poly3`)."""

    start_m: float
    x: float
    y: float
    heading: float
    length_m: float
    u: tuple[float, float, float, float]
    v: tuple[float, float, float, float]
    last: float
    """Value of the parameter at the end: 1 where it is normalised, else the length."""

    def poses(self, local: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N 3"]:
        """As `PlanElement.poses`."""
        p = local / self.length_m * self.last
        u, v = (np.polynomial.polynomial.polyval(p, c) for c in (self.u, self.v))
        du, dv = (np.polynomial.polynomial.polyval(p, np.polynomial.polynomial.polyder(c)) for c in (self.u, self.v))
        c, s = math.cos(self.heading), math.sin(self.heading)
        yaws = self.heading + np.unwrap(np.arctan2(dv, du))
        return np.stack((self.x + c * u - s * v, self.y + s * u + c * v, yaws), axis=1)

    @property
    def sharpest(self) -> float:
        """The largest curvature at 33 points."""
        p = np.linspace(0.0, self.last, 33)
        der = np.polynomial.polynomial.polyder
        (du, dv), (ddu, ddv) = (
            [np.polynomial.polynomial.polyval(p, der(c, order)) for c in (self.u, self.v)] for order in (1, 2)
        )
        return float((np.abs(du * ddv - dv * ddu) / np.maximum(np.hypot(du, dv), 1e-9) ** 3).max())


Element = PlanElement | PolynomialElement


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceLine:
    """All stretches of a road, in order."""

    elements: tuple[Element, ...]

    @property
    def length_m(self) -> float:
        """Of all stretches."""
        return self.elements[-1].start_m + self.elements[-1].length_m

    def poses(self, stations: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N 3"]:
        """x, y and heading at stations; straight on beyond both ends."""
        inside = np.clip(stations, 0.0, self.length_m)
        starts = np.array([element.start_m for element in self.elements])
        which = np.clip(np.searchsorted(starts, inside + 1e-9, side="right") - 1, 0, len(starts) - 1)
        result = np.empty((len(stations), 3))
        for index in np.unique(which):
            rows = which == index
            result[rows] = self.elements[index].poses(inside[rows] - starts[index])
        beyond = stations - inside
        result[:, 0] += beyond * np.cos(result[:, 2])
        result[:, 1] += beyond * np.sin(result[:, 2])
        return result

    def stations(self, first: float, last: float, also: Iterable[float] = ()) -> Float[np.ndarray, " N"]:
        """Stations from `first` to `last`, so dense that chords stay within a millimetre of the line."""
        marks = {first, last, *(mark for mark in also if first < mark < last)}
        marks |= {element.start_m for element in self.elements if first < element.start_m < last}
        ordered = sorted(marks)
        parts = []
        for low, high in zip(ordered[:-1], ordered[1:], strict=True):
            sharpest = self._element_at((low + high) / 2).sharpest
            step = math.sqrt(8 * _CHORD_ERROR_M / sharpest) if sharpest > 0 else _LONGEST_STEP_M
            step = min(max(step, _SHORTEST_STEP_M), _LONGEST_STEP_M)
            parts.append(np.linspace(low, high, max(1, math.ceil((high - low) / step - 1e-9)) + 1)[:-1])
        return np.append(np.concatenate(parts), ordered[-1]) if parts else np.array(ordered)

    def _element_at(self, station: float) -> Element:
        return next((e for e in reversed(self.elements) if e.start_m <= station), self.elements[0])
