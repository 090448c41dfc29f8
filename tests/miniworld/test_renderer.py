"""The miniature world's renderer against rays cast one by one."""

import numpy as np
import pytest

from lib.miniworld.renderer import Camera, Light, Model, flat, plane_inverse_depth, render, textured

SIZE = 48
EVEN = Light(np.array([0.0, 0.0, 1.0]), np.zeros(3, np.float32), np.ones(3, np.float32))


def _camera(rng: np.random.Generator) -> Camera:
    eye = rng.uniform((-6, -30, 1), (6, -18, 12))
    return Camera(eye, rng.uniform(-2, 2, 3), SIZE * 1.2, (SIZE, SIZE), roll=rng.normal(0, 0.1))


def _hit(ray: np.ndarray, eye: np.ndarray, corners: np.ndarray) -> tuple[float, bool]:
    """Depth along `ray` at which it meets a convex face, and whether it is surely off its edge."""
    normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
    if abs(ray @ normal) < 1e-9:
        return np.inf, True
    t = (corners[0] - eye) @ normal / (ray @ normal)
    point = eye + t * ray
    edges = np.roll(corners, -1, axis=0) - corners
    signs = np.cross(edges, point - corners) @ normal / np.linalg.norm(normal)
    lengths = np.linalg.norm(edges, axis=1)
    distance = (signs / lengths).min()  # metres inside the outline, negative outside
    return (t if distance > 0 and t > 0 else np.inf), abs(distance) > 0.5


def test_camera_projects_the_target_to_the_middle():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        eye, target = rng.uniform(-20, 20, 3), rng.uniform(-3, 3, 3)
        camera = Camera(eye, target, 80.0, (64, 48), roll=rng.normal())
        np.testing.assert_allclose(camera.project(camera.to_camera(target)), (32, 24), atol=1e-9)


def test_inverse_depth_planes_give_one_over_depth_on_the_plane():
    rng = np.random.default_rng(1)
    camera = _camera(rng)
    points = rng.uniform(-3, 3, (30, 3))
    points[:, 2] = 1.0
    plane = camera.inverse_depth_planes(np.array([[0.0, 0.0, 1.0]]), points[:1])[0]
    seen = camera.to_camera(points)
    pixels = camera.project(seen)
    found = pixels @ plane[:2] + plane[2]
    np.testing.assert_allclose(found, 1 / seen[:, 2], rtol=1e-9)
    grid = plane_inverse_depth(plane, (3, 9), (5, 8))
    assert grid.shape == (3, 6)
    np.testing.assert_allclose(grid[1, 2], plane @ (5, 6, 1), rtol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_render_shows_the_surface_that_each_ray_meets_first(seed):
    rng = np.random.default_rng(seed)
    camera, model = _camera(rng), Model()
    for shade in range(1, 5):
        x, y, low, *size = rng.uniform((-5, -5, 0, 2, 2, 2), (5, 5, 2, 7, 7, 7))
        textures = [flat((shade * 50, side * 60, 0)) for side in range(4)]
        model.box(x, y, low, *size, textures, cap=flat((shade * 50, 250, 0)))
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    render(model, camera, EVEN, image, np.zeros((SIZE, SIZE), np.float32))
    corners, textures = np.array(model.corners), model.textures
    checked = 0
    for row, column in rng.integers(0, SIZE, (150, 2)):
        ray = camera.rotation.T @ camera.inverse @ (column, row, 1.0)
        hits = [_hit(ray, camera.eye, face) for face in corners]
        if not all(is_clear for _, is_clear in hits):
            continue  # too near an outline for one pixel to decide
        depths = np.array([depth for depth, _ in hits])
        first = np.argmin(depths)
        expected = textures[first].day[0][0, 0] if np.isfinite(depths[first]) else np.zeros(3)
        light = 0.85 + 0.15 * model.arrays[2][first, 2] if np.isfinite(depths[first]) else 1
        np.testing.assert_allclose(image[row, column], expected * light, atol=1.5)
        checked += 1
    assert checked > 50


def test_render_keeps_a_texture_upright_and_unmirrored():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:16, :16] = (250, 0, 0)  # red at the top left
    model = Model()
    model.box(0, 0, 0, 4, 4, 4, [textured(picture)])
    camera = Camera((0, -20, 2), (0, 0, 2), SIZE * 3.0, (SIZE, SIZE))
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    render(model, camera, EVEN, image, np.zeros((SIZE, SIZE), np.float32))
    red = np.argwhere(image[..., 0] > 150)
    assert len(red) > 50
    assert (red < SIZE / 2 + 1).all()


def test_render_sees_through_holes():
    picture = np.full((16, 16, 4), 255, np.uint8)
    picture[:, :8, 3] = 0
    model = Model()
    model.sheet(0, 0, 0, 4, 4, textured(picture))
    camera = Camera((0, -20, 2), (0, 0, 2), SIZE * 3.0, (SIZE, SIZE))
    inverse_depth = np.zeros((SIZE, SIZE), np.float32)
    render(model, camera, EVEN, np.zeros((SIZE, SIZE, 3), np.uint8), inverse_depth)
    assert inverse_depth[24, 16] == 0
    assert inverse_depth[24, 32] == pytest.approx(1 / 20, rel=0.01)


def test_render_cuts_faces_that_reach_behind_the_camera():
    model = Model()
    model.face([[-50, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0]], flat((200, 200, 200)))
    camera = Camera((0, 0, 2), (0, 10, 1), SIZE, (SIZE, SIZE))
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    render(model, camera, EVEN, image, np.zeros((SIZE, SIZE), np.float32))
    assert (image[-10:] > 0).all()
    assert (image[:10] == 0).all()
