"""A landmark with its surroundings: trees, ground, visitors, cars, other houses.

A `Place` holds what is the same in all photographs of a landmark; `build_foreground` adds what
changes. Visitors, vehicles and trees are sprites: RGBA images (alpha 0 or 255) on upright sheets,
drawn once per kind and variant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from lib.miniworld.countries import Country, find_country
from lib.miniworld.interiors import build_interior
from lib.miniworld.landmarks import build_landmark
from lib.miniworld.renderer import Camera, Model, Texture, flat, textured
from lib.miniworld.textures import draw_style, hex_colour, wall_texture

Sprite = tuple[Texture, float, float]  # texture, height and width in metres

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


@dataclass(frozen=True)
class Place:
    """One landmark: a model for each view it has, and its fixed surroundings."""

    country: Country
    models: dict[str, Model]
    forecourt: Model
    trees: tuple[tuple[str, int, float, float], ...]  # kind, variant, x, y
    backdrop: str
    ground: str
    ground_variant: int
    details: np.ndarray  # (n, 3) points on the front that detail photographs aim at


def make_place(code: str, kind: str, second: str, rng: np.random.Generator) -> Place:
    """Build a landmark of `kind` in a country; `second` is "", "back" or "interior".

    The back is another building in another style: no photograph shows both, as when a wing or a
    garden side has a landmark's name.
    """
    country = find_country(code, rng)
    style = draw_style(country, rng)
    front = build_landmark(kind, style, country, rng)
    models = {"front": front}
    if second == "back":
        others = [other for other in country.kinds.split() if other != kind] or [kind]
        other = str(rng.choice(others))
        models["back"] = build_landmark(other, draw_style(country, rng), country, rng)
    elif second == "interior":
        models["interior"] = build_interior(style, country, rng)
    low, high = front.bounds()
    x = rng.uniform(low[0] * 0.5, high[0] * 0.5, 4)
    z = rng.uniform(high[2] * 0.15, high[2] * 0.55, 4)
    details = np.stack([x, np.full(4, low[1]), z], axis=1)
    ground = "water" if kind == "bridge" else str(rng.choice(country.grounds.split()))
    if kind == "beacon" and rng.random() < 0.5:
        ground = "water"
    forecourt, trees = Model(), ()
    if ground != "water":
        forecourt = _build_forecourt(country, low, high, rng)
        trees = _plant_trees(country, low, high, rng)
    backdrop, variant = str(rng.choice(country.backdrops.split())), int(rng.integers(16))
    return Place(country, models, forecourt, trees, backdrop, ground, variant, details)


def _build_forecourt(
    country: Country, low: np.ndarray, high: np.ndarray, rng: np.random.Generator
) -> Model:
    """Lay a paved court, a lawn, a pool or a path in front of the landmark."""
    court, reach = Model(), high[0] - low[0]
    grounds = ["plaza", "paving", "gravel", "grass", "water", *country.grounds.split()]
    for _ in range(int(rng.integers(0, 3))):
        kind = str(rng.choice(grounds))
        half = reach * rng.choice([0.16, 0.4, 1.2]) / 2
        deep = reach * rng.choice([0.4, 1.0, 1.8])
        x = reach * rng.choice([0.0, 0.0, -0.4, 0.4])
        y = low[1] - rng.uniform(0, 0.3) * reach
        z = 0.05 + 0.03 * len(court.corners)
        tile = ground_tile(kind, int(rng.integers(4)))
        quad = [
            [x - half, y - deep, z],
            [x + half, y - deep, z],
            [x + half, y, z],
            [x - half, y, z],
        ]
        court.face(quad, textured(np.tile(tile, (2, 2, 1))), two_sided=True)
    return court


def _plant_trees(
    country: Country, low: np.ndarray, high: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[str, int, float, float], ...]:
    """Place the permanent trees: an avenue to the front, or clumps at the sides."""
    kinds = [kind for kind in country.trees.split() if kind != "none"]
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


def build_foreground(
    place: Place, view: str, camera: Camera, rng: np.random.Generator, difficulty: float
) -> Model:
    """Build trees, visitors, cars and houses in one camera's view; `difficulty` in 0..1.

    Distances are shares of the way to the landmark, positions across are shares of half the image,
    so that the occlusion does not depend on the size of the landmark.
    """
    model = Model()
    low, high = place.models["back" if view == "back" else "front"].bounds()
    ahead = camera.rotation[2] * (1, 1, 0)
    ahead = ahead / np.linalg.norm(ahead)
    right = np.array([ahead[1], -ahead[0], 0.0])
    angle = float(np.arctan2(right[1], right[0]))
    length = float(np.linalg.norm(((low + high) / 2 - camera.eye)[:2]))
    slope = camera.width / 2 / camera.matrix[0, 0]

    def point(distance: float, across: float) -> tuple[float, float]:
        x, y, _ = camera.eye + (ahead + right * across * slope) * distance
        return float(x), float(y)

    def add(sprite: Sprite, x: float, y: float, scale: float = 1.0) -> None:
        texture, height, width = sprite
        model.sheet(x, y, 0, width * scale, height * scale, texture, angle)

    is_dry = place.ground != "water"
    kinds = [kind for kind in place.country.trees.split() if kind != "none"]
    for kind, variant, x, y in place.trees if view == "front" else ():
        add(tree_sprite(kind, variant), x, y)
    for _ in range(int(rng.integers(0, 2 + round(8 * difficulty))) if is_dry else 0):
        at = point(rng.uniform(min(7, length * 0.5), length * 0.8), rng.uniform(-1, 1))
        add(person_sprite(int(rng.integers(48))), *at)
    if kinds and rng.random() < 0.4 * difficulty:
        sprite = tree_sprite(str(rng.choice(kinds)), int(rng.integers(6)))
        scale = max(0.5, length * slope * rng.uniform(0.03, 0.08))
        add(sprite, *point(length * rng.uniform(0.3, 0.6), rng.uniform(-0.9, 0.9)), scale)
    if is_dry and rng.random() < 0.3 * difficulty:
        distance = max(9.0, length * rng.uniform(0.2, 0.5))
        sprite = vehicle_sprite(int(rng.integers(32)))
        add(sprite, *point(distance, rng.uniform(-0.7, 0.7)))
    if rng.random() < 0.2 * difficulty:  # a lamp post
        x, y = point(length * 0.4, rng.uniform(-0.8, 0.8))
        tall = length * slope * 0.8
        model.box(x, y, 0, tall / 100, tall / 100, tall, [flat((70, 72, 76))])
    if rng.random() < 0.3 * difficulty:  # a house at the edge of the image
        style = draw_style(place.country, np.random.default_rng(int(rng.integers(6))))
        across = rng.choice([-1, 1]) * rng.uniform(0.85, 1.25)
        distance, width, height = rng.uniform((0.35, 0.5, 0.6), (0.6, 0.9, 1.8))
        distance *= length
        scale = distance * slope
        x, y = point(distance, across)
        walls, cap = [wall_texture(style, 14, 12)], flat((120, 110, 104))
        model.box(x, y, 0, width * scale, width * scale, height * scale, walls, cap=cap)
    return model


@lru_cache(maxsize=128)
def ground_tile(kind: str, variant: int) -> np.ndarray:
    """Draw a (128, 128, 3) tile of ground that repeats without a seam."""
    word, pattern, noise = GROUNDS[kind]
    rng = np.random.default_rng((variant, *kind.encode()))
    base = hex_colour(word) * rng.uniform(0.85, 1.1) + rng.normal(0, 13, 3)
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


def _opaque(colour: np.ndarray) -> tuple[float, ...]:
    return (*np.clip(colour, 0, 255).tolist(), 255)


@lru_cache(maxsize=64)
def person_sprite(variant: int) -> Sprite:
    """Draw a standing visitor."""
    rng = np.random.default_rng((variant, 77))
    image = np.zeros((72, 30, 4), np.uint8)
    skin = np.float32([[236, 196, 165], [160, 112, 80], [96, 66, 48]])[rng.integers(3)]
    shirt, legs = rng.uniform(20, 245, 3), _opaque(rng.uniform(20, 140, 3))
    hair = rng.uniform(15, 130) * np.ones(3)
    if rng.random() < 0.3:
        cv2.fillPoly(image, [np.int32([[8, 34], [21, 34], [26, 62], [3, 62]])], legs)
    for x in (9, 16):
        cv2.rectangle(image, (x, 38), (x + 5, 71), legs, -1)
    cv2.ellipse(image, (15, 28), (9, 15), 0, 0, 360, _opaque(shirt), -1)
    for x in (5, 23):
        cv2.line(image, (x, 20), (x, 40), _opaque(shirt * 0.8), 4)
    cv2.circle(image, (15, 8), 6, _opaque(skin), -1)
    cv2.ellipse(image, (15, 6), (7, 5), 0, 180, 360, _opaque(hair), -1)
    if rng.random() < 0.3:
        cv2.rectangle(image, (9, 18), (21, 34), _opaque(rng.uniform(30, 220, 3)), -1)
    if rng.random() < 0.12:
        cv2.ellipse(image, (15, 8), (15, 8), 0, 180, 360, _opaque(rng.uniform(30, 230, 3)), -1)
    return textured(image), 1.75, 0.75


@lru_cache(maxsize=64)
def vehicle_sprite(variant: int) -> Sprite:
    """Draw a car or a bus from the side."""
    rng = np.random.default_rng((variant, 99))
    is_bus = rng.random() < 0.35
    image = np.zeros((64, 144, 4), np.uint8)
    paint = (*rng.uniform(30, 240, 3).tolist(), 255)
    glass, dark = (70, 86, 98, 255), (24, 24, 26, 255)
    if is_bus:
        cv2.rectangle(image, (3, 4), (140, 52), paint, -1)
        for x in range(9, 132, 18):
            cv2.rectangle(image, (x, 10), (x + 14, 27), glass, -1)
    else:
        cv2.fillPoly(image, [np.int32([[32, 30], [48, 10], [96, 10], [118, 30]])], paint)
        cv2.fillPoly(image, [np.int32([[40, 29], [51, 14], [70, 14], [70, 29]])], glass)
        cv2.fillPoly(image, [np.int32([[74, 29], [74, 14], [93, 14], [108, 29]])], glass)
        cv2.rectangle(image, (4, 29), (140, 52), paint, -1)
    for x in (32, 112):
        cv2.circle(image, (x, 52), 11, dark, -1)
        cv2.circle(image, (x, 52), 5, (160, 160, 165, 255), -1)
    return textured(image), 3.1 if is_bus else 1.6, 7.5 if is_bus else 4.2


@lru_cache(maxsize=256)
def tree_sprite(kind: str, variant: int) -> Sprite:
    """Draw a tree of one of TREES."""
    draw, leaf, trunk, height, aspect = TREES[kind]
    rng = np.random.default_rng((variant, *kind.encode()))
    image = _TreeImage(aspect, rng)
    draw(image, hex_colour(leaf), hex_colour(trunk))
    height *= rng.uniform(0.75, 1.2)
    return textured(image.pixels), height, height * aspect


class _TreeImage:
    """A transparent image; positions and sizes are shares of its width and height."""

    def __init__(self, aspect: float, rng: np.random.Generator) -> None:
        self.rows, self.columns, self.rng = 112, int(np.clip(112 * aspect, 28, 140)), rng
        self.pixels = np.zeros((self.rows, self.columns, 4), np.uint8)

    def _vary(self, colour: np.ndarray) -> tuple[float, ...]:
        return _opaque(colour * self.rng.uniform(0.75, 1.2))

    def _at(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self.columns), round(y * self.rows)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: np.ndarray) -> None:
        axes = (max(1, round(rx * self.columns)), max(1, round(ry * self.rows)))
        cv2.ellipse(self.pixels, self._at(x, y), axes, 0, 0, 360, self._vary(colour), -1)

    def stem(
        self, x0: float, y0: float, x1: float, y1: float, thick: float, colour: np.ndarray
    ) -> None:
        width = max(2, round(thick * self.columns))
        cv2.line(self.pixels, self._at(x0, y0), self._at(x1, y1), self._vary(colour), width)

    def triangle(self, x: float, y: float, half: float, rise: float, colour: np.ndarray) -> None:
        corners = [self._at(x - half, y), self._at(x, y - rise), self._at(x + half, y)]
        cv2.fillPoly(self.pixels, [np.int32(corners)], self._vary(colour))

    def crown(self, leaf: np.ndarray, count: int, size: float) -> None:
        for _ in range(count):
            angle, reach = self.rng.uniform(0, 6.28), np.sqrt(self.rng.random())
            x, y = 0.5 + np.cos(angle) * reach * 0.34, 0.38 + np.sin(angle) * reach * 0.27
            # Lower leaves are in the shade of the upper ones.
            self.ellipse(x, y, size, size * 0.7, leaf * (1.15 - 0.5 * y))


def _round(t: _TreeImage, leaf: np.ndarray, trunk: np.ndarray) -> None:
    t.stem(0.5, 1, 0.5, 0.3, 0.07, trunk)
    t.crown(leaf, 26, 0.2)


def _clumps(t: _TreeImage, leaf: np.ndarray, trunk: np.ndarray) -> None:
    t.stem(0.5, 1, 0.5, 0.3, 0.07, trunk)
    t.crown(leaf, 16, 0.14)


def _umbrella(t: _TreeImage, leaf: np.ndarray, trunk: np.ndarray) -> None:
    t.stem(0.5, 1, 0.5, 0.3, 0.07, trunk)
    for _ in range(22):
        t.ellipse(t.rng.uniform(0.14, 0.86), t.rng.uniform(0.12, 0.36), 0.13, 0.07, leaf)


def _column(t: _TreeImage, leaf: np.ndarray, trunk: np.ndarray) -> None:
    t.stem(0.5, 1, 0.5, 0.8, 0.1, trunk)
    for y in np.linspace(0.94, 0.06, 18):
        t.ellipse(0.5, y, 0.42 * np.sin(np.pi * (0.12 + y * 0.85)), 0.06, leaf)


def _cone(t: _TreeImage, leaf: np.ndarray, trunk: np.ndarray) -> None:
    t.stem(0.5, 1, 0.5, 0.8, 0.07, trunk)
    for y in np.linspace(0.05, 0.86, 8)[::-1]:
        t.triangle(0.5, y + 0.09, 0.08 + 0.42 * y, 0.21, leaf)


def _palm(t: _TreeImage, leaf: np.ndarray, trunk: np.ndarray) -> None:
    t.stem(0.5 + t.rng.uniform(-0.1, 0.1), 1, 0.5, 0.28, 0.07, trunk)
    for angle in np.linspace(-0.3, np.pi + 0.3, 9) + t.rng.uniform(-0.1, 0.1, 9):
        for share in np.linspace(0.1, 1, 8):
            drop = 0.26 - np.sin(angle) * share * 0.2 + 0.2 * share * share
            t.ellipse(0.5 + np.cos(angle) * share * 0.46, drop, 0.05, 0.027, leaf)


def _stems(t: _TreeImage, leaf: np.ndarray, trunk: np.ndarray) -> None:
    for x in t.rng.uniform(0.1, 0.9, 12):
        t.stem(x, 1, x + t.rng.uniform(-0.08, 0.08), t.rng.uniform(0.05, 0.3), 0.03, trunk)
        for _ in range(6):
            t.ellipse(x + t.rng.uniform(-0.1, 0.1), t.rng.uniform(0.05, 0.7), 0.09, 0.018, leaf)


def _cactus(t: _TreeImage, leaf: np.ndarray, trunk: np.ndarray) -> None:
    t.stem(0.5, 1, 0.5, 0.1, 0.2, trunk)
    for x, y in ((0.14, 0.45), (0.86, 0.58)):
        t.stem(0.5, y, x, y, 0.14, leaf)
        t.stem(x, y, x, y - 0.25, 0.14, leaf)


_Draw = Callable[[_TreeImage, np.ndarray, np.ndarray], None]
# shape, leaf colour, trunk colour, height in metres, width / height
TREES: dict[str, tuple[_Draw, str, str, float, float]] = {
    "broadleaf": (_round, "4f7f3a", "5c4433", 10, 0.8),
    "maple": (_round, "c0652b", "54402f", 10, 0.8),
    "birch": (_round, "8aa84f", "dcd8cc", 11, 0.45),
    "gum": (_clumps, "7f9a6a", "cfc4ae", 13, 0.6),
    "olive": (_round, "8a9a72", "6b5a48", 5, 1.0),
    "blossom": (_round, "e8b4c4", "4f3a34", 7, 1.0),
    "banyan": (_round, "3f6b35", "6b5644", 12, 1.2),
    "acacia": (_umbrella, "7f8a45", "5f4a38", 8, 1.4),
    "pine": (_umbrella, "456b42", "6b4a38", 12, 0.8),
    "bonsai": (_clumps, "3f6b4a", "5f4638", 7, 0.9),
    "cypress": (_column, "3a5a3a", "4f3c2e", 13, 0.2),
    "fir": (_cone, "35573f", "4f3c2e", 14, 0.45),
    "palm": (_palm, "5f8f45", "8a7052", 11, 0.7),
    "fern": (_palm, "4a8a4f", "4f3c2e", 6, 0.9),
    "bamboo": (_stems, "7fa04f", "8aa05a", 10, 0.6),
    "cactus": (_cactus, "4f7f4a", "4f7f4a", 4, 0.6),
}
