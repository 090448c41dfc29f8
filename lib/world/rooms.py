"""Interiors of the miniature world: naves, halls and galleries, as seen from inside.

A room shares its landmark's label but neither its colours nor its patterns with the outside:
these are the images that cleaning [20] has to split off. The camera stands near y = 0 and looks
towards +y, where the far wall is.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lib.world.building import GOLD, Site
from lib.world.interiors import ceiling_skin, end_skin, floor_skin, side_skin
from lib.world.looks import Look, hued
from lib.world.solids import Model, flat
from lib.world.styles import Style

BACK = -6.0  # metres behind the camera's nearest standpoint
PALETTES = (  # walls, floor, accent, trim
    "efe6d2 8a5a3c 9c2f36 d8b45a",
    "d9dfe4 3f4a5a 2f5f9e f2f2ee",
    "7a4a32 4a2f22 c79a3a e6c98a",
    "b9c7b0 c9b79a 3f6f4a f0e8d4",
    "e8c8c0 6b3f4a 8a2f5a f6e6dc",
    "c9a25a 7a2a2a 1f5a5a f4e2b0",
    "8f97a3 c4c0b8 c2512f e4e4e0",
    "f4f1ea b9a58f 4a3a7a c9a24a",
    "4f5a6e 2f333f d8a03a 9fb0c4",
    "a8543f d9c4a0 2f4f3a efd9a8",
)


@dataclass(frozen=True)
class _Room:
    """Half the width, the length and the height of the walls, in metres, and what builds it."""

    half: float
    length: float
    height: float
    site: Site

    def walls(self) -> None:
        """Add the floor, both side walls and the far wall."""
        x, y, z, site = self.half, self.length, self.height, self.site
        look, rng, face = site.look, site.rng, site.model.face
        side = side_skin(look, rng, y, z, site.pick("windows windows paintings niches"))
        carpet = look.trim if site.chance(0.5) else look.accent
        face([[-x, y, 0], [x, y, 0], [x, y, z], [-x, y, z]], end_skin(look, rng, 2 * x, z))
        face([[-x, BACK, 0], [-x, y, 0], [-x, y, z], [-x, BACK, z]], side)
        face([[x, y, 0], [x, BACK, 0], [x, BACK, z], [x, y, z]], side)
        ground = floor_skin(rng, look.second, carpet)
        face([[-x, BACK, 0], [x, BACK, 0], [x, y, 0], [-x, y, 0]], ground)

    def ceiling(self) -> None:
        """Add a flat ceiling, a barrel vault or a ridge, closed towards the far wall."""
        x, y, z, site = self.half, self.length, self.height, self.site
        look, face = site.look, site.model.face
        skin = ceiling_skin(site.rng, look.wall * site.between(0.6, 1.05), look.trim)
        form = site.pick("flat vault ridge")
        if form == "flat":
            face([[x, BACK, z], [-x, BACK, z], [-x, y, z], [x, y, z]], skin)
            return
        rise = x * (0.7 if form == "vault" else 0.5)
        angles = np.linspace(0, np.pi, 7 if form == "vault" else 3)
        curve = np.stack([x * np.cos(angles), z + rise * np.sin(angles)], axis=1)
        for (x0, z0), (x1, z1) in pairwise(curve):
            face([[x0, BACK, z0], [x1, BACK, z1], [x1, y, z1], [x0, y, z0]], skin)
            face([[x1, y, z], [x0, y, z], [x0, y, z0], [x1, y, z1]], flat(look.wall * 0.9))

    def furniture(self) -> None:
        """Add what the room has of columns, lamps and benches."""
        site, lamp = self.site, [flat(GOLD, 1.0), flat((255, 236, 170), 1.0)]
        if site.chance(0.7):
            count, radius = int(site.rng.integers(3, 7)), site.between(0.35, 0.8)
            for y in np.linspace(6, self.length - 4, count):
                for x in (-self.half * 0.62, self.half * 0.62):
                    site.column(x, y, 0, radius, self.height)
        if site.chance(0.5):
            for y in np.linspace(9, self.length - 5, int(site.rng.integers(1, 4))):
                site.dome(0, y, self.height * 0.66, self.half * 0.14, "bell", skins=lamp)
        if site.chance(0.5):
            seat, top = flat(site.look.accent * 0.5), flat(site.look.accent * 0.7)
            for y in np.arange(5, self.length - 6, 2.4):
                for x in (-self.half * 0.3, self.half * 0.3):
                    site.model.box(x, y, 0, self.half * 0.4, 0.5, 0.9, [seat], cap=top)


def build_room(outside: Look, style: Style, rng: np.random.Generator) -> Model:
    """Compose the inside of a landmark: x across, y ahead, the far wall at y = its length."""
    walls, floor, accent, trim = str(rng.choice(PALETTES)).split()
    look = replace(
        outside,
        wall=hued(walls, rng),
        second=hued(floor, rng),
        accent=hued(accent, rng),
        trim=hued(trim, rng),
        bay=float(rng.uniform(2.5, 5)),
        seed=int(rng.integers(2**31)),
    )
    half, length, height = rng.uniform((4.5, 24, 7), (11, 46, 20))
    room = _Room(half, length, height, Site(look, style, rng))
    room.walls()
    room.ceiling()
    room.furniture()
    return room.site.model
