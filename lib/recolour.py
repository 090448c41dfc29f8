"""Random colour of a batch: one colour matrix per image, and blur ([20], code).

Brightness, contrast, saturation, hue and the order of the channels are linear in the pixel, so they
compose into a 3×3 matrix and cost one small product per batch, on whatever device the images are.
"""

import math

import torch
import torch.nn.functional as F

from lib.distort import draw_uniform

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R 601, as PIL and torchvision have it
BLUR_SIGMA = 3 / 448  # largest, as a share of the side: [20] blurs by up to 3 pixels of 448


def colour_jitter(
    images: torch.Tensor,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    permute: float = 0.0,
    p: float = 1.0,
    generator: torch.Generator,
) -> torch.Tensor:
    """Change brightness, contrast, saturation, hue and channel order of each image by its own draw.

    Contrast is about the image's mean grey and saturation about each pixel's grey, as in
    torchvision; the hue turns about the grey axis, so that greys stay as they are. They apply in
    this order, and values are clipped to 0 to 255 once, at the end.

    Args:
        images: (B, 3, H, W), values 0 to 255, any dtype.
        brightness: the factor is uniform in 1 ± this.
        contrast: likewise.
        saturation: likewise.
        hue: the angle is uniform in ± this, in degrees.
        permute: probability of a random order of the channels.
        p: probability of each of the first four.
        generator: source of all draws.

    Returns:
        Floats of the same shape.
    """
    images = images if images.is_floating_point() else images.float()
    b, c, s = (
        1 + _draw(images, generator, max(-1.0, -width), width, p)[:, None, None]
        for width in (brightness, contrast, saturation)
    )
    grey = torch.tensor(GREY, device=images.device, dtype=images.dtype)
    matrix = b * c * (s * torch.eye(3, device=images.device) + (1 - s) * grey.expand(3, 3))
    pixels = images.flatten(2)
    offset = ((1 - c) * b * (pixels.mean(2) @ grey)[:, None, None]).expand(-1, 3, 1)
    if hue:
        matrix = hue_matrix(_draw(images, generator, -hue, hue, p) * (math.pi / 180)) @ matrix
    if permute:
        # The offset is the same for all channels, so it minds neither a turn nor an exchange.
        matrix = _orders(images, generator, permute) @ matrix
    return torch.baddbmm(offset, matrix, pixels).clamp_(0.0, 255.0).view_as(images)


def hue_matrix(angle: torch.Tensor) -> torch.Tensor:
    """Rotations of RGB about the grey axis by angles (B,) in radians, (B, 3, 3).

    >>> hue_matrix(torch.tensor([2 * math.pi / 3])).round(decimals=3)[0].abs().tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    third, root = torch.full((3, 3), 1 / 3), 1 / math.sqrt(3)
    cross = root * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    third, cross = third.to(angle), cross.to(angle)
    return cos * torch.eye(3).to(angle) + (1 - cos) * third + sin * cross


def random_blur(
    images: torch.Tensor, p: float = 0.5, *, generator: torch.Generator
) -> torch.Tensor:
    """Blur each image with probability `p` by a Gaussian of its own width.

    The standard deviation is uniform up to 3 pixels at 448 px, and in proportion at other sizes.

    Args:
        images: (B, C, H, W) floats.
        p: share of images that are blurred.
        generator: source of all draws.
    """
    count, channels, height, width = images.shape
    largest = BLUR_SIGMA * max(height, width)
    sigma = _draw(images, generator, 0.0, largest, p).clamp(min=1e-3)
    reach = min(math.ceil(3 * largest), min(height, width) - 1)
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = (-0.5 * (offsets / sigma[:, None]) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, dim=0)
    padded = F.pad(images, (reach,) * 4, mode="reflect").flatten(0, 1)[None]
    rows = F.conv2d(padded, kernel[:, None, None, :], groups=count * channels)
    return F.conv2d(rows, kernel[:, None, :, None], groups=count * channels).view_as(images)


def _draw(
    images: torch.Tensor, generator: torch.Generator, low: float, high: float, p: float
) -> torch.Tensor:
    """(B,) uniform draws, each with probability `p`, otherwise 0."""
    draws = draw_uniform(images, generator, low, high)
    return draws if p >= 1.0 else draws * (draw_uniform(images, generator, 0.0, 1.0) < p)


def _orders(images: torch.Tensor, generator: torch.Generator, p: float) -> torch.Tensor:
    """(B, 3, 3) random permutation matrices with probability `p`, otherwise the identity."""
    order = draw_uniform(images, generator, 0.0, 1.0, 3).argsort(dim=1)
    kept = draw_uniform(images, generator, 0.0, 1.0) >= p
    order = torch.where(kept[:, None], torch.arange(3, device=images.device), order)
    return F.one_hot(order, 3).to(images.dtype)
