"""Wall and roof textures: masonry, windows, doors, ornaments, by day and by night.

A landmark's `Style` fixes its colours, materials and patterns. Proportions and patterns tell
landmarks apart, because the colours are those of a whole country. `wall_texture` draws one wall at
its real size, about `SCALE` pixels a metre, onto a `Canvas`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from lib.miniworld.countries import Country
from lib.miniworld.renderer import Texture, textured

SCALE = 6.0  # pixels per metre
MAX_SIDE = 208  # pixels
LAMP_COLOUR = (255, 205, 110)
LIT = 255  # emission of a lamp or a lit window


@dataclass(frozen=True)
class Style:
    """One landmark's colours (RGB float arrays), materials and patterns."""

    wall: np.ndarray
    second: np.ndarray
    trim: np.ndarray
    accent: np.ndarray
    roof: np.ndarray
    glass: np.ndarray
    material: str
    window: str
    ground_floor: str
    ornament: str
    frieze: str
    bay: float  # metres
    storey: float
    grain: float  # relative size of bricks, stripes and tiles
    has_courses: bool
    has_pilasters: bool
    seed: int


def hex_colour(word: str) -> np.ndarray:
    """Turn an RGB hex word into a float32 colour (3,).

    >>> hex_colour("ff8000").tolist()
    [255.0, 128.0, 0.0]
    """
    return np.array([int(word[i : i + 2], 16) for i in (0, 2, 4)], np.float32)


def draw_colour(words: str, rng: np.random.Generator, spread: float = 10) -> np.ndarray:
    """Choose one of the hex words and add Gaussian noise."""
    return np.clip(hex_colour(str(rng.choice(words.split()))) + rng.normal(0, spread, 3), 10, 250)


def draw_style(country: Country, rng: np.random.Generator) -> Style:
    """Draw a landmark's style from its country's palette."""

    def pick(words: str) -> str:
        return str(rng.choice(words.split()))

    def tone(words: str, spread: float) -> np.ndarray:
        tone = hex_colour(pick(words)) + rng.normal(0, spread, 3)
        return np.clip(tone, 12, 250).astype(np.float32)

    wall = tone(country.walls, 26)
    return Style(
        wall=wall,
        second=0.45 * wall + 0.55 * tone(country.walls if rng.random() < 0.5 else country.trims, 6),
        trim=tone(country.trims, 12),
        accent=tone(country.accents, 34),
        roof=tone(country.roofs, 28),
        glass=np.float32([50, 62, 74]) + rng.uniform(-14, 26),
        material=pick(country.materials),
        window=pick(country.windows),
        ground_floor=pick("arcade portal columns awnings plain portal"),
        ornament=pick("rose clock cross star sun mosaic banners shield letters grid none"),
        frieze=pick("zigzag dots checks stripes arches none"),
        bay=float(rng.uniform(4.0, 9.0)),
        storey=float(rng.uniform(4.4, 8.5)),
        grain=float(rng.uniform(1.0, 2.4)),
        has_courses=bool(rng.random() < 0.55),
        has_pilasters=bool(rng.random() < 0.4),
        seed=int(rng.integers(2**31)),
    )


class Canvas:
    """The image of a wall by day and the mask of what emits light at night.

    Positions are pixels, x to the right and y down. `emission` of a shape is 0–255; -1 leaves the
    mask unchanged. `stream` separates the random numbers of a landmark's textures.
    """

    def __init__(self, style: Style, width: float, height: float, stream: int) -> None:
        self.style = style
        self.rng = np.random.default_rng((style.seed, stream))
        self.scale = min(SCALE, MAX_SIDE / width, MAX_SIDE / height)
        self.w = max(8, round(width * self.scale))
        self.h = max(8, round(height * self.scale))
        self.day = np.empty((self.h, self.w, 3), np.float32)
        self.day[:] = style.wall
        self.emission = np.zeros((self.h, self.w), np.uint8)

    def polygon(self, points: np.ndarray | list, paint: np.ndarray, emission: int = -1) -> None:
        """Fill the polygon through `points` (n, 2)."""
        fixed = np.round(np.asarray(points, float) * 16).astype(np.int32)
        cv2.fillPoly(self.day, [fixed], paint.tolist(), cv2.LINE_AA, 4)
        if emission >= 0:
            cv2.fillPoly(self.emission, [fixed], emission, cv2.LINE_AA, 4)

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, paint: np.ndarray, emission: int = -1
    ) -> None:
        """Fill a rectangle."""
        self.polygon([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], paint, emission)

    def disc(
        self, x: float, y: float, radius: float, paint: np.ndarray, emission: int = -1
    ) -> None:
        """Fill a circle."""
        self.polygon(_arc(x, y, radius, radius, 0, 360), paint, emission)

    def line(self, x0: float, y0: float, x1: float, y1: float, paint: np.ndarray) -> None:
        """Draw a line one pixel wide."""
        ends = np.round(np.array([x0, y0, x1, y1]) * 16).astype(int).tolist()
        cv2.line(self.day, ends[:2], ends[2:], paint.tolist(), 1, cv2.LINE_AA, 4)

    def texture(self) -> Texture:
        """Add dirt and grain, and light the night from below and by what emits light."""
        dirt = np.linspace(1.06, 0.88, self.h, dtype=np.float32)[:, None, None]
        grain = self.rng.normal(0, 4, (self.h, self.w, 1)).astype(np.float32)
        day = np.clip(self.day * dirt + grain, 0, 255)
        flood = np.linspace(0.30, 0.85, self.h, dtype=np.float32)[:, None, None]
        night = day * flood * np.float32([1.0, 0.9, 0.76])
        share = self.emission[..., None].astype(np.float32) / 255
        night = night * (1 - share) + share * np.float32(LAMP_COLOUR)
        return textured(day.astype(np.uint8), np.clip(night, 0, 255).astype(np.uint8))


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> np.ndarray:
    angles = np.radians(np.linspace(start, end, 17))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def opening(form: str, x: float, foot: float, width: float, height: float) -> np.ndarray:
    """Return the outline (n, 2) of a window or door that stands at `foot`, centred on `x`."""
    half = width / 2
    low = np.array([[x - half, foot], [x + half, foot]])
    spring = foot - max(height - half, height * 0.45)
    rise = foot - height
    if form in ("arch", "pair"):
        return np.concatenate([low[::-1], _arc(x, spring, half, spring - rise, 180, 360)])
    if form == "pointed":
        left = [[x - half, spring], [x - half * 0.7, (spring + rise) / 2], [x, rise]]
        right = [[x + half * 0.7, (spring + rise) / 2], [x + half, spring]]
        return np.concatenate([low[::-1], left, right])
    if form == "horseshoe":
        return np.concatenate([low[::-1], _arc(x, spring, half * 1.25, spring - rise, 150, 390)])
    if form == "round":
        radius = min(half, height / 2) * 1.05
        return _arc(x, foot - height / 2, radius, radius, 0, 360)
    return np.array([*low[::-1], [x - half, rise], [x + half, rise]])[[0, 2, 3, 1]]


def apply_material(c: Canvas) -> None:
    """Cover the wall with the style's material: brick, stone, timber, tiles, mud or glass."""
    style, h, w = c.style, c.h, c.w
    kind, rng, unit = style.material, c.rng, c.scale * style.grain
    if kind in ("brick", "ashlar", "blocks"):
        course = max(3, round({"brick": 0.5, "ashlar": 1.0, "blocks": 2.0}[kind] * unit))
        for row, y in enumerate(range(0, h, course)):
            for x in range(-(row % 2) * course, w, course * 2):
                tone = style.wall * rng.uniform(0.86, 1.12)
                c.day[y : y + course, max(x, 0) : max(x + course * 2, 0)] = tone
            c.day[y : y + 1] = style.wall * 0.8
    elif kind == "striped":
        for y in range(0, h, max(4, round(1.6 * unit))):
            c.day[y : y + max(2, round(0.8 * unit))] = style.second * 0.92
    elif kind == "timber":
        beam = np.float32([74, 50, 36]) * rng.uniform(0.8, 1.3)
        step = max(8, round(style.bay * c.scale))
        floor = max(8, round(style.storey * c.scale))
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
                paint = (style.accent, style.trim, style.second)[(x // step * 2 + y // step) % 3]
                c.disc(x + step / 2, y + step / 2, step * 0.28, paint)
    elif kind == "mud":
        for y in range(round(c.scale * 2), h, max(6, round(c.scale * 3))):
            for x in range(round(c.scale), w, max(5, round(c.scale * 2))):
                c.rectangle(x, y, x + 2, y + 2, style.wall * 0.5)
    elif kind == "carved":
        step = max(4, round(unit))
        for y in range(0, h, step):
            c.day[y : y + step // 2] = style.wall * (1.12 if y // step % 2 else 0.82)
            for x in range(0, w, step):
                c.disc(x + step / 2, y + step / 2, step * 0.25, style.wall * rng.uniform(0.7, 1.2))
    elif kind == "glass":
        c.day[:] = style.wall * 0.75 + style.glass * 0.25


def _window(c: Canvas, x: float, foot: float, bay: float, storey: float) -> None:
    style, form = c.style, c.style.window
    width = bay * {"ribbon": 1.0, "curtain": 0.88, "slit": 0.16}.get(form, 0.46)
    height = storey * {"ribbon": 0.55, "curtain": 0.86}.get(form, 0.62)
    emission = LIT if c.rng.random() < 0.6 else 0
    edge = max(1.0, 0.16 * c.scale)
    if form == "shutter":
        c.rectangle(x - width, foot - height, x + width, foot, style.accent)
    glass = style.glass * c.rng.uniform(0.8, 1.25)
    if form == "screen":
        glass = np.float32([236, 230, 214])
        width = bay * 0.7
    if form == "pair":
        for at in (x - 0.27 * width, x + 0.27 * width):
            c.polygon(opening(form, at, foot + edge, width * 0.5, height + 2 * edge), style.trim)
            c.polygon(opening(form, at, foot, width * 0.36, height), glass, emission)
        return
    c.polygon(opening(form, x, foot + edge, width + 2 * edge, height + 2 * edge), style.trim)
    c.polygon(opening(form, x, foot, width, height), glass, emission)
    if form in ("rect", "arch", "curtain", "shutter") and width > 5:
        c.line(x, foot, x, foot - height, style.trim)
    if form in ("lattice", "screen"):
        for share in (0.25, 0.5, 0.75):
            row, column = foot - height * share, x + width * (share - 0.5)
            c.line(x - width / 2, row, x + width / 2, row, style.trim)
            c.line(column, foot, column, foot - height, style.trim)


def draw_frieze(c: Canvas, y: float, height: float) -> None:
    """Draw the style's ornamental band across the wall."""
    kind, accent = c.style.frieze, c.style.accent
    if kind == "none":
        return
    low = y + height
    c.rectangle(0, y, c.w, low, c.style.trim)
    step = max(4.0, height * 1.1)
    for x in np.arange(0, c.w, step):
        if kind == "zigzag":
            c.polygon([[x, low], [x + step / 2, y], [x + step, low]], accent)
        elif kind == "dots":
            c.disc(x + step / 2, y + height / 2, height * 0.32, accent)
        elif kind == "checks":
            c.rectangle(x, y, x + step / 2, y + height / 2, accent)
            c.rectangle(x + step / 2, y + height / 2, x + step, low, accent)
        elif kind == "stripes":
            c.rectangle(x, y, x + step / 2, low, accent)
        else:
            c.polygon(opening("arch", x + step / 2, low, step * 0.6, height * 0.8), accent)


def _ground_floor(c: Canvas, bays: int, bay: float, storey: float) -> None:
    style, kind, dark = c.style, c.style.ground_floor, c.style.glass * 0.6
    if kind == "awnings":
        c.rectangle(0, c.h - storey * 0.6, c.w, c.h, dark, 160)
    elif kind == "columns":
        c.rectangle(0, c.h - storey * 0.9, c.w, c.h, dark)
    for i in range(bays):
        x = (i + 0.5) * bay
        if kind == "arcade":
            c.polygon(opening("arch", x, c.h, bay * 0.78, storey * 0.95), style.trim)
            c.polygon(opening("arch", x, c.h, bay * 0.62, storey * 0.86), dark, 120)
        elif kind == "columns":
            c.rectangle(x - bay * 0.14, c.h - storey * 0.9, x + bay * 0.14, c.h, style.trim)
        elif kind == "awnings":
            top = c.h - storey * 0.62
            low = top + storey * 0.25
            corners = [[x - bay * 0.4, top], [x + bay * 0.4, top]]
            corners += [[x + bay * 0.5, low], [x - bay * 0.5, low]]
            c.polygon(corners, style.accent if i % 2 else style.trim)
        else:
            _window(c, x, c.h - storey * 0.12, bay, storey)


def wall_texture(style: Style, width: float, height: float, role: str = "side") -> Texture:
    """Draw a wall of `width` × `height` metres.

    `role` is front (with portal and ornament), side, shaft (windows from the ground) or plain.
    """
    c = Canvas(style, width, height, {"front": 1, "side": 2, "shaft": 3, "plain": 4}[role])
    apply_material(c)
    if role == "plain":
        return c.texture()
    bays = max(1, min(12, round(width / style.bay)))
    floors = max(1, min(14, round(height / style.storey)))
    bay, storey = c.w / bays, c.h / floors
    band = storey * 0.2
    for floor in range(floors):
        foot = c.h - floor * storey
        if floor == 0 and role != "shaft" and floors > 1:
            _ground_floor(c, bays, bay, storey)
        else:
            for i in range(bays):
                _window(c, (i + 0.5) * bay, foot - storey * 0.16, bay, storey)
        if style.has_courses and floor:
            c.rectangle(0, foot - band * 0.25, c.w, foot + band * 0.35, style.trim)
    if style.has_pilasters:
        for i in range(bays + 1):
            c.rectangle(i * bay - bay * 0.09, 0, i * bay + bay * 0.09, c.h, style.second)
    draw_frieze(c, 0, max(3.0, band * 1.2))
    if role == "front":
        door = min(c.h * 0.42, c.w * 0.6, 9 * c.scale)
        form = style.window if style.window in ("arch", "pointed", "horseshoe") else "arch"
        c.polygon(opening(form, c.w / 2, c.h, door * 0.82, door * 1.12), style.trim)
        c.polygon(opening(form, c.w / 2, c.h, door * 0.6, door), style.accent * 0.75)
        c.line(c.w / 2, c.h, c.w / 2, c.h - door * 0.9, style.trim * 0.5)
        radius = min(c.w * 0.2, c.h * 0.15)
        if style.ornament in _ORNAMENTS:
            y = max(radius * 1.3, c.h - door * 1.12 - radius * 1.6)
            _ORNAMENTS[style.ornament](_OrnamentFrame(c, c.w / 2, y, radius))
    return c.texture()


def roof_texture(style: Style, width: float, height: float) -> Texture:
    """Draw a slope of tiles, `width` × `height` metres."""
    c = Canvas(style, width, height, 5)
    c.day[:] = style.roof
    step = max(3, round(0.9 * c.scale))
    for row, y in enumerate(range(0, c.h, step)):
        c.day[y : y + 1] = style.roof * 0.72
        c.day[y + 1 : y + step] *= 1.0 + 0.06 * (row % 3 - 1)
    c.day[:, :: step * 2] *= 0.86
    return c.texture()


def openwork_texture(
    style: Style, width: float, height: float, form: str, *, repeat: int = 1, fill: float = 0.6
) -> Texture:
    """Draw a wall with holes (alpha 0): arches, a crown (battlements) or a truss."""
    c = Canvas(style, width, height, 6)
    apply_material(c)
    alpha = np.full((c.h, c.w), 0 if form == "truss" else 255, np.uint8)
    step, thick = c.w / repeat, max(1, round(c.scale * 0.5))
    for i in range(repeat):
        x = (i + 0.5) * step
        if form == "arch":
            c.polygon(opening("arch", x, c.h, step * fill * 1.16, c.h * 0.84), style.trim)
            hole = opening("arch", x, c.h, step * fill, c.h * 0.76)
            cv2.fillPoly(alpha, [np.round(hole).astype(np.int32)], 0)
        elif form == "crown":
            alpha[: round(c.h * 0.6), round(x + step * 0.02) : round(x + step * 0.5)] = 0
        else:
            left, right, low = round(i * step), round((i + 1) * step) - 1, c.h - 1
            for ends in (
                ((left, 0), (right, low)),
                ((left, low), (right, 0)),
                ((left, 0), (left, low)),
            ):
                cv2.line(alpha, *ends, 255, thick)
    if form == "truss":
        alpha[:thick] = alpha[-thick:] = 255
        alpha[:, -thick:] = 255
    wall = c.texture()
    return textured(np.dstack([wall.day[0], alpha]), np.dstack([wall.night[0], alpha]))


# Ornaments above the portal. Each has its own shape, because colours alone do not tell neighbours
# apart.


@dataclass(frozen=True)
class _OrnamentFrame:
    """Coordinates on a canvas with the origin at (x, y) and `radius` as the unit; y points down."""

    canvas: Canvas
    x: float
    y: float
    radius: float

    def disc(self, x: float, y: float, size: float, paint: np.ndarray, emission: int = -1) -> None:
        r = self.radius
        self.canvas.disc(self.x + x * r, self.y + y * r, size * r, paint, emission)

    def polygon(self, points: np.ndarray | list, paint: np.ndarray, emission: int = -1) -> None:
        self.canvas.polygon(np.asarray(points) * self.radius + (self.x, self.y), paint, emission)

    def bar(
        self, x0: float, y0: float, x1: float, y1: float, paint: np.ndarray, emission: int = -1
    ) -> None:
        self.polygon([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], paint, emission)

    def line(self, x: float, y: float, paint: np.ndarray) -> None:
        r = self.radius
        self.canvas.line(self.x, self.y, self.x + x * r, self.y + y * r, paint)


def _ring(count: int, start: float = 0.0) -> np.ndarray:
    angles = start + np.arange(count) * 2 * np.pi / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rose(f: _OrnamentFrame) -> None:
    style = f.canvas.style
    f.disc(0, 0, 1.12, style.trim)
    f.disc(0, 0, 1, style.glass, LIT)
    for x, y in _ring(8):
        f.line(x, y, style.trim)
    f.disc(0, 0, 0.3, style.accent, LIT)


def _clock(f: _OrnamentFrame) -> None:
    f.disc(0, 0, 1.12, f.canvas.style.trim)
    f.disc(0, 0, 1, np.float32([245, 240, 225]), LIT)
    for x, y in ((0, -0.8), (0.6, 0.2)):
        f.line(x, y, np.float32([20, 20, 20]))


def _sun(f: _OrnamentFrame) -> None:
    style = f.canvas.style
    f.disc(0, 0, 1.12, style.trim)
    f.disc(0, 0, 0.55, style.accent)
    for tip in _ring(8):
        across = np.array([-tip[1], tip[0]]) * 0.16
        f.polygon(np.stack([across, tip, -across]), style.accent)


def _star(f: _OrnamentFrame) -> None:
    f.disc(0, 0, 1.12, f.canvas.style.trim)
    reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)[:, None]
    f.polygon(_ring(10, -np.pi / 2) * reach, f.canvas.style.accent)


def _shield(f: _OrnamentFrame) -> None:
    style = f.canvas.style
    f.disc(0, 0, 1.12, style.trim)
    f.disc(0, 0, 0.9, style.accent)
    f.polygon(_ring(4), style.trim)
    f.disc(0, 0, 0.4, style.accent)


def _cross(f: _OrnamentFrame) -> None:
    f.bar(-0.2, -1, 0.2, 1, f.canvas.style.accent, LIT)
    f.bar(-0.7, -0.5, 0.7, -0.15, f.canvas.style.accent, LIT)


def _mosaic(f: _OrnamentFrame) -> None:
    style = f.canvas.style
    cells = np.random.default_rng(style.seed).integers(0, 4, (4, 5))
    paints = (style.accent, style.trim, style.second, style.glass)
    for (row, column), cell in np.ndenumerate(cells):
        x, y = (column - 2.5) * 0.6, (row - 2) * 0.5
        f.bar(x, y, x + 0.6, y + 0.5, paints[cell])


def _banners(f: _OrnamentFrame) -> None:
    for x in (-0.9, 0.9):
        f.bar(x - 0.3, -1, x + 0.3, 1.3, f.canvas.style.accent)
        f.disc(x, 0, 0.2, f.canvas.style.trim)


def _letters(f: _OrnamentFrame) -> None:
    style = f.canvas.style
    f.bar(-2, -0.5, 2, 0.5, style.accent)
    marks = np.random.default_rng(style.seed).random((9, 3)) < 0.6
    for column, row in np.argwhere(marks):
        x, y = (column - 4.5) * 0.42, (row - 1.4) * 0.28
        f.bar(x, y, x + 0.26, y + 0.2, style.trim, LIT)


def _grid(f: _OrnamentFrame) -> None:
    style = f.canvas.style
    for number in range(9):
        x, y = (number % 3 - 1) * 0.8, (number // 3 - 1) * 0.8
        f.disc(x, y, 0.3, style.trim if number % 2 else style.accent)


_ORNAMENTS: dict[str, Callable[[_OrnamentFrame], None]] = {
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
