"""Photographs that show no landmark: portraits, meals, maps, documents, flowers, cars.

Such images sit in GLDv2's raw labels, its gallery and its queries; cleaning should drop them and
retrieval should not answer them.
"""

from collections.abc import Callable

import cv2
import numpy as np

from lib.miniworld.photograph import develop
from lib.miniworld.surroundings import vehicle_sprite

WIDE = 192  # pixels of the drawing, whatever size is asked for


def _paint(value: np.ndarray) -> tuple[float, ...]:
    return tuple(np.clip(value, 0, 255).tolist())


def _backdrop(rng: np.random.Generator) -> np.ndarray:
    """A blurred, unrecognisable background."""
    rough = rng.uniform(60, 200) + rng.normal(0, 22, 3) + rng.normal(0, 16, (5, 5, 1))
    rough = rough + rng.normal(0, 9, (5, 5, 3))
    rough = np.clip(rough, 0, 255).astype(np.uint8)
    return cv2.resize(rough, (WIDE, WIDE), interpolation=cv2.INTER_CUBIC)


def portrait(rng: np.random.Generator) -> np.ndarray:
    """One or two people before a blurred background."""
    image = _backdrop(rng)
    heads = [WIDE // 2] if rng.random() < 0.6 else [WIDE // 3, WIDE * 2 // 3]
    for middle in heads:
        tone = np.float32([[238, 200, 170], [205, 160, 125], [140, 98, 70], [92, 64, 46]])[
            rng.integers(4)
        ]
        hair, shirt = rng.uniform(15, 165) * np.float32([1, 0.8, 0.6]), rng.uniform(20, 240, 3)
        r = int(rng.integers(24, 38) / len(heads) ** 0.4)
        x, y = middle + int(rng.integers(-8, 9)), WIDE // 2 - r // 3 + int(rng.integers(-10, 11))
        if rng.random() < 0.5:
            cv2.ellipse(
                image, (x, y + r // 2), (int(r * 1.25), int(r * 1.7)), 0, 0, 360, _paint(hair), -1
            )
        cv2.ellipse(image, (x, y + r * 3), (r * 2, int(r * 1.7)), 0, 0, 360, _paint(shirt), -1)
        cv2.rectangle(
            image, (x - r // 3, y + r // 2), (x + r // 3, y + int(r * 1.6)), _paint(tone * 0.88), -1
        )
        cv2.ellipse(image, (x, y), (r, int(r * 1.25)), 0, 0, 360, _paint(tone), -1, cv2.LINE_AA)
        cv2.ellipse(
            image, (x, y - r // 2), (int(r * 1.06), int(r * 0.85)), 0, 180, 360, _paint(hair), -1
        )
        for side in (-1, 1):
            cv2.circle(
                image,
                (x + side * r // 2 - side * 2, y),
                max(2, r // 9),
                (30, 26, 24),
                -1,
                cv2.LINE_AA,
            )
            if rng.random() < 0.25:
                cv2.circle(image, (x + side * r // 2, y), r // 3, (30, 30, 36), 2, cv2.LINE_AA)
        cv2.ellipse(
            image, (x, y + r // 2), (r // 3, r // 6), 0, 0, 180, (170, 60, 66), 2, cv2.LINE_AA
        )
    return image


def food(rng: np.random.Generator) -> np.ndarray:
    """A plate from above on a table."""
    image = np.empty((WIDE, WIDE, 3), np.uint8)
    table = rng.uniform(60, 225, 3)
    image[:] = table
    if rng.random() < 0.6:
        step = int(rng.integers(12, 30))
        for at in range(0, WIDE, step):
            cv2.line(image, (at, 0), (at, WIDE), _paint(table * 0.85), max(1, step // 3))
            if rng.random() < 0.7:
                cv2.line(image, (0, at), (WIDE, at), _paint(table * 0.9), 2)
    x, y = (WIDE // 2 + rng.integers(-24, 25, 2)).tolist()
    r = int(rng.integers(52, 84))
    rim = rng.uniform(190, 255, 3) if rng.random() < 0.7 else rng.uniform(30, 220, 3)
    cv2.circle(image, (x + 4, y + 5), r, _paint(table * 0.6), -1, cv2.LINE_AA)
    cv2.circle(image, (x, y), r, _paint(rim), -1, cv2.LINE_AA)
    cv2.circle(image, (x, y), int(r * 0.78), _paint(rim * 0.92), -1, cv2.LINE_AA)
    menu = np.float32(
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
        paint = _paint(menu[rng.integers(6)] * rng.uniform(0.75, 1.15))
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, paint, -1, cv2.LINE_AA)
    for side in (-1, 1):
        at = x + side * (r + 14)
        cv2.line(image, (at, y - 46), (at, y + 50), (205, 206, 212), 4, cv2.LINE_AA)
        cv2.ellipse(image, (at, y - 48), (6, 12), 0, 0, 360, (205, 206, 212), -1, cv2.LINE_AA)
    return image


def street_map(rng: np.random.Generator) -> np.ndarray:
    """A map with blocks, streets, a river and a marker."""
    image = np.empty((WIDE, WIDE, 3), np.uint8)
    image[:] = _paint(np.float32([238, 232, 218]) + rng.normal(0, 8, 3))
    for _ in range(int(rng.integers(3, 9))):
        x, y, w, h = rng.integers(0, WIDE, 4).tolist()
        green = [(198, 222, 176), (226, 214, 190), (214, 208, 222)][int(rng.integers(3))]
        cv2.rectangle(image, (x, y), (x + w // 3, y + h // 3), green, -1)
    points = np.stack([np.linspace(-10, WIDE + 10, 9), rng.uniform(30, 160, 9)], 1)
    points = points if rng.random() < 0.5 else points[:, ::-1]
    cv2.polylines(
        image, [np.int32(points)], False, (150, 190, 224), int(rng.integers(8, 22)), cv2.LINE_AA
    )
    tilt = rng.uniform(-0.5, 0.5)
    for _ in range(int(rng.integers(10, 24))):
        offset, across = rng.uniform(-60, WIDE + 60), rng.random() < 0.5
        ends = np.float32([[offset, -20], [offset + 220 * tilt, WIDE + 20]])
        ends = ends[:, ::-1] if across else ends
        major = rng.random() < 0.25
        cv2.polylines(
            image,
            [np.int32(ends)],
            False,
            (246, 206, 110) if major else (255, 255, 255),
            5 if major else 3,
            cv2.LINE_AA,
        )
    for _ in range(int(rng.integers(6, 16))):
        x, y = rng.integers(8, WIDE - 30, 2).tolist()
        cv2.line(image, (x, y), (x + int(rng.integers(10, 28)), y), (96, 92, 96), 2)
    x, y = rng.integers(40, WIDE - 40, 2).tolist()
    cv2.circle(image, (x, y - 12), 10, (206, 44, 44), -1, cv2.LINE_AA)
    cv2.fillPoly(
        image, [np.int32([[x - 8, y - 7], [x + 8, y - 7], [x, y + 8]])], (206, 44, 44), cv2.LINE_AA
    )
    return image


def document(rng: np.random.Generator) -> np.ndarray:
    """A printed page, a plaque or a ground plan."""
    image = _backdrop(rng)
    page = np.float32([244, 240, 228]) * rng.uniform(0.85, 1.02)
    ink = rng.uniform(10, 90, 3)
    if rng.random() < 0.25:
        page, ink = rng.uniform(30, 110, 3), np.float32([226, 204, 150])
    sheet = np.empty((WIDE, WIDE, 3), np.uint8)
    sheet[:] = _paint(page)
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(7, 14))):
            x, y, w, h = (rng.integers(2, 12, 4) * 13).tolist()
            cv2.rectangle(
                sheet,
                (x, y),
                (min(x + w // 2, 180), min(y + h // 2, 180)),
                _paint(ink),
                int(rng.integers(1, 4)),
            )
        cv2.circle(sheet, (96, 96), int(rng.integers(16, 50)), _paint(ink), 2, cv2.LINE_AA)
    else:
        cv2.rectangle(sheet, (40, 14), (152, 24), _paint(ink), -1)
        for y in range(38, 180, 9):
            x = 14
            while x < 170 and rng.random() < 0.97:
                word = int(rng.integers(5, 22))
                cv2.line(sheet, (x, y), (min(x + word, 178), y), _paint(ink), 3)
                x += word + 6
        if rng.random() < 0.5:
            cv2.rectangle(sheet, (110, 44), (178, 100), _paint(rng.uniform(60, 200, 3)), -1)
    corners = np.float32([[0, 0], [WIDE, 0], [WIDE, WIDE], [0, WIDE]])
    inset = corners * 0.8 + WIDE * 0.1 + rng.normal(0, 9, (4, 2)).astype(np.float32)
    mapping = cv2.getPerspectiveTransform(corners, inset.astype(np.float32))
    cv2.warpPerspective(sheet, mapping, (WIDE, WIDE), image, borderMode=cv2.BORDER_TRANSPARENT)
    return image


def flower(rng: np.random.Generator) -> np.ndarray:
    """Blossoms before leaves."""
    image = np.clip(_backdrop(rng) * np.float32([0.5, 0.8, 0.45]), 0, 255).astype(np.uint8)
    for _ in range(30):
        centre = rng.integers(0, WIDE, 2).tolist()
        paint = _paint(np.float32([70, 126, 52]) * rng.uniform(0.5, 1.3))
        cv2.ellipse(
            image,
            centre,
            (int(rng.integers(10, 30)), 7),
            float(rng.uniform(0, 180)),
            0,
            360,
            paint,
            -1,
            cv2.LINE_AA,
        )
    hue, petals = rng.uniform(60, 255, 3), int(rng.integers(5, 14))
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.uniform(40, WIDE - 40, 2)
        r = rng.uniform(18, 56)
        for k in range(petals):
            angle = 2 * np.pi * k / petals
            centre = (int(x + np.cos(angle) * r * 0.55), int(y + np.sin(angle) * r * 0.55))
            axes = (int(r * 0.5), max(3, int(r * 1.6 / petals)))
            cv2.ellipse(
                image,
                centre,
                axes,
                float(np.degrees(angle)),
                0,
                360,
                _paint(hue * rng.uniform(0.8, 1.1)),
                -1,
                cv2.LINE_AA,
            )
        cv2.circle(image, (int(x), int(y)), int(r * 0.24), (222, 178, 50), -1, cv2.LINE_AA)
    return image


def car(rng: np.random.Generator) -> np.ndarray:
    """A parked car or bus that fills the picture."""
    image = _backdrop(rng)
    image[WIDE * 3 // 5 :] = _paint(np.float32([112, 112, 116]) * rng.uniform(0.7, 1.2))
    picture = vehicle_sprite(int(rng.integers(10_000)))[0].day[0]
    wide = int(rng.integers(130, 230))
    tall = wide * 64 // 144
    picture = cv2.resize(picture, (wide, tall), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    left, top = (WIDE - wide) // 2 + int(rng.integers(-20, 21)), WIDE * 3 // 5 - tall // 2
    x0, x1 = max(left, 0), min(left + wide, WIDE)
    patch = picture[: WIDE - top, x0 - left : x1 - left]
    area = image[top : top + len(patch), x0:x1]
    area[patch[..., 3] > 127] = patch[..., :3][patch[..., 3] > 127]
    return image


JUNK: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "portrait": portrait,
    "food": food,
    "map": street_map,
    "document": document,
    "flower": flower,
    "car": car,
}


def draw_junk(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Take a photograph (size, size, 3) uint8 RGB of something that is no landmark."""
    image = cv2.resize(JUNK[kind](rng), (size, size), interpolation=cv2.INTER_AREA)
    return develop(image, rng)
