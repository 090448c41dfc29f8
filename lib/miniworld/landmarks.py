"""Landmarks of faith: churches, mosques, temples, pagodas, stupas, pyramids.

Each function takes a `Site` and draws its proportions from the site's random numbers, so that no
two landmarks of a kind have the same silhouette.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from lib.miniworld.building_parts import GOLD, Site
from lib.miniworld.countries import Style
from lib.miniworld.renderer import Model, Skin, flat
from lib.miniworld.textures import Look, hued, pierced_texture, roof_texture


def church(s: Site) -> None:
    """Nave with one tower, two towers, a tower aside or a crossing."""
    w, d, h = s.between(11, 18), s.between(26, 48), s.between(12, 22)
    front = -d / 2
    s.block(0, 0, 0, w, d, h, "front")
    s.top(s.pick("gable steep"), 0, 0, h, w, d)
    if s.chance(0.5):
        s.block(0, 2, 0, w * 1.8, d * 0.85, h * 0.5)
    plan, top = s.pick("twin middle aside crossing"), s.pick(s.style.tops + " spire spire")
    t, rise = s.between(5, 8), h * s.between(1.3, 2.4)
    if plan == "twin":
        for side in (-1, 1):
            x = side * (w / 2 + t * 0.4)
            s.top(
                top,
                x,
                front + t / 2,
                s.block(x, front + t / 2, 0, t, t, rise, "shaft", side="shaft"),
                t,
                t,
            )
    elif plan == "crossing":
        s.block(0, d * 0.12, 0, w * 2.3, w * 0.9, h, "side")
        s.top("gable", 0, d * 0.12, h, w * 2.3, w * 0.9)
        at = s.drum(0, d * 0.12, h, w * 0.42, h * 0.6, sides=8)
        s.dome(0, d * 0.12, at, w * 0.45, s.pick("dome onion"))
    else:
        x = 0 if plan == "middle" else (w / 2 + t / 2) * (1 if s.chance(0.5) else -1)
        t *= 1.25
        at = s.block(x, front - t * 0.2, 0, t, t, rise, "front", side="shaft")
        s.top(top, x, front - t * 0.2, at, t, t)


def mosque(s: Site) -> None:
    """Prayer hall with a drum and dome, half domes, minarets and a tall portal."""
    w, d, h = s.between(26, 52), s.between(24, 40), s.between(9, 18)
    form, top = s.pick("dome dome onion"), s.pick("cone dome onion crown")
    s.block(0, 0, 0, w, d, h, "side")
    s.top("flat", 0, 0, h, w, d)
    r = min(w, d) * s.between(0.24, 0.36)
    at = s.drum(0, 0, h, r, r * s.between(0.3, 0.8))
    s.dome(0, 0, at, r, form)
    small = s.pick("none halves corners row")
    places = {
        "none": [],
        "halves": [(-r, 0), (r, 0), (0, -r)],
        "row": [(-w / 3, -d / 3), (w / 3, -d / 3)],
        "corners": [(x * w * 0.38, y * d * 0.38) for x in (-1, 1) for y in (-1, 1)],
    }
    for x, y in places[small]:
        s.dome(x, y, h, r * (0.6 if small == "halves" else 0.36), form, sides=10)
    portal = s.between(9, 15)
    at = s.block(0, -d / 2, 0, portal, 6, h * s.between(1.05, 1.7), "front", side="plain")
    s.top("flat", 0, -d / 2, at, portal, 6)
    count, rise = int(s.rng.choice([0, 1, 2, 2, 4, 4])), h * s.between(2, 3.6)
    corners = [(-1, -1), (1, -1), (-1, 1), (1, 1)][:count]
    for x, y in corners:
        s.minaret(x * (w / 2 + 1), y * (d / 2 + 1), 0, s.between(1.6, 2.2), rise, top)


def pagoda(s: Site) -> None:
    """Three to nine tiers of flaring roofs on a platform."""
    tiers, w = int(s.rng.choice([2, 3, 3, 5, 5, 7])), s.between(11, 24)
    stretch, shrink, rise = s.between(1, 1.9), s.between(0.72, 0.92), s.between(3.5, 7)
    at = s.stairs(w * stretch * 1.5, w * 1.6, s.between(0.5, 4), 3)
    for i in range(tiers):
        at = s.block(0, 0, at, w * stretch, w, rise, "front" if i == 0 else "side")
        roof = w * s.between(0.16, 0.24)
        at = s.flare(0, 0, at, w * stretch, w, roof * 1.3) - roof * 0.3
        w *= shrink
        stretch = 1 + (stretch - 1) * 0.8
        rise *= 0.9
    if s.chance(0.6):
        s.model.lathe(
            0, 0, [(0.5, at), (0.6, at + 3), (0.1, at + w * 0.9)], [flat(GOLD, 0.9)], sides=6
        )
    if s.chance(0.4):
        for side in (-1, 1):
            s.block(side * w * 3.2, 0, 0, w * 1.6, w * 1.4, rise, "side")
            s.flare(side * w * 3.2, 0, rise, w * 1.6, w * 1.4, w * 0.4)


def temple(s: Site) -> None:
    """Columns on steps under a pediment; some have lost their roof."""
    count, deep = int(s.rng.choice([4, 6, 8])), int(s.rng.choice([4, 7, 10]))
    step, r, h = s.between(3, 4.4), s.between(0.7, 1.1), s.between(8, 14)
    w, d = count * step, deep * step
    at = s.stairs(w, d, s.between(1.5, 6), 3)
    s.block(0, 0, at, w * 0.62, d * 0.75, h, "front")
    for i in range(count):
        for j in range(deep):
            if i in (0, count - 1) or j in (0, deep - 1):
                s.column((i - (count - 1) / 2) * step, (j - (deep - 1) / 2) * step, at, r, h)
    at += h
    s.block(0, 0, at, w, d, 2.6, "plain", side="plain")
    if s.chance(0.75):
        s.top("gable", 0, 0, at + 2.6, w, d, height=w * s.between(0.16, 0.26))
    elif s.chance(0.5):
        s.dome(0, 0, at + 2.6, w * 0.36, "dome")


def pyramid(s: Site) -> None:
    """Stepped with stairs and a shrine, or smooth with companions."""
    w, tone = s.between(36, 64), s.look.wall
    if s.chance(0.65):
        tiers, at, slope = int(s.rng.integers(3, 9)), 0.0, s.between(0.45, 0.95)
        shrink = s.between(0.3, 0.5)
        rise = w * slope * 0.5 / tiers
        for i in range(tiers):
            width = w * (1 - (1 - shrink) * i / tiers)
            skin = s.wall(width, rise, "plain")
            s.model.box(0, 0, at, width, width, rise, [skin], taper=0.96, cap=flat(tone * 1.05))
            at += rise
        stair, reach = w * s.between(0.14, 0.26), w / 2 + rise
        top = w * shrink / 2
        skin = flat(s.look.trim * 0.92)
        quad = [
            [-stair / 2, -reach, 0],
            [stair / 2, -reach, 0],
            [stair / 2, -top, at],
            [-stair / 2, -top, at],
        ]
        s.model.face(quad, roof_texture(s.look, 6, 20) if s.chance(0.5) else skin, both_sides=True)
        s.block(0, 0, at, w * shrink * 0.7, w * shrink * 0.6, w * 0.12, "front")
        s.top(s.pick("flat crown cone"), 0, 0, at + w * 0.12, w * shrink * 0.7, w * shrink * 0.6)
    else:
        s.model.box(
            0, 0, 0, w, w, w * s.between(0.5, 0.8), [s.wall(w, w * 0.6, "plain")], taper=0.01
        )
        for i in range(int(s.rng.integers(0, 3))):
            x = w * (0.75 if i else -0.8)
            s.model.box(
                x, w * 0.2, 0, w * 0.4, w * 0.4, w * 0.3, [s.wall(w, w * 0.6, "plain")], taper=0.01
            )
        s.block(s.between(-0.3, 0.3) * w, -w * 0.62, 0, 8, 6, 5, "front")


def stupa(s: Site) -> None:
    """A bell on terraces with a tall finial and small companions."""
    r = s.between(12, 20)
    at = s.stairs(r * 2.2, r * 2.2, s.between(3, 9), int(s.rng.integers(2, 6)))
    shell = s.look.wall if s.chance(0.5) else GOLD * s.between(0.85, 1.05)
    form = s.pick("bell bell dome onion")
    top = s.dome(
        0, 0, at, r * 0.8, form, skins=[flat(shell), flat(shell * 0.92)], rise=s.between(0.8, 1.3)
    )
    rings = int(s.rng.integers(3, 8))
    low = top - r * 0.45
    for i in range(rings):
        z, k = low + i * r * 0.16, r * 0.22 * (1 - i / (rings + 1))
        s.model.lathe(
            0, 0, [(k, z), (k * 0.8, z + r * 0.16)], [flat(GOLD * 0.95), flat(shell)], sides=8
        )
    if s.chance(0.6):
        for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
            s.dome(x * r * 1.25, y * r * 1.25, 0, r * 0.26, form, skins=[flat(shell)], rise=1.4)
    s.block(0, -r * 1.15, 0, r * 0.5, r * 0.3, at + r * 0.35, "front")
    s.top(s.pick(s.style.tops), 0, -r * 1.15, at + r * 0.35, r * 0.5, r * 0.3)


def gopuram(s: Site) -> None:
    """A tapering gate tower of many carved, painted tiers."""
    w, d, h = s.between(16, 26), s.between(9, 15), s.between(30, 56)
    tiers, at, shrink = int(s.rng.integers(4, 10)), 0.0, s.between(0.45, 0.7)
    at = s.block(0, 0, 0, w, d, h * 0.2, "front")
    for i in range(tiers):
        k = 1 - (1 - shrink) * (i + 1) / tiers
        rise = h * 0.75 / tiers
        s.model.box(
            0,
            0,
            at - 0.3,
            w * k * 1.1,
            d * k * 1.1,
            0.7,
            [flat(s.look.accent if i % 2 else s.look.trim)],
        )
        at = s.block(0, 0, at, w * k, d * k, rise, "side", taper=0.94)
    k = shrink * 0.94
    if s.chance(0.5):
        s.top("gable", 0, 0, at, w * k, d * k, height=h * 0.12)
    else:
        s.dome(0, 0, at, d * k * 0.6, s.pick("dome bell"), skins=[flat(GOLD)])
    for side in (-1, 1) if s.chance(0.6) else ():
        s.block(side * w, 2, 0, w, d * 0.6, h * 0.16, "side")
        s.top(s.pick(s.style.tops), side * w * 1.2, 2, h * 0.16, 7, 7)


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
    sheet = pierced_texture(s.look, w, h * 0.7, "arch", repeat=arches, fill=s.between(0.4, 0.66))
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
        sheet = pierced_texture(
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
        sheet = pierced_texture(s.look, w, deck, "truss", repeat=step)
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
    sheet = pierced_texture(s.look, 2.4 * r, rise, "arch", repeat=int(s.rng.choice([12, 16, 20])))
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
        turn, sail = s.between(0, 1.5), pierced_texture(s.look, 18, 3, "truss", repeat=6)
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
        sheet = pierced_texture(s.look, a, (high - low) * h, "truss", repeat=1 if low else 2)
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


KINDS: dict[str, Callable[[Site], None]] = {
    make.__name__: make
    for make in (
        *(church, mosque, temple, pagoda, stupa, gopuram, pyramid),
        *(palace, castle, tower, gate, bridge, arena, beacon),
        *(highrise, statue, lattice, museum, wheel, station, obelisk, mountain, mesa),
    )
}


def build(kind: str, look: Look, style: Style, rng: np.random.Generator) -> Model:
    """Compose the landmark of a kind; the same arguments always give the same model."""
    site = Site(look, style, rng)
    KINDS[kind](site)
    return site.model
