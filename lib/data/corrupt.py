"""Corrupt whole batches of images as transport and cameras do, on any device: Gaussian noise, JPEG, Gaussian blur."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

CORRUPTION_TYPES = ("none", "noise", "jpeg", "blur")
NOISE_SIGMA = (0.02, 0.12)  # ranges, from low to high: σ on [0, 1]
JPEG_QUALITY = (25, 95)
BLUR_SIGMA = (0.3, 1.2)  # σ in pixels

NORMALS = 2**22  # standard normal values, drawn once: the noise of an image is a slice of them

# Quantisation tables K.1 and K.2 of ITU-T T.81 (1992), which libjpeg scales by the quality.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
)  # fmt: skip


def corrupt(images: Tensor, corruption_type: Tensor, severity: Tensor, noise_start: Tensor) -> Tensor:
    """Corrupt each image by its `corruption_type` (int64 N, index into CORRUPTION_TYPES).

    `images` is uint8 N×3×H×W with H and W multiples of 16; the result has the same form. The other tensors are on the
    CPU. A `severity` (float32 N) of 0 is the mild end of NOISE_SIGMA, JPEG_QUALITY and BLUR_SIGMA, 1 the severe end.
    `noise_start` (int64 N, 0 … NORMALS − 3·H·W) is where the noise of the image starts (see `noise_slice`).
    """
    device = images.device
    order = corruption_type.argsort(stable=True)
    sizes = corruption_type.bincount(minlength=len(CORRUPTION_TYPES)).tolist()
    groups = zip(images[order.to(device, non_blocking=True)].split(sizes), order.split(sizes), strict=True)
    corrupted = [next(groups)[0]]
    functions = ((NOISE_SIGMA, None), (JPEG_QUALITY[::-1], jpeg), (BLUR_SIGMA, gaussian_blur))
    for (group, indices), ((mild, severe), function) in zip(groups, functions, strict=True):
        if not len(indices):
            continue
        amount = (mild + (severe - mild) * severity[indices]).to(device, non_blocking=True)
        if function:
            corrupted.append(function(group, amount))
        else:
            start = noise_start[indices].to(device, non_blocking=True)
            corrupted.append(gaussian_noise(group, amount, noise_slice(start, group[0].numel()).view(group.shape)))
    original_order = order.argsort().to(device, non_blocking=True)
    return torch.cat(corrupted)[original_order].contiguous(memory_format=torch.channels_last)


def noise_slice(start: Tensor, length: int) -> Tensor:
    """Return `length` standard normal values from each `start` (int64 N): float32 N×length, equal on every device."""
    return _normals(start.device)[start[:, None] + torch.arange(length, device=start.device)]


@cache
def _normals(device: torch.device) -> Tensor:
    return torch.randn(NORMALS, generator=torch.Generator().manual_seed(0)).to(device)


def gaussian_noise(images: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Add `noise` (standard normal, N×3×H×W) times `sigma` (N, on [0, 1]) to uint8 images."""
    return _uint8(images + 255 * sigma[:, None, None, None] * noise)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int = 5) -> Tensor:
    """Blur uint8 images by a Gaussian of `sigma` pixels (N), cut off at `radius` pixels, with replicated borders."""
    offset = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    n, _, height, width = images.shape
    x = F.pad(images.float(), (radius,) * 4, mode="replicate").reshape(1, 3 * n, height + 2 * radius, -1)
    x = F.conv2d(x, kernel[:, None, :, None], groups=3 * n)
    x = F.conv2d(x, kernel[:, None, None, :], groups=3 * n)
    return _uint8(x.view(n, 3, height, width))


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Encode uint8 images (sides multiples of 16) as baseline JPEG 4:2:0 of `quality` (N, 1–100), and decode them.

    Equals libjpeg (Pillow) except for rounding inside the transforms: 95 % of the values differ by at most two levels,
    fewer where many coefficients lie half way between two multiples of the step, as after a JPEG with half the step.
    """
    red, green, blue = images.float().unbind(1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue).round()
    chroma = torch.stack([(blue - luma) / 1.772 + 128, (red - luma) / 1.402 + 128], 1).round()
    luma = _quantize(luma[:, None], _table(_LUMINANCE, quality))
    chroma = _quantize(F.avg_pool2d(chroma, 2).round(), _table(_CHROMINANCE, quality))
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear").round() - 128
    cb, cr = chroma[:, :1], chroma[:, 1:]
    return _uint8(torch.cat([luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb], 1))


def _table(base: tuple[int, ...], quality: Tensor) -> Tensor:
    quality = quality.round().clamp(1, 100)
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    table = _on(quality.device, base)
    return ((table * scale[:, None] + 50) / 100).floor().clamp(1, 255).view(-1, 1, 1, 1, 8, 8)


@cache
def _on(device: torch.device, values: tuple[int, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def _quantize(plane: Tensor, table: Tensor) -> Tensor:
    """Round the DCT coefficients of 8×8 blocks of `plane` (N×C×H×W, 0–255) to multiples of `table`."""
    n, channels, height, width = plane.shape
    blocks = plane.view(n, channels, height // 8, 8, width // 8, 8).transpose(3, 4) - 128
    dct = _dct(plane.device)
    coefficients = dct @ blocks @ dct.T
    blocks = dct.T @ ((coefficients / table).round() * table) @ dct + 128
    return blocks.transpose(3, 4).reshape(n, channels, height, width).round().clamp(0, 255)


@cache
def _dct(device: torch.device) -> Tensor:
    """Return the orthonormal DCT-II of eight values as an 8×8 matrix."""
    index = torch.arange(8, device=device)
    matrix = torch.cos((2 * index + 1) * index[:, None] * torch.pi / 16) / 2
    matrix[0] /= 2**0.5
    return matrix


def _uint8(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)
