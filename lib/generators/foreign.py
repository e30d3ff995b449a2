"""Images as other cameras and other ways of resizing might give them, of either class, so that neither is its mark."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.core.input_rule import IMAGE_SIZE, encoded_as_cifake

_GROUP = 20  # images that are changed alike


def as_foreign(images: np.ndarray, seed: int) -> np.ndarray:
    """Return images (uint8 N×32×32×3) sharpened or softened, cropped or resampled, recoloured, and as JPEG 75.

    A tenth is only encoded again.
    """
    random, parts = torch.Generator().manual_seed(seed), []
    for group in torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().split(_GROUP):
        changed = _recoloured(_resampled(group, random), random)
        parts.append(changed.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return as_jpeg75(np.concatenate(parts))


def as_jpeg75(images: np.ndarray) -> np.ndarray:
    """Return images (uint8 N×32×32×3), each encoded as all images of CIFAKE are."""
    return np.stack([encoded_as_cifake(image) for image in images])


def _resampled(images: Tensor, random: torch.Generator) -> Tensor:
    kind, size = _uniform(0, 1, random), (IMAGE_SIZE, IMAGE_SIZE)
    if kind < 0.4:
        return _sharpened(images, _uniform(-0.4, 1.4, random))
    if kind < 0.6:
        side = int(_uniform(23, IMAGE_SIZE, random))
        top, left = (int(_uniform(0, IMAGE_SIZE + 1 - side, random)) for _ in range(2))
        mode = ("bilinear", "bicubic")[int(_uniform(0, 2, random))]
        return F.interpolate(images[:, :, top : top + side, left : left + side], size, mode=mode)
    if kind < 0.9:
        side = int(_uniform(36, 110, random))
        large = F.interpolate(images, (side, side), mode="bicubic")
        mode = ("area", "nearest", "bilinear", "bicubic")[int(_uniform(0, 4, random))]
        small = F.interpolate(large, size, mode=mode, antialias=mode.startswith("bi"))
        return _sharpened(small, _uniform(0, 1.4, random)) if _uniform(0, 1, random) < 0.6 else small
    return images


def _sharpened(images: Tensor, amount: float) -> Tensor:
    """Add the difference from the mean of 3×3 pixels, `amount` times; below 0 it softens."""
    return images + amount * (images - F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1))


def _recoloured(images: Tensor, random: torch.Generator) -> Tensor:
    """Change contrast, brightness and saturation of two groups in five."""
    if _uniform(0, 1, random) >= 0.4:
        return images
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + _uniform(0.7, 1.35, random) * (images - mean) + _uniform(-20, 20, random)
    grey = images.mean(1, keepdim=True)
    return grey + _uniform(0.7, 1.35, random) * (images - grey)


def _uniform(low: float, high: float, random: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=random).item()
