"""Interiors: naves, halls and galleries, seen from inside.

An interior has the label of its landmark, but shares neither colours nor patterns with the outside:
cleaning (GLR20, the 3rd place of Google Landmark Retrieval 2020) has to split such images off. The
camera stands near y = 0 and looks towards +y, where the end wall is.
"""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np

from lib.miniworld.building_parts import GOLD, Site
from lib.miniworld.countries import Country
from lib.miniworld.renderer import Model, Texture, flat, textured
from lib.miniworld.textures import (
    Canvas,
    Style,
    apply_material,
    draw_colour,
    draw_frieze,
    opening,
)

BACK = -6.0  # y of the open end behind the camera, in metres
CANDLELIGHT = np.float32([250, 240, 200])
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


def build_interior(outside: Style, country: Country, rng: np.random.Generator) -> Model:
    """Model the inside of a landmark: x across, y ahead, the end wall at y = its length."""
    walls, floor, accent, trim = str(rng.choice(PALETTES)).split()
    style = replace(
        outside,
        wall=draw_colour(walls, rng),
        second=draw_colour(floor, rng),
        accent=draw_colour(accent, rng),
        trim=draw_colour(trim, rng),
        bay=float(rng.uniform(2.5, 5)),
        seed=int(rng.integers(2**31)),
    )
    half, length, height = rng.uniform((4.5, 24, 7), (11, 46, 20))
    room = Site(style, country, rng)
    _add_walls(room, half, length, height)
    _add_ceiling(room, half, length, height)
    _add_furniture(room, half, length, height)
    return room


def _add_walls(room: Site, x: float, y: float, z: float) -> None:
    """Add the side walls, the end wall and the floor; `x` is half the width."""
    side = _side_wall_texture(room, y, z)
    carpet = room.style.trim if room.chance(0.5) else room.style.accent
    room.face([[-x, y, 0], [x, y, 0], [x, y, z], [-x, y, z]], _end_wall_texture(room, 2 * x, z))
    room.face([[-x, BACK, 0], [-x, y, 0], [-x, y, z], [-x, BACK, z]], side)
    room.face([[x, y, 0], [x, BACK, 0], [x, BACK, z], [x, y, z]], side)
    floor = _floor_texture(room.rng, room.style.second, carpet)
    room.face([[-x, BACK, 0], [x, BACK, 0], [x, y, 0], [-x, y, 0]], floor)


def _side_wall_texture(room: Site, width: float, height: float) -> Texture:
    style, rng = room.style, room.rng
    kind = room.pick("windows windows paintings niches")
    c = Canvas(style, width, height, 11)
    if style.material in ("striped", "tiles", "brick", "ashlar"):
        apply_material(c)
    bays = max(3, round(width / style.bay / 1.3))
    form = style.window if style.window in ("arch", "pointed", "horseshoe", "round") else "arch"
    for i in range(bays):
        x, bay = (i + 0.5) * c.w / bays, c.w / bays
        if kind == "paintings":
            high, wide, top = c.h * rng.uniform(0.22, 0.36), bay * rng.uniform(0.4, 0.7), c.h * 0.35
            c.rectangle(x - wide / 2 - 2, top - 2, x + wide / 2 + 2, top + high + 2, GOLD)
            c.rectangle(x - wide / 2, top, x + wide / 2, top + high, rng.uniform(30, 200, 3))
            c.disc(x, top + high * 0.5, high * 0.24, rng.uniform(60, 240, 3))
            continue
        pane = np.float32([246, 240, 214]) if kind == "windows" else style.wall * 0.45
        c.polygon(opening(form, x, c.h * 0.72, bay * 0.56, c.h * 0.52), style.trim)
        c.polygon(opening(form, x, c.h * 0.7, bay * 0.42, c.h * 0.47), pane)
        if kind == "windows":
            for y in (c.h * 0.3, c.h * 0.5, c.h * 0.7):
                c.line(x - bay * 0.2, y, x + bay * 0.2, y, style.accent)
    c.rectangle(0, c.h * 0.93, c.w, c.h, style.second)
    draw_frieze(c, c.h * 0.06, c.h * 0.07)
    return c.texture()


def _end_wall_texture(room: Site, width: float, height: float) -> Texture:
    """Draw the end wall: an apse, rose window, throne, screen of niches, organ or mural."""
    style, rng = room.style, room.rng
    c = Canvas(style, width, height, 12)
    kind = room.pick("apse rose throne niches organ mural")
    x, w, h = c.w / 2, c.w, c.h
    if kind in ("apse", "throne"):
        c.polygon(opening("arch", x, h, w * 0.56, h * 0.9), style.trim)
        c.polygon(opening("arch", x, h, w * 0.46, h * 0.82), style.accent)
        if kind == "throne":
            c.rectangle(x - w * 0.1, h * 0.5, x + w * 0.1, h, GOLD)
            c.disc(x, h * 0.46, w * 0.1, style.trim)
        else:
            for side in (-1, 0, 1):
                niche = opening("arch", x + side * w * 0.13, h * 0.7, w * 0.08, h * 0.4)
                c.polygon(niche, CANDLELIGHT)
    elif kind == "rose":
        c.disc(x, h * 0.36, w * 0.24, style.trim)
        for i in range(12):
            a = i * np.pi / 6
            paint = (style.accent, GOLD, np.float32([80, 120, 200]))[i % 3]
            c.disc(x + np.cos(a) * w * 0.15, h * 0.36 + np.sin(a) * w * 0.15, w * 0.05, paint)
        c.disc(x, h * 0.36, w * 0.08, CANDLELIGHT)
    elif kind == "organ":
        for i in range(13):
            left, top = w * (0.2 + 0.047 * i), h * (0.2 + 0.16 * abs(np.sin(i * 0.8)))
            c.rectangle(left, top, left + w * 0.034, h * 0.62, GOLD * (0.8 + 0.2 * (i % 2)))
        c.rectangle(w * 0.16, h * 0.62, w * 0.84, h * 0.74, style.trim * 0.7)
    elif kind == "niches":
        for row in range(3):
            for column in range(5):
                at = w * (0.14 + 0.18 * column), h * (0.36 + 0.27 * row)
                c.polygon(opening("arch", *at, w * 0.12, h * 0.2), style.trim)
                c.polygon(opening("arch", *at, w * 0.08, h * 0.16), style.accent * 0.7)
                c.disc(at[0], at[1] - h * 0.07, w * 0.025, GOLD)
    else:
        for _ in range(16):
            spot = rng.uniform(0.15, 0.85) * w, rng.uniform(0.15, 0.75) * h
            c.disc(*spot, rng.uniform(0.03, 0.12) * w, rng.uniform(40, 235, 3))
    draw_frieze(c, h * 0.03, h * 0.06)
    c.rectangle(x - w * 0.14, h * 0.8, x + w * 0.14, h, style.trim)
    c.rectangle(x - w * 0.12, h * 0.83, x + w * 0.12, h, style.accent)
    return c.texture()


def _floor_texture(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> Texture:
    """Draw a floor: checks, diamonds, planks, rings or a carpet."""
    step = 224 // int(rng.choice([6, 10, 14]))
    kind = rng.choice(["checks", "planks", "diamonds", "carpet", "rings"])
    tile = np.empty((224, 224, 3), np.float32)
    tile[:] = first
    rows, columns = np.mgrid[0:224, 0:224]
    if kind == "checks":
        tile[(rows // step + columns // step) % 2 == 1] = second
    elif kind == "diamonds":
        tile[((rows + columns) // step + (rows - columns + 224) // step) % 2 == 1] = second
    elif kind == "planks":
        tile *= (0.8 + 0.25 * (np.arange(224) // 9 % 3) / 2)[None, :, None]
    elif kind == "carpet":
        tile[:, 84:140] = second
        tile[:, 84:88] = tile[:, 136:140] = GOLD
    else:
        reach = np.hypot(rows - 112, columns - 112)
        tile[(reach // step).astype(int) % 2 == 1] = second
    return textured(np.clip(tile, 0, 255).astype(np.uint8))


def _add_ceiling(room: Site, x: float, y: float, z: float) -> None:
    """Add a flat ceiling, a barrel vault or a ridge, closed at the end wall."""
    style = room.style
    base = style.wall * room.between(0.6, 1.05)
    texture = _ceiling_texture(room.rng, base, style.trim)
    form = room.pick("flat vault ridge")
    if form == "flat":
        room.face([[x, BACK, z], [-x, BACK, z], [-x, y, z], [x, y, z]], texture)
        return
    rise = x * (0.7 if form == "vault" else 0.5)
    angles = np.linspace(0, np.pi, 7 if form == "vault" else 3)
    curve = np.stack([x * np.cos(angles), z + rise * np.sin(angles)], axis=1)
    for (x0, z0), (x1, z1) in pairwise(curve):
        room.face([[x0, BACK, z0], [x1, BACK, z1], [x1, y, z1], [x0, y, z0]], texture)
        room.face([[x1, y, z], [x0, y, z], [x0, y, z0], [x1, y, z1]], flat(style.wall * 0.9))


def _ceiling_texture(rng: np.random.Generator, base: np.ndarray, trim: np.ndarray) -> Texture:
    """Draw a ceiling: beams, coffers, stars, ribs or plain."""
    tile = np.empty((192, 128, 3), np.float32)
    tile[:] = base
    kind = rng.choice(["beams", "coffers", "stars", "plain", "ribs"])
    if kind in ("beams", "coffers"):
        for y in range(0, 192, 24):
            tile[y : y + 6] = trim
        if kind == "coffers":
            for x in range(0, 128, 24):
                tile[:, x : x + 6] = trim
    elif kind == "stars":
        tile[:] = (40, 54, 110)
        for x, y in rng.integers(3, 125, (60, 2)):
            cv2.circle(tile, (int(x), int(y * 1.5)), 2, GOLD.tolist(), -1)
    elif kind == "ribs":
        for y in range(0, 192, 48):
            cv2.line(tile, (0, y), (128, y + 48), trim.tolist(), 3)
            cv2.line(tile, (128, y), (0, y + 48), trim.tolist(), 3)
    return textured(np.clip(tile, 0, 255).astype(np.uint8))


def _add_furniture(room: Site, half: float, length: float, height: float) -> None:
    """Add columns, lamps and benches, each in some rooms."""
    if room.chance(0.7):
        count, radius = int(room.rng.integers(3, 7)), room.between(0.35, 0.8)
        for y in np.linspace(6, length - 4, count):
            for x in (-half * 0.62, half * 0.62):
                room.column(x, y, 0, radius, height)
    if room.chance(0.5):
        lamp = [flat(GOLD, 1.0), flat((255, 236, 170), 1.0)]
        for y in np.linspace(9, length - 5, int(room.rng.integers(1, 4))):
            room.dome(0, y, height * 0.66, half * 0.14, "bell", textures=lamp)
    if room.chance(0.5):
        seat, top = [flat(room.style.accent * 0.5)], flat(room.style.accent * 0.7)
        for y in np.arange(5, length - 6, 2.4):
            for x in (-half * 0.3, half * 0.3):
                room.box(x, y, 0, half * 0.4, 0.5, 0.9, seat, cap=top)
