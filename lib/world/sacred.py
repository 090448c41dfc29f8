"""Landmarks of faith: churches, mosques, temples, pagodas, stupas, pyramids.

Each function takes a `Site` and draws its proportions from the site's random numbers, so that no
two landmarks of a kind have the same silhouette.
"""

from lib.world import facades
from lib.world.building import GOLD, Site
from lib.world.solids import flat


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
        s.model.face(quad, facades.roof(s.look, 6, 20) if s.chance(0.5) else skin, both_sides=True)
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
