"""Cut-out visitors and vehicles, and tiles of ground: what is found around a landmark.

Cut-outs are RGBA images (alpha 0 or 255) that stand upright in the scene as sheets; ground is a
square tile that repeats for ever. All are drawn once per kind and variant and then shared.
"""

from functools import lru_cache

import cv2
import numpy as np

from lib.world.looks import colour
from lib.world.solids import Skin, textured

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
def person(variant: int) -> tuple[Skin, float, float]:
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
def vehicle(variant: int) -> tuple[Skin, float, float]:
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
def ground(kind: str, variant: int) -> np.ndarray:
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
