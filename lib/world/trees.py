"""Trees as cut-outs (alpha 0 or 255): a shape, two colours and a size for every kind."""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from lib.world.looks import colour
from lib.world.solids import Skin, textured

# shape, leaf colour, trunk colour, height in metres, width / height
TREES: dict[str, tuple[str, str, str, float, float]] = {
    "broadleaf": ("round", "4f7f3a", "5c4433", 10, 0.8),
    "maple": ("round", "c0652b", "54402f", 10, 0.8),
    "birch": ("round", "8aa84f", "dcd8cc", 11, 0.45),
    "gum": ("clumps", "7f9a6a", "cfc4ae", 13, 0.6),
    "olive": ("round", "8a9a72", "6b5a48", 5, 1.0),
    "blossom": ("round", "e8b4c4", "4f3a34", 7, 1.0),
    "banyan": ("round", "3f6b35", "6b5644", 12, 1.2),
    "acacia": ("umbrella", "7f8a45", "5f4a38", 8, 1.4),
    "pine": ("umbrella", "456b42", "6b4a38", 12, 0.8),
    "bonsai": ("clumps", "3f6b4a", "5f4638", 7, 0.9),
    "cypress": ("flame", "3a5a3a", "4f3c2e", 13, 0.2),
    "fir": ("cone", "35573f", "4f3c2e", 14, 0.45),
    "palm": ("palm", "5f8f45", "8a7052", 11, 0.7),
    "fern": ("palm", "4a8a4f", "4f3c2e", 6, 0.9),
    "bamboo": ("stems", "7fa04f", "8aa05a", 10, 0.6),
    "cactus": ("cactus", "4f7f4a", "4f7f4a", 4, 0.6),
}


class _Cutout:
    """A transparent picture in which positions and sizes are shares of its width and height."""

    def __init__(self, slim: float, rng: np.random.Generator) -> None:
        self.rows, self.columns = 112, int(np.clip(112 * slim, 28, 140))
        self.picture = np.zeros((self.rows, self.columns, 4), np.uint8)
        self.rng = rng

    def _paint(self, paint: np.ndarray) -> tuple[float, ...]:
        tone = paint * self.rng.uniform(0.75, 1.2)
        return (*np.clip(tone, 0, 255).tolist(), 255)

    def _at(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self.columns), round(y * self.rows)

    def blob(self, x: float, y: float, rx: float, ry: float, paint: np.ndarray) -> None:
        axes = (max(1, round(rx * self.columns)), max(1, round(ry * self.rows)))
        cv2.ellipse(self.picture, self._at(x, y), axes, 0, 0, 360, self._paint(paint), -1)

    def stem(
        self, x0: float, y0: float, x1: float, y1: float, thick: float, paint: np.ndarray
    ) -> None:
        width = max(2, round(thick * self.columns))
        cv2.line(self.picture, self._at(x0, y0), self._at(x1, y1), self._paint(paint), width)

    def triangle(self, x: float, y: float, half: float, rise: float, paint: np.ndarray) -> None:
        corners = [self._at(x - half, y), self._at(x, y - rise), self._at(x + half, y)]
        cv2.fillPoly(self.picture, [np.int32(corners)], self._paint(paint))


def _crown(c: _Cutout, leaf: np.ndarray, count: int, size: float) -> None:
    for _ in range(count):
        angle, reach = c.rng.uniform(0, 6.28), np.sqrt(c.rng.random())
        x, y = 0.5 + np.cos(angle) * reach * 0.34, 0.38 + np.sin(angle) * reach * 0.27
        # Lower leaves lie in the shade of the upper ones.
        c.blob(x, y, size, size * 0.7, leaf * (1.15 - 0.5 * y))


def _round(c: _Cutout, leaf: np.ndarray, trunk: np.ndarray) -> None:
    c.stem(0.5, 1, 0.5, 0.3, 0.07, trunk)
    _crown(c, leaf, 26, 0.2)


def _clumps(c: _Cutout, leaf: np.ndarray, trunk: np.ndarray) -> None:
    c.stem(0.5, 1, 0.5, 0.3, 0.07, trunk)
    _crown(c, leaf, 16, 0.14)


def _umbrella(c: _Cutout, leaf: np.ndarray, trunk: np.ndarray) -> None:
    c.stem(0.5, 1, 0.5, 0.3, 0.07, trunk)
    for _ in range(22):
        c.blob(c.rng.uniform(0.14, 0.86), c.rng.uniform(0.12, 0.36), 0.13, 0.07, leaf)


def _flame(c: _Cutout, leaf: np.ndarray, trunk: np.ndarray) -> None:
    c.stem(0.5, 1, 0.5, 0.8, 0.1, trunk)
    for y in np.linspace(0.94, 0.06, 18):
        c.blob(0.5, y, 0.42 * np.sin(np.pi * (0.12 + y * 0.85)), 0.06, leaf)


def _cone(c: _Cutout, leaf: np.ndarray, trunk: np.ndarray) -> None:
    c.stem(0.5, 1, 0.5, 0.8, 0.07, trunk)
    for y in np.linspace(0.05, 0.86, 8)[::-1]:
        c.triangle(0.5, y + 0.09, 0.08 + 0.42 * y, 0.21, leaf)


def _palm(c: _Cutout, leaf: np.ndarray, trunk: np.ndarray) -> None:
    c.stem(0.5 + c.rng.uniform(-0.1, 0.1), 1, 0.5, 0.28, 0.07, trunk)
    for angle in np.linspace(-0.3, np.pi + 0.3, 9) + c.rng.uniform(-0.1, 0.1, 9):
        for t in np.linspace(0.1, 1, 8):
            drop = 0.26 - np.sin(angle) * t * 0.2 + 0.2 * t * t
            c.blob(0.5 + np.cos(angle) * t * 0.46, drop, 0.05, 0.027, leaf)


def _stems(c: _Cutout, leaf: np.ndarray, trunk: np.ndarray) -> None:
    for x in c.rng.uniform(0.1, 0.9, 12):
        c.stem(x, 1, x + c.rng.uniform(-0.08, 0.08), c.rng.uniform(0.05, 0.3), 0.03, trunk)
        for _ in range(6):
            c.blob(x + c.rng.uniform(-0.1, 0.1), c.rng.uniform(0.05, 0.7), 0.09, 0.018, leaf)


def _cactus(c: _Cutout, leaf: np.ndarray, trunk: np.ndarray) -> None:
    c.stem(0.5, 1, 0.5, 0.1, 0.2, trunk)
    for x, y in ((0.14, 0.45), (0.86, 0.58)):
        c.stem(0.5, y, x, y, 0.14, leaf)
        c.stem(x, y, x, y - 0.25, 0.14, leaf)


_SHAPES: dict[str, Callable[[_Cutout, np.ndarray, np.ndarray], None]] = {
    "round": _round,
    "clumps": _clumps,
    "umbrella": _umbrella,
    "flame": _flame,
    "cone": _cone,
    "palm": _palm,
    "stems": _stems,
    "cactus": _cactus,
}


@lru_cache(maxsize=256)
def tree(kind: str, variant: int) -> tuple[Skin, float, float]:
    """Draw a tree; returns its skin, height and width in metres."""
    shape, leaf, trunk, height, slim = TREES[kind]
    rng = np.random.default_rng((variant, *kind.encode()))
    cutout = _Cutout(slim, rng)
    _SHAPES[shape](cutout, colour(leaf), colour(trunk))
    height *= rng.uniform(0.75, 1.2)
    return textured(cutout.picture), height, height * slim
