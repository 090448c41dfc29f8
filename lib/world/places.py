"""A place: one landmark with all its faces and what always stands around it."""

from dataclasses import dataclass

import numpy as np

from lib.world import sprites
from lib.world.kinds import build
from lib.world.looks import Look, draw_look
from lib.world.rooms import build_room
from lib.world.solids import Model, textured
from lib.world.styles import COUNTRIES, Style


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
        tile = sprites.ground(kind, int(rng.integers(4)))
        quad = [
            [x - wide / 2, y - deep, z],
            [x + wide / 2, y - deep, z],
            [x + wide / 2, y, z],
            [x - wide / 2, y, z],
        ]
        court.face(quad, textured(np.tile(tile, (2, 2, 1))), both_sides=True)
    return court
