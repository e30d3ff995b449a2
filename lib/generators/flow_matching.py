"""A small flow-matching model (Lipman et al. 2023, arXiv 2210.02747): noise becomes an image in a few steps.

Sampled from noise alone its images have no objects yet. Started from a photograph under noise, it makes the detail of
that photograph anew, as SDEdit does (Meng et al. 2022, arXiv 2108.01073).
"""

import copy
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.core.input_rule import IMAGE_SIZE
from lib.generators.tensors import CHUNK, channels_last, random_batches, set_lr, to_float, to_uint8

_BATCH, _LR, _EMA = 64, 2e-3, 0.005
_WIDTHS, _TIME = (32, 64, 96), 64
_STEPS_OF_NOISE, _STEPS_OF_EDITS = (8, 12, 20), (2, 4, 8)  # in turn
_START = (0.25, 0.85)  # how much noise is added to photographs


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.time = nn.Linear(_TIME, width)
        nn.init.zeros_(self.convs[1].weight)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        hidden = self.convs[0](F.silu(self.norms[0](x))) + self.time(time)[:, :, None, None]
        return x + self.convs[1](F.silu(self.norms[1](hidden)))


class VelocityNet(nn.Module):
    """Compute the velocity N×3×32×32, noise less image, at the images (1 − t)·image + t·noise and the times t (N)."""

    def __init__(self) -> None:
        super().__init__()
        small, middle, large = _WIDTHS
        self.time = nn.Sequential(nn.Linear(32, _TIME), nn.SiLU(), nn.Linear(_TIME, _TIME), nn.SiLU())
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(width_in, width, 4, 2, 1) for width_in, width in ((16, small), (small, middle), (middle, large))
        )
        self.encode = nn.ModuleList(_Residual(width) for width in _WIDTHS)
        self.middle = _Residual(large)
        self.up = nn.ModuleList(
            nn.Conv2d(width_in, width, 3, padding=1) for width_in, width in ((large, middle), (middle, small))
        )
        self.decode = nn.ModuleList(_Residual(width) for width in (middle, small))
        self.last_up = nn.ConvTranspose2d(small, 16, 4, 2, 1)
        self.head = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 3, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angle = t[:, None] * torch.linspace(0, 5, 16).exp()
        time = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        skips = [F.silu(self.stem(x))]
        for down, block in zip(self.down, self.encode, strict=True):
            skips.append(block(down(skips[-1]), time))
        x = self.middle(skips.pop(), time)
        for up, block in zip(self.up, self.decode, strict=True):
            x = block(F.interpolate(up(x), scale_factor=2) + skips.pop(), time)
        return self.head(F.silu(self.last_up(x) + skips.pop()))


def train_velocity(images: np.ndarray, steps: int, seed: int) -> VelocityNet:
    """Train on images (uint8 N×32×32×3) and return the moving average of the network's weights."""
    torch.manual_seed(seed)
    random, network = torch.Generator().manual_seed(seed), channels_last(VelocityNet())
    average, optimizer = copy.deepcopy(network), torch.optim.AdamW(network.parameters(), _LR)
    for number, (done, real) in enumerate(random_batches(images, _BATCH, steps, random, "flow matching")):
        set_lr(optimizer, _LR, done)
        t = torch.sigmoid(1.2 * torch.randn(_BATCH, generator=random))
        noise = torch.randn(real.shape, generator=random)
        share = t[:, None, None, None]
        loss = F.mse_loss(network((1 - share) * real + share * noise, t), noise - real)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, max(_EMA, min(0.1, 4 / (number + 1))))
    return average


@torch.inference_mode()
def sample(network: VelocityNet, count: int, seed: int) -> np.ndarray:
    """Return `count` images (uint8 N×32×32×3) made of noise."""
    random, parts = torch.Generator().manual_seed(seed), []
    for number, start in enumerate(range(0, count, CHUNK)):
        noise = torch.randn(min(CHUNK, count - start), 3, IMAGE_SIZE, IMAGE_SIZE, generator=random)
        parts.append(
            _integrate(
                network, noise.contiguous(memory_format=torch.channels_last), 1.0, number, _STEPS_OF_NOISE, random
            )
        )
    return np.concatenate(parts)


@torch.inference_mode()
def edit(network: VelocityNet, sources: np.ndarray, seed: int) -> np.ndarray:
    """Return the images `sources` (uint8 N×32×32×3) after noise was added, and removed by the network."""
    random, parts = torch.Generator().manual_seed(seed), []
    for number, start in enumerate(range(0, len(sources), CHUNK)):
        share = _START[0] + (_START[1] - _START[0]) * torch.rand((), generator=random).item()
        real = to_float(sources[start : start + CHUNK])
        noisy = (1 - share) * real + share * torch.randn(real.shape, generator=random)
        parts.append(_integrate(network, noisy, share, number, _STEPS_OF_EDITS, random))
    return np.concatenate(parts)


def _integrate(
    network: VelocityNet, x: Tensor, start: float, number: int, steps: tuple[int, ...], random: torch.Generator
) -> np.ndarray:
    """Follow the velocity from time `start` to 0; of nine chunks, three with new noise at each step."""
    times = torch.linspace(start, 0, steps[number % 3] + 1).tolist()
    renewed = number // 3 % 3 == 2
    for now, after in pairwise(times):
        velocity = network(x, torch.full((len(x),), now))
        image, noise = x - now * velocity, x + (1 - now) * velocity
        if renewed:
            noise = torch.randn(x.shape, generator=random)
        x = (1 - after) * image + after * noise
    return to_uint8(x)
