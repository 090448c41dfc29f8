"""A wall being painted: pixels, outlines of openings, and the stuff walls are made of.

Textures are RGB uint8, about `SCALE` pixels a metre, with a second picture for the night.
"""

import cv2
import numpy as np

from lib.world.looks import Look
from lib.world.solids import Skin, textured

SCALE = 6.0
LARGEST = 208
LAMP = (255, 205, 110)


class Canvas:
    """A wall being painted: the picture by day and the mask of what shines at night.

    Positions are pixels, x to the right and y down; `shine` (0-255, -1: leave as it is) is how
    much a shape is lit from inside at night.
    """

    def __init__(self, look: Look, width: float, height: float, salt: int) -> None:
        self.look = look
        self.rng = np.random.default_rng((look.seed, salt))
        self.scale = min(SCALE, LARGEST / width, LARGEST / height)
        self.w = max(8, round(width * self.scale))
        self.h = max(8, round(height * self.scale))
        self.day = np.empty((self.h, self.w, 3), np.float32)
        self.day[:] = look.wall
        self.lit = np.zeros((self.h, self.w), np.uint8)

    def polygon(self, points: np.ndarray, paint: np.ndarray, shine: int = -1) -> None:
        """Fill the polygon through `points` (n, 2)."""
        fixed = np.round(np.asarray(points, float) * 16).astype(np.int32)
        cv2.fillPoly(self.day, [fixed], paint.tolist(), cv2.LINE_AA, 4)
        if shine >= 0:
            cv2.fillPoly(self.lit, [fixed], shine, cv2.LINE_AA, 4)

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, paint: np.ndarray, shine: int = -1
    ) -> None:
        """Fill a rectangle."""
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        self.polygon(corners, paint, shine)

    def disc(self, x: float, y: float, radius: float, paint: np.ndarray, shine: int = -1) -> None:
        """Fill a circle."""
        self.polygon(_arc(x, y, radius, radius, 0, 360), paint, shine)

    def line(self, x0: float, y0: float, x1: float, y1: float, paint: np.ndarray) -> None:
        """Draw a line one pixel wide."""
        ends = np.round(np.array([x0, y0, x1, y1]) * 16).astype(int).tolist()
        cv2.line(self.day, ends[:2], ends[2:], paint.tolist(), 1, cv2.LINE_AA, 4)

    def skin(self) -> Skin:
        """Finish: dirt towards the foot, grain, and the floodlit, lamp-lit night."""
        foot = np.linspace(1.06, 0.88, self.h, dtype=np.float32)[:, None, None]
        grain = self.rng.normal(0, 4, (self.h, self.w, 1)).astype(np.float32)
        day = np.clip(self.day * foot + grain, 0, 255)
        flood = np.linspace(0.30, 0.85, self.h, dtype=np.float32)[:, None, None]
        night = day * flood * np.float32([1.0, 0.9, 0.76])
        share = self.lit[..., None].astype(np.float32) / 255
        night = night * (1 - share) + share * np.float32(LAMP)
        return textured(day.astype(np.uint8), np.clip(night, 0, 255).astype(np.uint8))


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> np.ndarray:
    angles = np.radians(np.linspace(start, end, 17))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def opening(form: str, x: float, foot: float, width: float, height: float) -> np.ndarray:
    """Outline (n, 2) of a window or door standing at `foot`, centred on `x`."""
    half = width / 2
    low = np.array([[x - half, foot], [x + half, foot]])
    spring = foot - max(height - half, height * 0.45)
    rise = foot - height
    if form in ("arch", "pair"):
        return np.concatenate([low[::-1], _arc(x, spring, half, spring - rise, 180, 360)])
    if form == "pointed":
        side = [[x - half, spring], [x - half * 0.7, (spring + rise) / 2], [x, rise]]
        other = [[x + half * 0.7, (spring + rise) / 2], [x + half, spring]]
        return np.concatenate([low[::-1], side, other])
    if form == "horseshoe":
        bulge = _arc(x, spring, half * 1.25, spring - rise, 150, 390)
        return np.concatenate([low[::-1], bulge])
    if form == "round":
        radius = min(half, height / 2) * 1.05
        return _arc(x, foot - height / 2, radius, radius, 0, 360)
    return np.array([*low[::-1], [x - half, rise], [x + half, rise]])[[0, 2, 3, 1]]


def clad(c: Canvas) -> None:
    """Cover the wall with the look's material: brick, stone, stripes, timber, tiles, mud."""
    look, h, w = c.look, c.h, c.w
    kind, rng, unit = look.material, c.rng, c.scale * look.grain
    joint = look.wall * 0.8
    if kind in ("brick", "ashlar", "blocks"):
        course = max(3, round({"brick": 0.5, "ashlar": 1.0, "blocks": 2.0}[kind] * unit))
        for row, y in enumerate(range(0, h, course)):
            for x in range(-(row % 2) * course, w, course * 2):
                tone = look.wall * rng.uniform(0.86, 1.12)
                c.day[y : y + course, max(x, 0) : max(x + course * 2, 0)] = tone
            c.day[y : y + 1] = joint
    elif kind == "striped":
        for y in range(0, h, max(4, round(1.6 * unit))):
            c.day[y : y + max(2, round(0.8 * unit))] = look.second * 0.92
    elif kind == "timber":
        beam = np.float32([74, 50, 36]) * rng.uniform(0.8, 1.3)
        step = max(8, round(look.bay * c.scale))
        floor = max(8, round(look.storey * c.scale))
        thick = max(1, round(0.3 * unit))
        for x in range(0, w + 1, step):
            c.day[:, max(x - thick, 0) : x + thick] = beam
        for y in range(h, 0, -floor):
            c.day[max(y - thick, 0) : y + thick] = beam
            for x in range(0, w, step):
                c.line(x, y, x + step, y - floor, beam)
    elif kind == "tiles":
        step = max(5, round(1.3 * unit))
        for y in range(0, h, step):
            for x in range(0, w, step):
                paint = (look.accent, look.trim, look.second)[(x // step * 2 + y // step) % 3]
                c.disc(x + step / 2, y + step / 2, step * 0.28, paint)
    elif kind == "mud":
        for y in range(round(c.scale * 2), h, max(6, round(c.scale * 3))):
            for x in range(round(c.scale), w, max(5, round(c.scale * 2))):
                c.rectangle(x, y, x + 2, y + 2, look.wall * 0.5)
    elif kind == "carved":
        step = max(4, round(unit))
        for y in range(0, h, step):
            tone = look.wall * (1.12 if y // step % 2 else 0.82)
            c.day[y : y + step // 2] = tone
            for x in range(0, w, step):
                c.disc(x + step / 2, y + step / 2, step * 0.25, look.wall * rng.uniform(0.7, 1.2))
    elif kind == "glass":
        c.day[:] = look.wall * 0.75 + look.glass * 0.25
