"""The camera and the light that turn solids into pictures.

`render` projects a model's faces, warps each face's texture with its own homography
(`cv2.warpPerspective`), shades it by the sun and keeps the nearest surface per pixel: 1/depth is
linear over the image of a plane, so a depth buffer costs one comparison.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from lib.world.solids import Model, Skin

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
