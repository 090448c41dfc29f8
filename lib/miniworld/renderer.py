"""The software renderer: textured models, a pinhole camera, sunlight, a depth buffer.

A `Model` is a list of planar faces, each with a `Texture` for day and night. `render` warps each
face's texture by its homography, shades it and keeps the nearest surface per pixel. 1/depth of a
plane is linear in the image, so the depth buffer costs one comparison. Coordinates are
right-handed with z up, in metres; fronts face -y. Colours are RGB in 0–255.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np

NEAR = 0.05  # metres from the camera to the near plane
SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Texture:
    """The texture of a face by day and by night, each a pyramid of halved (h, w, 3 or 4) images."""

    day: tuple[np.ndarray, ...]
    night: tuple[np.ndarray, ...]

    @property
    def is_flat(self) -> bool:
        """Whether the texture is a single colour."""
        return self.day[0].shape[:2] == (1, 1)


def flat(colour: tuple[float, float, float] | np.ndarray, glow: float = 0.45) -> Texture:
    """Make a texture of one RGB colour, multiplied by `glow` at night."""
    day = np.clip(np.asarray(colour, np.float32), 0, 255)
    night = day * glow
    return Texture((day.astype(np.uint8)[None, None],), (night.astype(np.uint8)[None, None],))


def textured(day: np.ndarray, night: np.ndarray | None = None) -> Texture:
    """Make a texture from images (h, w, 3 or 4); the default for the night is a darker day."""
    if night is None:
        night = day.copy()
        night[..., :3] = (day[..., :3] * 0.45).astype(np.uint8)
    return Texture(_pyramid(day), _pyramid(night))


def _pyramid(image: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [np.ascontiguousarray(image)]
    while min(levels[-1].shape[:2]) >= 8:
        height, width = levels[-1].shape[:2]
        levels.append(
            cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        )
    return tuple(levels)


class Model:
    """A list of faces in world coordinates; each method adds some, with upright textures."""

    def __init__(self) -> None:
        self.corners: list[np.ndarray] = []
        self.frames: list[np.ndarray] = []
        self.textures: list[Texture] = []
        self.two_sided: list[bool] = []

    def face(
        self,
        corners: list | np.ndarray,
        texture: Texture,
        *,
        columns: tuple[float, float] = (0.0, 1.0),
        two_sided: bool = False,
    ) -> None:
        """Add a planar face, corners from the bottom left anticlockwise as seen from outside.

        A triangle repeats its top corner. `columns` is the range of the texture's width in 0..1
        that the face shows.
        """
        corners = np.asarray(corners, float)
        left_low, right_low, right_top, left_top = corners
        low, top = right_low - left_low, right_top - left_top
        down = (left_low + right_low - left_top - right_top) / 2
        if np.dot(low, low) >= np.dot(top, top):
            across, origin = low, left_low - down
        else:
            across, origin = top, left_top
        across = across / (columns[1] - columns[0])
        self.corners.append(corners)
        self.frames.append(np.stack([across, down, origin - columns[0] * across], axis=1))
        self.textures.append(texture)
        self.two_sided.append(two_sided)

    def box(
        self, x: float, y: float, low: float, width: float, depth: float, height: float,
        textures: list[Texture], *, taper: float = 1.0, cap: Texture | None = None,
    ) -> None:  # fmt: skip
        """Add a box centred on (x, y) from z = `low`, scaled by `taper` at the top.

        The front, right, back and left walls take `textures` in turn; the top is open without
        `cap`.
        """
        w, d, high = width / 2, depth / 2, low + height
        lower = np.array([[x - w, y - d], [x + w, y - d], [x + w, y + d], [x - w, y + d]])
        centre = lower.mean(axis=0)
        upper = centre + (lower - centre) * taper
        for i in range(4):
            j = (i + 1) % 4
            wall = [[*lower[i], low], [*lower[j], low], [*upper[j], high], [*upper[i], high]]
            self.face(wall, textures[i % len(textures)])
        if cap is not None and taper > 0.02:
            self.face([[*corner, high] for corner in upper], cap)

    def gable(
        self, x: float, y: float, low: float, width: float, depth: float, height: float,
        roof: Texture, end: Texture, *, along_x: bool = False, hip: float = 0.0,
    ) -> None:  # fmt: skip
        """Add a ridged roof; its ridge runs front to back, or left to right with `along_x`.

        `hip` in 0..1 shortens the ridge at both ends; 1 makes a pyramid over a square.
        """
        w, d, top = width / 2, depth / 2, low + height
        a, b, c, e = ([x + i * w, y + j * d, low] for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1)))
        if along_x:
            inset = w * (1 - hip)
            first, last = [x - inset, y, top], [x + inset, y, top]
            slopes, ends = [[a, b, last, first], [c, e, first, last]], [(b, c, last), (e, a, first)]
        else:
            inset = d * (1 - hip)
            first, last = [x, y - inset, top], [x, y + inset, top]
            slopes, ends = [[b, c, last, first], [e, a, first, last]], [(a, b, first), (c, e, last)]
        for slope in slopes:
            self.face(slope, roof)
        for left, right, tip in ends:
            self.face([left, right, tip, tip], roof if hip else end)

    def lathe(
        self, x: float, y: float, profile: list[tuple[float, float]], textures: list[Texture], *,
        sides: int = 12, y_scale: float = 1.0, angle: float = 0.0, wrap: bool = True,
        two_sided: bool = False,
    ) -> None:  # fmt: skip
        """Add a solid of revolution through `profile` = (radius, z) from the bottom up.

        With `wrap` each band of the profile has one texture that runs once around; otherwise
        `textures` alternate from side to side.
        """
        angles = angle + (np.arange(sides + 1) - 0.5) * 2 * np.pi / sides - np.pi / 2
        ring = np.stack([np.cos(angles), np.sin(angles) * y_scale], axis=1)
        for band, ((r0, z0), (r1, z1)) in enumerate(pairwise(profile)):
            for i in range(sides):
                low, high = ring[i : i + 2] * r0 + (x, y), ring[i : i + 2] * r1 + (x, y)
                texture = textures[(band if wrap else i) % len(textures)]
                share = (i / sides, (i + 1) / sides) if wrap and not texture.is_flat else (0.0, 1.0)
                quad = [[*low[0], z0], [*low[1], z0], [*high[1], z1], [*high[0], z1]]
                self.face(quad, texture, columns=share, two_sided=two_sided)

    def sheet(
        self, x: float, y: float, low: float, width: float, height: float, texture: Texture,
        angle: float = 0.0,
    ) -> None:  # fmt: skip
        """Add an upright two-sided rectangle, such as a tree or a flag, rotated about z."""
        dx, dy, high = np.cos(angle) * width / 2, np.sin(angle) * width / 2, low + height
        quad = [[x - dx, y - dy, low], [x + dx, y + dy, low]]
        quad += [[x + dx, y + dy, high], [x - dx, y - dy, high]]
        self.face(quad, texture, two_sided=True)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest corner (3,) of the bounding box."""
        points = np.concatenate(self.corners)
        return points.min(axis=0), points.max(axis=0)

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Corners (F, 4, 3), frames (F, 3, 3), unit normals (F, 3) and two-sidedness (F,).

        Computed when the model is first drawn: add all faces before that.
        """
        corners = np.array(self.corners)
        normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = normals / np.maximum(lengths, 1e-9)
        return corners, np.array(self.frames), normals, np.array(self.two_sided)


@dataclass(frozen=True)
class Light:
    """Sunlight from `direction` (unit, towards the sun) and ambient light; RGB factors."""

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
    """A pinhole camera at `eye` that looks at `target`; `shift` moves the image (pixels)."""

    def __init__(
        self, eye: np.ndarray, target: np.ndarray, focal: float, size: tuple[int, int], *,
        roll: float = 0.0, shift: tuple[float, float] = (0.0, 0.0),
    ) -> None:  # fmt: skip
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

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Transform world `points` (..., 3) to camera coordinates (right, down, forward)."""
        return (points - self.eye) @ self.rotation.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points in camera coordinates (..., 3) to pixels (..., 2)."""
        pixels = points @ self.matrix.T
        return pixels[..., :2] / pixels[..., 2:]

    def inverse_depth_planes(self, normals: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return (F, 3) planes p with 1/depth = p · (x, y, 1), for faces through `points`."""
        rotated = normals @ self.rotation.T
        offset = np.einsum("fi,fi->f", rotated, self.to_camera(points))
        offset = np.where(np.abs(offset) < 1e-9, 1e-9, offset)
        return (rotated @ self.inverse) / offset[:, None]

    def homographies(self, frames: np.ndarray) -> np.ndarray:
        """Return (F, 3, 3) maps texture square → pixels, for frames with columns U, V, O."""
        rotated = self.rotation @ frames
        rotated[..., 2] -= self.rotation @ self.eye
        return self.matrix @ rotated


def render(
    model: Model, camera: Camera, light: Light, image: np.ndarray, inverse_depth: np.ndarray
) -> None:
    """Draw `model` into `image` (H, W, 3) uint8 and `inverse_depth` (H, W) float32 in place.

    Pixels that already show something nearer stay.
    """
    corners, frames, normals, two_sided = model.arrays
    points = camera.to_camera(corners)
    towards = np.einsum("fi,fi->f", normals, corners[:, 0] - camera.eye)
    visible = ((towards < 0) | two_sided) & (points[..., 2].max(axis=1) > NEAR)
    # Two-sided faces are lit on the side that the camera sees.
    shades = light.shade(np.where((towards > 0)[:, None], -normals, normals))
    planes = camera.inverse_depth_planes(normals, corners[:, 0])
    maps = camera.homographies(frames)
    order = np.argsort(points[..., 2].mean(axis=1))
    for i in order[visible[order]]:
        polygon = points[i] if points[i, :, 2].min() >= NEAR else _clip(points[i])
        if len(polygon) >= 3:
            levels = model.textures[i].night if light.is_night else model.textures[i].day
            pixels = camera.project(polygon)
            _draw_face(pixels, maps[i], planes[i], levels, shades[i], image, inverse_depth)


def _clip(points: np.ndarray) -> np.ndarray:
    """Cut a polygon in camera coordinates (n, 3) at the near plane (Sutherland–Hodgman)."""
    kept = []
    for p, q in zip(points, np.roll(points, -1, axis=0), strict=True):
        if p[2] >= NEAR:
            kept.append(p)
        if (p[2] >= NEAR) != (q[2] >= NEAR):
            kept.append(p + (q - p) * ((NEAR - p[2]) / (q[2] - p[2])))
    return np.array(kept)


def _draw_face(
    pixels: np.ndarray, homography: np.ndarray, plane: np.ndarray, levels: tuple[np.ndarray, ...],
    shade: np.ndarray, image: np.ndarray, inverse_depth: np.ndarray,
) -> None:  # fmt: skip
    """Rasterise one face with corners at `pixels` (n, 2) and the texture pyramid `levels`."""
    height, width = inverse_depth.shape
    x0, y0 = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(pixels.max(axis=0)) + 1, (width, height)).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    outline = ((pixels - (x0, y0)) * 2**SUBPIXEL_BITS).clip(-(2**20), 2**20).astype(np.int32)
    cv2.fillConvexPoly(mask, outline, 1, cv2.LINE_8, SUBPIXEL_BITS)
    near = plane_inverse_depth(plane, (x0, x1), (y0, y1))
    area, behind = image[y0:y1, x0:x1], inverse_depth[y0:y1, x0:x1]
    wins = mask.view(bool) & (near > behind)
    if not wins.any():
        return
    if levels[0].shape[:2] == (1, 1):
        area[wins] = (levels[0][0, 0, :3] * shade).clip(0, 255).astype(np.uint8)
    else:
        texture = _choose_level(levels, pixels)
        scale = np.diag([1 / texture.shape[1], 1 / texture.shape[0], 1.0])
        move = np.array([[1.0, 0, -x0], [0, 1.0, -y0], [0, 0, 1.0]])
        warped = cv2.warpPerspective(
            texture, move @ homography @ scale, (x1 - x0, y1 - y0),
            flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        if warped.shape[2] == 4:
            wins &= warped[..., 3] > 127
        tint = np.zeros((3, warped.shape[2]), np.float32)
        tint[[0, 1, 2], [0, 1, 2]] = shade
        cv2.copyTo(cv2.transform(warped, tint), wins.view(np.uint8), area)
    behind[wins] = near[wins]


def _choose_level(levels: tuple[np.ndarray, ...], pixels: np.ndarray) -> np.ndarray:
    """Choose the pyramid level nearest to the size of a face in the image."""
    x, y = pixels[:, 0], pixels[:, 1]
    area = abs(x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0]) / 2
    ratio = levels[0].shape[0] * levels[0].shape[1] / max(area, 1.0)
    wanted = int(np.floor(np.log2(max(ratio, 1.0)) / 2 + 0.3))
    return levels[min(wanted, len(levels) - 1)]


def plane_inverse_depth(
    plane: np.ndarray, columns: tuple[int, int], rows: tuple[int, int]
) -> np.ndarray:
    """Return the 1/depth of a `plane` (3,) over a range of pixels, float32 (rows, columns)."""
    a, b, c = plane.astype(np.float32)
    across = a * np.arange(*columns, dtype=np.float32)
    return across + (b * np.arange(*rows, dtype=np.float32) + c)[:, None]
