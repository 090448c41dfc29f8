"""What one landmark's walls have in common: colours, materials and patterns.

Pattern and proportion carry the identity: colours are shared by a whole country.
"""

from dataclasses import dataclass

import numpy as np

from lib.world.styles import Style


@dataclass(frozen=True)
class Look:
    """One landmark's choices: colours (RGB float arrays), materials and patterns."""

    wall: np.ndarray
    second: np.ndarray
    trim: np.ndarray
    accent: np.ndarray
    roof: np.ndarray
    glass: np.ndarray
    material: str
    window: str
    base: str  # ground floor
    motif: str
    frieze: str
    bay: float  # metres
    storey: float
    grain: float  # how coarse bricks, stripes and tiles are
    has_courses: bool
    has_pilasters: bool
    seed: int


def colour(word: str) -> np.ndarray:
    """Turn an RGB hex word into a float32 colour (3,).

    >>> colour("ff8000").tolist()
    [255.0, 128.0, 0.0]
    """
    return np.array([int(word[i : i + 2], 16) for i in (0, 2, 4)], np.float32)


def hued(words: str, rng: np.random.Generator, spread: float = 10) -> np.ndarray:
    """Draw one of the colours and vary it."""
    return np.clip(colour(str(rng.choice(words.split()))) + rng.normal(0, spread, 3), 10, 250)


def draw_look(style: Style, rng: np.random.Generator) -> Look:
    """Choose one landmark's look within its country's style."""

    def pick(words: str) -> str:
        return str(rng.choice(words.split()))

    def tone(words: str, spread: float) -> np.ndarray:
        return np.clip(colour(pick(words)) + rng.normal(0, spread, 3), 12, 250).astype(np.float32)

    wall = tone(style.walls, 26)
    return Look(
        wall=wall,
        second=0.45 * wall + 0.55 * tone(style.walls if rng.random() < 0.5 else style.trims, 6),
        trim=tone(style.trims, 12),
        accent=tone(style.accents, 34),
        roof=tone(style.roofs, 28),
        glass=np.float32([50, 62, 74]) + rng.uniform(-14, 26),
        material=pick(style.materials),
        window=pick(style.windows),
        base=pick("arcade portal columns awnings plain portal"),
        motif=pick("rose clock cross star sun mosaic banners shield letters grid none"),
        frieze=pick("zigzag dots checks stripes arches none"),
        bay=float(rng.uniform(4.0, 9.0)),
        storey=float(rng.uniform(4.4, 8.5)),
        grain=float(rng.uniform(1.0, 2.4)),
        has_courses=bool(rng.random() < 0.55),
        has_pilasters=bool(rng.random() < 0.4),
        seed=int(rng.integers(2**31)),
    )
