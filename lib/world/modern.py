"""Newer landmarks: high-rises, monuments, museums, radio towers, wheels, polar stations.

Each function takes a `Site` and draws its proportions from the site's random numbers.
"""

from itertools import pairwise

import numpy as np

from lib.world import facades
from lib.world.building import GOLD, Site
from lib.world.looks import hued
from lib.world.solids import flat


def highrise(s: Site) -> None:
    """Setbacks, twins, a twisted or a tapering tower with its own crown."""
    w, h = s.between(14, 24), s.between(60, 110)
    plan = s.pick("setbacks twins taper round slab")
    crown = s.pick("spire flat cone dome wedge")
    xs = [-w * 0.9, w * 0.9] if plan == "twins" else [0.0]
    s.block(0, 0, 0, w * 2.4, w * 1.6, s.between(5, 10), "front")
    for x in xs:
        width, at = w, 0.0
        if plan in ("setbacks", "twins"):
            for share in (0.5, 0.3, 0.2)[: int(s.rng.integers(1, 4)) if plan == "setbacks" else 2]:
                at = s.block(x, 0, at, width, width, h * share, "shaft", side="shaft")
                width *= 0.74
            width /= 0.74
        elif plan == "round":
            at = s.drum(
                0, 0, 0, w * 0.6, h, sides=int(s.rng.choice([6, 8, 14])), taper=s.between(0.6, 1.1)
            )
        elif plan == "slab":
            at = s.block(0, 0, 0, w * 1.9, w * 0.6, h * 0.8, "shaft", side="shaft")
            width = w * 0.6
        else:
            taper = s.between(0.35, 0.7)
            at = s.block(0, 0, 0, w * 1.3, w * 1.3, h, "shaft", side="shaft", taper=taper)
            width = w * 1.3 * taper
        if crown == "wedge":
            end = s.wall(width, 10, "plain")
            s.model.gable(x, 0, at, width, width, width * 0.8, flat(s.look.glass * 1.6), end)
        else:
            s.top(crown, x, 0, at, width, width, height=width * (1.4 if crown == "spire" else 0.7))
        if crown == "flat" and s.chance(0.6):
            s.model.lathe(x, 0, [(0.8, at), (0.1, at + h * 0.3)], [flat((210, 210, 215))], sides=5)
    if plan == "twins":
        s.block(0, 0, h * s.between(0.3, 0.5), w * 1.2, w * 0.5, 6, "plain")


def statue(s: Site) -> None:
    """A figure, ring or blade on a plinth, perhaps with a colonnade behind."""
    w, h = s.between(7, 16), s.between(5, 16)
    metal = hued("5f8a78 8a6f4a 6b6f75 c9a24a d8d4cc", s.rng)
    at = s.stairs(w * 1.8, w * 1.8, s.between(1, 4), 3)
    at = s.block(0, 0, at, w, w * 0.9, h, "front", taper=s.between(0.7, 1))
    plan, size = s.pick("figure figure ring blades column"), s.between(14, 24)
    if plan == "figure":
        s.figure(0, 0, at, size, metal)
    elif plan == "column":
        s.column(0, 0, at, w * 0.22, size)
        s.figure(0, 0, at + size, size * 0.4, metal)
    elif plan == "ring":
        hole = s.between(0.5, 0.75)
        angles = np.linspace(0, 2 * np.pi, 17)
        for a, b in pairwise(angles):
            ring = [(k * size * 0.5, t) for k, t in ((1, a), (1, b), (hole, b), (hole, a))]
            for y in (-1.2, 1.2):
                quad = [[r * np.cos(t), y, at + size * 0.5 + r * np.sin(t)] for r, t in ring]
                s.model.face(quad, flat(metal * (1.0 if y < 0 else 0.8)), both_sides=True)
    else:
        for _ in range(int(s.rng.integers(2, 5))):
            x, lean = s.between(-w / 2, w / 2), s.between(-5, 5)
            low = [
                [x - 1.6, 0, at],
                [x + 1.6, 0, at],
                [x + lean + 0.4, 0, at + size],
                [x + lean, 0, at + size],
            ]
            s.model.face(low, flat(metal * s.between(0.7, 1.1)), both_sides=True)
    if s.chance(0.45):
        for k in np.linspace(-1, 1, int(s.rng.choice([6, 8, 10]))):
            s.column(k * w * 2.2, w * (2 - k * k), 0, 0.9, h * 1.2)


def lattice(s: Site) -> None:
    """An iron tower: pierced tapering legs, decks, a mast or dishes."""
    w, h = s.between(18, 30), s.between(60, 96)
    paint = hued("7a5c48 b8432c d8d4cc 5c6a78", s.rng)
    shares = [0.0, *sorted(s.rng.uniform(0.2, 0.7, int(s.rng.integers(1, 3)))), 1.0]
    for low, high in pairwise(shares):
        a, b = w * (1 - low) ** s.between(1.2, 1.7) + 1.4, w * (1 - high) ** 1.4 + 1.2
        sheet = facades.pierced(s.look, a, (high - low) * h, "truss", repeat=1 if low else 2)
        s.model.box(0, 0, low * h, a, a, (high - low) * h, [sheet], taper=b / a)
        s.model.both_sides[-4:] = [True] * 4
        s.model.box(0, 0, high * h - 1, b * 1.3, b * 1.3, 2, [flat(paint)], cap=flat(paint * 0.8))
    if s.chance(0.5):
        z = h * s.between(0.6, 0.85)
        s.model.lathe(
            0,
            0,
            [(2, z - 3), (w * 0.3, z), (w * 0.3, z + 3), (1, z + 5)],
            [flat(s.look.trim), s.wall(40, 4, "plain")],
            sides=12,
        )
    s.model.lathe(0, 0, [(0.8, h), (0.1, h * 1.2)], [flat(paint)], sides=4)


def museum(s: Site) -> None:
    """Modern shapes: shells, a sphere, shifted boxes, fins or a bowl."""
    white = 0.35 * s.look.wall + 0.65 * np.float32([240, 240, 238])
    plan = s.pick("shells sphere boxes fins bowl")
    if plan == "shells":
        s.block(0, 0, 0, 60, 28, 5, "front")
        for i in range(int(s.rng.integers(3, 6))):
            lean = s.between(4, 12) * (1 if i % 2 else -1)
            _shell(s, -24 + i * s.between(9, 14), s.between(7, 13), s.between(14, 30), lean, white)
    elif plan == "sphere":
        r = s.between(12, 20)
        shape = [(np.sin(t) * r, r * 1.15 - np.cos(t) * r) for t in np.linspace(0.3, 3.1, 9)]
        skins = [flat(white), flat(s.look.glass * 1.7)]
        s.model.lathe(0, 0, shape, skins, sides=14, wrap=s.chance(0.5))
        s.block(0, 4, 0, r * 3.4, 12, 6, "front")
    elif plan == "boxes":
        at = 0.0
        for _ in range(int(s.rng.integers(3, 6))):
            width, depth, height = s.rng.uniform((18, 14, 5), (40, 24, 9))
            x, y = s.between(-9, 9), s.between(-4, 4)
            at = s.block(x, y, at, width, depth, height, s.pick("side plain front"))
    elif plan == "fins":
        _fins(s, int(s.rng.integers(5, 12)), s.between(16, 34), white)
    else:
        r = s.between(16, 24)
        shape = [(r * 0.5, 0), (r * 0.62, 5), (r, 16), (r * 1.02, 18)]
        skins = [flat(white * 0.9), s.wall(90, 11, "side"), flat(white)]
        s.model.lathe(0, 0, shape, skins, sides=16)
        s.disc(0, 0, 18, r, flat(white))
        s.block(r * 1.3, 6, 0, 12, 12, s.between(20, 40), "shaft")


def _shell(s: Site, x: float, r: float, rise: float, lean: float, white: np.ndarray) -> None:
    """A sail of concrete, 2 × `r` wide, whose tip leans along x."""
    tip, foot = [x + lean, 0, 5 + rise], [x + r * 1.4, 0, 5]
    for side in (-r, r):
        edge, middle = [x, side, 5], [x, 0, 5]
        s.model.face([edge, middle, tip, tip], flat(white), both_sides=True)
        s.model.face([edge, foot, tip, tip], flat(white * 0.85), both_sides=True)


def _fins(s: Site, count: int, rise: float, white: np.ndarray) -> None:
    """Tall blades in a wave before a low hall."""
    s.block(0, 4, 0, 56, 16, 9, "front")
    pace = s.between(0.4, 0.6)
    for i in range(count):
        x = (i - (count - 1) / 2) * 56 / count
        lift = rise * (0.4 + 0.6 * abs(np.sin(i * pace)))
        quad = [[x - 1, -6, 0], [x + 1.6, -6, 0], [x + 2.4, -6, lift], [x + 1.4, -6, lift]]
        s.model.face(quad, flat(white if i % 2 else s.look.accent), both_sides=True)


def wheel(s: Site) -> None:
    """A great wheel over pavilions."""
    r, spokes = s.between(26, 38), int(s.rng.choice([8, 12, 16]))
    rim, z = flat(s.look.accent, 0.9), r * 1.15
    angles = np.linspace(0, 2 * np.pi, spokes + 1)
    for a, b in pairwise(angles):
        for k0, k1 in ((0.94, 1.0), (0.72, 0.76)):
            ring = [(k0, a), (k0, b), (k1, b), (k1, a)]
            s.model.face(
                [[k * r * np.cos(t), 0, z + k * r * np.sin(t)] for k, t in ring],
                rim,
                both_sides=True,
            )
        c, n = np.cos(a), np.sin(a)
        quad = [[-n * 0.3, 0, z + c * 0.3], [n * 0.3, 0, z - c * 0.3]]
        quad += [
            [r * c + n * 0.3, 0, z + r * n - c * 0.3],
            [r * c - n * 0.3, 0, z + r * n + c * 0.3],
        ]
        s.model.face(quad, flat(s.look.trim), both_sides=True)
        s.model.box(
            r * 1.04 * c, 0, z + r * 1.04 * n - 2, 3, 3, 3.4, [flat(s.look.second, 1.2)], cap=rim
        )
    for side in (-1, 1):
        quad = [
            [side * r * 0.5 - 1, -3, 0],
            [side * r * 0.5 + 1, -3, 0],
            [0.8, -3, z],
            [-0.8, -3, z],
        ]
        s.model.face(quad, flat(s.look.trim), both_sides=True)
    s.top(s.pick("flat hip dome"), 0, 4, s.block(0, 4, 0, r * 1.1, 10, 6, "front"), r * 1.1, 10)


def station(s: Site) -> None:
    """A polar station: bright cabins on stilts, a radome, a flag."""
    count = int(s.rng.integers(2, 5))
    for i in range(count):
        w, x, h = s.between(14, 24), (i - (count - 1) / 2) * 22, s.between(5, 9)
        paint = [s.look.wall, s.look.accent, s.look.trim][i % 3]
        for dx in (-0.35, 0.35):
            s.model.box(x + dx * w, 0, 0, 1.2, 6, 4, [flat((80, 84, 90))])
        s.model.box(
            x,
            s.between(-4, 4),
            4,
            w,
            11,
            h,
            [s.wall(w, h, "side"), flat(paint)],
            cap=flat(paint * 0.9),
        )
    r = s.between(5, 9)
    s.dome(
        s.between(-24, 24),
        12,
        4,
        r,
        "dome",
        skins=[flat((238, 238, 240)), flat((205, 210, 216))],
        has_finial=False,
    )
    s.model.lathe(30, -4, [(0.4, 0), (0.3, 24)], [flat((90, 90, 96))], sides=4)
    s.model.sheet(33, -4, 18, 6, 4, flat(s.look.accent), 0.0)


def obelisk(s: Site) -> None:
    """A tall needle between lower buildings."""
    w, h = s.between(3, 6), s.between(34, 60)
    at = s.stairs(w * 4, w * 4, s.between(2, 5), 3)
    s.model.box(0, 0, at, w, w, h, [s.wall(8, h, "plain")], taper=0.6)
    s.model.box(
        0,
        0,
        at + h,
        w * 0.6,
        w * 0.6,
        w,
        [flat(GOLD if s.chance(0.5) else s.look.trim)],
        taper=0.01,
    )
    for side in (-1, 1):
        x = side * s.between(12, 20)
        if s.chance(0.6):
            s.top(
                s.pick(s.style.tops),
                x,
                5,
                s.block(x, 5, 0, 10, 10, s.between(6, 14), "front"),
                10,
                10,
            )
        else:
            s.figure(x, 0, 0, 10, s.look.wall)
