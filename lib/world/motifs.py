"""The ornament over a landmark's portal: a rose window, a clock, a mosaic, a sign.

Every motif is drawn in a frame of its own: the origin is its centre, 1 is its radius, y points
down. Each has its own shape, because colours alone do not tell neighbours apart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lib.world.canvas import Canvas

SHINE = 255  # lit at night
INK = np.float32([20, 20, 20])


@dataclass(frozen=True)
class _Frame:
    """A place on a canvas; positions and sizes are in units of `radius`."""

    canvas: Canvas
    x: float
    y: float
    radius: float

    def disc(self, x: float, y: float, size: float, paint: np.ndarray, shine: int = -1) -> None:
        r = self.radius
        self.canvas.disc(self.x + x * r, self.y + y * r, size * r, paint, shine)

    def polygon(self, points: np.ndarray, paint: np.ndarray, shine: int = -1) -> None:
        self.canvas.polygon(np.asarray(points) * self.radius + (self.x, self.y), paint, shine)

    def bar(
        self, x0: float, y0: float, x1: float, y1: float, paint: np.ndarray, shine: int = -1
    ) -> None:
        self.polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), paint, shine)

    def line(self, x: float, y: float, paint: np.ndarray) -> None:
        r = self.radius
        self.canvas.line(self.x, self.y, self.x + x * r, self.y + y * r, paint)


def _ring(count: int, start: float = 0.0) -> np.ndarray:
    angles = start + np.arange(count) * 2 * np.pi / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rose(f: _Frame) -> None:
    look = f.canvas.look
    f.disc(0, 0, 1.12, look.trim)
    f.disc(0, 0, 1, look.glass, SHINE)
    for x, y in _ring(8):
        f.line(x, y, look.trim)
    f.disc(0, 0, 0.3, look.accent, SHINE)


def _clock(f: _Frame) -> None:
    f.disc(0, 0, 1.12, f.canvas.look.trim)
    f.disc(0, 0, 1, np.float32([245, 240, 225]), SHINE)
    f.line(0, -0.8, INK)
    f.line(0.6, 0.2, INK)


def _sun(f: _Frame) -> None:
    look = f.canvas.look
    f.disc(0, 0, 1.12, look.trim)
    f.disc(0, 0, 0.55, look.accent)
    for tip in _ring(8):
        across = np.array([-tip[1], tip[0]]) * 0.16
        f.polygon(np.stack([across, tip, -across]), look.accent)


def _star(f: _Frame) -> None:
    look = f.canvas.look
    f.disc(0, 0, 1.12, look.trim)
    reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)[:, None]
    f.polygon(_ring(10, -np.pi / 2) * reach, look.accent)


def _shield(f: _Frame) -> None:
    look = f.canvas.look
    f.disc(0, 0, 1.12, look.trim)
    f.disc(0, 0, 0.9, look.accent)
    f.polygon(_ring(4), look.trim)
    f.disc(0, 0, 0.4, look.accent)


def _cross(f: _Frame) -> None:
    f.bar(-0.2, -1, 0.2, 1, f.canvas.look.accent, SHINE)
    f.bar(-0.7, -0.5, 0.7, -0.15, f.canvas.look.accent, SHINE)


def _mosaic(f: _Frame) -> None:
    look = f.canvas.look
    cells = np.random.default_rng(look.seed).integers(0, 4, (4, 5))
    paints = (look.accent, look.trim, look.second, look.glass)
    for (row, column), cell in np.ndenumerate(cells):
        x, y = (column - 2.5) * 0.6, (row - 2) * 0.5
        f.bar(x, y, x + 0.6, y + 0.5, paints[cell])


def _banners(f: _Frame) -> None:
    for x in (-0.9, 0.9):
        f.bar(x - 0.3, -1, x + 0.3, 1.3, f.canvas.look.accent)
        f.disc(x, 0, 0.2, f.canvas.look.trim)


def _letters(f: _Frame) -> None:
    look = f.canvas.look
    f.bar(-2, -0.5, 2, 0.5, look.accent)
    marks = np.random.default_rng(look.seed).random((9, 3)) < 0.6
    for column, row in np.argwhere(marks):
        x, y = (column - 4.5) * 0.42, (row - 1.4) * 0.28
        f.bar(x, y, x + 0.26, y + 0.2, look.trim, SHINE)


def _grid(f: _Frame) -> None:
    look = f.canvas.look
    for number in range(9):
        x, y = (number % 3 - 1) * 0.8, (number // 3 - 1) * 0.8
        f.disc(x, y, 0.3, look.trim if number % 2 else look.accent)


_MOTIFS: dict[str, Callable[[_Frame], None]] = {
    "rose": _rose,
    "clock": _clock,
    "sun": _sun,
    "star": _star,
    "shield": _shield,
    "cross": _cross,
    "mosaic": _mosaic,
    "banners": _banners,
    "letters": _letters,
    "grid": _grid,
}


def draw_motif(canvas: Canvas, x: float, y: float, radius: float) -> None:
    """Draw the motif of the canvas's look centred on pixel (x, y); some looks have none."""
    if canvas.look.motif in _MOTIFS:
        _MOTIFS[canvas.look.motif](_Frame(canvas, x, y, radius))
