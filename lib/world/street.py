"""What stands between the camera and a landmark: its trees, passers-by, cars, other houses.

Distances are shares of the way to the landmark, positions across shares of half the picture, so
that what occludes does so in every photograph, however large the landmark is.
"""

import numpy as np

from lib.world import sprites
from lib.world.camera import Camera
from lib.world.facades import wall
from lib.world.looks import draw_look
from lib.world.places import Place
from lib.world.solids import Model, Skin, flat
from lib.world.trees import tree


class Street:
    """The ground before a landmark as one camera sees it; `model` collects what stands there."""

    def __init__(self, camera: Camera, goal: np.ndarray) -> None:
        self.model = Model()
        self._eye, ahead = camera.eye, camera.rotation[2] * (1, 1, 0)
        self._ahead = ahead / np.linalg.norm(ahead)
        self._right = np.array([self._ahead[1], -self._ahead[0], 0.0])
        self._turn = float(np.arctan2(self._right[1], self._right[0]))
        self.length = float(np.linalg.norm((goal - camera.eye)[:2]))
        self.slope = camera.width / 2 / camera.matrix[0, 0]

    def spot(self, distance: float, across: float) -> tuple[float, float]:
        """Where on the ground something stands that is seen `across` from the middle (-1..1)."""
        x, y, _ = self._eye + (self._ahead + self._right * across * self.slope) * distance
        return float(x), float(y)

    def stand(
        self, sprite: tuple[Skin, float, float], x: float, y: float, grow: float = 1.0
    ) -> None:
        """Stand a sprite (skin, height, width) upright, facing the camera."""
        skin, tall, broad = sprite
        self.model.sheet(x, y, 0, broad * grow, tall * grow, skin, self._turn)

    def house(self, skin: Skin, distance: float, across: float, broad: float, tall: float) -> None:
        """Put up a plain house; `broad` and `tall` as shares of half the picture."""
        scale = distance * self.slope
        x, y = self.spot(distance, across)
        wide = broad * scale
        self.model.box(x, y, 0, wide, wide, tall * scale, [skin], cap=flat((120, 110, 104)))


def fill_street(
    place: Place, view: str, camera: Camera, rng: np.random.Generator, hard: float
) -> Model:
    """Draw who and what is in the picture besides the landmark; `hard` in 0..1 is how much."""
    low, high = place.models["back" if view == "back" else "front"].bounds()
    street = Street(camera, (low + high) / 2)
    length, is_dry = street.length, place.ground != "water"
    trees = [kind for kind in place.style.trees.split() if kind != "none"]
    for kind, variant, x, y in place.garden if view == "front" else ():
        street.stand(tree(kind, variant), x, y)
    for _ in range(int(rng.integers(0, 2 + round(8 * hard))) if is_dry else 0):
        spot = street.spot(rng.uniform(min(7, length * 0.5), length * 0.8), rng.uniform(-1, 1))
        street.stand(sprites.person(int(rng.integers(48))), *spot)
    if trees and rng.random() < 0.4 * hard:
        sprite = tree(str(rng.choice(trees)), int(rng.integers(6)))
        grow = max(0.5, length * street.slope * rng.uniform(0.03, 0.08))
        spot = street.spot(length * rng.uniform(0.3, 0.6), rng.uniform(-0.9, 0.9))
        street.stand(sprite, *spot, grow)
    if is_dry and rng.random() < 0.3 * hard:
        distance = max(9.0, length * rng.uniform(0.2, 0.5))
        sprite = sprites.vehicle(int(rng.integers(32)))
        street.stand(sprite, *street.spot(distance, rng.uniform(-0.7, 0.7)))
    if rng.random() < 0.2 * hard:
        x, y = street.spot(length * 0.4, rng.uniform(-0.8, 0.8))
        tall = length * street.slope * 0.8
        street.model.box(x, y, 0, tall / 100, tall / 100, tall, [flat((70, 72, 76))])
    if rng.random() < 0.3 * hard:
        look = draw_look(place.style, np.random.default_rng(int(rng.integers(6))))
        across = rng.choice([-1, 1]) * rng.uniform(0.85, 1.25)
        distance, broad, tall = rng.uniform((0.35, 0.5, 0.6), (0.6, 0.9, 1.8))
        street.house(wall(look, 14, 12), distance * length, across, broad, tall)
    return street.model
