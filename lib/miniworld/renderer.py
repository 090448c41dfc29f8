"""Textured solids: the small modelling kit of the miniature world.

A `Model` collects flat faces (boxes, roofs, lathes), each with a `Skin`, its look by day and by
night. Coordinates are right-handed with z up, in metres; fronts look towards -y. Colours are RGB
in 0–255. Nothing here knows what a landmark is.

`render` projects a model's faces, warps each face's texture with its own homography
(`cv2.warpPerspective`), shades it by the sun and keeps the nearest surface per pixel: 1/depth is
linear over the image of a plane, so a depth buffer costs one comparison.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np


@dataclass(frozen=True)
class Skin:
    """The look of a face by day and by night, each a pyramid of halved (h, w, 3 or 4) images."""

    day: tuple[np.ndarray, ...]
    night: tuple[np.ndarray, ...]

    @property
    def is_flat(self) -> bool:
        """Whether the skin is one colour all over."""
        return self.day[0].shape[:2] == (1, 1)


def flat(colour: tuple[float, float, float] | np.ndarray, glow: float = 0.45) -> Skin:
    """Make a skin of one RGB colour; `glow` is how much of it is left at night."""
    day = np.clip(np.asarray(colour, np.float32), 0, 255)
    return Skin((day.astype(np.uint8)[None, None],), ((day * glow).astype(np.uint8)[None, None],))


def textured(day: np.ndarray, night: np.ndarray | None = None) -> Skin:
    """Make a skin from an image (h, w, 3 or 4) and its look at night (default: darkened)."""
    if night is None:
        night = day.copy()
        night[..., :3] = (day[..., :3] * 0.45).astype(np.uint8)
    return Skin(_pyramid(day), _pyramid(night))


def _pyramid(image: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [np.ascontiguousarray(image)]
    while min(levels[-1].shape[:2]) >= 8:
        height, width = levels[-1].shape[:2]
        levels.append(
            cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        )
    return tuple(levels)


class Model:
    """Faces in world coordinates; every method adds some, with textures upright."""

    def __init__(self) -> None:
        self.corners: list[np.ndarray] = []
        self.frames: list[np.ndarray] = []
        self.skins: list[Skin] = []
        self.both_sides: list[bool] = []

    def face(
        self,
        corners: list | np.ndarray,
        skin: Skin,
        *,
        part: tuple[float, float] = (0.0, 1.0),
        both_sides: bool = False,
    ) -> None:
        """Add a planar face: bottom left, bottom right, top right, top left, seen from outside.

        A triangle repeats its top corner. `part` is the strip of the texture's width it shows.
        """
        corners = np.asarray(corners, float)
        left_low, right_low, right_top, left_top = corners
        low, top = right_low - left_low, right_top - left_top
        down = (left_low + right_low - left_top - right_top) / 2
        if np.dot(low, low) >= np.dot(top, top):
            across, origin = low, left_low - down
        else:
            across, origin = top, left_top
        across = across / (part[1] - part[0])
        self.corners.append(corners)
        self.frames.append(np.stack([across, down, origin - part[0] * across], axis=1))
        self.skins.append(skin)
        self.both_sides.append(both_sides)

    def prism(
        self,
        outline: np.ndarray,
        low: float,
        high: float,
        skins: list[Skin],
        *,
        taper: float = 1.0,
        cap: Skin | None = None,
        wrap: bool = False,
    ) -> None:
        """Add walls over an anticlockwise `outline` (n, 2), scaled by `taper` at the top.

        Walls take `skins` in turn; with `wrap` one texture runs once around all of them.
        """
        outline = np.asarray(outline, float)
        centre = outline.mean(axis=0)
        upper = centre + (outline - centre) * taper
        count = len(outline)
        for i in range(count):
            j = (i + 1) % count
            part = (i / count, (i + 1) / count) if wrap else (0.0, 1.0)
            self.face(
                [[*outline[i], low], [*outline[j], low], [*upper[j], high], [*upper[i], high]],
                skins[i % len(skins)],
                part=part,
            )
        if cap is not None and taper > 0.02:
            for i in range(0, count - 2, 2):
                ring = [0, i + 1, i + 2, min(i + 3, count - 1)]
                self.face([[*upper[k], high] for k in ring], cap)

    def box(
        self,
        x: float,
        y: float,
        low: float,
        width: float,
        depth: float,
        height: float,
        skins: list[Skin],
        *,
        taper: float = 1.0,
        cap: Skin | None = None,
    ) -> None:
        """Add a box centred on (x, y); `skins` in turn for front, right, back, left."""
        w, d = width / 2, depth / 2
        outline = np.array([[x - w, y - d], [x + w, y - d], [x + w, y + d], [x - w, y + d]])
        self.prism(outline, low, low + height, skins, taper=taper, cap=cap)

    def gable(
        self,
        x: float,
        y: float,
        low: float,
        width: float,
        depth: float,
        height: float,
        roof: Skin,
        end: Skin,
        *,
        along: bool = False,
        hip: float = 0.0,
    ) -> None:
        """Add a ridged roof; its ridge runs front to back, or left to right with `along`.

        `hip` in 0..1 draws the ridge's ends in (1 makes a pyramid over a square).
        """
        w, d = width / 2, depth / 2
        a, b, c, e = [x - w, y - d], [x + w, y - d], [x + w, y + d], [x - w, y + d]
        top = low + height
        if along:
            inset = w * (1 - hip)
            left, right = [x - inset, y, top], [x + inset, y, top]
            self.face([[*a, low], [*b, low], right, left], roof)
            self.face([[*c, low], [*e, low], left, right], roof)
            self.face([[*b, low], [*c, low], right, right], roof if hip else end)
            self.face([[*e, low], [*a, low], left, left], roof if hip else end)
        else:
            inset = d * (1 - hip)
            front, back = [x, y - inset, top], [x, y + inset, top]
            self.face([[*b, low], [*c, low], back, front], roof)
            self.face([[*e, low], [*a, low], front, back], roof)
            self.face([[*a, low], [*b, low], front, front], roof if hip else end)
            self.face([[*c, low], [*e, low], back, back], roof if hip else end)

    def lathe(
        self,
        x: float,
        y: float,
        profile: list[tuple[float, float]],
        skins: list[Skin],
        *,
        sides: int = 12,
        squash: float = 1.0,
        turn: float = 0.0,
        wrap: bool = True,
        both_sides: bool = False,
    ) -> None:
        """Add a solid of revolution through `profile` = (radius, z) from below; a skin per band.

        With `wrap` a texture runs once around; otherwise `skins` alternate from side to side.
        """
        angles = turn + (np.arange(sides + 1) - 0.5) * 2 * np.pi / sides - np.pi / 2
        ring = np.stack([np.cos(angles), np.sin(angles) * squash], axis=1)
        for band, ((r0, z0), (r1, z1)) in enumerate(pairwise(profile)):
            for i in range(sides):
                low, high = ring[i : i + 2] * r0 + (x, y), ring[i : i + 2] * r1 + (x, y)
                skin = skins[(band if wrap else i) % len(skins)]
                part = (i / sides, (i + 1) / sides) if wrap and not skin.is_flat else (0.0, 1.0)
                quad = [[*low[0], z0], [*low[1], z0], [*high[1], z1], [*high[0], z1]]
                self.face(quad, skin, part=part, both_sides=both_sides)

    def sheet(
        self, x: float, y: float, low: float, width: float, height: float, skin: Skin, turn: float
    ) -> None:
        """Add an upright sheet seen from both sides, such as a tree or a flag."""
        dx, dy = np.cos(turn) * width / 2, np.sin(turn) * width / 2
        high = low + height
        quad = [[x - dx, y - dy, low], [x + dx, y + dy, low]]
        quad += [[x + dx, y + dy, high], [x - dx, y - dy, high]]
        self.face(quad, skin, both_sides=True)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest corner (3,) of everything."""
        points = np.concatenate(self.corners)
        return points.min(axis=0), points.max(axis=0)

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Corners (F, 4, 3), frames (F, 3, 3), unit normals (F, 3) and two-sidedness (F,).

        Made once, when the model is first drawn: add every face before that.
        """
        corners = np.array(self.corners)
        normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = normals / np.maximum(lengths, 1e-9)
        return corners, np.array(self.frames), normals, np.array(self.both_sides)


NEAR = 0.05
SUBPIXEL = 4


@dataclass(frozen=True)
class Light:
    """Sunlight from `direction` (unit, towards the sun) plus the light from everywhere."""

    direction: np.ndarray
    sun: np.ndarray
    ambient: np.ndarray
    is_night: bool = False

    def shade(self, normals: np.ndarray) -> np.ndarray:
        """Return the RGB factors (F, 3) by which faces with `normals` (F, 3) are multiplied."""
        facing = np.clip(normals @ self.direction, 0, 1)[:, None]
        skyward = (0.85 + 0.15 * normals[:, 2])[:, None]
        return self.ambient * skyward + self.sun * facing


class Camera:
    """A pinhole camera at `eye` that looks at `target`; `shift` moves the picture (pixels)."""

    def __init__(
        self,
        eye: np.ndarray,
        target: np.ndarray,
        focal: float,
        size: tuple[int, int],
        *,
        roll: float = 0.0,
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.eye = np.asarray(eye, float)
        self.width, self.height = size
        forward = np.asarray(target, float) - self.eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        cos, sin = np.cos(roll), np.sin(roll)
        self.rotation = np.stack([cos * right + sin * down, cos * down - sin * right, forward])
        centre = (self.width / 2 + shift[0], self.height / 2 + shift[1])
        self.matrix = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]])

    @cached_property
    def inverse(self) -> np.ndarray:
        """The inverse of the intrinsic matrix: pixel → viewing ray."""
        return np.linalg.inv(self.matrix)

    def see(self, points: np.ndarray) -> np.ndarray:
        """Return world `points` (..., 3) in camera axes (right, down, forward)."""
        return (points - self.eye) @ self.rotation.T

    def project(self, seen: np.ndarray) -> np.ndarray:
        """Return the pixels (..., 2) of points in camera axes (..., 3)."""
        pixels = seen @ self.matrix.T
        return pixels[..., :2] / pixels[..., 2:]

    def nearness(self, normals: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return (F, 3) planes p with 1/depth = p · (x, y, 1), for faces through `points`."""
        turned = normals @ self.rotation.T
        offset = np.einsum("fi,fi->f", turned, self.see(points))
        offset = np.where(np.abs(offset) < 1e-9, 1e-9, offset)
        return (turned @ self.inverse) / offset[:, None]

    def homographies(self, frames: np.ndarray) -> np.ndarray:
        """Return (F, 3, 3) maps texture square → pixels, for frames with columns U, V, O."""
        turned = self.rotation @ frames
        turned[..., 2] -= self.rotation @ self.eye
        return self.matrix @ turned


def _clip(seen: np.ndarray) -> np.ndarray:
    """Cut a polygon in camera axes (n, 3) at the near plane (Sutherland–Hodgman)."""
    kept = []
    for p, q in zip(seen, np.roll(seen, -1, axis=0), strict=True):
        if p[2] >= NEAR:
            kept.append(p)
        if (p[2] >= NEAR) != (q[2] >= NEAR):
            kept.append(p + (q - p) * ((NEAR - p[2]) / (q[2] - p[2])))
    return np.array(kept)


def render(
    model: Model, camera: Camera, light: Light, image: np.ndarray, nearness: np.ndarray
) -> None:
    """Draw `model` into `image` (H, W, 3) uint8 and `nearness` (H, W) float32 = 1/depth.

    Both are changed in place; what is nearer already stays.
    """
    corners, frames, normals, both_sides = model.arrays
    seen = camera.see(corners)
    towards = np.einsum("fi,fi->f", normals, corners[:, 0] - camera.eye)
    visible = ((towards < 0) | both_sides) & (seen[..., 2].max(axis=1) > NEAR)
    # Two-sided faces are lit on the side that is looked at.
    lit = np.where((towards > 0)[:, None], -normals, normals)
    shades = light.shade(lit)
    planes = camera.nearness(normals, corners[:, 0])
    maps = camera.homographies(frames)
    order = np.argsort(seen[..., 2].mean(axis=1))
    for i in order[visible[order]]:
        polygon = seen[i] if seen[i, :, 2].min() >= NEAR else _clip(seen[i])
        if len(polygon) >= 3:
            pixels = camera.project(polygon)
            _draw_face(
                pixels, maps[i], planes[i], model.skins[i], shades[i], light, image, nearness
            )


def _draw_face(
    pixels: np.ndarray,
    mapping: np.ndarray,
    plane: np.ndarray,
    skin: Skin,
    shade: np.ndarray,
    light: Light,
    image: np.ndarray,
    nearness: np.ndarray,
) -> None:
    height, width = nearness.shape
    x0, y0 = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(pixels.max(axis=0)) + 1, (width, height)).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    outline = ((pixels - (x0, y0)) * 2**SUBPIXEL).clip(-(2**20), 2**20).astype(np.int32)
    cv2.fillConvexPoly(mask, outline, 1, cv2.LINE_8, SUBPIXEL)
    near = plane_nearness(plane, (x0, x1), (y0, y1))
    area, behind = image[y0:y1, x0:x1], nearness[y0:y1, x0:x1]
    wins = mask.view(bool) & (near > behind)
    if not wins.any():
        return
    levels = skin.night if light.is_night else skin.day
    if skin.is_flat:
        area[wins] = (levels[0][0, 0, :3] * shade).clip(0, 255).astype(np.uint8)
    else:
        texture = _level(levels, pixels)
        scale = np.diag([1 / texture.shape[1], 1 / texture.shape[0], 1.0])
        move = np.array([[1.0, 0, -x0], [0, 1.0, -y0], [0, 0, 1.0]])
        look = cv2.warpPerspective(
            texture,
            move @ mapping @ scale,
            (x1 - x0, y1 - y0),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if look.shape[2] == 4:
            wins &= look[..., 3] > 127
        tint = np.zeros((3, look.shape[2]), np.float32)
        tint[[0, 1, 2], [0, 1, 2]] = shade
        look = cv2.transform(look, tint)
        cv2.copyTo(look, wins.view(np.uint8), area)
    behind[wins] = near[wins]


def plane_nearness(
    plane: np.ndarray, columns: tuple[int, int], rows: tuple[int, int]
) -> np.ndarray:
    """Return the 1/depth of a `plane` (3,) over a range of pixels, float32 (rows, columns)."""
    a, b, c = plane.astype(np.float32)
    across = a * np.arange(*columns, dtype=np.float32)
    return across + (b * np.arange(*rows, dtype=np.float32) + c)[:, None]


def _level(levels: tuple[np.ndarray, ...], pixels: np.ndarray) -> np.ndarray:
    """Choose the pyramid level nearest to the size at which a face is seen."""
    x, y = pixels[:, 0], pixels[:, 1]
    area = abs(x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0]) / 2
    ratio = levels[0].shape[0] * levels[0].shape[1] / max(area, 1.0)
    wanted = int(np.floor(np.log2(max(ratio, 1.0)) / 2 + 0.3))
    return levels[min(wanted, len(levels) - 1)]
