"""Corruptions under which a detector is evaluated: noise, blur, JPEG, resizing, geometry, colour, frequency bands.

Each takes and returns uint8 N×3×S×S. Sides in pixels are those for images of 32×32, and in proportion for others. Noise
is drawn from PyTorch's global generator.
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

from lib.core.input_rule import IMAGE_SIZE
from lib.data.corrupt import NORMALS, gaussian_blur, gaussian_noise, noise_slice
from lib.data.spectrum import keep_frequencies, without_luma

JPEG_QUALITIES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
_BLUR_RADIUS = 7  # pixels: 3.5 standard deviations of the widest blur


class Corruption(NamedTuple):
    """A change to images: its `group`, its `severity` in the units of the group, and the function that applies it."""

    group: str
    severity: float
    apply: Callable[[Tensor], Tensor]


def noise(images: Tensor, sigma: float) -> Tensor:
    """Add Gaussian noise of standard deviation `sigma` on [0, 1], of a random slice for each image."""
    length = images[0].numel()
    start = torch.randint(NORMALS - length, (len(images),))
    return gaussian_noise(images, _each(images, sigma), noise_slice(start, length).view(images.shape))


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian of `sigma` pixels."""
    return gaussian_blur(images, _each(images, sigma), _BLUR_RADIUS)


# Pillow's is the encoder that people's files come from. Training has a tensor version (lib.data.corrupt.jpeg), because
# there each image of a batch has its own quality, and the batch lies on the GPU.
def jpeg(images: Tensor, quality: float) -> Tensor:
    """Encode as JPEG of `quality` and decode, by Pillow."""
    decoded = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        decoded.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


def shifted_jpeg(images: Tensor, quality: float) -> Tensor:
    """Encode as JPEG with the grid of 8×8 blocks shifted by four pixels from the one of the images' own compression."""
    shifted = jpeg(F.pad(images, [4, 4, 4, 4], padding_mode="reflect"), quality)
    return F.crop(shifted, 4, 4, *images.shape[-2:])


def resize(images: Tensor, side: float) -> Tensor:
    """Resize to `side` pixels and back."""
    return _square(_square(images, _scaled(images, side)), images.shape[-1])


def screenshot(images: Tensor, scale: float) -> Tensor:
    """Upscale by `scale` as browsers do, capture one screen pixel off, save as PNG (lossless), downscale."""
    upscaled = _square(images, round(scale * images.shape[-1]), InterpolationMode.BILINEAR)
    captured = torch.roll(upscaled, (1, 1), (2, 3))
    return _square(captured, images.shape[-1])


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Rotate about the centre; corners are filled by reflection."""
    margin = images.shape[-1] // 4
    padded = F.pad(images, [margin] * 4, padding_mode="reflect")
    return F.center_crop(F.rotate(padded, degrees, InterpolationMode.BILINEAR), list(images.shape[-2:]))


def crop(images: Tensor, side: float) -> Tensor:
    """Crop the central `side` pixels and resize them to the full size."""
    return _square(F.center_crop(images, [_scaled(images, side)] * 2), images.shape[-1])


def _scaled(images: Tensor, side: float) -> int:
    """Return a side in pixels of an image of 32×32 for the size of `images`."""
    return round(side * images.shape[-1] / IMAGE_SIZE)


def _each(images: Tensor, value: float) -> Tensor:
    return torch.full((len(images),), value)


def _square(images: Tensor, side: int, interpolation: InterpolationMode = InterpolationMode.BICUBIC) -> Tensor:
    return F.resize(images, [side, side], interpolation, antialias=True)


def _severities(group: str, apply: Callable[[Tensor, float], Tensor], *severities: float) -> dict[str, Corruption]:
    return {
        f"{group} {severity:g}": Corruption(group, severity, lambda x, severity=severity: apply(x, severity))
        for severity in severities
    }


# What transport, screens and cameras do, with the corruptions of the published study (lib.evaluation.published).
ROBUSTNESS: dict[str, Corruption] = {
    "clean": Corruption("clean", 0, lambda x: x),
    **_severities("noise", noise, 0.02, 0.05, 0.1, 0.2),
    **_severities("blur", blur, 0.4, 0.6, 1.0, 2.0),
    **_severities("JPEG", jpeg, *JPEG_QUALITIES),
    **_severities("JPEG, grid shifted", shifted_jpeg, 40, 75, 95),
    **_severities("resize", resize, 16, 24, 64),
    **_severities("screenshot", screenshot, 1.25, 1.5, 2),
    **_severities("brightness", F.adjust_brightness, 0.7, 1.3),
    **_severities("contrast", F.adjust_contrast, 0.7, 1.3),
    **_severities("saturation", F.adjust_saturation, 0.5, 1.5),
    **_severities("rotation", rotate, 5, 15, 90),
    **_severities("crop", crop, 24, 28),
}

# Which frequencies and colours the network relies on.
FREQUENCY_ABLATION: dict[str, Corruption] = {
    **_severities("low-pass", partial(keep_frequencies, low=0.0), 0.1, 0.2, 0.3, 0.4),
    **_severities("high-pass", lambda x, low: keep_frequencies(x, low=low, high=1.0), 0.1, 0.2, 0.3, 0.4),
    "luma only": Corruption("colour", 0, lambda x: F.adjust_saturation(x, 0.0)),
    "chroma only": Corruption("colour", 1, without_luma),
}
