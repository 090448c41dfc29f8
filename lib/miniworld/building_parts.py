"""Parts of buildings: walled blocks, roofs, domes, towers, columns, stairs and figures.

A `Site` holds one landmark's model, look and random numbers; the kinds of landmark in
`landmarks` are composed from its methods. Metres, z up, fronts towards -y.
"""

import numpy as np

from lib.miniworld.countries import Style
from lib.miniworld.renderer import Model, Skin, flat
from lib.miniworld.textures import Look, pierced_texture, roof_texture, wall_texture

GOLD = np.float32([222, 178, 66])


class Site:
    """A building site: adds parts to `model` in one landmark's look."""

    def __init__(self, look: Look, style: Style, rng: np.random.Generator) -> None:
        self.look, self.style, self.rng = look, style, rng
        self.model = Model()
        self._walls: dict[tuple[int, int, str], Skin] = {}

    def pick(self, words: str) -> str:
        """Choose one of space-separated words."""
        return str(self.rng.choice(words.split()))

    def between(self, low: float, high: float) -> float:
        """Draw a size uniformly."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """Draw true with probability `share`."""
        return bool(self.rng.random() < share)

    def wall(self, width: float, height: float, role: str = "side") -> Skin:
        """The skin of a wall, drawn once per size and role."""
        key = (max(2, round(width)), max(2, round(height)), role)
        if key not in self._walls:
            self._walls[key] = wall_texture(self.look, key[0], key[1], role)
        return self._walls[key]

    def roofing(self, width: float = 16, height: float = 10) -> Skin:
        """The skin of a tiled slope."""
        key = (round(width), round(height), "roof")
        if key not in self._walls:
            self._walls[key] = roof_texture(self.look, max(3, width), max(3, height))
        return self._walls[key]

    def stone(self, factor: float = 1.0) -> Skin:
        """Bare wall colour."""
        return flat(self.look.wall * factor)

    def block(
        self,
        x: float,
        y: float,
        low: float,
        width: float,
        depth: float,
        height: float,
        front: str = "side",
        *,
        taper: float = 1.0,
        side: str = "side",
    ) -> float:
        """Add a walled box and return the height of its top."""
        face, flank = self.wall(width, height, front), self.wall(depth, height, side)
        back = self.wall(width, height, side)
        cap = flat(0.5 * self.look.roof + 0.5 * self.look.wall)
        skins = [face, flank, back, flank]
        self.model.box(x, y, low, width, depth, height, skins, taper=taper, cap=cap)
        return low + height

    def drum(
        self, x: float, y: float, low: float, radius: float, height: float, *, sides: int = 12,
        taper: float = 1.0, role: str = "side",
    ) -> float:  # fmt: skip
        """Add a round or many-sided tower and return the height of its top."""
        skin = self.wall(2 * np.pi * radius, height, role)
        top = low + height
        self.model.lathe(x, y, [(radius, low), (radius * taper, top)], [skin], sides=sides)
        self.disc(x, y, top, radius * taper, self.stone(0.8), sides=sides)
        return top

    def disc(
        self, x: float, y: float, z: float, radius: float, skin: Skin, *, sides: int = 12
    ) -> None:
        """Add a level disc, such as the top of a tower."""
        self.model.lathe(x, y, [(radius, z), (0.01, z + 0.01)], [skin], sides=sides)

    def top(
        self, form: str, x: float, y: float, low: float, width: float, depth: float, *,
        height: float = 0.0,
    ) -> float:  # fmt: skip
        """Put a roof of the given form over a block and return the height of its tip."""
        slope = self.roofing(max(width, depth), 8)
        over_w, over_d = width * 1.06, depth * 1.06
        small = min(width, depth)
        along = width > depth
        rises = {"gable": 0.4, "steep": 0.85, "hip": 0.4, "mansard": 0.3, "spire": 2.4, "cone": 1.3}
        rise = height or small * rises.get(form, 0.5)
        if form in ("gable", "steep"):
            end = self.wall(small, rise, "plain")
            self.model.gable(x, y, low, over_w, over_d, rise, slope, end, along=along)
        elif form == "hip":
            hip = small / max(width, depth)
            self.model.gable(x, y, low, over_w, over_d, rise, slope, slope, along=along, hip=hip)
        elif form == "mansard":
            self.model.box(x, y, low, over_w, over_d, rise, [slope], taper=0.86)
            self.top("hip", x, y, low + rise, width * 0.86, depth * 0.86, height=rise * 0.5)
        elif form in ("dome", "onion"):
            self.dome(x, y, low, small * 0.5, form)
            return low + small * 0.8
        elif form in ("spire", "cone"):
            self.model.box(x, y, low, over_w, over_d, rise, [slope], taper=0.01)
            self.model.lathe(
                x, y, [(0.25, low + rise - 1), (0.05, low + rise + 2)], [flat(GOLD)], sides=4
            )
        elif form == "crown":
            self.battlements(x, y, low, width, depth, max(1.6, small * 0.14))
        elif form == "flare":
            return self.flare(x, y, low, width, depth, height or small * 0.35)
        else:
            edge = max(0.8, small * 0.06)
            skin = flat(self.look.trim * 0.9)
            self.model.box(x, y, low, over_w, over_d, edge, [skin], cap=flat(self.look.roof))
            rise = edge
        return low + rise

    def flare(
        self, x: float, y: float, low: float, width: float, depth: float, rise: float
    ) -> float:
        """Add a wide curved roof with upturned eaves, as on pagodas."""
        slope = self.roofing(width, 6)
        under = flat(self.look.trim * 0.6)
        w, d = width * 1.5, depth * 1.5
        self.model.box(x, y, low - rise * 0.12, width, depth, rise * 0.2, [under], taper=1.5)
        self.model.box(x, y, low + rise * 0.08, w, d, rise * 0.4, [slope], taper=0.68)
        self.model.box(
            x, y, low + rise * 0.48, w * 0.68, d * 0.68, rise * 0.52, [slope], taper=0.55,
            cap=flat(self.look.roof),
        )  # fmt: skip
        return low + rise

    def battlements(
        self, x: float, y: float, low: float, width: float, depth: float, height: float
    ) -> None:
        """Add a crenellated parapet around a flat roof."""
        sheets = [
            pierced_texture(self.look, side, height, "crown", repeat=max(3, round(side / 3)))
            for side in (width, depth)
        ]
        w, d, top = width / 2 * 1.05, depth / 2 * 1.05, low + height
        ring = [[x - w, y - d], [x + w, y - d], [x + w, y + d], [x - w, y + d]]
        for i in range(4):
            (ax, ay), (bx, by) = ring[i], ring[(i + 1) % 4]
            quad = [[ax, ay, low], [bx, by, low], [bx, by, top], [ax, ay, top]]
            self.model.face(quad, sheets[i % 2], both_sides=True)

    def dome(
        self, x: float, y: float, low: float, radius: float, form: str = "dome", *, sides: int = 12,
        skins: list[Skin] | None = None, rise: float = 1.0, has_finial: bool = True,
    ) -> float:  # fmt: skip
        """Add a dome, an onion or a bell with its finial and return the height of the tip."""
        look = self.look
        shapes = {
            "dome": [(1, 0), (0.94, 0.34), (0.74, 0.68), (0.4, 0.92), (0.06, 1.02)],
            "onion": [(0.72, 0), (1.05, 0.35), (0.95, 0.7), (0.45, 1.15), (0.06, 1.65)],
            "bell": [(1.15, 0), (0.95, 0.25), (0.82, 0.8), (0.5, 1.1), (0.2, 1.25)],
        }
        profile = [(r * radius, low + z * radius * rise) for r, z in shapes[form]]
        if skins is None:
            skins = [flat(look.roof), flat(look.roof * (0.8 if look.has_courses else 0.92))]
        sides = 8 if radius < 3 else sides
        self.model.lathe(x, y, profile, skins, sides=sides, wrap=False)
        tip = profile[-1][1]
        if not has_finial:
            return tip
        thin = max(0.2, radius * 0.06)
        finial = [(thin, tip - 0.3), (thin * 1.6, tip + radius * 0.15), (0.05, tip + radius * 0.5)]
        self.model.lathe(x, y, finial, [flat(GOLD, 0.8)], sides=5)
        return tip + radius * 0.5

    def column(self, x: float, y: float, low: float, radius: float, height: float) -> None:
        """Add a column with base and capital."""
        trim = self.look.trim
        top = low + height
        profile = [(radius, low), (radius * 0.85, top - height * 0.08), (radius * 1.4, top)]
        self.model.lathe(x, y, profile, [flat(trim), flat(trim * 0.9)], sides=6)

    def minaret(
        self, x: float, y: float, low: float, radius: float, height: float, top: str
    ) -> None:
        """Add a slender tower with balconies."""
        at = self.drum(x, y, low, radius, height * 0.62, sides=8, taper=0.85, role="shaft")
        ring = flat(self.look.trim)
        bulge = [(radius * 0.85, at - 1), (radius * 1.5, at), (radius * 1.5, at + 0.8)]
        self.model.lathe(x, y, bulge, [ring], sides=8)
        self.disc(x, y, at + 0.8, radius * 1.5, ring, sides=8)
        at = self.drum(x, y, at, radius * 0.65, height * 0.22, sides=8, role="shaft")
        if top in ("dome", "onion"):
            self.dome(x, y, at, radius * 0.8, top, rise=1.3)
        elif top == "crown":
            self.dome(x, y, at, radius * 0.6, "dome")
        else:
            skin = flat(self.look.roof)
            self.model.lathe(
                x, y, [(radius * 0.8, at), (0.05, at + height * 0.16)], [skin], sides=8
            )

    def round_tower(self, x: float, y: float, radius: float, height: float, top: str) -> None:
        """Add a castle's tower with a cone, a dome or battlements."""
        at = self.drum(x, y, 0, radius, height, sides=10, role="shaft")
        if top in ("cone", "steep", "spire"):
            cone = [(radius * 1.15, at), (0.05, at + radius * 2.4)]
            self.model.lathe(x, y, cone, [self.roofing(radius * 4, 8)], sides=10, wrap=False)
        elif top in ("dome", "onion"):
            self.dome(x, y, at, radius * 1.02, top, sides=10)
        else:
            sheet = pierced_texture(self.look, radius * 7, 2, "crown", repeat=10)
            ring = [(radius * 1.1, at - 0.8), (radius * 1.1, at + radius * 0.4)]
            self.model.lathe(x, y, ring, [sheet], sides=10, both_sides=True)

    def stairs(self, width: float, depth: float, height: float, steps: int = 4) -> float:
        """Add a stepped platform around the origin and return its height."""
        for i in range(steps):
            grow = 1 + 0.06 * (steps - i)
            skin = flat(self.look.wall * (0.95 if i % 2 else 0.82))
            low = height * i / steps
            self.model.box(0, 0, low, width * grow, depth * grow, height / steps, [skin], cap=skin)
        return height

    def figure(self, x: float, y: float, low: float, size: float, metal: np.ndarray) -> None:
        """Add a standing figure, arms as the landmark has them."""
        skins = [flat(metal), flat(metal * 0.8)]
        robe = [(0.2, 0), (0.16, 0.3), (0.12, 0.5), (0.19, 0.72), (0.15, 0.82), (0.05, 0.85)]
        head = [(0.05, 0.84), (0.09, 0.9), (0.08, 0.97), (0.01, 1.0)]
        for part in (robe, head):
            profile = [(r * size, low + z * size) for r, z in part]
            self.model.lathe(x, y, profile, skins, sides=7, squash=0.7, wrap=False)
        pose = self.pick("raised wide staff crossed")
        arms = {
            "raised": [(1, 0.5)],
            "wide": [(1, 0), (-1, 0)],
            "staff": [(1, 0.05)],
            "crossed": [],
        }
        for side, lift in arms[pose]:
            ax, az = x + side * size * 0.14, low + size * 0.74
            bx, bz = ax + side * size * (0.18 if lift else 0.36), az + lift * size
            thick = size * 0.04
            for dy in (-thick, thick):
                quad = [[ax, y + dy, az - thick], [bx, y + dy, bz - thick]]
                self.model.face(
                    [*quad, [bx, y + dy, bz + thick], [ax, y + dy, az + thick]],
                    skins[0],
                    both_sides=True,
                )
        if pose == "staff":
            self.model.box(x + size * 0.33, y, low, size * 0.04, size * 0.04, size * 1.2, skins)
