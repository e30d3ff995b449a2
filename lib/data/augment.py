"""Augment whole batches of training images: parameters drawn on the CPU, the same whatever device applies them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.core.input_rule import IMAGE_SIZE
from lib.data.corrupt import CORRUPTION_TYPES, NORMALS, corrupt

_GREY = 128


@dataclass(frozen=True)
class Augmentation:
    """Configure the augmentation of training images.

    With `flip` half of them are flipped left to right. Each is translated by up to `translate` pixels, vertically and
    horizontally, and by up to `margin` more where the images are packed with a margin, which a random crop moves
    within. The result has `image_size` pixels a side. A share `corruption_prob` is corrupted by noise, JPEG or blur
    (lib.data.corrupt). Cutout sets a square of `cutout_size` pixels a side to grey, anywhere in each image and across
    its border too (DeVries & Taylor 2017, arXiv 1708.04552).
    """

    flip: bool = False
    translate: int = 0
    corruption_prob: float = 0.0
    cutout_size: int = 0
    image_size: int = IMAGE_SIZE
    margin: int = 0

    def get_params(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the parameters for `n` images: a dictionary of tensors of length n.

        `flip` is bool; `down` and `right` are int64, in pixels. With `corruption_prob` there are also
        `corruption_type`, `severity` and `noise_start`, as `lib.data.corrupt.corrupt` takes them; with `cutout_size`,
        `top` and `left` (int64, in pixels, may be negative).
        """
        flip = torch.rand(n, generator=generator) < 0.5 if self.flip else torch.zeros(n, dtype=torch.bool)
        most = self.translate + self.margin
        down, right = torch.randint(-most, most + 1, (2, n), generator=generator)
        params = {"flip": flip, "down": down, "right": right}
        if self.corruption_prob:
            corruption_type = torch.randint(1, len(CORRUPTION_TYPES), (n,), generator=generator)
            corruption_type[torch.rand(n, generator=generator) >= self.corruption_prob] = 0
            severity = torch.rand(n, generator=generator)
            noise_start = torch.randint(NORMALS - 3 * self.image_size**2, (n,), generator=generator)
            params |= {"corruption_type": corruption_type, "severity": severity, "noise_start": noise_start}
        if self.cutout_size:
            top, left = torch.randint(1 - self.cutout_size, self.image_size, (2, n), generator=generator)
            params |= {"top": top, "left": left}
        return params

    def apply(self, images: Tensor, indices: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Return `images[indices]`, augmented with `params`, as uint8 N×3×S×S in channels-last memory.

        `images` is uint8 M×P×P×3, on any device, with P the image size and twice the margin; `indices` (int64 N) and
        `params` are on the CPU.
        """
        shift = (params[name] for name in ("flip", "down", "right"))
        batch = flip_and_translate(images, indices, *shift, margin=(images.shape[1] - self.image_size) // 2)
        if self.corruption_prob:
            batch = corrupt(batch, params["corruption_type"], params["severity"], params["noise_start"])
        if self.cutout_size:
            batch = cutout(batch, params["top"], params["left"], self.cutout_size)
        return batch


def flip_and_translate(
    images: Tensor, indices: Tensor, flip: Tensor, down: Tensor, right: Tensor, margin: int = 0
) -> Tensor:
    """Return `images[indices]` without their `margin`, flipped and translated, as uint8 N×3×S×S, channels last.

    `images` is M×P×P×3, with P = S + 2·`margin`. Borders that a translation uncovers are filled by reflection.
    """
    side = images.shape[1]
    per_image = (indices, flip, down, right)
    indices, flip, down, right = (part.to(images.device, non_blocking=True)[:, None] for part in per_image)
    position = torch.arange(margin, side - margin, device=images.device)
    y, x = (_reflect(position - shift, side - 1) for shift in (down, right))
    x = torch.where(flip, side - 1 - x, x)
    pixel = ((indices * side + y)[:, :, None] * side + x[:, None, :]).flatten()
    batch = images.view(-1, 3).index_select(0, pixel)
    return batch.view(len(indices), len(position), len(position), 3).permute(0, 3, 1, 2)


def cutout(images: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Set a square of `size` pixels a side to grey in each image, from `top` and `left` (int64 N, may be negative)."""
    position = torch.arange(images.shape[-1], device=images.device)
    start = torch.stack((top, left)).to(images.device, non_blocking=True)[..., None]
    inside_y, inside_x = (position >= start) & (position < start + size)
    mask = (inside_y[:, :, None] & inside_x[:, None, :])[..., None]
    return images.permute(0, 2, 3, 1).masked_fill(mask, _GREY).permute(0, 3, 1, 2)


def _reflect(position: Tensor, last: int) -> Tensor:
    return last - (last - position.abs()).abs()
