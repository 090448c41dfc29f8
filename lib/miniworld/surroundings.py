"""Cut-out visitors and vehicles, and tiles of ground: what is found around a landmark.

Cut-outs are RGBA images (alpha 0 or 255) that stand upright in the scene as sheets; ground is a
square tile that repeats for ever. All are drawn once per kind and variant and then shared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from lib.miniworld.countries import COUNTRIES, Style
from lib.miniworld.interiors import build_room
from lib.miniworld.landmarks import build
from lib.miniworld.renderer import Camera, Model, Skin, flat, textured
from lib.miniworld.textures import Look, colour, draw_look, wall_texture

# base colour, pattern, noise
GROUNDS: dict[str, tuple[str, str, float]] = {
    "grass": ("6f8f4a", "tufts", 14),
    "plaza": ("c9bda6", "slabs", 5),
    "paving": ("a39c92", "cobbles", 7),
    "sand": ("dcc08c", "ripples", 7),
    "snow": ("e6ecf2", "ripples", 4),
    "ice": ("b8d4e2", "cracks", 5),
    "dust": ("c4a27a", "tufts", 9),
    "dry": ("b3a05f", "tufts", 12),
    "red": ("b5643c", "ripples", 8),
    "gravel": ("bdb8ac", "tufts", 12),
    "asphalt": ("74777a", "lanes", 6),
    "water": ("4f7f95", "waves", 5),
}


@lru_cache(maxsize=64)
def person_sprite(variant: int) -> tuple[Skin, float, float]:
    """Draw a standing visitor; returns the skin, height and width in metres."""
    rng = np.random.default_rng((variant, 77))
    picture = np.zeros((72, 30, 4), np.uint8)
    skin = np.float32([[236, 196, 165], [160, 112, 80], [96, 66, 48]])[rng.integers(3)]
    shirt, legs, hair = (
        rng.uniform(20, 245, 3),
        rng.uniform(20, 140, 3),
        rng.uniform(15, 130) * np.ones(3),
    )

    def paint(value: np.ndarray) -> tuple[float, ...]:
        return (*np.clip(value, 0, 255).tolist(), 255)

    if rng.random() < 0.3:
        cv2.fillPoly(picture, [np.int32([[8, 34], [21, 34], [26, 62], [3, 62]])], paint(legs))
    for x in (9, 16):
        cv2.rectangle(picture, (x, 38), (x + 5, 71), paint(legs), -1)
    cv2.ellipse(picture, (15, 28), (9, 15), 0, 0, 360, paint(shirt), -1)
    for x in (5, 23):
        cv2.line(picture, (x, 20), (x, 40), paint(shirt * 0.8), 4)
    cv2.circle(picture, (15, 8), 6, paint(skin), -1)
    cv2.ellipse(picture, (15, 6), (7, 5), 0, 180, 360, paint(hair), -1)
    if rng.random() < 0.3:
        cv2.rectangle(picture, (9, 18), (21, 34), paint(rng.uniform(30, 220, 3)), -1)
    if rng.random() < 0.12:
        cv2.ellipse(picture, (15, 8), (15, 8), 0, 180, 360, paint(rng.uniform(30, 230, 3)), -1)
    return textured(picture), 1.75, 0.75


@lru_cache(maxsize=64)
def vehicle_sprite(variant: int) -> tuple[Skin, float, float]:
    """Draw a car or a bus from the side; returns the skin, height and width in metres."""
    rng = np.random.default_rng((variant, 99))
    is_bus = rng.random() < 0.35
    picture = np.zeros((64, 144, 4), np.uint8)
    paint = (*rng.uniform(30, 240, 3).tolist(), 255)
    glass, dark = (70, 86, 98, 255), (24, 24, 26, 255)
    if is_bus:
        cv2.rectangle(picture, (3, 4), (140, 52), paint, -1)
        for x in range(9, 132, 18):
            cv2.rectangle(picture, (x, 10), (x + 14, 27), glass, -1)
    else:
        cv2.fillPoly(picture, [np.int32([[32, 30], [48, 10], [96, 10], [118, 30]])], paint)
        cv2.fillPoly(picture, [np.int32([[40, 29], [51, 14], [70, 14], [70, 29]])], glass)
        cv2.fillPoly(picture, [np.int32([[74, 29], [74, 14], [93, 14], [108, 29]])], glass)
        cv2.rectangle(picture, (4, 29), (140, 52), paint, -1)
    for x in (32, 112):
        cv2.circle(picture, (x, 52), 11, dark, -1)
        cv2.circle(picture, (x, 52), 5, (160, 160, 165, 255), -1)
    return textured(picture), 3.1 if is_bus else 1.6, 7.5 if is_bus else 4.2


@lru_cache(maxsize=128)
def ground_tile(kind: str, variant: int) -> np.ndarray:
    """Draw a (128, 128, 3) tile of ground that repeats without a seam."""
    word, pattern, noise = GROUNDS[kind]
    rng = np.random.default_rng((variant, *kind.encode()))
    base = colour(word) * rng.uniform(0.85, 1.1) + rng.normal(0, 13, 3)
    rough = rng.normal(0, 1, (32, 32)).astype(np.float32)
    rough = cv2.resize(np.tile(rough, (3, 3)), (384, 384), interpolation=cv2.INTER_CUBIC)
    tile = base + noise * rough[128:256, 128:256, None]
    size = int(rng.choice([16, 32, 64]))
    if pattern in ("slabs", "cobbles"):
        size = size if pattern == "slabs" else 8
        other = base * rng.uniform(0.7, 1.2)
        for row in range(0, 128, size):
            for column in range(0, 128, size):
                if pattern == "slabs" and (row + column) // size % 2:
                    tile[row : row + size, column : column + size] += (other - base) * 0.7
                elif pattern == "cobbles":
                    tile[row : row + size, column : column + size] *= rng.uniform(0.85, 1.12)
        tile[::size] *= 0.75
        tile[:, ::size] *= 0.75
    elif pattern in ("ripples", "waves"):
        phase = np.arange(128) * 2 * np.pi / 128
        wave = np.sin(6 * phase[:, None] + 1.5 * np.sin(2 * phase[None, :]))
        tile += wave[..., None] * (8 if pattern == "waves" else 4)
    elif pattern == "tufts":
        for x, y in rng.integers(2, 126, (160, 2)):
            tile[y - 1 : y + 2, x - 1 : x + 2] *= rng.uniform(0.8, 1.18)
    elif pattern == "cracks":
        for _ in range(7):
            ends = rng.integers(0, 128, 4).tolist()
            cv2.line(tile, ends[:2], ends[2:], (base * 0.85).tolist(), 1)
    else:
        tile[60:66] = np.float32([225, 222, 210])
    return np.clip(tile, 0, 255).astype(np.uint8)


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
def tree_sprite(kind: str, variant: int) -> tuple[Skin, float, float]:
    """Draw a tree; returns its skin, height and width in metres."""
    shape, leaf, trunk, height, slim = TREES[kind]
    rng = np.random.default_rng((variant, *kind.encode()))
    cutout = _Cutout(slim, rng)
    _SHAPES[shape](cutout, colour(leaf), colour(trunk))
    height *= rng.uniform(0.75, 1.2)
    return textured(cutout.picture), height, height * slim


@dataclass(frozen=True)
class Place:
    """One landmark: its country's style, its look, and a model for each face it has."""

    style: Style
    look: Look
    models: dict[str, Model]
    forecourt: Model
    garden: tuple[tuple[str, int, float, float], ...]  # tree kind, variant, x, y
    backdrop: str
    ground: str
    variant: int
    spots: np.ndarray  # (n, 3) points on the front that detail photographs aim at


def make_place(country: str, kind: str, second: str, rng: np.random.Generator) -> Place:
    """Build a landmark of `kind` in `country`; `second` is "", "back" or "interior".

    The back is another body in another look: no photograph shows both, as when a wing or a garden
    side shares a landmark's name.
    """
    code = country if country in COUNTRIES else str(rng.choice(list(COUNTRIES)))
    style = COUNTRIES[code]
    look = draw_look(style, rng)
    models = {"front": build(kind, look, style, rng)}
    if second == "back":
        others = [other for other in style.kinds.split() if other != kind] or [kind]
        models["back"] = build(str(rng.choice(others)), draw_look(style, rng), style, rng)
    elif second == "interior":
        models["interior"] = build_room(look, style, rng)
    low, high = models["front"].bounds()
    spots = np.stack(
        [
            rng.uniform(low[0] * 0.5, high[0] * 0.5, 4),
            np.full(4, low[1]),
            rng.uniform(high[2] * 0.15, high[2] * 0.55, 4),
        ],
        axis=1,
    )
    ground = "water" if kind == "bridge" else str(rng.choice(style.grounds.split()))
    if kind == "beacon" and rng.random() < 0.5:
        ground = "water"
    court = _forecourt(style, models["front"], rng) if ground != "water" else Model()
    garden = _garden(style, models["front"], rng) if ground != "water" else ()
    backdrop = str(rng.choice(style.backdrops.split()))
    variant = int(rng.integers(16))
    return Place(style, look, models, court, garden, backdrop, ground, variant, spots)


def _garden(
    style: Style, model: Model, rng: np.random.Generator
) -> tuple[tuple[str, int, float, float], ...]:
    """Plant the trees that always stand there: an avenue to the front, or clumps at the sides."""
    low, high = model.bounds()
    kinds = [kind for kind in style.trees.split() if kind != "none"]
    if not kinds:
        return ()
    width, middle = high[0] - low[0], (low[0] + high[0]) / 2
    kind, is_avenue, trees = str(rng.choice(kinds)), rng.random() < 0.35, []
    for number in range(int(rng.integers(0, 9))):
        side, rank = (-1) ** number, number // 2
        if is_avenue:
            x, y = side * 0.55 * width, low[1] - (0.1 + 0.22 * rank) * width
        else:
            x, y = side * (0.62 + 0.14 * rank) * width, low[1] + rng.uniform(-0.1, 0.4) * width
        trees.append((kind, int(rng.integers(6)), float(middle + x), float(y)))
    return tuple(trees)


def _forecourt(style: Style, model: Model, rng: np.random.Generator) -> Model:
    """Lay a paved court, a lawn, a pool or a path in front of the landmark."""
    low, high = model.bounds()
    court, reach = Model(), high[0] - low[0]
    for _ in range(int(rng.integers(0, 3))):
        kind = str(
            rng.choice(["plaza", "paving", "gravel", "grass", "water", *style.grounds.split()])
        )
        wide, deep = reach * rng.choice([0.16, 0.4, 1.2]), reach * rng.choice([0.4, 1.0, 1.8])
        x = reach * rng.choice([0.0, 0.0, -0.4, 0.4])
        y = low[1] - rng.uniform(0, 0.3) * reach
        z = 0.05 + 0.03 * len(court.corners)
        tile = ground_tile(kind, int(rng.integers(4)))
        quad = [
            [x - wide / 2, y - deep, z],
            [x + wide / 2, y - deep, z],
            [x + wide / 2, y, z],
            [x - wide / 2, y, z],
        ]
        court.face(quad, textured(np.tile(tile, (2, 2, 1))), both_sides=True)
    return court


class Street:
    """The ground before a landmark as one camera sees it; `model` collects what stands there."""

    def __init__(self, camera: Camera, goal: np.ndarray) -> None:
        self.model = Model()
        self._eye, ahead = camera.eye, camera.rotation[2] * (1, 1, 0)
        self._ahead = ahead / np.linalg.norm(ahead)
        self._right = np.array([self._ahead[1], -self._ahead[0], 0.0])
        self._turn = float(np.arctan2(self._right[1], self._right[0]))
        self.length = float(np.linalg.norm((goal - camera.eye)[:2]))
        self.slope = camera.width / 2 / camera.matrix[0, 0]

    def spot(self, distance: float, across: float) -> tuple[float, float]:
        """Where on the ground something stands that is seen `across` from the middle (-1..1)."""
        x, y, _ = self._eye + (self._ahead + self._right * across * self.slope) * distance
        return float(x), float(y)

    def stand(
        self, sprite: tuple[Skin, float, float], x: float, y: float, grow: float = 1.0
    ) -> None:
        """Stand a sprite (skin, height, width) upright, facing the camera."""
        skin, tall, broad = sprite
        self.model.sheet(x, y, 0, broad * grow, tall * grow, skin, self._turn)

    def house(self, skin: Skin, distance: float, across: float, broad: float, tall: float) -> None:
        """Put up a plain house; `broad` and `tall` as shares of half the picture."""
        scale = distance * self.slope
        x, y = self.spot(distance, across)
        wide = broad * scale
        self.model.box(x, y, 0, wide, wide, tall * scale, [skin], cap=flat((120, 110, 104)))


def fill_street(
    place: Place, view: str, camera: Camera, rng: np.random.Generator, hard: float
) -> Model:
    """Draw who and what is in the picture besides the landmark; `hard` in 0..1 is how much."""
    low, high = place.models["back" if view == "back" else "front"].bounds()
    street = Street(camera, (low + high) / 2)
    length, is_dry = street.length, place.ground != "water"
    trees = [kind for kind in place.style.trees.split() if kind != "none"]
    for kind, variant, x, y in place.garden if view == "front" else ():
        street.stand(tree_sprite(kind, variant), x, y)
    for _ in range(int(rng.integers(0, 2 + round(8 * hard))) if is_dry else 0):
        spot = street.spot(rng.uniform(min(7, length * 0.5), length * 0.8), rng.uniform(-1, 1))
        street.stand(person_sprite(int(rng.integers(48))), *spot)
    if trees and rng.random() < 0.4 * hard:
        sprite = tree_sprite(str(rng.choice(trees)), int(rng.integers(6)))
        grow = max(0.5, length * street.slope * rng.uniform(0.03, 0.08))
        spot = street.spot(length * rng.uniform(0.3, 0.6), rng.uniform(-0.9, 0.9))
        street.stand(sprite, *spot, grow)
    if is_dry and rng.random() < 0.3 * hard:
        distance = max(9.0, length * rng.uniform(0.2, 0.5))
        sprite = vehicle_sprite(int(rng.integers(32)))
        street.stand(sprite, *street.spot(distance, rng.uniform(-0.7, 0.7)))
    if rng.random() < 0.2 * hard:
        x, y = street.spot(length * 0.4, rng.uniform(-0.8, 0.8))
        tall = length * street.slope * 0.8
        street.model.box(x, y, 0, tall / 100, tall / 100, tall, [flat((70, 72, 76))])
    if rng.random() < 0.3 * hard:
        look = draw_look(place.style, np.random.default_rng(int(rng.integers(6))))
        across = rng.choice([-1, 1]) * rng.uniform(0.85, 1.25)
        distance, broad, tall = rng.uniform((0.35, 0.5, 0.6), (0.6, 0.9, 1.8))
        street.house(wall_texture(look, 14, 12), distance * length, across, broad, tall)
    return street.model
