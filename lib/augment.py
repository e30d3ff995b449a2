"""Vary training images: drawn on the CPU, so that every device sees the same, and done to whole batches at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.decode import SIDE
from lib.degrade import KINDS, NORMALS, degrade

_GREY = 128


@dataclass(frozen=True)
class Augmentation:
    """Say how training images vary.

    With `flip` half of them are mirrored left to right. Each is moved by up to `shift` pixels down and to the right,
    or up and to the left. The share `degrade` of them is made worse by noise, JPEG or blur (lib.degrade). Each has a
    square of `erase` pixels a side made grey, wherever it falls, across the edge too (DeVries & Taylor 2017, arXiv
    1708.04552).
    """

    flip: bool = False
    shift: int = 0
    degrade: float = 0.0
    erase: int = 0

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw what happens to each of `n` images, by name; every tensor has the length n.

        `flip` is bool; `down` and `right` are int64, in pixels. Where images are degraded, there are also `kind`,
        `strength` and `noise`, as `lib.degrade.degrade` takes them; where they are erased, `top` and `left`.
        """
        flip = torch.rand(n, generator=generator) < 0.5 if self.flip else torch.zeros(n, dtype=torch.bool)
        down, right = torch.randint(-self.shift, self.shift + 1, (2, n), generator=generator)
        drawn = {"flip": flip, "down": down, "right": right}
        if self.degrade:
            kind = torch.randint(1, len(KINDS), (n,), generator=generator)
            kind[torch.rand(n, generator=generator) >= self.degrade] = 0
            strength = torch.rand(n, generator=generator)
            noise = torch.randint(NORMALS - 3 * SIDE * SIDE, (n,), generator=generator)
            drawn |= {"kind": kind, "strength": strength, "noise": noise}
        if self.erase:
            top, left = torch.randint(1 - self.erase, SIDE, (2, n), generator=generator)
            drawn |= {"top": top, "left": left}
        return drawn

    def apply(self, images: Tensor, rows: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        """Return `images[rows]`, each varied as drawn, as uint8 N×3×32×32 in channels-last memory.

        `images` is uint8 M×32×32×3, on any device; `rows` (int64 N) and what is drawn lie on the CPU.
        """
        picked = gather(images, rows, drawn["flip"], drawn["down"], drawn["right"])
        if self.degrade:
            picked = degrade(picked, drawn["kind"], drawn["strength"], drawn["noise"])
        if self.erase:
            picked = erase(picked, drawn["top"], drawn["left"], self.erase)
        return picked


AS_IT_IS = Augmentation()


def gather(images: Tensor, rows: Tensor, flip: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Return `images[rows]`, each mirrored and moved as told, as uint8 N×3×32×32 in channels-last memory.

    `images` is M×32×32×3. What a move uncovers is filled by reflection.
    """
    rows, flip, down, right = (part.to(images.device, non_blocking=True)[:, None] for part in (rows, flip, down, right))
    side = torch.arange(SIDE, device=images.device)
    y, x = _reflect(side - down), _reflect(side - right)
    x = torch.where(flip, SIDE - 1 - x, x)
    pixel = ((rows * SIDE + y)[:, :, None] * SIDE + x[:, None, :]).flatten()
    picked = images.view(-1, 3).index_select(0, pixel)
    return picked.view(len(rows), SIDE, SIDE, 3).permute(0, 3, 1, 2)


def erase(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Make a square of each image grey: from row `top` and column `left` (int64 N, may be negative), `side` pixels."""
    place = torch.arange(SIDE, device=images.device)
    start = torch.stack((top, left)).to(images.device, non_blocking=True)[..., None]
    rows, columns = (place >= start) & (place < start + side)
    erased = (rows[:, :, None] & columns[:, None, :])[..., None]
    return images.permute(0, 2, 3, 1).masked_fill(erased, _GREY).permute(0, 3, 1, 2)


def _reflect(position: Tensor) -> Tensor:
    last = SIDE - 1
    return last - (last - position.abs()).abs()
