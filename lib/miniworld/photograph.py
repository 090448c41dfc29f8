"""Photographs of places: camera pose, weather, sky and ground, camera effects.

Viewpoint, distance, crop, light, sky and foreground change from photograph to photograph; shape and
facade do not, so only they identify the place.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from lib.miniworld.renderer import Camera, Light, Model, plane_inverse_depth, render
from lib.miniworld.surroundings import Place, build_foreground, ground_tile, person_sprite
from lib.miniworld.textures import hex_colour

OVERSAMPLING = 1.5
TILE_METRES = 24.0  # side of a ground tile
UP = np.array([[0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class _Weather:
    """Light and sky of one photograph; colours are RGB."""

    light: Light
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float
    haze: float

    def __post_init__(self) -> None:
        for name in ("zenith", "horizon"):
            object.__setattr__(self, name, getattr(self, name).astype(np.float32))


def take_photograph(
    place: Place, view: str, size: int, rng: np.random.Generator, *, difficulty: float = 0.5,
    detail: int = 0,
) -> np.ndarray:  # fmt: skip
    """Render one photograph (size, size, 3) uint8 RGB of a place.

    Args:
        place: what to photograph.
        view: front, back, interior or detail.
        size: in pixels.
        rng: decides everything else.
        difficulty: extent of distance, crop and occlusion, in 0..1.
        detail: which of the place's details a detail view shows.
    """
    side = round(size * OVERSAMPLING)
    if view == "interior":
        image = _render_interior(place.models["interior"], side, rng, difficulty)
    else:
        point = place.details[detail % len(place.details)]
        image = _render_exterior(place, view, side, rng, difficulty, point)
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return apply_camera_effects(image, rng)


def _render_interior(
    model: Model, side: int, rng: np.random.Generator, difficulty: float
) -> np.ndarray:
    _, high = model.bounds()
    half, length = high[0] * 0.55, high[1]
    eye = np.array(
        [rng.uniform(-half, half), rng.uniform(-2, length * 0.4), rng.uniform(1.5, high[2] * 0.4)]
    )
    swing = rng.normal(0, 0.15 + 0.2 * difficulty) * length
    target = np.array([swing * 0.5, length, high[2] * rng.uniform(0.3, 0.55)])
    focal = side * rng.uniform(0.65, 1.05 + 0.3 * difficulty)
    camera = Camera(eye, target, focal, (side, side), roll=rng.normal(0, 0.03))
    lamp = np.float32([1.0, 0.95, 0.86]) * rng.uniform(0.75, 1.0)
    light = Light(np.array([rng.choice([-0.7, 0.7]), -0.6, 0.4]), lamp * 0.35, lamp * 0.72)
    image = np.full((side, side, 3), 30, np.uint8)
    inverse_depth = np.zeros((side, side), np.float32)
    render(model, camera, light, image, inverse_depth)
    if rng.random() < 0.4 + 0.3 * difficulty:
        visitors = Model()
        for _ in range(int(rng.integers(1, 5))):
            texture, height, width = person_sprite(int(rng.integers(48)))
            y = eye[1] + rng.uniform(3, 14)
            visitors.sheet(rng.uniform(-half, half), y, 0, width, height, texture)
        render(visitors, camera, light, image, inverse_depth)
    return image


def _render_exterior(
    place: Place, view: str, side: int, rng: np.random.Generator, difficulty: float,
    detail: np.ndarray,
) -> np.ndarray:  # fmt: skip
    model = place.models["back" if view == "back" else "front"]
    camera = _draw_camera(model, view, side, rng, difficulty, detail)
    weather = _draw_weather(rng)
    image = np.empty((side, side, 3), np.uint8)
    inverse_depth = np.zeros((side, side), np.float32)
    _paint_sky(image, camera, weather, rng)
    _paint_backdrop(image, camera, weather, place.backdrop, rng)
    _paint_ground(image, inverse_depth, camera, weather, place)
    if place.forecourt.corners and view != "back":
        render(place.forecourt, camera, weather.light, image, inverse_depth)
    if place.ground != "water" and not weather.light.is_night and weather.light.sun.max() >= 0.3:
        _cast_shadow(image, camera, weather.light, model)
    render(model, camera, weather.light, image, inverse_depth)
    difficulty = difficulty if view != "detail" else 0.2
    foreground = build_foreground(place, view, camera, rng, difficulty)
    if foreground.corners:
        render(foreground, camera, weather.light, image, inverse_depth)
    if weather.haze > 0.02:
        # Aerial perspective: haze grows with the distance, in units of the camera's to the origin.
        far = 1 / np.maximum(inverse_depth * np.float32(np.linalg.norm(camera.eye)), 0.02)
        share = np.minimum(1 - np.exp(np.float32(-weather.haze) * far), np.float32(0.7))
        image = _blend(image, weather.horizon, share)
    return image


def _draw_camera(
    model: Model, view: str, side: int, rng: np.random.Generator, difficulty: float,
    detail: np.ndarray,
) -> Camera:  # fmt: skip
    """Draw the viewpoint, the focal length and the crop."""
    low, high = model.bounds()
    centre, extent = (low + high) / 2, (high - low) / 2
    centre[2] -= extent[2] * rng.uniform(0.0, 0.25)
    if view == "detail":
        azimuth, fill = rng.normal(0, 0.15), 1.0
        centre = detail
        extent = np.array([1, 1, 1]) * max(extent[0], extent[2]) * rng.uniform(0.26, 0.32)
    else:
        azimuth = np.clip(rng.normal(0, 0.28), -0.8, 0.8)
        least, most = 0.98 - 0.25 * difficulty, 1.1 + 0.25 * difficulty
        fill = np.exp(rng.uniform(np.log(least), np.log(most)))
    focal = side * np.exp(rng.uniform(np.log(0.9), np.log(2.2)))
    across = abs(np.cos(azimuth)) * extent[0] + abs(np.sin(azimuth)) * extent[1]
    reach = max(across, extent[2])
    distance = reach * focal / (fill * side / 2) + extent[1] * (view != "detail")
    rise = rng.uniform(0.02, 0.16) if rng.random() < 0.85 else rng.uniform(0.25, 0.5)
    away = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0]) * distance
    eye = np.array([centre[0], centre[1], 0.0]) + away
    eye[2] = max(1.7, rise * distance * 0.6) if view != "detail" else detail[2] * 0.6 + 1.7
    slack = side * (0.05 + 0.13 * difficulty) * (0.3 if view == "detail" else 1.0)
    shift = tuple(rng.normal(0, slack / 1.7, 2) * (1.0, 0.5))
    return Camera(eye, centre, focal, (side, side), roll=rng.normal(0, 0.03), shift=shift)


def _draw_weather(rng: np.random.Generator) -> _Weather:
    """Draw a time of day and a sky."""
    kinds, weights = ["day", "overcast", "golden", "night", "haze"], [0.6, 0.2, 0.08, 0.07, 0.05]
    kind = rng.choice(kinds, p=weights)
    azimuth, height = rng.uniform(-1.9, 1.9), rng.uniform(0.35, 1.2)
    if kind == "golden":
        height = 0.2
    direction = np.array([np.sin(azimuth), -np.cos(azimuth), height])
    direction /= np.linalg.norm(direction)

    def light(sun: tuple, ambient: tuple, *, is_night: bool = False) -> Light:
        return Light(direction, np.float32(sun), np.float32(ambient), is_night)

    if kind == "overcast":
        sky = np.float32([-12, -4, 4]) + rng.uniform(160, 225)
        return _Weather(light((0.16, 0.16, 0.16), (0.74, 0.76, 0.8)), sky, sky + 14, 0.6, 0.06)
    if kind == "golden":
        sun = light((0.72, 0.52, 0.3), (0.46, 0.43, 0.48))
        horizon = np.float32([244, 186, 122]) + rng.normal(0, 7, 3)
        return _Weather(sun, np.float32([104, 118, 172]), horizon, rng.uniform(0, 0.7), 0.05)
    if kind == "night":
        lamps = light((0.25, 0.22, 0.15), (0.8, 0.76, 0.7), is_night=True)
        return _Weather(lamps, np.float32([12, 16, 40]), np.float32([50, 48, 80]), 0.1, 0.0)
    if kind == "haze":
        pale = np.float32([206, 212, 214]) + rng.normal(0, 8, 3)
        return _Weather(light((0.34, 0.32, 0.28), (0.58, 0.58, 0.6)), pale - 14, pale, 0.2, 0.4)
    zenith = np.float32([80, 135, 205]) + rng.normal(0, 16, 3)
    sun, horizon = light((0.62, 0.59, 0.52), (0.44, 0.47, 0.52)), np.float32([190, 214, 236])
    return _Weather(sun, zenith, horizon, rng.uniform(0, 0.9), rng.uniform(0, 0.05))


def _horizon_rows(camera: Camera, columns: np.ndarray) -> np.ndarray:
    """Rows of the horizon at pixel `columns`."""
    up = camera.rotation[:, 2] @ camera.inverse
    return -(up[0] * columns + up[2]) / up[1]


def _blend(image: np.ndarray, colour: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Blend an image (H, W, 3) uint8 with the `share` (H, W) float32 in 0..1 of a colour."""
    cover = np.empty_like(image)
    cover[:] = np.clip(colour, 0, 255).astype(np.uint8)
    return cv2.blendLinear(image, cover, 1 - share, share)


def _paint_sky(
    image: np.ndarray, camera: Camera, weather: _Weather, rng: np.random.Generator
) -> None:
    """Fill `image` (H, W, 3) with the sky, from horizon to zenith, and its clouds."""
    side = len(image)
    middle = float(_horizon_rows(camera, np.array([side / 2]))[0])
    share = np.clip((middle - np.arange(side)) / (0.9 * side), 0, 1)[:, None] ** 0.7
    column = weather.horizon * (1 - share) + weather.zenith * share
    image[:] = np.clip(column, 0, 255).astype(np.uint8)[:, None]
    if weather.clouds > 0.1:
        noise = 0
        for k, n in ((1, 5), (2, 10), (4, 22)):
            octave = rng.random((n, n // 2 + 2), np.float32)
            noise = noise + cv2.resize(octave, (64, 64), interpolation=cv2.INTER_CUBIC) / k
        cover = np.clip((noise - 1.3 + weather.clouds * 0.75) * 1.8, 0, 0.9).astype(np.float32)
        cover = cv2.resize(cover, (side, side), interpolation=cv2.INTER_LINEAR)
        pale = np.float32([60, 60, 76]) if weather.light.is_night else np.float32([244, 244, 244])
        image[:] = _blend(image, 0.7 * pale + 0.3 * weather.horizon, cover)


def _paint_backdrop(
    image: np.ndarray, camera: Camera, weather: _Weather, kind: str, rng: np.random.Generator
) -> None:
    """Draw distant hills, woods or houses along the horizon."""
    side = len(image)
    columns = np.arange(0, side + 8, 8.0)
    count, base = len(columns), _horizon_rows(camera, columns)
    scale = camera.matrix[0, 0] * rng.uniform(0.5, 1.3)
    colours = {"hills": "7f9072", "forest": "4a6048", "mountains": "8d95a4", "dunes": "cfae78",
               "town": "b09a86", "city": "98a2ae", "sea": "6f93ab"}  # fmt: skip
    dim = np.float32([0.22, 0.24, 0.34]) if weather.light.is_night else np.float32([1, 1, 1])
    for layer in range(0 if kind == "sea" else 2):
        phase = rng.uniform(0, 6.28, 3)
        if kind in ("town", "city"):
            step = rng.uniform(0.01, 0.05 if kind == "town" else 0.14, count)
            lift = np.repeat(step[::2], 2)[:count]
        else:
            tall = {"mountains": 0.16, "hills": 0.07, "forest": 0.04, "dunes": 0.05}[kind]
            waves = sum(
                np.sin(columns / side * f + p) for f, p in zip((5, 9, 17), phase, strict=True)
            )
            lift = tall * (0.5 + 0.2 * waves)
            if kind != "dunes":
                lift += rng.uniform(0, 0.012, count)
        top = base - np.maximum(lift, 0.004) * scale * (1 - 0.4 * layer)
        foot = [[side + 8, base[-1] + 3], [0, base[0] + 3]]
        outline = np.concatenate([np.stack([columns, top], 1), foot])
        mist = 0.62 - 0.25 * layer
        paint = (hex_colour(colours[kind]) * dim) * (1 - mist) + weather.horizon * mist
        cv2.fillPoly(image, [np.round(outline).astype(np.int32)], np.clip(paint, 0, 255).tolist())


def _paint_ground(
    image: np.ndarray, inverse_depth: np.ndarray, camera: Camera, weather: _Weather, place: Place
) -> None:
    """Lay tiles of ground to the horizon; fills `inverse_depth` (H, W) there."""
    side, light = len(image), weather.light
    tile = ground_tile(place.ground, place.ground_variant)
    shade = light.shade(UP)[0] * (0.3 if light.is_night else 1.0)
    paint = tile * shade.astype(np.float32)
    if place.ground == "water":
        paint = 0.6 * paint + 0.4 * weather.horizon
    tile = np.clip(paint, 0, 255).astype(np.uint8)
    first = int(np.clip(_horizon_rows(camera, np.array([0.0, side])).min(), 0, side))
    if first == side:
        return
    grain = TILE_METRES / len(tile)
    frame = np.array([[grain, 0, 0], [0, grain, 0], [0, 0, 0.0]])
    move = np.array([[1.0, 0, 0], [0, 1.0, -first], [0, 0, 1.0]])
    ground = cv2.warpPerspective(
        tile, move @ camera.homographies(frame[None])[0], (side, side - first),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP,
    )  # fmt: skip
    plane = camera.inverse_depth_planes(UP, np.zeros((1, 3)))[0].astype(np.float32)
    near = plane_inverse_depth(plane, (0, side), (first, side))
    # Far away the tiles are smaller than a pixel: fade them to their mean colour, then to haze.
    sharp = np.clip(near * np.float32(camera.matrix[0, 0] * grain * 0.7), 0, 1)
    ground = _blend(ground, tile.reshape(-1, 3).mean(axis=0), 1 - sharp)
    air = np.clip(1 - near * np.float32(np.linalg.norm(camera.eye) * 2), 0, 1) * np.float32(0.35)
    ground = _blend(ground, weather.horizon, air)
    ahead = near > 1e-6
    cv2.copyTo(ground, ahead.view(np.uint8), image[first:])
    inverse_depth[first:] = np.where(ahead, near * np.float32(0.999), 0)


def _cast_shadow(image: np.ndarray, camera: Camera, light: Light, model: Model) -> None:
    """Darken the ground where the model's faces, projected along the sunlight, cover it."""
    corners = model.arrays[0]
    shadow = corners.copy()
    shadow[..., :2] -= corners[..., 2:] * (light.direction[:2] / max(light.direction[2], 0.25))
    shadow[..., 2] = 0
    points = camera.to_camera(shadow)
    mask = np.zeros(image.shape[:2], np.uint8)
    pixels = np.clip(camera.project(points[(points[..., 2] > 0.5).all(axis=1)]), -4000, 4000)
    for quad in np.round(pixels).astype(np.int32):
        cv2.fillConvexPoly(mask, quad, 255)
    horizon = _horizon_rows(camera, np.arange(image.shape[1], dtype=float))
    mask[np.arange(len(image))[:, None] <= horizon] = 0
    cv2.copyTo(cv2.convertScaleAbs(image, alpha=0.58), mask, image)


def apply_camera_effects(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary white balance, exposure and contrast; add blur, vignetting and noise."""
    # Saturation, white balance, contrast and exposure are one affine map of the colours.
    grey = np.full((3, 3), 1 / 3)
    if rng.random() < 0.02:
        sepia = [1.05, 0.97, 0.82] if rng.random() < 0.5 else [1, 1, 1]
        colours = np.diag(sepia) @ grey
    else:
        warm = rng.normal(0, 0.05)
        balance = np.diag([1 + warm, 1 + rng.normal(0, 0.02), 1 - warm])
        colours = balance @ (grey + (np.eye(3) - grey) * rng.uniform(0.7, 1.35))
    contrast, exposure = rng.uniform(0.88, 1.2), np.exp(rng.normal(0, 0.11))
    affine = np.column_stack([colours * contrast, np.full(3, 128 * (1 - contrast))]) * exposure
    pixels = cv2.transform(image.astype(np.float32), affine.astype(np.float32))
    blur = rng.random()
    if blur < 0.09:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 1.3) * len(pixels) / 128)
    elif blur < 0.13:
        kernel = np.zeros((5, 5), np.float32)
        kernel[2] = 0.2
        pixels = cv2.filter2D(pixels, -1, kernel if rng.random() < 0.5 else kernel.T)
    if rng.random() < 0.4:
        y, x = np.ogrid[-1 : 1 : len(pixels) * 1j, -1 : 1 : len(pixels) * 1j]
        pixels *= (1 - rng.uniform(0.1, 0.3) * (x * x + y * y) / 2)[..., None].astype(np.float32)
    pixels += rng.uniform(1, 5) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)
