"""A pen: digits, crosses, tally strokes and scribbled signatures, each as one hand would draw them.

A hand has a slant and an unsteadiness of its own; one page is filled in by one hand. Strokes are drawn white on a mask
(mode "L"), larger than the paper, so that shrinking it smooths them. No fonts, no names: signatures are loops.
"""

from __future__ import annotations

import random
from itertools import pairwise

from PIL import ImageDraw

Point = tuple[float, float]
Stroke = tuple[Point, ...]

SIGNS: dict[str, tuple[Stroke, ...]] = {
    "0": (
        ((0.55, 0.02), (0.2, 0.15), (0.08, 0.5), (0.22, 0.9), (0.55, 0.98)),
        ((0.55, 0.98), (0.85, 0.75), (0.88, 0.35), (0.68, 0.08), (0.45, 0.04)),
    ),
    "1": (
        ((0.3, 0.25), (0.45, 0.15), (0.58, 0.02)),
        ((0.58, 0.02), (0.56, 0.5), (0.53, 1.0)),
    ),
    "2": (
        ((0.12, 0.22), (0.35, 0.02), (0.75, 0.1), (0.8, 0.35), (0.5, 0.65), (0.1, 0.97)),
        ((0.1, 0.97), (0.5, 0.93), (0.92, 0.95)),
    ),
    "3": (
        ((0.15, 0.12), (0.5, 0.0), (0.82, 0.2), (0.65, 0.42), (0.4, 0.48)),
        ((0.4, 0.48), (0.78, 0.56), (0.85, 0.8), (0.5, 1.0), (0.1, 0.88)),
    ),
    "4": (
        ((0.55, 0.0), (0.3, 0.4), (0.08, 0.68)),
        ((0.08, 0.68), (0.5, 0.66), (0.95, 0.64)),
        ((0.66, 0.35), (0.64, 0.7), (0.6, 1.02)),
    ),
    "5": (
        ((0.82, 0.03), (0.5, 0.04), (0.25, 0.05)),
        ((0.25, 0.05), (0.2, 0.25), (0.17, 0.45)),
        ((0.17, 0.45), (0.5, 0.36), (0.85, 0.58), (0.7, 0.92), (0.35, 1.0), (0.08, 0.88)),
    ),
    "6": (((0.7, 0.02), (0.35, 0.25), (0.12, 0.65), (0.3, 0.97), (0.7, 0.95), (0.82, 0.7), (0.55, 0.52), (0.2, 0.66)),),
    "7": (
        ((0.1, 0.06), (0.5, 0.05), (0.9, 0.03)),
        ((0.9, 0.03), (0.6, 0.5), (0.38, 1.0)),
    ),
    "8": (
        ((0.75, 0.15), (0.45, 0.0), (0.2, 0.2), (0.45, 0.45), (0.8, 0.7)),
        ((0.8, 0.7), (0.55, 0.98), (0.2, 0.82), (0.35, 0.55), (0.65, 0.38), (0.78, 0.15)),
    ),
    "9": (
        ((0.82, 0.2), (0.5, 0.02), (0.15, 0.25), (0.35, 0.5), (0.7, 0.42), (0.83, 0.18)),
        ((0.83, 0.18), (0.8, 0.6), (0.6, 1.0)),
    ),
    "X": (
        ((0.1, 0.05), (0.5, 0.5), (0.9, 0.97)),
        ((0.88, 0.03), (0.5, 0.5), (0.1, 0.95)),
    ),
}
"""Each sign as strokes through points of a unit square, y downwards."""


class Pen:
    """One hand with one pen, writing on `canvas`; every coordinate is in the canvas's pixels."""

    def __init__(self, canvas: ImageDraw.ImageDraw, draws: random.Random, width: int) -> None:
        self._canvas = canvas
        self._draws = draws
        self._width = width
        self._slant = draws.uniform(-0.05, 0.28)
        self._unsteady = draws.uniform(0.015, 0.035)

    def sign(self, sign: str, x: float, y: float, width: float, height: float) -> None:
        """One digit, or X, inside the box whose upper left corner is (x, y)."""
        r = self._draws
        scale = r.uniform(0.86, 1.06)
        dx, dy = x + width * r.uniform(-0.08, 0.08), y + height * r.uniform(-0.07, 0.07)
        slant = self._slant + r.uniform(-0.05, 0.05)
        for stroke in SIGNS[sign]:
            self._curve(
                [
                    (dx + width * scale * (self._off(px) + slant * (0.5 - py)), dy + height * scale * self._off(py))
                    for px, py in stroke
                ]
            )

    def tally(self, count: int, x: float, y: float, width: float, height: float) -> None:
        """One group of a tally: up to four upright strokes, the fifth across them."""
        r = self._draws
        for n in range(min(count, 4)):
            left = x + width * (0.16 + 0.21 * n + r.uniform(-0.03, 0.03))
            top, bottom = y + height * r.uniform(0.02, 0.14), y + height * r.uniform(0.86, 1.0)
            lean = width * (self._slant * 0.4 + r.uniform(-0.03, 0.05))
            self._line([(left + lean, top), (left, bottom)])
        if count >= 5:
            rise = height * r.uniform(0.2, 0.3)
            self._line([(x + width * 0.03, y + height - rise), (x + width * 0.97, y + rise)])

    def signature(self, x: float, y: float, width: float, height: float) -> None:
        """A scribble that names nobody: loops that wander to the right, then a flourish."""
        r = self._draws
        loops = r.randint(4, 8)
        points = [(x, y + height * r.uniform(0.3, 0.7))]
        for n in range(loops):
            forth = x + width * 0.8 * (n + r.uniform(0.4, 1.1)) / loops
            reach = r.choice((0.15, 0.3, 0.3, 0.55))
            points.append((forth, y + height * (0.5 - reach * r.uniform(0.6, 1.0))))
            points.append((forth - width * r.uniform(-0.02, 0.1), y + height * (0.5 + reach * r.uniform(0.4, 0.9))))
        points.append((x + width * r.uniform(0.85, 1.0), y + height * r.uniform(0.1, 0.5)))
        if r.random() < 0.6:
            back = x + width * r.uniform(0.0, 0.2)
            points += [(x + width * 0.5, y + height * 0.85), (back, y + height * 0.95), (x + width, y + height * 0.8)]
        self._curve(points)

    def _off(self, value: float) -> float:
        return value + self._draws.uniform(-self._unsteady, self._unsteady)

    def _curve(self, points: list[Point]) -> None:
        """A Catmull-Rom spline: it passes through its points, as a hand aims at them."""
        ends = [points[0], *points, points[-1]]
        path = [points[0]]
        for (x0, y0), (x1, y1), (x2, y2), (x3, y3) in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
            path += [(_spline(x0, x1, x2, x3, t), _spline(y0, y1, y2, y3, t)) for t in (0.2, 0.4, 0.6, 0.8, 1.0)]
        self._line(path)

    def _line(self, path: list[Point]) -> None:
        pressure = self._width * self._draws.uniform(0.85, 1.1)
        for n, (a, b) in enumerate(pairwise(path)):
            # Ink thins towards the end of a stroke, where the hand lifts.
            width = max(2, round(pressure * (1.0 - 0.3 * n / len(path))))
            self._canvas.line((a, b), fill=255, width=width)
            half = width / 2
            self._canvas.ellipse((b[0] - half, b[1] - half, b[0] + half, b[1] + half), fill=255)


def _spline(p0: float, p1: float, p2: float, p3: float, t: float) -> float:
    return p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
