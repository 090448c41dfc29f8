"""Facade textures: windows, ground floors, friezes and motifs; roofs and pierced walls.

`wall` draws one face of a landmark at the size it has; the landmark's `Look` decides how.
"""

import cv2
import numpy as np

from lib.world.canvas import Canvas, clad, opening
from lib.world.looks import Look
from lib.world.motifs import draw_motif
from lib.world.solids import Skin, textured


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


def wall(look: Look, width: float, height: float, role: str = "side") -> Skin:
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


def roof(look: Look, width: float, height: float) -> Skin:
    """Draw a slope of tiles, `width` × `height` metres."""
    c = Canvas(look, width, height, 5)
    c.day[:] = look.roof
    step = max(3, round(0.9 * c.scale))
    for row, y in enumerate(range(0, c.h, step)):
        c.day[y : y + 1] = look.roof * 0.72
        c.day[y + 1 : y + step] *= 1.0 + 0.06 * (row % 3 - 1)
    c.day[:, :: step * 2] *= 0.86
    return c.skin()


def pierced(
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
