"""Old landmarks of towns: palaces, castles, towers, gates, bridges, arenas, lighthouses.

Each function takes a `Site` and draws its proportions from the site's random numbers.
"""

import numpy as np

from lib.world import facades
from lib.world.building import GOLD, Site
from lib.world.looks import hued
from lib.world.solids import flat


def palace(s: Site) -> None:
    """Long wings, a middle pavilion, corners, perhaps a court or a dome."""
    w, d, h = s.between(48, 92), s.between(14, 22), s.between(10, 22)
    top, middle = s.pick(s.style.tops), s.pick("dome gable tower flat mansard flare")
    s.block(0, 0, 0, w, d, h, "side")
    s.top(top if top in ("gable", "hip", "mansard", "flare") else "flat", 0, 0, h, w, d)
    m = s.between(12, 22)
    at = s.block(0, -3, 0, m, d + 2, h * s.between(1.05, 1.4), "front")
    if middle == "dome":
        at = s.drum(0, 0, at, m * 0.36, 4, sides=10)
        s.dome(0, 0, at, m * 0.4, s.pick("dome onion"))
    elif middle == "tower":
        s.top(top, 0, 0, s.block(0, 0, at, m * 0.5, m * 0.5, h, "shaft"), m * 0.5, m * 0.5)
    else:
        s.top(middle, 0, -3, at, m, d + 2)
    corner, reach = s.pick("none pavilion round court"), w / 2
    for side in (-1, 1):
        if corner == "pavilion":
            s.top(top, side * reach, 0, s.block(side * reach, 0, 0, 12, d + 4, h * 1.2), 12, d + 4)
        elif corner == "round":
            s.round_tower(side * reach, -d / 2, 6, h * 1.3, s.pick("cone dome crown"))
        elif corner == "court":
            s.block(side * reach, -d, 0, 12, d * 2, h * 0.8)
            s.top("hip", side * reach, -d, h * 0.8, 12, d * 2)


def castle(s: Site) -> None:
    """Walls and towers around a keep."""
    w, d, h = s.between(30, 60), s.between(26, 44), s.between(8, 14)
    top = s.pick("cone crown dome " + s.style.tops)
    for x, y, width, depth in (
        (0, -d / 2, w, 3),
        (0, d / 2, w, 3),
        (-w / 2, 0, 3, d),
        (w / 2, 0, 3, d),
    ):
        s.block(x, y, 0, width, depth, h, "plain", side="plain")
        s.battlements(x, y, h, width, depth, 1.8)
    for side in (-1, 1):
        grow = s.between(1.2, 2.2)
        s.round_tower(side * w / 2, -d / 2, s.between(4, 7), h * grow, top)
        s.round_tower(side * w / 2, d / 2, s.between(4, 6), h * s.between(1.2, 2.6), top)
    gate = s.between(9, 15)
    s.top(
        s.pick("crown " + s.style.tops),
        0,
        -d / 2,
        s.block(0, -d / 2, 0, gate, 8, h * 1.4, "front"),
        gate,
        8,
    )
    keep, rise = s.between(12, 22), h * s.between(1.8, 3.4)
    x = s.between(-0.2, 0.2) * w
    s.top(
        s.pick("crown crown " + s.style.tops),
        x,
        4,
        s.block(x, 4, 0, keep, keep, rise, "side"),
        keep,
        keep,
    )


def tower(s: Site) -> None:
    """Two to five storeys of shrinking width under a distinctive head."""
    w, at, tiers = s.between(9, 17), 0.0, int(s.rng.integers(2, 6))
    is_round, shrink = s.chance(0.4), s.between(0.68, 0.95)
    sides = int(s.rng.choice([6, 8, 12]))
    if s.chance(0.5):
        at = s.block(0, 0, 0, w * 2.2, w * 2.2, w * 0.6, "front")
    for i in range(tiers):
        rise = w * s.between(0.8, 2.2)
        role = "front" if i == 0 and at == 0 else "shaft"
        if is_round:
            at = s.drum(0, 0, at, w / 2, rise, sides=sides)
            s.model.lathe(
                0, 0, [(w * 0.6, at - 0.8), (w * 0.6, at)], [flat(s.look.trim)], sides=sides
            )
            s.disc(0, 0, at, w * 0.6, flat(s.look.trim * 0.9), sides=sides)
        else:
            at = s.block(0, 0, at, w, w, rise, role, side="shaft")
            s.model.box(
                0, 0, at - 0.9, w * 1.12, w * 1.12, 0.9, [flat(s.look.trim)], cap=flat(s.look.trim)
            )
        w *= shrink
    w /= shrink
    s.top(s.pick(s.style.tops + " cone dome"), 0, 0, at, w * 0.95, w * 0.95)


def gate(s: Site) -> None:
    """Triumphal arch, city gate with towers, or posts and beams."""
    w, d, h = s.between(18, 34), s.between(6, 12), s.between(14, 26)
    plan = "posts" if "flare" in s.style.tops and s.chance(0.5) else s.pick("arch arch towers")
    if plan == "posts":
        posts = int(s.rng.choice([2, 2, 4]))
        for x in np.linspace(-w / 2, w / 2, posts):
            s.model.lathe(x, 0, [(1.2, 0), (1.0, h)], [flat(s.look.accent)], sides=8)
        for z, wide in ((h * 0.78, 1.08), (h, 1.3)):
            s.model.box(0, 0, z, w * wide, 2, 1.8, [flat(s.look.accent)], cap=flat(s.look.roof))
        if s.chance(0.6):
            s.flare(0, 0, h + 1.8, w * 0.9, 5, 4)
        return
    arches = int(s.rng.choice([1, 1, 2, 3, 3]))
    sheet = facades.pierced(s.look, w, h * 0.7, "arch", repeat=arches, fill=s.between(0.4, 0.66))
    inner = flat(s.look.wall * 0.6)
    for y in (-d / 2, d / 2):
        turn = 0.0 if y < 0 else np.pi
        s.model.sheet(0, y, 0, w, h * 0.7, sheet, turn)
    for i in range(arches + 1):
        x = -w / 2 + w * i / arches
        s.model.box(x, 0, 0, w / arches * 0.2, d * 0.96, h * 0.68, [inner])
    s.model.box(0, 0, h * 0.62, w * 0.98, d * 0.96, 0.5, [inner])
    at = s.block(0, 0, h * 0.7, w * 1.04, d * 1.1, h * s.between(0.2, 0.45), s.pick("plain side"))
    head = s.pick("none figure flat flare dome gable")
    if head == "figure":
        s.figure(0, 0, at, h * 0.4, GOLD if s.chance(0.4) else np.float32([84, 110, 96]))
    elif head != "none":
        s.top(head, 0, 0, at, w, d)
    if plan == "towers":
        top = s.pick("cone crown dome")
        for side in (-1, 1):
            s.round_tower(side * (w / 2 + 4), 0, s.between(4, 6), h * s.between(0.9, 1.5), top)


def bridge(s: Site) -> None:
    """Suspension, stone arches, truss or covered bridge, seen along a river."""
    w, deck, d = s.between(80, 130), s.between(8, 16), s.between(5, 9)
    paint = hued("b5382c 4a6f8a d8d4c8 5f7f5f c98a2b", s.rng) if s.chance(0.6) else s.look.wall
    plan = s.pick("cables arches truss arches")
    if plan == "arches":
        sheet = facades.pierced(
            s.look, w, deck * 1.3, "arch", repeat=int(s.rng.choice([3, 4, 5, 7, 9]))
        )
        for y in (-d / 2, d / 2):
            s.model.sheet(0, y, 0, w, deck * 1.3, sheet, 0.0 if y < 0 else np.pi)
        s.block(0, 0, deck * 1.3, w, d * 1.1, 1.4, "plain", side="plain")
        extra = s.pick("none tower towers figures roof")
        if extra == "roof":
            s.top("gable", 0, 0, s.block(0, 0, deck * 1.4, w * 0.6, d, 5, "side"), w * 0.6, d)
        elif extra != "none":
            for x in [0] if extra == "tower" else [-w * 0.3, w * 0.3]:
                if extra == "figures":
                    s.figure(x, 0, deck * 1.4, deck * 0.8, s.look.trim)
                else:
                    at = s.block(x, 0, 0, d * 1.6, d * 1.5, deck * s.between(2.4, 3.2), "shaft")
                    s.top(s.pick(s.style.tops), x, 0, at, d * 1.6, d * 1.5)
        return
    skin = flat(paint)
    s.model.box(0, 0, deck, w * 1.3, d, 1.6, [skin], cap=flat(np.float32([90, 90, 92])))
    towers, rise = int(s.rng.choice([1, 2, 2, 3])), deck * s.between(2.4, 4)
    if plan == "truss":
        step = max(6, round(w / deck))
        sheet = facades.pierced(s.look, w, deck, "truss", repeat=step)
        painted = flat(paint)
        for y in (-d / 2, d / 2):
            s.model.sheet(0, y, deck, w, deck * s.between(0.8, 1.4), sheet, 0.0)
        for x in np.linspace(-w / 2, w / 2, towers + 2):
            s.model.box(x, 0, 0, 5, d, deck, [painted], taper=0.7)
        return
    xs = np.linspace(-w * 0.3, w * 0.3, towers) if towers > 1 else np.array([0.0])
    for x in xs:
        for y in (-d / 2, d / 2):
            s.model.box(x, y, 0, 3, 2, rise, [skin], taper=0.7, cap=skin)
        for z in (0.6, 0.95):
            s.model.box(x, 0, rise * z, 2, d, 2, [skin])
        for y in (-d / 2, d / 2):
            for share in np.linspace(0.15, 1, 7):
                for side in (-1, 1):
                    reach = side * share * w * (0.3 if towers > 1 else 0.6)
                    top = rise * (0.98 if towers > 1 else 0.4 + 0.58 * share)
                    quad = [[x + reach, y, deck + 1], [x + reach + 0.7, y, deck + 1]]
                    s.model.face([*quad, [x + 0.7, y, top], [x, y, top]], skin, both_sides=True)


def arena(s: Site) -> None:
    """Rings of arches around an open bowl, or a domed hall."""
    r, squash, floors = s.between(24, 36), s.between(0.6, 1.0), int(s.rng.integers(1, 4))
    rise, at = s.between(6, 9), 0.0
    sheet = facades.pierced(s.look, 2.4 * r, rise, "arch", repeat=int(s.rng.choice([12, 16, 20])))
    dark = flat(s.look.wall * 0.42)
    for i in range(floors):
        high = at + rise
        s.model.lathe(0, 0, [(r, at), (r, high)], [sheet], sides=18, squash=squash, both_sides=True)
        s.model.lathe(0, 0, [(r * 0.94, at), (r * 0.94, high)], [dark], sides=14, squash=squash)
        band = [(r * 1.02, high - 0.8), (r * 1.02, high), (r * 0.7, high - rise * 0.3 * i)]
        s.model.lathe(0, 0, band, [flat(s.look.trim), s.stone(0.9)], sides=18, squash=squash)
        at = high
    if s.chance(0.4):
        s.dome(0, 0, at - 1, r * 0.8, "dome", sides=14, rise=0.5)
    elif s.chance(0.5):
        for angle in np.linspace(0, 2 * np.pi, 7)[:-1]:
            x, y = r * np.cos(angle), r * squash * np.sin(angle)
            s.model.lathe(x, y, [(0.8, at), (0.4, at + r * 0.5)], [flat(s.look.accent)], sides=4)
    s.block(0, -r * squash, 0, 14, 5, floors * rise * s.between(0.8, 1.3), "front")


def beacon(s: Site) -> None:
    """Lighthouse or windmill with the keeper's house."""
    r, h, at = s.between(3.4, 5.4), s.between(22, 38), 0.0
    bands = int(s.rng.choice([1, 3, 5, 7]))
    paints = [flat(s.look.accent), flat(np.float32([243, 241, 236]))]
    taper = s.between(0.5, 0.8)
    if s.chance(0.5):
        at = s.drum(0, 0, 0, r * 1.4, h * 0.2, sides=8)
    radii = np.linspace(r, r * taper, bands + 1)
    heights = np.linspace(at, at + h, bands + 1)
    s.model.lathe(0, 0, list(zip(radii, heights, strict=True)), paints, sides=10)
    at += h
    s.model.lathe(0, 0, [(r * 0.95, at - 0.5), (r * 0.95, at + 0.6)], [flat(s.look.trim)], sides=10)
    s.disc(0, 0, at + 0.6, r * 0.95, flat(s.look.roof), sides=10)
    glass = flat((255, 236, 170), 1.0)
    s.model.lathe(0, 0, [(r * 0.5, at), (r * 0.5, at + 3.4)], [glass], sides=8)
    s.dome(0, 0, at + 3.4, r * 0.62, s.pick("dome onion"))
    if s.chance(0.4):
        turn, sail = s.between(0, 1.5), facades.pierced(s.look, 18, 3, "truss", repeat=6)
        for k in range(4):
            angle = turn + k * np.pi / 2
            c, n = np.cos(angle) * h * 0.55, np.sin(angle) * h * 0.55
            px, pz = -np.sin(angle) * 1.6, np.cos(angle) * 1.6
            z, y = at - 3, -r * 1.1
            quad = [
                [px, y, z + pz],
                [c + px, y, z + n + pz],
                [c - px, y, z + n - pz],
                [-px, y, z - pz],
            ]
            s.model.face(quad, sail, both_sides=True)
    x, house = s.between(8, 13) * (1 if s.chance(0.5) else -1), s.between(9, 15)
    s.top(s.pick("gable hip"), x, 2, s.block(x, 2, 0, house, 9, 5.5, "front"), house, 9)
