"""What one landmark's walls have in common: colours, materials and patterns.

Pattern and proportion carry the identity: colours are shared by a whole country.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from lib.miniworld.countries import Style
from lib.miniworld.renderer import Skin, textured


@dataclass(frozen=True)
class Look:
    """One landmark's choices: colours (RGB float arrays), materials and patterns."""

    wall: np.ndarray
    second: np.ndarray
    trim: np.ndarray
    accent: np.ndarray
    roof: np.ndarray
    glass: np.ndarray
    material: str
    window: str
    base: str  # ground floor
    motif: str
    frieze: str
    bay: float  # metres
    storey: float
    grain: float  # how coarse bricks, stripes and tiles are
    has_courses: bool
    has_pilasters: bool
    seed: int


def colour(word: str) -> np.ndarray:
    """Turn an RGB hex word into a float32 colour (3,).

    >>> colour("ff8000").tolist()
    [255.0, 128.0, 0.0]
    """
    return np.array([int(word[i : i + 2], 16) for i in (0, 2, 4)], np.float32)


def hued(words: str, rng: np.random.Generator, spread: float = 10) -> np.ndarray:
    """Draw one of the colours and vary it."""
    return np.clip(colour(str(rng.choice(words.split()))) + rng.normal(0, spread, 3), 10, 250)


def draw_look(style: Style, rng: np.random.Generator) -> Look:
    """Choose one landmark's look within its country's style."""

    def pick(words: str) -> str:
        return str(rng.choice(words.split()))

    def tone(words: str, spread: float) -> np.ndarray:
        return np.clip(colour(pick(words)) + rng.normal(0, spread, 3), 12, 250).astype(np.float32)

    wall = tone(style.walls, 26)
    return Look(
        wall=wall,
        second=0.45 * wall + 0.55 * tone(style.walls if rng.random() < 0.5 else style.trims, 6),
        trim=tone(style.trims, 12),
        accent=tone(style.accents, 34),
        roof=tone(style.roofs, 28),
        glass=np.float32([50, 62, 74]) + rng.uniform(-14, 26),
        material=pick(style.materials),
        window=pick(style.windows),
        base=pick("arcade portal columns awnings plain portal"),
        motif=pick("rose clock cross star sun mosaic banners shield letters grid none"),
        frieze=pick("zigzag dots checks stripes arches none"),
        bay=float(rng.uniform(4.0, 9.0)),
        storey=float(rng.uniform(4.4, 8.5)),
        grain=float(rng.uniform(1.0, 2.4)),
        has_courses=bool(rng.random() < 0.55),
        has_pilasters=bool(rng.random() < 0.4),
        seed=int(rng.integers(2**31)),
    )


SCALE = 6.0
LARGEST = 208
LAMP = (255, 205, 110)


class Canvas:
    """A wall being painted: the picture by day and the mask of what shines at night.

    Positions are pixels, x to the right and y down; `shine` (0-255, -1: leave as it is) is how
    much a shape is lit from inside at night.
    """

    def __init__(self, look: Look, width: float, height: float, salt: int) -> None:
        self.look = look
        self.rng = np.random.default_rng((look.seed, salt))
        self.scale = min(SCALE, LARGEST / width, LARGEST / height)
        self.w = max(8, round(width * self.scale))
        self.h = max(8, round(height * self.scale))
        self.day = np.empty((self.h, self.w, 3), np.float32)
        self.day[:] = look.wall
        self.lit = np.zeros((self.h, self.w), np.uint8)

    def polygon(self, points: np.ndarray, paint: np.ndarray, shine: int = -1) -> None:
        """Fill the polygon through `points` (n, 2)."""
        fixed = np.round(np.asarray(points, float) * 16).astype(np.int32)
        cv2.fillPoly(self.day, [fixed], paint.tolist(), cv2.LINE_AA, 4)
        if shine >= 0:
            cv2.fillPoly(self.lit, [fixed], shine, cv2.LINE_AA, 4)

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, paint: np.ndarray, shine: int = -1
    ) -> None:
        """Fill a rectangle."""
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        self.polygon(corners, paint, shine)

    def disc(self, x: float, y: float, radius: float, paint: np.ndarray, shine: int = -1) -> None:
        """Fill a circle."""
        self.polygon(_arc(x, y, radius, radius, 0, 360), paint, shine)

    def line(self, x0: float, y0: float, x1: float, y1: float, paint: np.ndarray) -> None:
        """Draw a line one pixel wide."""
        ends = np.round(np.array([x0, y0, x1, y1]) * 16).astype(int).tolist()
        cv2.line(self.day, ends[:2], ends[2:], paint.tolist(), 1, cv2.LINE_AA, 4)

    def skin(self) -> Skin:
        """Finish: dirt towards the foot, grain, and the floodlit, lamp-lit night."""
        foot = np.linspace(1.06, 0.88, self.h, dtype=np.float32)[:, None, None]
        grain = self.rng.normal(0, 4, (self.h, self.w, 1)).astype(np.float32)
        day = np.clip(self.day * foot + grain, 0, 255)
        flood = np.linspace(0.30, 0.85, self.h, dtype=np.float32)[:, None, None]
        night = day * flood * np.float32([1.0, 0.9, 0.76])
        share = self.lit[..., None].astype(np.float32) / 255
        night = night * (1 - share) + share * np.float32(LAMP)
        return textured(day.astype(np.uint8), np.clip(night, 0, 255).astype(np.uint8))


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> np.ndarray:
    angles = np.radians(np.linspace(start, end, 17))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def opening(form: str, x: float, foot: float, width: float, height: float) -> np.ndarray:
    """Outline (n, 2) of a window or door standing at `foot`, centred on `x`."""
    half = width / 2
    low = np.array([[x - half, foot], [x + half, foot]])
    spring = foot - max(height - half, height * 0.45)
    rise = foot - height
    if form in ("arch", "pair"):
        return np.concatenate([low[::-1], _arc(x, spring, half, spring - rise, 180, 360)])
    if form == "pointed":
        side = [[x - half, spring], [x - half * 0.7, (spring + rise) / 2], [x, rise]]
        other = [[x + half * 0.7, (spring + rise) / 2], [x + half, spring]]
        return np.concatenate([low[::-1], side, other])
    if form == "horseshoe":
        bulge = _arc(x, spring, half * 1.25, spring - rise, 150, 390)
        return np.concatenate([low[::-1], bulge])
    if form == "round":
        radius = min(half, height / 2) * 1.05
        return _arc(x, foot - height / 2, radius, radius, 0, 360)
    return np.array([*low[::-1], [x - half, rise], [x + half, rise]])[[0, 2, 3, 1]]


def clad(c: Canvas) -> None:
    """Cover the wall with the look's material: brick, stone, stripes, timber, tiles, mud."""
    look, h, w = c.look, c.h, c.w
    kind, rng, unit = look.material, c.rng, c.scale * look.grain
    joint = look.wall * 0.8
    if kind in ("brick", "ashlar", "blocks"):
        course = max(3, round({"brick": 0.5, "ashlar": 1.0, "blocks": 2.0}[kind] * unit))
        for row, y in enumerate(range(0, h, course)):
            for x in range(-(row % 2) * course, w, course * 2):
                tone = look.wall * rng.uniform(0.86, 1.12)
                c.day[y : y + course, max(x, 0) : max(x + course * 2, 0)] = tone
            c.day[y : y + 1] = joint
    elif kind == "striped":
        for y in range(0, h, max(4, round(1.6 * unit))):
            c.day[y : y + max(2, round(0.8 * unit))] = look.second * 0.92
    elif kind == "timber":
        beam = np.float32([74, 50, 36]) * rng.uniform(0.8, 1.3)
        step = max(8, round(look.bay * c.scale))
        floor = max(8, round(look.storey * c.scale))
        thick = max(1, round(0.3 * unit))
        for x in range(0, w + 1, step):
            c.day[:, max(x - thick, 0) : x + thick] = beam
        for y in range(h, 0, -floor):
            c.day[max(y - thick, 0) : y + thick] = beam
            for x in range(0, w, step):
                c.line(x, y, x + step, y - floor, beam)
    elif kind == "tiles":
        step = max(5, round(1.3 * unit))
        for y in range(0, h, step):
            for x in range(0, w, step):
                paint = (look.accent, look.trim, look.second)[(x // step * 2 + y // step) % 3]
                c.disc(x + step / 2, y + step / 2, step * 0.28, paint)
    elif kind == "mud":
        for y in range(round(c.scale * 2), h, max(6, round(c.scale * 3))):
            for x in range(round(c.scale), w, max(5, round(c.scale * 2))):
                c.rectangle(x, y, x + 2, y + 2, look.wall * 0.5)
    elif kind == "carved":
        step = max(4, round(unit))
        for y in range(0, h, step):
            tone = look.wall * (1.12 if y // step % 2 else 0.82)
            c.day[y : y + step // 2] = tone
            for x in range(0, w, step):
                c.disc(x + step / 2, y + step / 2, step * 0.25, look.wall * rng.uniform(0.7, 1.2))
    elif kind == "glass":
        c.day[:] = look.wall * 0.75 + look.glass * 0.25


SHINE = 255  # lit at night
INK = np.float32([20, 20, 20])


@dataclass(frozen=True)
class _Frame:
    """A place on a canvas; positions and sizes are in units of `radius`."""

    canvas: Canvas
    x: float
    y: float
    radius: float

    def disc(self, x: float, y: float, size: float, paint: np.ndarray, shine: int = -1) -> None:
        r = self.radius
        self.canvas.disc(self.x + x * r, self.y + y * r, size * r, paint, shine)

    def polygon(self, points: np.ndarray, paint: np.ndarray, shine: int = -1) -> None:
        self.canvas.polygon(np.asarray(points) * self.radius + (self.x, self.y), paint, shine)

    def bar(
        self, x0: float, y0: float, x1: float, y1: float, paint: np.ndarray, shine: int = -1
    ) -> None:
        self.polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), paint, shine)

    def line(self, x: float, y: float, paint: np.ndarray) -> None:
        r = self.radius
        self.canvas.line(self.x, self.y, self.x + x * r, self.y + y * r, paint)


def _ring(count: int, start: float = 0.0) -> np.ndarray:
    angles = start + np.arange(count) * 2 * np.pi / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rose(f: _Frame) -> None:
    look = f.canvas.look
    f.disc(0, 0, 1.12, look.trim)
    f.disc(0, 0, 1, look.glass, SHINE)
    for x, y in _ring(8):
        f.line(x, y, look.trim)
    f.disc(0, 0, 0.3, look.accent, SHINE)


def _clock(f: _Frame) -> None:
    f.disc(0, 0, 1.12, f.canvas.look.trim)
    f.disc(0, 0, 1, np.float32([245, 240, 225]), SHINE)
    f.line(0, -0.8, INK)
    f.line(0.6, 0.2, INK)


def _sun(f: _Frame) -> None:
    look = f.canvas.look
    f.disc(0, 0, 1.12, look.trim)
    f.disc(0, 0, 0.55, look.accent)
    for tip in _ring(8):
        across = np.array([-tip[1], tip[0]]) * 0.16
        f.polygon(np.stack([across, tip, -across]), look.accent)


def _star(f: _Frame) -> None:
    look = f.canvas.look
    f.disc(0, 0, 1.12, look.trim)
    reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)[:, None]
    f.polygon(_ring(10, -np.pi / 2) * reach, look.accent)


def _shield(f: _Frame) -> None:
    look = f.canvas.look
    f.disc(0, 0, 1.12, look.trim)
    f.disc(0, 0, 0.9, look.accent)
    f.polygon(_ring(4), look.trim)
    f.disc(0, 0, 0.4, look.accent)


def _cross(f: _Frame) -> None:
    f.bar(-0.2, -1, 0.2, 1, f.canvas.look.accent, SHINE)
    f.bar(-0.7, -0.5, 0.7, -0.15, f.canvas.look.accent, SHINE)


def _mosaic(f: _Frame) -> None:
    look = f.canvas.look
    cells = np.random.default_rng(look.seed).integers(0, 4, (4, 5))
    paints = (look.accent, look.trim, look.second, look.glass)
    for (row, column), cell in np.ndenumerate(cells):
        x, y = (column - 2.5) * 0.6, (row - 2) * 0.5
        f.bar(x, y, x + 0.6, y + 0.5, paints[cell])


def _banners(f: _Frame) -> None:
    for x in (-0.9, 0.9):
        f.bar(x - 0.3, -1, x + 0.3, 1.3, f.canvas.look.accent)
        f.disc(x, 0, 0.2, f.canvas.look.trim)


def _letters(f: _Frame) -> None:
    look = f.canvas.look
    f.bar(-2, -0.5, 2, 0.5, look.accent)
    marks = np.random.default_rng(look.seed).random((9, 3)) < 0.6
    for column, row in np.argwhere(marks):
        x, y = (column - 4.5) * 0.42, (row - 1.4) * 0.28
        f.bar(x, y, x + 0.26, y + 0.2, look.trim, SHINE)


def _grid(f: _Frame) -> None:
    look = f.canvas.look
    for number in range(9):
        x, y = (number % 3 - 1) * 0.8, (number // 3 - 1) * 0.8
        f.disc(x, y, 0.3, look.trim if number % 2 else look.accent)


_MOTIFS: dict[str, Callable[[_Frame], None]] = {
    "rose": _rose,
    "clock": _clock,
    "sun": _sun,
    "star": _star,
    "shield": _shield,
    "cross": _cross,
    "mosaic": _mosaic,
    "banners": _banners,
    "letters": _letters,
    "grid": _grid,
}


def draw_motif(canvas: Canvas, x: float, y: float, radius: float) -> None:
    """Draw the motif of the canvas's look centred on pixel (x, y); some looks have none."""
    if canvas.look.motif in _MOTIFS:
        _MOTIFS[canvas.look.motif](_Frame(canvas, x, y, radius))


def _window(c: Canvas, x: float, foot: float, bay: float, storey: float) -> None:
    look, form = c.look, c.look.window
    width, height = bay * 0.46, storey * 0.62
    if form in ("ribbon", "curtain"):
        width, height = bay * (1.0 if form == "ribbon" else 0.88), storey * 0.55
    if form == "curtain":
        height = storey * 0.86
    if form == "slit":
        width = bay * 0.16
    shine = 255 if c.rng.random() < 0.6 else 0
    edge = max(1.0, 0.16 * c.scale)
    if form == "shutter":
        c.rectangle(x - width, foot - height, x + width, foot, look.accent)
    glass = look.glass * c.rng.uniform(0.8, 1.25)
    if form == "screen":
        glass = np.float32([236, 230, 214])
        width = bay * 0.7
    if form == "pair":
        for side in (-0.27, 0.27):
            frame = opening(form, x + side * width, foot + edge, width * 0.5, height + 2 * edge)
            c.polygon(frame, look.trim)
            c.polygon(opening(form, x + side * width, foot, width * 0.36, height), glass, shine)
        return
    c.polygon(opening(form, x, foot + edge, width + 2 * edge, height + 2 * edge), look.trim)
    c.polygon(opening(form, x, foot, width, height), glass, shine)
    if form in ("rect", "arch", "curtain", "shutter") and width > 5:
        c.line(x, foot, x, foot - height, look.trim)
    if form in ("lattice", "screen"):
        for share in (0.25, 0.5, 0.75):
            c.line(
                x - width / 2,
                foot - height * share,
                x + width / 2,
                foot - height * share,
                look.trim,
            )
            c.line(
                x + width * (share - 0.5), foot, x + width * (share - 0.5), foot - height, look.trim
            )


def frieze(c: Canvas, y: float, height: float) -> None:
    """Draw the look's ornamental band across the wall."""
    look = c.look
    if look.frieze == "none":
        return
    c.rectangle(0, y, c.w, y + height, look.trim)
    step = max(4.0, height * 1.1)
    for x in np.arange(0, c.w, step):
        if look.frieze == "zigzag":
            c.polygon(
                np.array([[x, y + height], [x + step / 2, y], [x + step, y + height]]), look.accent
            )
        elif look.frieze == "dots":
            c.disc(x + step / 2, y + height / 2, height * 0.32, look.accent)
        elif look.frieze == "checks":
            c.rectangle(x, y, x + step / 2, y + height / 2, look.accent)
            c.rectangle(x + step / 2, y + height / 2, x + step, y + height, look.accent)
        elif look.frieze == "stripes":
            c.rectangle(x, y, x + step / 2, y + height, look.accent)
        else:
            c.polygon(
                opening("arch", x + step / 2, y + height, step * 0.6, height * 0.8), look.accent
            )


def _ground_floor(c: Canvas, bays: int, bay: float, storey: float) -> None:
    look, dark = c.look, c.look.glass * 0.6
    if look.base == "awnings":
        c.rectangle(0, c.h - storey * 0.6, c.w, c.h, dark, 160)
    elif look.base == "columns":
        c.rectangle(0, c.h - storey * 0.9, c.w, c.h, dark)
    for i in range(bays):
        x = (i + 0.5) * bay
        if look.base == "arcade":
            c.polygon(opening("arch", x, c.h, bay * 0.78, storey * 0.95), look.trim)
            c.polygon(opening("arch", x, c.h, bay * 0.62, storey * 0.86), dark, 120)
        elif look.base == "columns":
            c.rectangle(x - bay * 0.14, c.h - storey * 0.9, x + bay * 0.14, c.h, look.trim)
        elif look.base == "awnings":
            paint = look.accent if i % 2 else look.trim
            top = c.h - storey * 0.62
            edge = top + storey * 0.25
            upper, lower = [[x - bay * 0.4, top], [x + bay * 0.4, top]], [x + bay * 0.5, edge]
            c.polygon(np.array([*upper, lower, [x - bay * 0.5, edge]]), paint)
        else:
            _window(c, x, c.h - storey * 0.12, bay, storey)


def wall_texture(look: Look, width: float, height: float, role: str = "side") -> Skin:
    """Draw a wall of `width` × `height` metres: front (portal and motif), side, shaft or plain."""
    c = Canvas(look, width, height, {"front": 1, "side": 2, "shaft": 3, "plain": 4}[role])
    clad(c)
    if role == "plain":
        return c.skin()
    bays = max(1, min(12, round(width / look.bay)))
    floors = max(1, min(14, round(height / look.storey)))
    bay, storey = c.w / bays, c.h / floors
    band = storey * 0.2
    for floor in range(floors):
        foot = c.h - floor * storey
        if floor == 0 and role != "shaft" and floors > 1:
            _ground_floor(c, bays, bay, storey)
        else:
            for i in range(bays):
                _window(c, (i + 0.5) * bay, foot - storey * 0.16, bay, storey)
        if look.has_courses and floor:
            c.rectangle(0, foot - band * 0.25, c.w, foot + band * 0.35, look.trim)
    if look.has_pilasters:
        for i in range(bays + 1):
            c.rectangle(i * bay - bay * 0.09, 0, i * bay + bay * 0.09, c.h, look.second)
    frieze(c, 0, max(3.0, band * 1.2))
    if role == "front":
        door = min(c.h * 0.42, c.w * 0.6, 9 * c.scale)
        form = look.window if look.window in ("arch", "pointed", "horseshoe") else "arch"
        c.polygon(opening(form, c.w / 2, c.h, door * 0.82, door * 1.12), look.trim)
        c.polygon(opening(form, c.w / 2, c.h, door * 0.6, door), look.accent * 0.75)
        c.line(c.w / 2, c.h, c.w / 2, c.h - door * 0.9, look.trim * 0.5)
        radius = min(c.w * 0.2, c.h * 0.15)
        draw_motif(c, c.w / 2, max(radius * 1.3, c.h - door * 1.12 - radius * 1.6), radius)
    return c.skin()


def roof_texture(look: Look, width: float, height: float) -> Skin:
    """Draw a slope of tiles, `width` × `height` metres."""
    c = Canvas(look, width, height, 5)
    c.day[:] = look.roof
    step = max(3, round(0.9 * c.scale))
    for row, y in enumerate(range(0, c.h, step)):
        c.day[y : y + 1] = look.roof * 0.72
        c.day[y + 1 : y + step] *= 1.0 + 0.06 * (row % 3 - 1)
    c.day[:, :: step * 2] *= 0.86
    return c.skin()


def pierced_texture(
    look: Look, width: float, height: float, form: str, *, repeat: int = 1, fill: float = 0.6
) -> Skin:
    """Draw a sheet with holes (alpha): arch, crown (battlements), truss or rail."""
    c = Canvas(look, width, height, 6)
    clad(c)
    hole = np.full((c.h, c.w), 255, np.uint8)
    step = c.w / repeat
    for i in range(repeat):
        x = (i + 0.5) * step
        if form == "arch":
            frame = opening("arch", x, c.h, step * fill * 1.16, c.h * 0.84)
            c.polygon(frame, look.trim)
            outline = opening("arch", x, c.h, step * fill, c.h * 0.76)
            cv2.fillPoly(hole, [np.round(outline).astype(np.int32)], 0)
        elif form == "crown":
            left, right = round(x + step * 0.02), round(x + step * 0.5)
            hole[: round(c.h * 0.6), left:right] = 0
    if form in ("truss", "rail"):
        hole[:] = 0
        thick = max(1, round(c.h * 0.04 if form == "rail" else c.scale * 0.5))
        for i in range(repeat):
            left, right = round(i * step), round((i + 1) * step) - 1
            lines = [(left, 0, right, c.h - 1), (left, c.h - 1, right, 0), (left, 0, left, c.h - 1)]
            for x0, y0, x1, y1 in lines if form == "truss" else lines[2:]:
                cv2.line(hole, (x0, y0), (x1, y1), 255, thick)
        hole[:thick] = hole[-thick:] = 255
        hole[:, -thick:] = 255
    skin = c.skin()
    day = np.dstack([skin.day[0], hole])
    return textured(day, np.dstack([skin.night[0], hole]))
