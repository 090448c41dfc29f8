"""Natural landmarks: famous peaks, table mountains, needles and arches of rock."""

from itertools import pairwise

import numpy as np

from lib.world.building import Site
from lib.world.looks import hued
from lib.world.solids import Skin, flat

ROCK = np.float32([128, 116, 104])
SNOW = np.float32([240, 244, 250])


def mountain(s: Site) -> None:
    """One famous peak with its neighbours, snow line and perhaps a chapel or a waterfall."""
    rock = 0.6 * ROCK * s.between(0.8, 1.3) + 0.4 * s.look.wall
    is_icy = "ice" in s.style.grounds
    snow = 0.1 if is_icy else (s.between(0.3, 0.7) if s.chance(0.6) else 0.0)
    _peak(s, 0, 0, s.between(34, 50), s.between(44, 84), rock, snow, rough=s.between(0.15, 0.4))
    for _ in range(int(s.rng.integers(1, 4))):
        x, y = s.between(-52, 52), s.between(4, 26)
        _peak(s, x, y, s.between(22, 36), s.between(18, 52), rock, snow)
    extra = s.pick("none needle chapel fall")
    if extra == "chapel":
        x = s.between(-20, 20)
        s.top("steep", x, -44, s.block(x, -44, 0, 7, 11, 7, "front"), 7, 11)
    elif extra == "fall":
        x = s.between(-10, 10)
        s.model.sheet(x, -36, 0, 5, 32, flat((232, 242, 250)), 0.0)
        _peak(s, x, -22, 20, 40, rock * 0.9, 0.0, sides=7)
    elif extra == "needle":
        _peak(s, s.between(-44, 44), -10, 9, s.between(30, 50), rock * 1.1, snow, sides=6)


def mesa(s: Site) -> None:
    """Banded rock: a table mountain, needles, a dome or a natural arch."""
    tone = 0.5 * s.look.wall + 0.5 * hued("b5623c c98a55 a9744f 9a8a78 c77a4a", s.rng)
    bands = [flat(tone * f) for f in s.rng.permutation([0.72, 1.0, 0.86, 1.14, 0.94, 1.05])]
    plan = s.pick("table needles arch dome")
    if plan == "table":
        _pillar(s, bands, 0, 0, s.between(26, 40), s.between(16, 28), 0.2, 13)
        if s.chance(0.7):
            _pillar(s, bands, s.between(34, 52), 6, s.between(6, 14), s.between(14, 30), 0.3)
    elif plan == "needles":
        for _ in range(int(s.rng.integers(2, 6))):
            x, y = s.between(-30, 30), s.between(-10, 14)
            _pillar(s, bands, x, y, s.between(3, 8), s.between(18, 46), s.between(0, 1.6))
    elif plan == "dome":
        radius, rise = s.between(26, 36), s.between(0.5, 1.1)
        s.dome(0, 0, 0, radius, rise=rise, sides=14, skins=bands, has_finial=False)
        _pillar(s, bands, s.between(-50, -34), 8, s.between(7, 14), s.between(8, 16), 0.2)
    else:
        reach = s.between(14, 24)
        _arch(s, bands, reach, s.between(18, 32), s.between(4, 8))
        _pillar(s, bands, -reach * 1.8, 4, s.between(5, 9), s.between(8, 20), 0.2)


def _peak(
    s: Site, x: float, y: float, radius: float, height: float, rock: np.ndarray, snow: float = 0.0,
    *, sides: int = 9, rough: float = 0.28, low: float = 0.0,
) -> None:  # fmt: skip
    """Add a ragged mountain; above `snow` (share of the height, 0 = none) it is white."""
    levels = [0.0, 0.3, 0.58, 0.8, 1.0]
    widths = [1.0, 0.62, 0.36, 0.17, 0.0]
    turn = s.rng.uniform(0, 6.28)
    angles = turn + np.arange(sides) * 2 * np.pi / sides
    rings = []
    for level, share in zip(levels, widths, strict=True):
        reach = radius * share * s.rng.uniform(1 - rough, 1 + rough, sides)
        lift = height * (level + (0.0 if level in (0, 1) else 0.06) * s.rng.normal(size=sides))
        ring = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles), low + lift], 1)
        rings.append(ring)
    for lower, upper, level in zip(rings, rings[1:], levels, strict=False):
        for i in range(sides):
            j = (i + 1) % sides
            white = snow and level + 0.1 * s.rng.normal() >= snow
            tone = (SNOW if white else rock) * s.rng.uniform(0.82, 1.1)
            # Two triangles, because the four corners are not in one plane.
            skin = flat(tone)
            s.model.face([lower[i], lower[j], upper[j], upper[j]], skin)
            s.model.face([lower[i], upper[j], upper[i], upper[i]], flat(tone * 0.94))


def _pillar(
    s: Site, bands: list[Skin], x: float, y: float, radius: float, height: float, waist: float,
    sides: int = 9,
) -> None:  # fmt: skip
    """A weathered column of rock, thinner below its head by `waist`."""
    levels = np.linspace(0, 1, 7)
    shape = 1.25 - 0.25 * levels**0.5 + waist * (levels - 0.6) ** 2 + s.rng.uniform(-0.06, 0.06, 7)
    profile = [(radius * k, height * z) for k, z in zip(shape, levels, strict=True)]
    squash, turn = s.between(0.6, 1), s.between(0, 3)
    s.model.lathe(x, y, profile, bands, sides=sides, squash=squash, turn=turn)
    top = [(profile[-1][0], height), (0.01, height + 0.01)]
    s.model.lathe(x, y, top, [bands[1]], sides=sides, squash=squash, turn=turn)


def _arch(s: Site, bands: list[Skin], reach: float, rise: float, thick: float) -> None:
    """A natural arch that spans 2 × `reach` metres."""
    for i, (a, b) in enumerate(pairwise(np.linspace(0, np.pi, 9))):
        outer = 1 + (1 + 0.5 * abs(np.cos((a + b) / 2))) * thick / reach
        ends = [(k * reach * np.cos(t), k * rise * np.sin(t)) for t in (a, b) for k in (1, outer)]
        inner_a, outer_a, inner_b, outer_b = ends
        for y in (-thick, thick):
            ring = (inner_a, outer_a, outer_b, inner_b)
            s.model.face([[x, y, z] for x, z in ring], bands[i % 6], both_sides=True)
        for (x0, z0), (x1, z1) in ((inner_a, inner_b), (outer_a, outer_b)):
            quad = [[x0, -thick, z0], [x0, thick, z0], [x1, thick, z1], [x1, -thick, z1]]
            s.model.face(quad, bands[(i + 1) % 6], both_sides=True)
