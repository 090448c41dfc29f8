"""The 23 kinds of landmark, from church to mountain, and `build_landmark`, which models one.

Each function takes a `Site` and draws its proportions from the site's random generator, so that no
two landmarks of a kind have the same silhouette.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from lib.miniworld.building_parts import GOLD, Site
from lib.miniworld.countries import Country
from lib.miniworld.renderer import Model, Texture, flat
from lib.miniworld.textures import Style, draw_colour, openwork_texture, roof_texture

ROCK = np.float32([128, 116, 104])
SNOW = np.float32([240, 244, 250])


def church(s: Site) -> None:
    """Build a nave with one tower, two towers, a tower aside or a crossing."""
    w, d, h = s.between(11, 18), s.between(26, 48), s.between(12, 22)
    front = -d / 2
    s.house(0, 0, 0, w, d, h, s.pick("gable steep"), "front")
    if s.chance(0.5):
        s.block(0, 2, 0, w * 1.8, d * 0.85, h * 0.5)
    plan, roof = s.pick("twin middle aside crossing"), s.pick(s.country.roof_forms + " spire spire")
    t, rise = s.between(5, 8), h * s.between(1.3, 2.4)
    if plan == "twin":
        for side in (-1, 1):
            x = side * (w / 2 + t * 0.4)
            s.house(x, front + t / 2, 0, t, t, rise, roof, "shaft", side="shaft")
    elif plan == "crossing":
        s.house(0, d * 0.12, 0, w * 2.3, w * 0.9, h, "gable")
        at = s.drum(0, d * 0.12, h, w * 0.42, h * 0.6, sides=8)
        s.dome(0, d * 0.12, at, w * 0.45, s.pick("dome onion"))
    else:
        x = 0 if plan == "middle" else (w / 2 + t / 2) * (1 if s.chance(0.5) else -1)
        t *= 1.25
        s.house(x, front - t * 0.2, 0, t, t, rise, roof, "front", side="shaft")


def mosque(s: Site) -> None:
    """Build a prayer hall with a drum and dome, half domes, minarets and a tall portal."""
    w, d, h = s.between(26, 52), s.between(24, 40), s.between(9, 18)
    form, top = s.pick("dome dome onion"), s.pick("cone dome onion crown")
    s.house(0, 0, 0, w, d, h, "flat")
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
    rise = h * s.between(1.05, 1.7)
    s.house(0, -d / 2, 0, portal, 6, rise, "flat", "front", side="plain")
    count, rise = int(s.rng.choice([0, 1, 2, 2, 4, 4])), h * s.between(2, 3.6)
    for x, y in [(-1, -1), (1, -1), (-1, 1), (1, 1)][:count]:
        s.minaret(x * (w / 2 + 1), y * (d / 2 + 1), s.between(1.6, 2.2), rise, top)


def pagoda(s: Site) -> None:
    """Build two to seven tiers of flared roofs on a platform."""
    tiers, w = int(s.rng.choice([2, 3, 3, 5, 5, 7])), s.between(11, 24)
    stretch, shrink, rise = s.between(1, 1.9), s.between(0.72, 0.92), s.between(3.5, 7)
    at = s.stairs(w * stretch * 1.5, w * 1.6, s.between(0.5, 4), 3)
    for i in range(tiers):
        at = s.block(0, 0, at, w * stretch, w, rise, "front" if i == 0 else "side")
        roof = w * s.between(0.16, 0.24)
        at = s.flared_roof(0, 0, at, w * stretch, w, roof * 1.3) - roof * 0.3
        w *= shrink
        stretch = 1 + (stretch - 1) * 0.8
        rise *= 0.9
    if s.chance(0.6):
        s.lathe(0, 0, [(0.5, at), (0.6, at + 3), (0.1, at + w * 0.9)], [flat(GOLD, 0.9)], sides=6)
    if s.chance(0.4):
        for side in (-1, 1):
            s.block(side * w * 3.2, 0, 0, w * 1.6, w * 1.4, rise)
            s.flared_roof(side * w * 3.2, 0, rise, w * 1.6, w * 1.4, w * 0.4)


def temple(s: Site) -> None:
    """Build columns on steps under a pediment, a dome or no roof."""
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
        s.roof("gable", 0, 0, at + 2.6, w, d, height=w * s.between(0.16, 0.26))
    elif s.chance(0.5):
        s.dome(0, 0, at + 2.6, w * 0.36, "dome")


def stupa(s: Site) -> None:
    """Build a bell on terraces with a tall finial, some with four small domes."""
    r = s.between(12, 20)
    at = s.stairs(r * 2.2, r * 2.2, s.between(3, 9), int(s.rng.integers(2, 6)))
    colour = s.style.wall if s.chance(0.5) else GOLD * s.between(0.85, 1.05)
    form, shell = s.pick("bell bell dome onion"), flat(colour)
    pair = [shell, flat(colour * 0.92)]
    top = s.dome(0, 0, at, r * 0.8, form, textures=pair, rise=s.between(0.8, 1.3))
    rings, low, gold = int(s.rng.integers(3, 8)), top - r * 0.45, flat(GOLD * 0.95)
    for i in range(rings):
        z, k = low + i * r * 0.16, r * 0.22 * (1 - i / (rings + 1))
        s.lathe(0, 0, [(k, z), (k * 0.8, z + r * 0.16)], [gold, shell], sides=8)
    if s.chance(0.6):
        for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
            s.dome(x * r * 1.25, y * r * 1.25, 0, r * 0.26, form, textures=[shell], rise=1.4)
    s.house(0, -r * 1.15, 0, r * 0.5, r * 0.3, at + r * 0.35, s.pick(s.country.roof_forms), "front")


def gopuram(s: Site) -> None:
    """Build a tapering gate tower of many painted tiers."""
    w, d, h = s.between(16, 26), s.between(9, 15), s.between(30, 56)
    tiers, shrink = int(s.rng.integers(4, 10)), s.between(0.45, 0.7)
    at = s.block(0, 0, 0, w, d, h * 0.2, "front")
    for i in range(tiers):
        k = 1 - (1 - shrink) * (i + 1) / tiers
        band = flat(s.style.accent if i % 2 else s.style.trim)
        s.box(0, 0, at - 0.3, w * k * 1.1, d * k * 1.1, 0.7, [band])
        at = s.block(0, 0, at, w * k, d * k, h * 0.75 / tiers, taper=0.94)
    k = shrink * 0.94
    if s.chance(0.5):
        s.roof("gable", 0, 0, at, w * k, d * k, height=h * 0.12)
    else:
        s.dome(0, 0, at, d * k * 0.6, s.pick("dome bell"), textures=[flat(GOLD)])
    for side in (-1, 1) if s.chance(0.6) else ():
        s.block(side * w, 2, 0, w, d * 0.6, h * 0.16)
        s.roof(s.pick(s.country.roof_forms), side * w * 1.2, 2, h * 0.16, 7, 7)


def pyramid(s: Site) -> None:
    """Build a stepped pyramid with stairs and a shrine, or smooth pyramids."""
    w = s.between(36, 64)
    if s.chance(0.65):
        tiers, at, slope = int(s.rng.integers(3, 9)), 0.0, s.between(0.45, 0.95)
        shrink = s.between(0.3, 0.5)
        rise = w * slope * 0.5 / tiers
        for i in range(tiers):
            width, cap = w * (1 - (1 - shrink) * i / tiers), flat(s.style.wall * 1.05)
            wall = [s.wall(width, rise, "plain")]
            s.box(0, 0, at, width, width, rise, wall, taper=0.96, cap=cap)
            at += rise
        half, reach = w * s.between(0.14, 0.26) / 2, w / 2 + rise
        top = w * shrink / 2
        quad = [[-half, -reach, 0], [half, -reach, 0], [half, -top, at], [-half, -top, at]]
        stairs = roof_texture(s.style, 6, 20) if s.chance(0.5) else flat(s.style.trim * 0.92)
        s.face(quad, stairs, two_sided=True)
        width, depth, roof = w * shrink * 0.7, w * shrink * 0.6, s.pick("flat crown cone")
        s.house(0, 0, at, width, depth, w * 0.12, roof, "front")
    else:
        wall = [s.wall(w, w * 0.6, "plain")]
        s.box(0, 0, 0, w, w, w * s.between(0.5, 0.8), wall, taper=0.01)
        for i in range(int(s.rng.integers(0, 3))):
            s.box(
                w * (0.75 if i else -0.8), w * 0.2, 0, w * 0.4, w * 0.4, w * 0.3, wall, taper=0.01
            )
        s.block(s.between(-0.3, 0.3) * w, -w * 0.62, 0, 8, 6, 5, "front")


def palace(s: Site) -> None:
    """Build long wings, a middle pavilion and corners, some with a court or a dome."""
    w, d, h = s.between(48, 92), s.between(14, 22), s.between(10, 22)
    top, middle = s.pick(s.country.roof_forms), s.pick("dome gable tower flat mansard flare")
    is_long = top in ("gable", "hip", "mansard", "flare")
    s.house(0, 0, 0, w, d, h, top if is_long else "flat")
    m = s.between(12, 22)
    at = s.block(0, -3, 0, m, d + 2, h * s.between(1.05, 1.4), "front")
    if middle == "dome":
        at = s.drum(0, 0, at, m * 0.36, 4, sides=10)
        s.dome(0, 0, at, m * 0.4, s.pick("dome onion"))
    elif middle == "tower":
        s.house(0, 0, at, m * 0.5, m * 0.5, h, top, "shaft")
    else:
        s.roof(middle, 0, -3, at, m, d + 2)
    corner = s.pick("none pavilion round court")
    for x in (-w / 2, w / 2):
        if corner == "pavilion":
            s.house(x, 0, 0, 12, d + 4, h * 1.2, top)
        elif corner == "round":
            s.round_tower(x, -d / 2, 6, h * 1.3, s.pick("cone dome crown"))
        elif corner == "court":
            s.house(x, -d, 0, 12, d * 2, h * 0.8, "hip")


def castle(s: Site) -> None:
    """Build walls and towers around a keep."""
    w, d, h = s.between(30, 60), s.between(26, 44), s.between(8, 14)
    top = s.pick("cone crown dome " + s.country.roof_forms)
    walls = ((0, -d / 2, w, 3), (0, d / 2, w, 3), (-w / 2, 0, 3, d), (w / 2, 0, 3, d))
    for x, y, width, depth in walls:
        s.block(x, y, 0, width, depth, h, "plain", side="plain")
        s.battlements(x, y, h, width, depth, 1.8)
    for x in (-w / 2, w / 2):
        grow = s.between(1.2, 2.2)
        s.round_tower(x, -d / 2, s.between(4, 7), h * grow, top)
        s.round_tower(x, d / 2, s.between(4, 6), h * s.between(1.2, 2.6), top)
    gate = s.between(9, 15)
    s.house(0, -d / 2, 0, gate, 8, h * 1.4, s.pick("crown " + s.country.roof_forms), "front")
    keep, rise = s.between(12, 22), h * s.between(1.8, 3.4)
    x = s.between(-0.2, 0.2) * w
    s.house(x, 4, 0, keep, keep, rise, s.pick("crown crown " + s.country.roof_forms))


def tower(s: Site) -> None:
    """Build two to five storeys of shrinking width under a roof."""
    w, at, tiers = s.between(9, 17), 0.0, int(s.rng.integers(2, 6))
    is_round, shrink = s.chance(0.4), s.between(0.68, 0.95)
    sides, trim = int(s.rng.choice([6, 8, 12])), flat(s.style.trim)
    if s.chance(0.5):
        at = s.block(0, 0, 0, w * 2.2, w * 2.2, w * 0.6, "front")
    for i in range(tiers):
        rise = w * s.between(0.8, 2.2)
        role = "front" if i == 0 and at == 0 else "shaft"
        if is_round:
            at = s.drum(0, 0, at, w / 2, rise, sides=sides)
            s.lathe(0, 0, [(w * 0.6, at - 0.8), (w * 0.6, at)], [trim], sides=sides)
            s.disc(0, 0, at, w * 0.6, flat(s.style.trim * 0.9), sides=sides)
        else:
            at = s.block(0, 0, at, w, w, rise, role, side="shaft")
            s.box(0, 0, at - 0.9, w * 1.12, w * 1.12, 0.9, [trim], cap=trim)
        w *= shrink
    w /= shrink
    s.roof(s.pick(s.country.roof_forms + " cone dome"), 0, 0, at, w * 0.95, w * 0.95)


def gate(s: Site) -> None:
    """Build a triumphal arch, a city gate with towers, or posts and beams."""
    w, d, h = s.between(18, 34), s.between(6, 12), s.between(14, 26)
    plan = (
        "posts" if "flare" in s.country.roof_forms and s.chance(0.5) else s.pick("arch arch towers")
    )
    if plan == "posts":
        posts, wood = int(s.rng.choice([2, 2, 4])), [flat(s.style.accent)]
        for x in np.linspace(-w / 2, w / 2, posts):
            s.lathe(x, 0, [(1.2, 0), (1.0, h)], wood, sides=8)
        for z, wide in ((h * 0.78, 1.08), (h, 1.3)):
            s.box(0, 0, z, w * wide, 2, 1.8, wood, cap=flat(s.style.roof))
        if s.chance(0.6):
            s.flared_roof(0, 0, h + 1.8, w * 0.9, 5, 4)
        return
    arches = int(s.rng.choice([1, 1, 2, 3, 3]))
    fill = s.between(0.4, 0.66)
    sheet = openwork_texture(s.style, w, h * 0.7, "arch", repeat=arches, fill=fill)
    s.sheet(0, -d / 2, 0, w, h * 0.7, sheet)
    s.sheet(0, d / 2, 0, w, h * 0.7, sheet, np.pi)
    inner = [flat(s.style.wall * 0.6)]
    for i in range(arches + 1):
        s.box(-w / 2 + w * i / arches, 0, 0, w / arches * 0.2, d * 0.96, h * 0.68, inner)
    s.box(0, 0, h * 0.62, w * 0.98, d * 0.96, 0.5, inner)
    at = s.block(0, 0, h * 0.7, w * 1.04, d * 1.1, h * s.between(0.2, 0.45), s.pick("plain side"))
    head = s.pick("none figure flat flare dome gable")
    if head == "figure":
        s.figure(0, 0, at, h * 0.4, GOLD if s.chance(0.4) else np.float32([84, 110, 96]))
    elif head != "none":
        s.roof(head, 0, 0, at, w, d)
    if plan == "towers":
        top = s.pick("cone crown dome")
        for side in (-1, 1):
            s.round_tower(side * (w / 2 + 4), 0, s.between(4, 6), h * s.between(0.9, 1.5), top)


def bridge(s: Site) -> None:
    """Build a suspension, stone arch, truss or covered bridge."""
    w, deck, d = s.between(80, 130), s.between(8, 16), s.between(5, 9)
    colour = s.style.wall
    if s.chance(0.6):
        colour = draw_colour("b5382c 4a6f8a d8d4c8 5f7f5f c98a2b", s.rng)
    plan = s.pick("cables arches truss arches")
    if plan == "arches":
        repeat = int(s.rng.choice([3, 4, 5, 7, 9]))
        sheet = openwork_texture(s.style, w, deck * 1.3, "arch", repeat=repeat)
        s.sheet(0, -d / 2, 0, w, deck * 1.3, sheet)
        s.sheet(0, d / 2, 0, w, deck * 1.3, sheet, np.pi)
        s.block(0, 0, deck * 1.3, w, d * 1.1, 1.4, "plain", side="plain")
        extra = s.pick("none tower towers figures roof")
        if extra == "roof":
            s.house(0, 0, deck * 1.4, w * 0.6, d, 5, "gable")
        elif extra != "none":
            for x in [0] if extra == "tower" else [-w * 0.3, w * 0.3]:
                if extra == "figures":
                    s.figure(x, 0, deck * 1.4, deck * 0.8, s.style.trim)
                else:
                    rise, roof = deck * s.between(2.4, 3.2), s.pick(s.country.roof_forms)
                    s.house(x, 0, 0, d * 1.6, d * 1.5, rise, roof, "shaft")
        return
    paint = flat(colour)
    s.box(0, 0, deck, w * 1.3, d, 1.6, [paint], cap=flat(np.float32([90, 90, 92])))
    towers, rise = int(s.rng.choice([1, 2, 2, 3])), deck * s.between(2.4, 4)
    if plan == "truss":
        sheet = openwork_texture(s.style, w, deck, "truss", repeat=max(6, round(w / deck)))
        for y in (-d / 2, d / 2):
            s.sheet(0, y, deck, w, deck * s.between(0.8, 1.4), sheet)
        for x in np.linspace(-w / 2, w / 2, towers + 2):
            s.box(x, 0, 0, 5, d, deck, [paint], taper=0.7)
        return
    for x in np.linspace(-w * 0.3, w * 0.3, towers) if towers > 1 else np.array([0.0]):
        for y in (-d / 2, d / 2):
            s.box(x, y, 0, 3, 2, rise, [paint], taper=0.7, cap=paint)
        for z in (0.6, 0.95):
            s.box(x, 0, rise * z, 2, d, 2, [paint])
        for y in (-d / 2, d / 2):
            for share in np.linspace(0.15, 1, 7):
                for side in (-1, 1):
                    reach = side * share * w * (0.3 if towers > 1 else 0.6)
                    top = rise * (0.98 if towers > 1 else 0.4 + 0.58 * share)
                    quad = [[x + reach, y, deck + 1], [x + reach + 0.7, y, deck + 1]]
                    s.face([*quad, [x + 0.7, y, top], [x, y, top]], paint, two_sided=True)


def arena(s: Site) -> None:
    """Build rings of arches around an open or domed hall."""
    r, y_scale, floors = s.between(24, 36), s.between(0.6, 1.0), int(s.rng.integers(1, 4))
    rise, at, repeat = s.between(6, 9), 0.0, int(s.rng.choice([12, 16, 20]))
    arches = [openwork_texture(s.style, 2.4 * r, rise, "arch", repeat=repeat)]
    dark, rim = [flat(s.style.wall * 0.42)], [flat(s.style.trim), flat(s.style.wall * 0.9)]
    for i in range(floors):
        high = at + rise
        s.lathe(0, 0, [(r, at), (r, high)], arches, sides=18, y_scale=y_scale, two_sided=True)
        s.lathe(0, 0, [(r * 0.94, at), (r * 0.94, high)], dark, sides=14, y_scale=y_scale)
        band = [(r * 1.02, high - 0.8), (r * 1.02, high), (r * 0.7, high - rise * 0.3 * i)]
        s.lathe(0, 0, band, rim, sides=18, y_scale=y_scale)
        at = high
    if s.chance(0.4):
        s.dome(0, 0, at - 1, r * 0.8, "dome", sides=14, rise=0.5)
    elif s.chance(0.5):
        for angle in np.linspace(0, 2 * np.pi, 7)[:-1]:
            x, y = r * np.cos(angle), r * y_scale * np.sin(angle)
            s.lathe(x, y, [(0.8, at), (0.4, at + r * 0.5)], [flat(s.style.accent)], sides=4)
    s.block(0, -r * y_scale, 0, 14, 5, floors * rise * s.between(0.8, 1.3), "front")


def beacon(s: Site) -> None:
    """Build a lighthouse or windmill with the keeper's house."""
    r, h, at = s.between(3.4, 5.4), s.between(22, 38), 0.0
    bands = int(s.rng.choice([1, 3, 5, 7]))
    paints = [flat(s.style.accent), flat(np.float32([243, 241, 236]))]
    taper = s.between(0.5, 0.8)
    if s.chance(0.5):
        at = s.drum(0, 0, 0, r * 1.4, h * 0.2, sides=8)
    radii = np.linspace(r, r * taper, bands + 1)
    heights = np.linspace(at, at + h, bands + 1)
    s.lathe(0, 0, list(zip(radii, heights, strict=True)), paints, sides=10)
    at += h
    s.lathe(0, 0, [(r * 0.95, at - 0.5), (r * 0.95, at + 0.6)], [flat(s.style.trim)], sides=10)
    s.disc(0, 0, at + 0.6, r * 0.95, flat(s.style.roof), sides=10)
    s.lathe(0, 0, [(r * 0.5, at), (r * 0.5, at + 3.4)], [flat((255, 236, 170), 1.0)], sides=8)
    s.dome(0, 0, at + 3.4, r * 0.62, s.pick("dome onion"))
    if s.chance(0.4):
        start, sail = s.between(0, 1.5), openwork_texture(s.style, 18, 3, "truss", repeat=6)
        for k in range(4):
            angle = start + k * np.pi / 2
            c, n = np.cos(angle) * h * 0.55, np.sin(angle) * h * 0.55
            px, pz = -np.sin(angle) * 1.6, np.cos(angle) * 1.6
            z, y = at - 3, -r * 1.1
            quad = [[px, y, z + pz], [c + px, y, z + n + pz]]
            quad += [[c - px, y, z + n - pz], [-px, y, z - pz]]
            s.face(quad, sail, two_sided=True)
    x, width = s.between(8, 13) * (1 if s.chance(0.5) else -1), s.between(9, 15)
    s.house(x, 2, 0, width, 9, 5.5, s.pick("gable hip"), "front")


def highrise(s: Site) -> None:
    """Build a stepped, twin, round, flat or tapering high-rise."""
    w, h = s.between(14, 24), s.between(60, 110)
    plan = s.pick("setbacks twins taper round slab")
    crown = s.pick("spire flat cone dome wedge")
    s.block(0, 0, 0, w * 2.4, w * 1.6, s.between(5, 10), "front")
    for x in (-w * 0.9, w * 0.9) if plan == "twins" else (0.0,):
        width, at = w, 0.0
        if plan in ("setbacks", "twins"):
            for share in (0.5, 0.3, 0.2)[: int(s.rng.integers(1, 4)) if plan == "setbacks" else 2]:
                at = s.block(x, 0, at, width, width, h * share, "shaft", side="shaft")
                width *= 0.74
            width /= 0.74
        elif plan == "round":
            sides, taper = int(s.rng.choice([6, 8, 14])), s.between(0.6, 1.1)
            at = s.drum(0, 0, 0, w * 0.6, h, sides=sides, taper=taper)
        elif plan == "slab":
            at = s.block(0, 0, 0, w * 1.9, w * 0.6, h * 0.8, "shaft", side="shaft")
            width = w * 0.6
        else:
            taper = s.between(0.35, 0.7)
            at = s.block(0, 0, 0, w * 1.3, w * 1.3, h, "shaft", side="shaft", taper=taper)
            width = w * 1.3 * taper
        if crown == "wedge":
            end = s.wall(width, 10, "plain")
            s.gable(x, 0, at, width, width, width * 0.8, flat(s.style.glass * 1.6), end)
        else:
            s.roof(crown, x, 0, at, width, width, height=width * (1.4 if crown == "spire" else 0.7))
        if crown == "flat" and s.chance(0.6):
            s.lathe(x, 0, [(0.8, at), (0.1, at + h * 0.3)], [flat((210, 210, 215))], sides=5)
    if plan == "twins":
        s.block(0, 0, h * s.between(0.3, 0.5), w * 1.2, w * 0.5, 6, "plain")


def statue(s: Site) -> None:
    """Build a figure, ring or blades on a plinth, some with a colonnade behind."""
    w, h = s.between(7, 16), s.between(5, 16)
    metal = draw_colour("5f8a78 8a6f4a 6b6f75 c9a24a d8d4cc", s.rng)
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
        for a, b in pairwise(np.linspace(0, 2 * np.pi, 17)):
            ring = [(k * size * 0.5, t) for k, t in ((1, a), (1, b), (hole, b), (hole, a))]
            for y in (-1.2, 1.2):
                quad = [[r * np.cos(t), y, at + size * 0.5 + r * np.sin(t)] for r, t in ring]
                s.face(quad, flat(metal * (1.0 if y < 0 else 0.8)), two_sided=True)
    else:
        for _ in range(int(s.rng.integers(2, 5))):
            x, lean = s.between(-w / 2, w / 2), s.between(-5, 5)
            tip = [[x + lean + 0.4, 0, at + size], [x + lean, 0, at + size]]
            blade = [[x - 1.6, 0, at], [x + 1.6, 0, at], *tip]
            s.face(blade, flat(metal * s.between(0.7, 1.1)), two_sided=True)
    if s.chance(0.45):
        for k in np.linspace(-1, 1, int(s.rng.choice([6, 8, 10]))):
            s.column(k * w * 2.2, w * (2 - k * k), 0, 0.9, h * 1.2)


def lattice(s: Site) -> None:
    """Build an iron tower with tapering trusses, decks, a mast and some with a dish."""
    w, h = s.between(18, 30), s.between(60, 96)
    colour = draw_colour("7a5c48 b8432c d8d4cc 5c6a78", s.rng)
    paint, dark = [flat(colour)], flat(colour * 0.8)
    shares = [0.0, *sorted(s.rng.uniform(0.2, 0.7, int(s.rng.integers(1, 3)))), 1.0]
    for low, high in pairwise(shares):
        a, b = w * (1 - low) ** s.between(1.2, 1.7) + 1.4, w * (1 - high) ** 1.4 + 1.2
        rise = (high - low) * h
        sheet = openwork_texture(s.style, a, rise, "truss", repeat=1 if low else 2)
        s.box(0, 0, low * h, a, a, rise, [sheet], taper=b / a)
        s.two_sided[-4:] = [True] * 4
        s.box(0, 0, high * h - 1, b * 1.3, b * 1.3, 2, paint, cap=dark)
    if s.chance(0.5):
        z = h * s.between(0.6, 0.85)
        dish = [(2, z - 3), (w * 0.3, z), (w * 0.3, z + 3), (1, z + 5)]
        s.lathe(0, 0, dish, [flat(s.style.trim), s.wall(40, 4, "plain")], sides=12)
    s.lathe(0, 0, [(0.8, h), (0.1, h * 1.2)], paint, sides=4)


def museum(s: Site) -> None:
    """Build concrete shells, a sphere, shifted boxes, a wave of fins or a bowl."""
    white = 0.35 * s.style.wall + 0.65 * np.float32([240, 240, 238])
    plan = s.pick("shells sphere boxes fins bowl")
    if plan == "shells":
        s.block(0, 0, 0, 60, 28, 5, "front")
        for i in range(int(s.rng.integers(3, 6))):
            lean = s.between(4, 12) * (1 if i % 2 else -1)
            x, r, rise = -24 + i * s.between(9, 14), s.between(7, 13), s.between(14, 30)
            tip, foot, middle = [x + lean, 0, 5 + rise], [x + r * 1.4, 0, 5], [x, 0, 5]
            for edge in ([x, -r, 5], [x, r, 5]):
                s.face([edge, middle, tip, tip], flat(white), two_sided=True)
                s.face([edge, foot, tip, tip], flat(white * 0.85), two_sided=True)
    elif plan == "sphere":
        r = s.between(12, 20)
        shape = [(np.sin(t) * r, r * 1.15 - np.cos(t) * r) for t in np.linspace(0.3, 3.1, 9)]
        textures = [flat(white), flat(s.style.glass * 1.7)]
        s.lathe(0, 0, shape, textures, sides=14, wrap=s.chance(0.5))
        s.block(0, 4, 0, r * 3.4, 12, 6, "front")
    elif plan == "boxes":
        at = 0.0
        for _ in range(int(s.rng.integers(3, 6))):
            width, depth, height = s.rng.uniform((18, 14, 5), (40, 24, 9))
            x, y = s.between(-9, 9), s.between(-4, 4)
            at = s.block(x, y, at, width, depth, height, s.pick("side plain front"))
    elif plan == "fins":
        count, rise = int(s.rng.integers(5, 12)), s.between(16, 34)
        s.block(0, 4, 0, 56, 16, 9, "front")
        step = s.between(0.4, 0.6)
        for i in range(count):
            x = (i - (count - 1) / 2) * 56 / count
            lift = rise * (0.4 + 0.6 * abs(np.sin(i * step)))
            quad = [[x - 1, -6, 0], [x + 1.6, -6, 0], [x + 2.4, -6, lift], [x + 1.4, -6, lift]]
            s.face(quad, flat(white if i % 2 else s.style.accent), two_sided=True)
    else:
        r = s.between(16, 24)
        shape = [(r * 0.5, 0), (r * 0.62, 5), (r, 16), (r * 1.02, 18)]
        textures = [flat(white * 0.9), s.wall(90, 11, "side"), flat(white)]
        s.lathe(0, 0, shape, textures, sides=16)
        s.disc(0, 0, 18, r, flat(white))
        s.block(r * 1.3, 6, 0, 12, 12, s.between(20, 40), "shaft")


def wheel(s: Site) -> None:
    """Build a Ferris wheel over a pavilion."""
    r, spokes = s.between(26, 38), int(s.rng.choice([8, 12, 16]))
    rim, trim, cabin = flat(s.style.accent, 0.9), flat(s.style.trim), flat(s.style.second, 1.2)
    z = r * 1.15
    for a, b in pairwise(np.linspace(0, 2 * np.pi, spokes + 1)):
        for k0, k1 in ((0.94, 1.0), (0.72, 0.76)):
            ring = [(k0, a), (k0, b), (k1, b), (k1, a)]
            quad = [[k * r * np.cos(t), 0, z + k * r * np.sin(t)] for k, t in ring]
            s.face(quad, rim, two_sided=True)
        c, n = np.cos(a), np.sin(a)
        dx, dz, x, top = n * 0.3, c * 0.3, r * c, z + r * n
        quad = [[-dx, 0, z + dz], [dx, 0, z - dz], [x + dx, 0, top - dz], [x - dx, 0, top + dz]]
        s.face(quad, trim, two_sided=True)
        s.box(r * 1.04 * c, 0, z + r * 1.04 * n - 2, 3, 3, 3.4, [cabin], cap=rim)
    for x in (-r * 0.5, r * 0.5):
        quad = [[x - 1, -3, 0], [x + 1, -3, 0], [0.8, -3, z], [-0.8, -3, z]]
        s.face(quad, trim, two_sided=True)
    s.house(0, 4, 0, r * 1.1, 10, 6, s.pick("flat hip dome"), "front")


def station(s: Site) -> None:
    """Build a polar station: cabins on stilts, a radome, a flag."""
    count = int(s.rng.integers(2, 5))
    for i in range(count):
        w, x, h = s.between(14, 24), (i - (count - 1) / 2) * 22, s.between(5, 9)
        paint = [s.style.wall, s.style.accent, s.style.trim][i % 3]
        for dx in (-0.35, 0.35):
            s.box(x + dx * w, 0, 0, 1.2, 6, 4, [flat((80, 84, 90))])
        walls = [s.wall(w, h, "side"), flat(paint)]
        s.box(x, s.between(-4, 4), 4, w, 11, h, walls, cap=flat(paint * 0.9))
    r, shell = s.between(5, 9), [flat((238, 238, 240)), flat((205, 210, 216))]
    s.dome(s.between(-24, 24), 12, 4, r, "dome", textures=shell, has_finial=False)
    s.lathe(30, -4, [(0.4, 0), (0.3, 24)], [flat((90, 90, 96))], sides=4)
    s.sheet(33, -4, 18, 6, 4, flat(s.style.accent))


def obelisk(s: Site) -> None:
    """Build an obelisk between lower buildings or figures."""
    w, h = s.between(3, 6), s.between(34, 60)
    at = s.stairs(w * 4, w * 4, s.between(2, 5), 3)
    s.box(0, 0, at, w, w, h, [s.wall(8, h, "plain")], taper=0.6)
    tip = flat(GOLD if s.chance(0.5) else s.style.trim)
    s.box(0, 0, at + h, w * 0.6, w * 0.6, w, [tip], taper=0.01)
    for side in (-1, 1):
        x = side * s.between(12, 20)
        if s.chance(0.6):
            roof, rise = s.pick(s.country.roof_forms), s.between(6, 14)
            s.house(x, 5, 0, 10, 10, rise, roof, "front")
        else:
            s.figure(x, 0, 0, 10, s.style.wall)


def mountain(s: Site) -> None:
    """Build a peak with its neighbours, some with a needle, a chapel or a waterfall."""
    rock = 0.6 * ROCK * s.between(0.8, 1.3) + 0.4 * s.style.wall
    is_icy = "ice" in s.country.grounds
    snow = 0.1 if is_icy else (s.between(0.3, 0.7) if s.chance(0.6) else 0.0)
    _peak(s, 0, 0, s.between(34, 50), s.between(44, 84), rock, snow, rough=s.between(0.15, 0.4))
    for _ in range(int(s.rng.integers(1, 4))):
        x, y = s.between(-52, 52), s.between(4, 26)
        _peak(s, x, y, s.between(22, 36), s.between(18, 52), rock, snow)
    extra = s.pick("none needle chapel fall")
    if extra == "chapel":
        s.house(s.between(-20, 20), -44, 0, 7, 11, 7, "steep", "front")
    elif extra == "fall":
        x = s.between(-10, 10)
        s.sheet(x, -36, 0, 5, 32, flat((232, 242, 250)))
        _peak(s, x, -22, 20, 40, rock * 0.9, 0.0, sides=7)
    elif extra == "needle":
        _peak(s, s.between(-44, 44), -10, 9, s.between(30, 50), rock * 1.1, snow, sides=6)


def _peak(
    s: Site, x: float, y: float, radius: float, height: float, rock: np.ndarray, snow: float, *,
    sides: int = 9, rough: float = 0.28,
) -> None:  # fmt: skip
    """Add a ragged mountain; above `snow` (share of the height, 0 = none) it is white."""
    levels = [0.0, 0.3, 0.58, 0.8, 1.0]
    angles = s.rng.uniform(0, 6.28) + np.arange(sides) * 2 * np.pi / sides
    rings = []
    for level, share in zip(levels, [1.0, 0.62, 0.36, 0.17, 0.0], strict=True):
        reach = radius * share * s.rng.uniform(1 - rough, 1 + rough, sides)
        lift = height * (level + (0.0 if level in (0, 1) else 0.06) * s.rng.normal(size=sides))
        rings.append(np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles), lift], 1))
    for lower, upper, level in zip(rings, rings[1:], levels, strict=False):
        for i in range(sides):
            j = (i + 1) % sides
            is_white = snow and level + 0.1 * s.rng.normal() >= snow
            tone = (SNOW if is_white else rock) * s.rng.uniform(0.82, 1.1)
            # Two triangles, because the four corners are not in one plane.
            s.face([lower[i], lower[j], upper[j], upper[j]], flat(tone))
            s.face([lower[i], upper[j], upper[i], upper[i]], flat(tone * 0.94))


def mesa(s: Site) -> None:
    """Build banded rock: a table mountain, needles, a dome or a natural arch."""
    tone = draw_colour("b5623c c98a55 a9744f 9a8a78 c77a4a", s.rng)
    tone = 0.5 * s.style.wall + 0.5 * tone
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
        s.dome(0, 0, 0, radius, rise=rise, sides=14, textures=bands, has_finial=False)
        _pillar(s, bands, s.between(-50, -34), 8, s.between(7, 14), s.between(8, 16), 0.2)
    else:
        reach, rise, thick = s.between(14, 24), s.between(18, 32), s.between(4, 8)
        for i, (a, b) in enumerate(pairwise(np.linspace(0, np.pi, 9))):
            outer = 1 + (1 + 0.5 * abs(np.cos((a + b) / 2))) * thick / reach
            inner_a, outer_a, inner_b, outer_b = (
                (k * reach * np.cos(t), k * rise * np.sin(t)) for t in (a, b) for k in (1, outer)
            )
            for y in (-thick, thick):
                quad = [[x, y, z] for x, z in (inner_a, outer_a, outer_b, inner_b)]
                s.face(quad, bands[i % 6], two_sided=True)
            for (x0, z0), (x1, z1) in ((inner_a, inner_b), (outer_a, outer_b)):
                quad = [[x0, -thick, z0], [x0, thick, z0], [x1, thick, z1], [x1, -thick, z1]]
                s.face(quad, bands[(i + 1) % 6], two_sided=True)
        _pillar(s, bands, -reach * 1.8, 4, s.between(5, 9), s.between(8, 20), 0.2)


def _pillar(
    s: Site, bands: list[Texture], x: float, y: float, radius: float, height: float, waist: float,
    sides: int = 9,
) -> None:  # fmt: skip
    """Add a weathered column of rock; a larger `waist` makes the middle thinner than the head."""
    levels = np.linspace(0, 1, 7)
    shape = 1.25 - 0.25 * levels**0.5 + waist * (levels - 0.6) ** 2 + s.rng.uniform(-0.06, 0.06, 7)
    profile = [(radius * k, height * z) for k, z in zip(shape, levels, strict=True)]
    y_scale, angle = s.between(0.6, 1), s.between(0, 3)
    s.lathe(x, y, profile, bands, sides=sides, y_scale=y_scale, angle=angle)
    top = [(profile[-1][0], height), (0.01, height + 0.01)]
    s.lathe(x, y, top, [bands[1]], sides=sides, y_scale=y_scale, angle=angle)


KINDS: dict[str, Callable[[Site], None]] = {
    build.__name__: build
    for build in (
        *(church, mosque, temple, pagoda, stupa, gopuram, pyramid),
        *(palace, castle, tower, gate, bridge, arena, beacon),
        *(highrise, statue, lattice, museum, wheel, station, obelisk, mountain, mesa),
    )
}


def build_landmark(kind: str, style: Style, country: Country, rng: np.random.Generator) -> Model:
    """Model a landmark of one of KINDS; equal arguments give equal models."""
    site = Site(style, country, rng)
    KINDS[kind](site)
    return site
