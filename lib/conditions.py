"""What happens to pictures on their way: conditions under which a detector is judged, made by torchvision and Pillow.

Each takes and returns uint8 N×3×32×32. Noise is drawn from PyTorch's global generator.
"""

import io
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from lib.decode import SIDE
from lib.spectrum import keep_frequencies, without_luma

JPEG_QUALITIES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
_BLUR_KERNEL = 15  # pixels, past three standard deviations of the widest


class Condition(NamedTuple):
    """One way to change images: a `group`, how far in it (`level`), and the change itself."""

    group: str
    level: float
    apply: Callable[[Tensor], Tensor]


def noise(images: Tensor, sigma: float) -> Tensor:
    """Add Gaussian noise of `sigma` on [0, 1]."""
    return F.gaussian_noise(images, sigma=sigma)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian of `sigma` pixels."""
    return F.gaussian_blur(images, [_BLUR_KERNEL, _BLUR_KERNEL], [sigma, sigma])


def jpeg(images: Tensor, quality: float) -> Tensor:
    """Encode as JPEG of `quality` and decode, by Pillow."""
    decoded = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        decoded.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


def moved_jpeg(images: Tensor, quality: float) -> Tensor:
    """Encode as JPEG whose grid of 8×8 blocks lies four pixels beside the one that the images were made with."""
    return F.crop(jpeg(F.pad(images, [4, 4, 4, 4], padding_mode="reflect"), quality), 4, 4, SIDE, SIDE)


def resize(images: Tensor, side: float) -> Tensor:
    """Resize to `side` pixels and back."""
    return _square(_square(images, int(side)), SIDE)


def screenshot(images: Tensor, scale: float) -> Tensor:
    """Show enlarged by `scale`, as browsers do, capture one screen pixel off, save as PNG (lossless), shrink back."""
    shown = _square(images, round(scale * SIDE), InterpolationMode.BILINEAR)
    captured = torch.roll(shown, (1, 1), (2, 3))
    return _square(captured, SIDE)


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Rotate about the centre; corners are filled by reflection."""
    margin = SIDE // 4
    padded = F.pad(images, [margin] * 4, padding_mode="reflect")
    return F.center_crop(F.rotate(padded, degrees, InterpolationMode.BILINEAR), [SIDE, SIDE])


def crop(images: Tensor, side: float) -> Tensor:
    """Cut the middle out, `side` pixels wide, and enlarge it."""
    return _square(F.center_crop(images, [int(side), int(side)]), SIDE)


def _square(images: Tensor, side: int, how: InterpolationMode = InterpolationMode.BICUBIC) -> Tensor:
    return F.resize(images, [side, side], how, antialias=True)


def _levels(group: str, apply: Callable[[Tensor, float], Tensor], *levels: float) -> dict[str, Condition]:
    return {f"{group} {level:g}": Condition(group, level, lambda x, level=level: apply(x, level)) for level in levels}


# What transport, screens and cameras do; the conditions of the published study (lib.published) are among them.
ROBUSTNESS: dict[str, Condition] = {
    "clean": Condition("clean", 0, lambda x: x),
    **_levels("noise", noise, 0.02, 0.05, 0.1, 0.2),
    **_levels("blur", blur, 0.4, 0.6, 1.0, 2.0),
    **_levels("JPEG", jpeg, *JPEG_QUALITIES),
    **_levels("JPEG, grid moved", moved_jpeg, 40, 75, 95),
    **_levels("resize", resize, 16, 24, 64),
    **_levels("screenshot", screenshot, 1.25, 1.5, 2),
    **_levels("brightness", F.adjust_brightness, 0.7, 1.3),
    **_levels("contrast", F.adjust_contrast, 0.7, 1.3),
    **_levels("saturation", F.adjust_saturation, 0.5, 1.5),
    **_levels("rotation", rotate, 5, 15, 90),
    **_levels("crop", crop, 24, 28),
}

# What is left when a part of the evidence is taken away.
EVIDENCE: dict[str, Condition] = {
    **_levels("only below", partial(keep_frequencies, low=0.0), 0.1, 0.2, 0.3, 0.4),
    **_levels("only above", lambda x, low: keep_frequencies(x, low=low, high=1.0), 0.1, 0.2, 0.3, 0.4),
    "luma alone": Condition("colour", 0, lambda x: F.adjust_saturation(x, 0.0)),
    "chroma alone": Condition("colour", 1, without_luma),
}
