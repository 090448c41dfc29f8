"""Parts of buildings: walled blocks, roofs, domes, towers, columns, stairs and figures.

A `Site` is the model of one landmark under construction; the functions of `landmarks` call its
methods. Metres, z up, fronts face -y.
"""

import numpy as np

from lib.miniworld.countries import Country
from lib.miniworld.renderer import Model, Texture, flat
from lib.miniworld.textures import Style, openwork_texture, roof_texture, wall_texture

GOLD = np.float32([222, 178, 66])


class Site(Model):
    """A model with methods that add parts of buildings in one landmark's style."""

    def __init__(self, style: Style, country: Country, rng: np.random.Generator) -> None:
        super().__init__()
        self.style, self.country, self.rng = style, country, rng
        self._drawn: dict[tuple[int, int, str], Texture] = {}

    def pick(self, words: str) -> str:
        """Choose one of space-separated words."""
        return str(self.rng.choice(words.split()))

    def between(self, low: float, high: float) -> float:
        """Draw a number uniformly."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """Draw true with probability `share`."""
        return bool(self.rng.random() < share)

    def wall(self, width: float, height: float, role: str = "side") -> Texture:
        """Return a wall's texture, drawn once per size and role."""
        key = (max(2, round(width)), max(2, round(height)), role)
        if key not in self._drawn:
            self._drawn[key] = wall_texture(self.style, *key)
        return self._drawn[key]

    def slope(self, width: float, height: float) -> Texture:
        """Return the texture of a tiled slope, drawn once per size."""
        key = (round(width), round(height), "roof")
        if key not in self._drawn:
            self._drawn[key] = roof_texture(self.style, max(3, width), max(3, height))
        return self._drawn[key]

    def block(
        self, x: float, y: float, low: float, width: float, depth: float, height: float,
        front: str = "side", *, taper: float = 1.0, side: str = "side",
    ) -> float:  # fmt: skip
        """Add a walled box and return the height of its top."""
        face, flank = self.wall(width, height, front), self.wall(depth, height, side)
        walls = [face, flank, self.wall(width, height, side), flank]
        cap = flat(0.5 * self.style.roof + 0.5 * self.style.wall)
        self.box(x, y, low, width, depth, height, walls, taper=taper, cap=cap)
        return low + height

    def house(
        self, x: float, y: float, low: float, width: float, depth: float, height: float, roof: str,
        front: str = "side", *, side: str = "side",
    ) -> None:  # fmt: skip
        """Add a walled box with a roof of the given form."""
        top = self.block(x, y, low, width, depth, height, front, side=side)
        self.roof(roof, x, y, top, width, depth)

    def drum(
        self, x: float, y: float, low: float, radius: float, height: float, *, sides: int = 12,
        taper: float = 1.0, role: str = "side",
    ) -> float:  # fmt: skip
        """Add a round or many-sided tower and return the height of its top."""
        wall, top = self.wall(2 * np.pi * radius, height, role), low + height
        self.lathe(x, y, [(radius, low), (radius * taper, top)], [wall], sides=sides)
        self.disc(x, y, top, radius * taper, flat(self.style.wall * 0.8), sides=sides)
        return top

    def disc(
        self, x: float, y: float, z: float, radius: float, texture: Texture, *, sides: int = 12
    ) -> None:
        """Add a level disc, such as the top of a tower."""
        self.lathe(x, y, [(radius, z), (0.01, z + 0.01)], [texture], sides=sides)

    def roof(
        self, form: str, x: float, y: float, low: float, width: float, depth: float, *,
        height: float = 0.0,
    ) -> float:  # fmt: skip
        """Add a roof of the given form to a block and return the height of its tip."""
        slope = self.slope(max(width, depth), 8)
        over_w, over_d = width * 1.06, depth * 1.06
        small, along_x = min(width, depth), width > depth
        rises = {"gable": 0.4, "steep": 0.85, "hip": 0.4, "mansard": 0.3, "spire": 2.4, "cone": 1.3}
        rise = height or small * rises.get(form, 0.5)
        if form in ("gable", "steep"):
            end = self.wall(small, rise, "plain")
            self.gable(x, y, low, over_w, over_d, rise, slope, end, along_x=along_x)
        elif form == "hip":
            hip = small / max(width, depth)
            self.gable(x, y, low, over_w, over_d, rise, slope, slope, along_x=along_x, hip=hip)
        elif form == "mansard":
            self.box(x, y, low, over_w, over_d, rise, [slope], taper=0.86)
            self.roof("hip", x, y, low + rise, width * 0.86, depth * 0.86, height=rise * 0.5)
        elif form in ("dome", "onion"):
            self.dome(x, y, low, small * 0.5, form)
            return low + small * 0.8
        elif form in ("spire", "cone"):
            self.box(x, y, low, over_w, over_d, rise, [slope], taper=0.01)
            tip = low + rise
            self.lathe(x, y, [(0.25, tip - 1), (0.05, tip + 2)], [flat(GOLD)], sides=4)
        elif form == "crown":
            self.battlements(x, y, low, width, depth, max(1.6, small * 0.14))
        elif form == "flare":
            return self.flared_roof(x, y, low, width, depth, height or small * 0.35)
        else:
            rise = max(0.8, small * 0.06)
            edge, cap = [flat(self.style.trim * 0.9)], flat(self.style.roof)
            self.box(x, y, low, over_w, over_d, rise, edge, cap=cap)
        return low + rise

    def flared_roof(
        self, x: float, y: float, low: float, width: float, depth: float, rise: float
    ) -> float:
        """Add a wide curved roof with upturned eaves, as on pagodas."""
        slope = self.slope(width, 6)
        under, cap = flat(self.style.trim * 0.6), flat(self.style.roof)
        w, d = width * 1.5, depth * 1.5
        self.box(x, y, low - rise * 0.12, width, depth, rise * 0.2, [under], taper=1.5)
        self.box(x, y, low + rise * 0.08, w, d, rise * 0.4, [slope], taper=0.68)
        w, d = w * 0.68, d * 0.68
        self.box(x, y, low + rise * 0.48, w, d, rise * 0.52, [slope], taper=0.55, cap=cap)
        return low + rise

    def battlements(
        self, x: float, y: float, low: float, width: float, depth: float, height: float
    ) -> None:
        """Add a crenellated parapet around a flat roof."""
        sheets = [
            openwork_texture(self.style, side, height, "crown", repeat=max(3, round(side / 3)))
            for side in (width, depth)
        ]
        w, d, top = width / 2 * 1.05, depth / 2 * 1.05, low + height
        ring = [[x - w, y - d], [x + w, y - d], [x + w, y + d], [x - w, y + d]]
        for i in range(4):
            a, b = ring[i], ring[(i + 1) % 4]
            quad = [[*a, low], [*b, low], [*b, top], [*a, top]]
            self.face(quad, sheets[i % 2], two_sided=True)

    def dome(
        self, x: float, y: float, low: float, radius: float, form: str = "dome", *, sides: int = 12,
        textures: list[Texture] | None = None, rise: float = 1.0, has_finial: bool = True,
    ) -> float:  # fmt: skip
        """Add a dome, an onion or a bell with its finial and return the height of the tip."""
        style = self.style
        shapes = {
            "dome": [(1, 0), (0.94, 0.34), (0.74, 0.68), (0.4, 0.92), (0.06, 1.02)],
            "onion": [(0.72, 0), (1.05, 0.35), (0.95, 0.7), (0.45, 1.15), (0.06, 1.65)],
            "bell": [(1.15, 0), (0.95, 0.25), (0.82, 0.8), (0.5, 1.1), (0.2, 1.25)],
        }
        profile = [(r * radius, low + z * radius * rise) for r, z in shapes[form]]
        if textures is None:
            textures = [flat(style.roof), flat(style.roof * (0.8 if style.has_courses else 0.92))]
        sides = 8 if radius < 3 else sides
        self.lathe(x, y, profile, textures, sides=sides, wrap=False)
        tip = profile[-1][1]
        if not has_finial:
            return tip
        thin = max(0.2, radius * 0.06)
        finial = [(thin, tip - 0.3), (thin * 1.6, tip + radius * 0.15), (0.05, tip + radius * 0.5)]
        self.lathe(x, y, finial, [flat(GOLD, 0.8)], sides=5)
        return tip + radius * 0.5

    def column(self, x: float, y: float, low: float, radius: float, height: float) -> None:
        """Add a column with base and capital."""
        trim, top = self.style.trim, low + height
        profile = [(radius, low), (radius * 0.85, top - height * 0.08), (radius * 1.4, top)]
        self.lathe(x, y, profile, [flat(trim), flat(trim * 0.9)], sides=6)

    def minaret(self, x: float, y: float, radius: float, height: float, top: str) -> None:
        """Add a slender tower with balconies."""
        low = self.drum(x, y, 0, radius, height * 0.62, sides=8, taper=0.85, role="shaft")
        trim = flat(self.style.trim)
        balcony = [(radius * 0.85, low - 1), (radius * 1.5, low), (radius * 1.5, low + 0.8)]
        self.lathe(x, y, balcony, [trim], sides=8)
        self.disc(x, y, low + 0.8, radius * 1.5, trim, sides=8)
        low = self.drum(x, y, low, radius * 0.65, height * 0.22, sides=8, role="shaft")
        if top in ("dome", "onion"):
            self.dome(x, y, low, radius * 0.8, top, rise=1.3)
        elif top == "crown":
            self.dome(x, y, low, radius * 0.6, "dome")
        else:
            cone = [(radius * 0.8, low), (0.05, low + height * 0.16)]
            self.lathe(x, y, cone, [flat(self.style.roof)], sides=8)

    def round_tower(self, x: float, y: float, radius: float, height: float, top: str) -> None:
        """Add a castle's tower with a cone, a dome or battlements."""
        low = self.drum(x, y, 0, radius, height, sides=10, role="shaft")
        if top in ("cone", "steep", "spire"):
            cone = [(radius * 1.15, low), (0.05, low + radius * 2.4)]
            self.lathe(x, y, cone, [self.slope(radius * 4, 8)], sides=10, wrap=False)
        elif top in ("dome", "onion"):
            self.dome(x, y, low, radius * 1.02, top, sides=10)
        else:
            crown = openwork_texture(self.style, radius * 7, 2, "crown", repeat=10)
            ring = [(radius * 1.1, low - 0.8), (radius * 1.1, low + radius * 0.4)]
            self.lathe(x, y, ring, [crown], sides=10, two_sided=True)

    def stairs(self, width: float, depth: float, height: float, steps: int = 4) -> float:
        """Add a stepped platform around the origin and return its height."""
        rise = height / steps
        for i in range(steps):
            grow = 1 + 0.06 * (steps - i)
            stone = flat(self.style.wall * (0.95 if i % 2 else 0.82))
            low = height * i / steps
            self.box(0, 0, low, width * grow, depth * grow, rise, [stone], cap=stone)
        return height

    def figure(self, x: float, y: float, low: float, size: float, metal: np.ndarray) -> None:
        """Add a standing figure in one of four poses."""
        textures = [flat(metal), flat(metal * 0.8)]
        robe = [(0.2, 0), (0.16, 0.3), (0.12, 0.5), (0.19, 0.72), (0.15, 0.82), (0.05, 0.85)]
        head = [(0.05, 0.84), (0.09, 0.9), (0.08, 0.97), (0.01, 1.0)]
        for part in (robe, head):
            profile = [(r * size, low + z * size) for r, z in part]
            self.lathe(x, y, profile, textures, sides=7, y_scale=0.7, wrap=False)
        pose = self.pick("raised wide staff crossed")
        # Side and lift of each arm.
        arms = {"raised": [(1, 0.5)], "wide": [(1, 0), (-1, 0)], "staff": [(1, 0.05)]}
        for side, lift in arms.get(pose, ()):
            ax, az = x + side * size * 0.14, low + size * 0.74
            bx, bz = ax + side * size * (0.18 if lift else 0.36), az + lift * size
            t = size * 0.04
            for at in (y - t, y + t):
                quad = [[ax, at, az - t], [bx, at, bz - t], [bx, at, bz + t], [ax, at, az + t]]
                self.face(quad, textures[0], two_sided=True)
        if pose == "staff":
            t = size * 0.04
            self.box(x + size * 0.33, y, low, t, t, size * 1.2, textures)
