"""Photographs of places: where one stands, what the light is, who passes by.

Side, distance, crop, sun, sky, trees and people change from picture to picture; shape and facade
do not, so only they tell which place it is.
"""

import cv2
import numpy as np

from lib.world import sprites
from lib.world.camera import Camera, Light, render
from lib.world.places import Place
from lib.world.solids import Model
from lib.world.street import fill_street
from lib.world.weather import (
    blend,
    draw_weather,
    horizon_rows,
    paint_backdrop,
    paint_ground,
    paint_sky,
)

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
            skin, tall, broad = sprites.person(int(rng.integers(48)))
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
