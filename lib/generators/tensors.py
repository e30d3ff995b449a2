"""Images as the tensors of small generators, and random batches of them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

CHUNK = 250  # images that are generated or encoded at a time


def to_float(images: np.ndarray) -> Tensor:
    """Return images (uint8 N×H×W×3) as float32 N×3×H×W on [-1, 1], in channels-last memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(images: Tensor) -> np.ndarray:
    """Return images (float N×3×H×W on [-1, 1], beyond which they are cut off) as uint8 N×H×W×3."""
    pixels = ((images.detach().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def random_batches(
    images: np.ndarray, size: int, steps: int, generator: torch.Generator, title: str
) -> Iterator[tuple[float, Tensor]]:
    """Yield for each step how much of the training is done (0 to 1), and `size` random images, half of them flipped."""
    for step in tqdm(range(steps), title, unit=" steps", disable=None, leave=False):
        batch = to_float(images[torch.randint(len(images), (size,), generator=generator).numpy()])
        flip = torch.rand(size, generator=generator) < 0.5
        yield step / steps, torch.where(flip[:, None, None, None], batch.flip(3), batch)


def set_lr(optimizer: torch.optim.Optimizer, peak: float, done: float) -> None:
    """Set the learning rate: constant at `peak` in the first half of the training, then falling linearly to 0."""
    for group in optimizer.param_groups:
        group["lr"] = peak * min(1.0, 2 * (1 - done))


def channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)
