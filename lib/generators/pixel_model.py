"""An autoregressive model of pixels: each is drawn from a mixture that a small network computes of those before it.

Like PixelCNN++ (Salimans et al. 2017, arXiv 1701.05517) it has a mixture of logistics whose means of green and blue
depend on the channels before, but it sees only RADIUS pixels around, so that its images have local texture and no
objects.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.core.input_rule import IMAGE_SIZE
from lib.generators.tensors import random_batches, set_lr, to_uint8

RADIUS, WIDTH, MIXTURE = 5, 256, 5
_BATCH, _PIXELS, _LR = 128, 32, 1e-3  # images, pixels of each, peak learning rate
_SIDE = 2 * RADIUS + 1
_HALF_LEVEL = 1 / 255  # half the distance of two levels on [-1, 1]


class PixelModel(nn.Module):
    """Compute the distribution of a pixel of its context: the RADIUS rows above, and as many pixels to the left.

    A context (N×240) has four values of each of 60 pixels: its channels on [-1, 1], and 1 inside the image, else 0.
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = 4 * (RADIUS * _SIDE + RADIUS)  # three channels, and whether the pixel is inside the image
        layers: list[nn.Module] = []
        for size in (inputs, WIDTH, WIDTH):
            layers += [nn.Linear(size, WIDTH), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 10 * MIXTURE))

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the components' log weights N×K, means and log scales N×K×3, and channel coefficients N×K×3."""
        weight, mean, log_scale, coefficients = self.layers(context).view(-1, MIXTURE, 10).split([1, 3, 3, 3], 2)
        return weight[..., 0].log_softmax(1), mean, log_scale.clamp(-6, 3), coefficients.tanh()

    def loss(self, context: Tensor, pixels: Tensor) -> Tensor:
        """Return the mean negative log likelihood, in nats a pixel, of `pixels` (N×3 on [-1, 1])."""
        log_weight, mean, log_scale, coefficients = self(context)
        red, green, _ = pixels[:, None].unbind(2)
        means = _means(mean, coefficients, red, green)
        distance, inverse = pixels[:, None] - means, (-log_scale).exp()
        upper = torch.sigmoid((distance + _HALF_LEVEL) * inverse)
        lower = torch.sigmoid((distance - _HALF_LEVEL) * inverse)
        log_probability = (upper - lower).clamp_min(1e-7).log().sum(2)
        return -(log_weight + log_probability).logsumexp(1).mean()

    def draw(self, context: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Draw a pixel (N×3 on [-1, 1]) for each context; `temperature` multiplies the scales."""
        log_weight, mean, log_scale, coefficients = self(context)
        component = torch.multinomial(log_weight.exp(), 1, generator=generator)[:, :, None].expand(-1, -1, 3)
        mean, log_scale, coefficients = (it.gather(1, component)[:, 0] for it in (mean, log_scale, coefficients))
        uniform = torch.rand(mean.shape, generator=generator).clamp(1e-4, 1 - 1e-4)
        noise = temperature * log_scale.exp() * torch.logit(uniform)
        red = (mean[:, 0] + noise[:, 0]).clamp(-1, 1)
        green = (_means(mean, coefficients, red, red)[:, 1] + noise[:, 1]).clamp(-1, 1)
        blue = (_means(mean, coefficients, red, green)[:, 2] + noise[:, 2]).clamp(-1, 1)
        return torch.stack([red, green, blue], 1)


def _means(mean: Tensor, coefficients: Tensor, red: Tensor, green: Tensor) -> Tensor:
    first, second, third = coefficients.unbind(-1)
    shift = torch.stack([torch.zeros_like(first), first * red, second * red + third * green], -1)
    return mean + shift


def _causal() -> Tensor:
    """Return the indices, row by row, of the pixels of a window that come before the one to be drawn."""
    mask = torch.ones(RADIUS + 1, _SIDE, dtype=torch.bool)
    mask[RADIUS, RADIUS:] = False
    return mask.flatten().nonzero()[:, 0]


def _padded(images: Tensor) -> Tensor:
    """Add the channel that is 1 inside the image, and a border of 0."""
    return F.pad(torch.cat([images, torch.ones_like(images[:, :1])], 1), (RADIUS, RADIUS, RADIUS, 0))


def pixel_model_fakes(images: np.ndarray, count: int, steps: int, seed: int) -> np.ndarray:
    """Train the model on `images` (uint8 N×32×32×3) and return `count` of its own, half of them at temperature 0.8."""
    torch.manual_seed(seed)
    generator, model, causal = torch.Generator().manual_seed(seed), PixelModel(), _causal()
    optimizer = torch.optim.AdamW(model.parameters(), _LR)
    rows, columns, number = torch.arange(RADIUS + 1)[:, None], torch.arange(_SIDE), torch.arange(_BATCH)[:, None]
    for done, batch in random_batches(images, _BATCH, steps, generator, "pixel model"):
        set_lr(optimizer, _LR, done)
        top, left = torch.randint(IMAGE_SIZE, (2, _BATCH, _PIXELS), generator=generator)
        padded = _padded(batch).permute(0, 2, 3, 1)
        window = padded[number[..., None, None], top[..., None, None] + rows, left[..., None, None] + columns]
        context = window.flatten(2, 3)[:, :, causal].flatten(2).flatten(0, 1)
        loss = model.loss(context, batch.permute(0, 2, 3, 1)[number, top, left].flatten(0, 1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    half = count // 2
    return np.concatenate([_sample(model, half, 1.0, generator), _sample(model, count - half, 0.8, generator)])


@torch.inference_mode()
def _sample(model: PixelModel, count: int, temperature: float, generator: torch.Generator) -> np.ndarray:
    canvas, causal = _padded(torch.zeros(count, 3, IMAGE_SIZE, IMAGE_SIZE)), _causal()
    for row in range(IMAGE_SIZE):
        for column in range(IMAGE_SIZE):
            window = canvas[:, :, row : row + RADIUS + 1, column : column + _SIDE]
            context = window.permute(0, 2, 3, 1).flatten(1, 2)[:, causal].flatten(1)
            canvas[:, :3, row + RADIUS, column + RADIUS] = model.draw(context, temperature, generator)
    return to_uint8(canvas[:, :3, RADIUS:, RADIUS:-RADIUS])
