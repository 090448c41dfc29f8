"""Photographs that show no landmark: portraits, meals, maps, documents, flowers, cars.

Such images occur in GLDv2's raw labels, its gallery and its queries. Cleaning should drop them and
retrieval should find nothing for them.
"""

from collections.abc import Callable

import cv2
import numpy as np

from lib.miniworld.photograph import apply_camera_effects
from lib.miniworld.surroundings import vehicle_sprite

SIDE = 192  # pixels of the drawing, before it is resized
AA = cv2.LINE_AA


def draw_junk(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a photograph (size, size, 3) uint8 RGB of one of JUNK."""
    image = cv2.resize(JUNK[kind](rng), (size, size), interpolation=cv2.INTER_AREA)
    return apply_camera_effects(image, rng)


def _paint(colour: np.ndarray) -> tuple[float, ...]:
    return tuple(np.clip(colour, 0, 255).tolist())


def _filled(colour: np.ndarray) -> np.ndarray:
    image = np.empty((SIDE, SIDE, 3), np.uint8)
    image[:] = colour
    return image


def _ellipse(
    image: np.ndarray, centre: tuple[int, int], axes: tuple[int, int], colour: np.ndarray, *,
    angle: float = 0.0, start: int = 0, line: int = AA,
) -> None:  # fmt: skip
    cv2.ellipse(image, centre, axes, angle, start, 360, _paint(colour), -1, line)


def _blurred_background(rng: np.random.Generator) -> np.ndarray:
    rough = rng.uniform(60, 200) + rng.normal(0, 22, 3) + rng.normal(0, 16, (5, 5, 1))
    rough = rough + rng.normal(0, 9, (5, 5, 3))
    rough = np.clip(rough, 0, 255).astype(np.uint8)
    return cv2.resize(rough, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def _portrait(rng: np.random.Generator) -> np.ndarray:
    """One or two people before a blurred background."""
    image = _blurred_background(rng)
    tones = np.float32([[238, 200, 170], [205, 160, 125], [140, 98, 70], [92, 64, 46]])
    heads = [SIDE // 2] if rng.random() < 0.6 else [SIDE // 3, SIDE * 2 // 3]
    for middle in heads:
        skin = tones[rng.integers(4)]
        hair, shirt = rng.uniform(15, 165) * np.float32([1, 0.8, 0.6]), rng.uniform(20, 240, 3)
        r = int(rng.integers(24, 38) / len(heads) ** 0.4)
        x, y = middle + int(rng.integers(-8, 9)), SIDE // 2 - r // 3 + int(rng.integers(-10, 11))
        if rng.random() < 0.5:
            axes = (int(r * 1.25), int(r * 1.7))
            _ellipse(image, (x, y + r // 2), axes, hair, line=cv2.LINE_8)
        _ellipse(image, (x, y + r * 3), (r * 2, int(r * 1.7)), shirt, line=cv2.LINE_8)
        neck = (x - r // 3, y + r // 2), (x + r // 3, y + int(r * 1.6))
        cv2.rectangle(image, *neck, _paint(skin * 0.88), -1)
        _ellipse(image, (x, y), (r, int(r * 1.25)), skin)
        axes = (int(r * 1.06), int(r * 0.85))
        _ellipse(image, (x, y - r // 2), axes, hair, start=180, line=cv2.LINE_8)
        for side in (-1, 1):
            eye = x + side * r // 2
            cv2.circle(image, (eye - side * 2, y), max(2, r // 9), (30, 26, 24), -1, AA)
            if rng.random() < 0.25:
                cv2.circle(image, (eye, y), r // 3, (30, 30, 36), 2, AA)
        axes = (r // 3, r // 6)
        cv2.ellipse(image, (x, y + r // 2), axes, 0, 0, 180, (170, 60, 66), 2, AA)
    return image


def _food(rng: np.random.Generator) -> np.ndarray:
    """A plate from above on a table."""
    table = rng.uniform(60, 225, 3)
    image = _filled(table)
    if rng.random() < 0.6:
        step = int(rng.integers(12, 30))
        for at in range(0, SIDE, step):
            cv2.line(image, (at, 0), (at, SIDE), _paint(table * 0.85), max(1, step // 3))
            if rng.random() < 0.7:
                cv2.line(image, (0, at), (SIDE, at), _paint(table * 0.9), 2)
    x, y = (SIDE // 2 + rng.integers(-24, 25, 2)).tolist()
    r = int(rng.integers(52, 84))
    rim = rng.uniform(190, 255, 3) if rng.random() < 0.7 else rng.uniform(30, 220, 3)
    cv2.circle(image, (x + 4, y + 5), r, _paint(table * 0.6), -1, AA)
    cv2.circle(image, (x, y), r, _paint(rim), -1, AA)
    cv2.circle(image, (x, y), int(r * 0.78), _paint(rim * 0.92), -1, AA)
    colours = np.float32(
        [
            [196, 60, 40],
            [226, 170, 60],
            [96, 140, 60],
            [150, 96, 56],
            [240, 226, 190],
            [120, 60, 50],
        ]
    )
    for _ in range(int(rng.integers(8, 30))):
        angle, reach = rng.uniform(0, 6.28), r * 0.6 * np.sqrt(rng.random())
        centre = (int(x + np.cos(angle) * reach), int(y + np.sin(angle) * reach))
        axes = (int(rng.integers(5, 18)), int(rng.integers(4, 12)))
        colour = colours[rng.integers(6)] * rng.uniform(0.75, 1.15)
        _ellipse(image, centre, axes, colour, angle=float(rng.uniform(0, 180)))
    silver = np.float32([205, 206, 212])
    for at in (x - r - 14, x + r + 14):
        cv2.line(image, (at, y - 46), (at, y + 50), silver.tolist(), 4, AA)
        _ellipse(image, (at, y - 48), (6, 12), silver)
    return image


def _street_map(rng: np.random.Generator) -> np.ndarray:
    """A map with blocks, streets, a river and a marker."""
    image = _filled(_paint(np.float32([238, 232, 218]) + rng.normal(0, 8, 3)))
    for _ in range(int(rng.integers(3, 9))):
        x, y, w, h = rng.integers(0, SIDE, 4).tolist()
        area = [(198, 222, 176), (226, 214, 190), (214, 208, 222)][int(rng.integers(3))]
        cv2.rectangle(image, (x, y), (x + w // 3, y + h // 3), area, -1)
    river = np.stack([np.linspace(-10, SIDE + 10, 9), rng.uniform(30, 160, 9)], 1)
    river = np.int32(river if rng.random() < 0.5 else river[:, ::-1])
    cv2.polylines(image, [river], False, (150, 190, 224), int(rng.integers(8, 22)), AA)
    tilt = rng.uniform(-0.5, 0.5)
    for _ in range(int(rng.integers(10, 24))):
        offset, is_across = rng.uniform(-60, SIDE + 60), rng.random() < 0.5
        ends = np.float32([[offset, -20], [offset + 220 * tilt, SIDE + 20]])
        ends = np.int32(ends[:, ::-1] if is_across else ends)
        paint, thick = ((246, 206, 110), 5) if rng.random() < 0.25 else ((255, 255, 255), 3)
        cv2.polylines(image, [ends], False, paint, thick, AA)
    for _ in range(int(rng.integers(6, 16))):
        x, y = rng.integers(8, SIDE - 30, 2).tolist()
        cv2.line(image, (x, y), (x + int(rng.integers(10, 28)), y), (96, 92, 96), 2)
    x, y = rng.integers(40, SIDE - 40, 2).tolist()
    cv2.circle(image, (x, y - 12), 10, (206, 44, 44), -1, AA)
    tip = np.int32([[x - 8, y - 7], [x + 8, y - 7], [x, y + 8]])
    cv2.fillPoly(image, [tip], (206, 44, 44), AA)
    return image


def _document(rng: np.random.Generator) -> np.ndarray:
    """A printed page, a plaque or a ground plan."""
    image = _blurred_background(rng)
    page = np.float32([244, 240, 228]) * rng.uniform(0.85, 1.02)
    ink = rng.uniform(10, 90, 3)
    if rng.random() < 0.25:
        page, ink = rng.uniform(30, 110, 3), np.float32([226, 204, 150])
    sheet, ink = _filled(_paint(page)), _paint(ink)
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(7, 14))):
            x, y, w, h = (rng.integers(2, 12, 4) * 13).tolist()
            corner = (min(x + w // 2, 180), min(y + h // 2, 180))
            cv2.rectangle(sheet, (x, y), corner, ink, int(rng.integers(1, 4)))
        cv2.circle(sheet, (96, 96), int(rng.integers(16, 50)), ink, 2, AA)
    else:
        cv2.rectangle(sheet, (40, 14), (152, 24), ink, -1)
        for y in range(38, 180, 9):
            x = 14
            while x < 170 and rng.random() < 0.97:
                word = int(rng.integers(5, 22))
                cv2.line(sheet, (x, y), (min(x + word, 178), y), ink, 3)
                x += word + 6
        if rng.random() < 0.5:
            cv2.rectangle(sheet, (110, 44), (178, 100), _paint(rng.uniform(60, 200, 3)), -1)
    corners = np.float32([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]])
    inset = corners * 0.8 + SIDE * 0.1 + rng.normal(0, 9, (4, 2)).astype(np.float32)
    mapping = cv2.getPerspectiveTransform(corners, inset.astype(np.float32))
    cv2.warpPerspective(sheet, mapping, (SIDE, SIDE), image, borderMode=cv2.BORDER_TRANSPARENT)
    return image


def _flower(rng: np.random.Generator) -> np.ndarray:
    """Blossoms before leaves."""
    background = _blurred_background(rng) * np.float32([0.5, 0.8, 0.45])
    image = np.clip(background, 0, 255).astype(np.uint8)
    for _ in range(30):
        centre = rng.integers(0, SIDE, 2).tolist()
        leaf = np.float32([70, 126, 52]) * rng.uniform(0.5, 1.3)
        axes = (int(rng.integers(10, 30)), 7)
        _ellipse(image, centre, axes, leaf, angle=float(rng.uniform(0, 180)))
    colour, petals = rng.uniform(60, 255, 3), int(rng.integers(5, 14))
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.uniform(40, SIDE - 40, 2)
        r = rng.uniform(18, 56)
        for k in range(petals):
            angle = 2 * np.pi * k / petals
            centre = (int(x + np.cos(angle) * r * 0.55), int(y + np.sin(angle) * r * 0.55))
            axes = (int(r * 0.5), max(3, int(r * 1.6 / petals)))
            petal = colour * rng.uniform(0.8, 1.1)
            _ellipse(image, centre, axes, petal, angle=float(np.degrees(angle)))
        cv2.circle(image, (int(x), int(y)), int(r * 0.24), (222, 178, 50), -1, AA)
    return image


def _car(rng: np.random.Generator) -> np.ndarray:
    """A parked car or bus that fills the image."""
    image, horizon = _blurred_background(rng), SIDE * 3 // 5
    image[horizon:] = _paint(np.float32([112, 112, 116]) * rng.uniform(0.7, 1.2))
    car = vehicle_sprite(int(rng.integers(10_000)))[0].day[0]
    wide = int(rng.integers(130, 230))
    tall = wide * 64 // 144
    car = cv2.resize(car, (wide, tall), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        car = car[:, ::-1]
    left, top = (SIDE - wide) // 2 + int(rng.integers(-20, 21)), horizon - tall // 2
    x0, x1 = max(left, 0), min(left + wide, SIDE)
    car = car[: SIDE - top, x0 - left : x1 - left]
    area, is_opaque = image[top : top + len(car), x0:x1], car[..., 3] > 127
    area[is_opaque] = car[..., :3][is_opaque]
    return image


JUNK: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "portrait": _portrait,
    "food": _food,
    "map": _street_map,
    "document": _document,
    "flower": _flower,
    "car": _car,
}
