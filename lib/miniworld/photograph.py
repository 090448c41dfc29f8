"""Light, sky, horizon and ground of one photograph."""

from dataclasses import dataclass

import cv2
import numpy as np

from lib.miniworld.renderer import Camera, Light, Model, plane_nearness, render
from lib.miniworld.surroundings import Place, fill_street, ground_tile, person_sprite
from lib.miniworld.textures import colour

METRES = 24.0  # of ground in one tile


@dataclass(frozen=True)
class Weather:
    """Light and sky of one photograph; colours are RGB."""

    light: Light
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float
    haze: float

    def __post_init__(self) -> None:
        for name in ("zenith", "horizon"):
            object.__setattr__(self, name, getattr(self, name).astype(np.float32))


def draw_weather(rng: np.random.Generator) -> Weather:
    """Draw a time of day and a sky."""
    hours, weights = ["day", "overcast", "golden", "night", "haze"], [0.6, 0.2, 0.08, 0.07, 0.05]
    hour = rng.choice(hours, p=weights)
    azimuth, height = rng.uniform(-1.9, 1.9), rng.uniform(0.35, 1.2)
    if hour == "golden":
        height = 0.2
    direction = np.array([np.sin(azimuth), -np.cos(azimuth), height])
    direction /= np.linalg.norm(direction)

    def light(sun: tuple, ambient: tuple, *, is_night: bool = False) -> Light:
        return Light(direction, np.float32(sun), np.float32(ambient), is_night)

    if hour == "overcast":
        sky = np.float32([-12, -4, 4]) + rng.uniform(160, 225)
        return Weather(light((0.16, 0.16, 0.16), (0.74, 0.76, 0.8)), sky, sky + 14, 0.6, 0.06)
    if hour == "golden":
        sun = light((0.72, 0.52, 0.3), (0.46, 0.43, 0.48))
        horizon = np.float32([244, 186, 122]) + rng.normal(0, 7, 3)
        return Weather(sun, np.float32([104, 118, 172]), horizon, rng.uniform(0, 0.7), 0.05)
    if hour == "night":
        lamps = light((0.25, 0.22, 0.15), (0.8, 0.76, 0.7), is_night=True)
        return Weather(lamps, np.float32([12, 16, 40]), np.float32([50, 48, 80]), 0.1, 0.0)
    if hour == "haze":
        pale = np.float32([206, 212, 214]) + rng.normal(0, 8, 3)
        return Weather(light((0.34, 0.32, 0.28), (0.58, 0.58, 0.6)), pale - 14, pale, 0.2, 0.4)
    zenith = np.float32([80, 135, 205]) + rng.normal(0, 16, 3)
    sun = light((0.62, 0.59, 0.52), (0.44, 0.47, 0.52))
    return Weather(
        sun, zenith, np.float32([190, 214, 236]), rng.uniform(0, 0.9), rng.uniform(0, 0.05)
    )


def horizon_rows(camera: Camera, columns: np.ndarray) -> np.ndarray:
    """Rows of the horizon at pixel `columns`."""
    up = camera.rotation[:, 2] @ camera.inverse
    return -(up[0] * columns + up[2]) / up[1]


def blend(image: np.ndarray, paint: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Lay `share` (H, W) float32 in 0..1 of one colour over an image (H, W, 3) uint8."""
    cover = np.empty_like(image)
    cover[:] = np.clip(paint, 0, 255).astype(np.uint8)
    return cv2.blendLinear(image, cover, 1 - share, share)


def paint_sky(
    image: np.ndarray, camera: Camera, weather: Weather, rng: np.random.Generator
) -> None:
    """Fill `image` (H, W, 3) with the sky, from horizon to zenith, and its clouds."""
    wide = len(image)
    middle = float(horizon_rows(camera, np.array([wide / 2]))[0])
    share = np.clip((middle - np.arange(wide)) / (0.9 * wide), 0, 1)[:, None] ** 0.7
    column = weather.horizon * (1 - share) + weather.zenith * share
    image[:] = np.clip(column, 0, 255).astype(np.uint8)[:, None]
    if weather.clouds > 0.1:
        fog = sum(
            cv2.resize(
                rng.random((n, n // 2 + 2), np.float32), (64, 64), interpolation=cv2.INTER_CUBIC
            )
            / k
            for k, n in ((1, 5), (2, 10), (4, 22))
        )
        cover = np.clip((fog - 1.3 + weather.clouds * 0.75) * 1.8, 0, 0.9).astype(np.float32)
        cover = cv2.resize(cover, (wide, wide), interpolation=cv2.INTER_LINEAR)
        pale = np.float32([60, 60, 76]) if weather.light.is_night else np.float32([244, 244, 244])
        image[:] = blend(image, 0.7 * pale + 0.3 * weather.horizon, cover)


def paint_backdrop(
    image: np.ndarray, camera: Camera, weather: Weather, kind: str, rng: np.random.Generator
) -> None:
    """Draw the far hills, woods or houses along the horizon."""
    wide = len(image)
    columns = np.arange(0, wide + 8, 8.0)
    base = horizon_rows(camera, columns)
    scale = camera.matrix[0, 0] * rng.uniform(0.5, 1.3)
    paints = {"hills": "7f9072", "forest": "4a6048", "mountains": "8d95a4", "dunes": "cfae78",
              "town": "b09a86", "city": "98a2ae", "sea": "6f93ab"}  # fmt: skip
    dim = np.float32([0.22, 0.24, 0.34]) if weather.light.is_night else np.float32([1, 1, 1])
    for layer in range(0 if kind == "sea" else 2):
        phase, count = rng.uniform(0, 6.28, 3), len(columns)
        if kind in ("town", "city"):
            step = rng.uniform(0.01, 0.05 if kind == "town" else 0.14, count)
            lift = np.repeat(step[::2], 2)[:count]
        else:
            tall = {"mountains": 0.16, "hills": 0.07, "forest": 0.04, "dunes": 0.05}[kind]
            waves = sum(
                np.sin(columns / wide * f + p) for f, p in zip((5, 9, 17), phase, strict=True)
            )
            lift = tall * (0.5 + 0.2 * waves)
            if kind != "dunes":
                lift += rng.uniform(0, 0.012, count)
        top = base - np.maximum(lift, 0.004) * scale * (1 - 0.4 * layer)
        edge = np.concatenate(
            [np.stack([columns, top], 1), [[wide + 8, base[-1] + 3], [0, base[0] + 3]]]
        )
        mist = 0.62 - 0.25 * layer
        paint = (colour(paints[kind]) * dim) * (1 - mist) + weather.horizon * mist
        cv2.fillPoly(image, [np.round(edge).astype(np.int32)], np.clip(paint, 0, 255).tolist())


def paint_ground(
    image: np.ndarray,
    nearness: np.ndarray,
    camera: Camera,
    weather: Weather,
    kind: str,
    variant: int,
) -> None:
    """Lay tiles of ground to the horizon; fills `nearness` (H, W) = 1/depth there."""
    wide = len(image)
    tile = ground_tile(kind, variant)
    light = weather.light
    shade = light.shade(np.array([[0.0, 0.0, 1.0]]))[0] * (0.3 if light.is_night else 1.0)
    paint = tile * shade.astype(np.float32)
    if kind == "water":
        paint = 0.6 * paint + 0.4 * weather.horizon
    tile = np.clip(paint, 0, 255).astype(np.uint8)
    grain = METRES / len(tile)
    frame = np.array([[grain, 0, 0], [0, grain, 0], [0, 0, 0.0]])
    plane = camera.nearness(np.array([[0.0, 0.0, 1.0]]), np.zeros((1, 3)))[0].astype(np.float32)
    first = int(np.clip(horizon_rows(camera, np.array([0.0, wide])).min(), 0, wide))
    if first == wide:
        return
    move = np.array([[1.0, 0, 0], [0, 1.0, -first], [0, 0, 1.0]])
    look = cv2.warpPerspective(
        tile,
        move @ camera.homographies(frame[None])[0],
        (wide, wide - first),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    near = plane_nearness(plane, (0, wide), (first, wide))
    # Far away the tiles shrink below a pixel: fade them into their mean colour, then into air.
    sharp = np.clip(near * np.float32(camera.matrix[0, 0] * grain * 0.7), 0, 1)
    look = blend(look, tile.reshape(-1, 3).mean(axis=0), 1 - sharp)
    air = np.clip(1 - near * np.float32(np.linalg.norm(camera.eye) * 2), 0, 1) * np.float32(0.35)
    look = blend(look, weather.horizon, air)
    ahead = near > 1e-6
    cv2.copyTo(look, ahead.view(np.uint8), image[first:])
    nearness[first:] = np.where(ahead, near * np.float32(0.999), 0)


OVERSAMPLING = 1.5
VIEWS = ("front", "back", "interior", "detail")


def photograph(
    place: Place,
    view: str,
    size: int,
    rng: np.random.Generator,
    *,
    hard: float = 0.5,
    spot: int = 0,
) -> np.ndarray:
    """Take one picture (size, size, 3) uint8 RGB of a place.

    `view` is one of VIEWS (detail shows the front's `spot`); `hard` in 0..1 is how far distance,
    crop and occlusion go.
    """
    wide = round(size * OVERSAMPLING)
    if view == "interior":
        image = _indoors(place.models["interior"], wide, rng, hard)
    else:
        image = _outdoors(place, view, wide, rng, hard, spot)
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return develop(image, rng)


def _indoors(model: Model, wide: int, rng: np.random.Generator, hard: float) -> np.ndarray:
    _low, high = model.bounds()
    half = high[0] * 0.55
    length = high[1]
    eye = np.array(
        [rng.uniform(-half, half), rng.uniform(-2, length * 0.4), rng.uniform(1.5, high[2] * 0.4)]
    )
    swing = rng.normal(0, 0.15 + 0.2 * hard) * length
    target = np.array([swing * 0.5, length, high[2] * rng.uniform(0.3, 0.55)])
    focal = wide * rng.uniform(0.65, 1.05 + 0.3 * hard)
    camera = Camera(eye, target, focal, (wide, wide), roll=rng.normal(0, 0.03))
    lamp = np.float32([1.0, 0.95, 0.86]) * rng.uniform(0.75, 1.0)
    direction = np.array([rng.choice([-0.7, 0.7]), -0.6, 0.4])
    light = Light(direction, lamp * 0.35, lamp * 0.72)
    image = np.full((wide, wide, 3), 30, np.uint8)
    nearness = np.zeros((wide, wide), np.float32)
    render(model, camera, light, image, nearness)
    if rng.random() < 0.4 + 0.3 * hard:
        crowd = Model()
        for _ in range(int(rng.integers(1, 5))):
            skin, tall, broad = person_sprite(int(rng.integers(48)))
            y = eye[1] + rng.uniform(3, 14)
            crowd.sheet(rng.uniform(-half, half), y, 0, broad, tall, skin, 0.0)
        render(crowd, camera, light, image, nearness)
    return image


def _aim(
    model: Model, view: str, wide: int, rng: np.random.Generator, hard: float, spot: np.ndarray
) -> Camera:
    """Choose where to stand and what to include."""
    low, high = model.bounds()
    centre, extent = (low + high) / 2, (high - low) / 2
    centre[2] -= extent[2] * rng.uniform(0.0, 0.25)
    if view == "detail":
        azimuth, fill = rng.normal(0, 0.15), 1.0
        centre = spot
        extent = np.array([1, 1, 1]) * max(extent[0], extent[2]) * rng.uniform(0.26, 0.32)
    else:
        azimuth = np.clip(rng.normal(0, 0.28), -0.8, 0.8)
        fill = np.exp(rng.uniform(np.log(0.98 - 0.25 * hard), np.log(1.1 + 0.25 * hard)))
    focal = wide * np.exp(rng.uniform(np.log(0.9), np.log(2.2)))
    across = abs(np.cos(azimuth)) * extent[0] + abs(np.sin(azimuth)) * extent[1]
    reach = max(across, extent[2])
    distance = reach * focal / (fill * wide / 2) + extent[1] * (view != "detail")
    rise = rng.uniform(0.02, 0.16) if rng.random() < 0.85 else rng.uniform(0.25, 0.5)
    away = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0]) * distance
    eye = np.array([centre[0], centre[1], 0.0]) + away
    eye[2] = max(1.7, rise * distance * 0.6) if view != "detail" else spot[2] * 0.6 + 1.7
    slack = wide * (0.05 + 0.13 * hard) * (0.3 if view == "detail" else 1.0)
    shift = tuple(rng.normal(0, slack / 1.7, 2) * (1.0, 0.5))
    return Camera(eye, centre, focal, (wide, wide), roll=rng.normal(0, 0.03), shift=shift)


def _outdoors(
    place: Place, view: str, wide: int, rng: np.random.Generator, hard: float, spot: int
) -> np.ndarray:
    model = place.models["back" if view == "back" else "front"]
    camera = _aim(model, view, wide, rng, hard, place.spots[spot % len(place.spots)])
    weather = draw_weather(rng)
    image = np.empty((wide, wide, 3), np.uint8)
    nearness = np.zeros((wide, wide), np.float32)
    paint_sky(image, camera, weather, rng)
    paint_backdrop(image, camera, weather, place.backdrop, rng)
    paint_ground(image, nearness, camera, weather, place.ground, place.variant)
    if place.forecourt.corners and view != "back":
        render(place.forecourt, camera, weather.light, image, nearness)
    if place.ground != "water":
        _cast_shadow(image, camera, weather.light, model)
    render(model, camera, weather.light, image, nearness)
    company = fill_street(place, view, camera, rng, hard if view != "detail" else 0.2)
    if company.corners:
        render(company, camera, weather.light, image, nearness)
    if weather.haze > 0.02:
        # Aerial perspective: the share of air grows with the distance, in units of the camera's.
        far = 1 / np.maximum(nearness * np.float32(np.linalg.norm(camera.eye)), 0.02)
        air = np.minimum(1 - np.exp(np.float32(-weather.haze) * far), np.float32(0.7))
        image = blend(image, weather.horizon, air)
    return image


def _cast_shadow(image: np.ndarray, camera: Camera, light: Light, model: Model) -> None:
    if light.is_night or light.sun.max() < 0.3:
        return
    corners = model.arrays[0]
    along = light.direction[:2] / max(light.direction[2], 0.25)
    fallen = corners.copy()
    fallen[..., :2] -= corners[..., 2:] * along
    fallen[..., 2] = 0
    seen = camera.see(fallen)
    mask = np.zeros(image.shape[:2], np.uint8)
    flat_points = np.clip(camera.project(seen[(seen[..., 2] > 0.5).all(axis=1)]), -4000, 4000)
    for quad in np.round(flat_points).astype(np.int32):
        cv2.fillConvexPoly(mask, quad, 255)
    horizon = horizon_rows(camera, np.arange(image.shape[1], dtype=float))
    mask[np.arange(len(image))[:, None] <= horizon] = 0
    cv2.copyTo(cv2.convertScaleAbs(image, alpha=0.58), mask, image)


def develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a photograph of a clean picture: white balance, exposure, contrast, blur and noise."""
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
    look = cv2.transform(image.astype(np.float32), affine.astype(np.float32))
    blur = rng.random()
    if blur < 0.09:
        look = cv2.GaussianBlur(look, (0, 0), rng.uniform(0.5, 1.3) * len(look) / 128)
    elif blur < 0.13:
        kernel = np.zeros((5, 5), np.float32)
        kernel[2] = 0.2
        look = cv2.filter2D(look, -1, kernel if rng.random() < 0.5 else kernel.T)
    if rng.random() < 0.4:
        y, x = np.ogrid[-1 : 1 : len(look) * 1j, -1 : 1 : len(look) * 1j]
        look *= (1 - rng.uniform(0.1, 0.3) * (x * x + y * y) / 2)[..., None].astype(np.float32)
    look += rng.uniform(1, 5) * rng.standard_normal(look.shape, dtype=np.float32)
    return np.clip(look, 0, 255).astype(np.uint8)
