"""A small generative adversarial network, after DCGAN (Radford et al. 2016, arXiv 1511.06434)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.generators.tensors import CHUNK, channels_last, random_batches, set_lr, to_uint8

LATENT, WIDTH = 64, 24
_BATCH, _LR, _NOISE, _REAL = 64, 3e-4, 0.05, 0.9  # noise on the discriminator's input; smoothed target of REAL


def _generator() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(LATENT, 16 * 8 * WIDTH), nn.Unflatten(1, (8 * WIDTH, 4, 4))]
    layers += [nn.BatchNorm2d(8 * WIDTH), nn.ReLU()]
    for width_in, width in ((8, 4), (4, 2), (2, 1)):
        up = nn.ConvTranspose2d(width_in * WIDTH, width * WIDTH, 4, 2, 1, bias=False)
        layers += [up, nn.BatchNorm2d(width * WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, 3, 3, padding=1), nn.Tanh())


def _discriminator() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 40, 4, 2, 1), nn.LeakyReLU(0.2)]
    for width_in, width in ((40, 80), (80, 160)):
        layers += [nn.Conv2d(width_in, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 160, 1))


def gan_fakes(images: np.ndarray, count: int, steps: int, seed: int) -> np.ndarray:
    """Train the network on `images` (uint8 N×32×32×3) and return `count` images of its generator."""
    torch.manual_seed(seed)
    random, fake_maker, critic = torch.Generator().manual_seed(seed), _generator(), _discriminator()
    for layer in (*fake_maker.modules(), *critic.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, 0.02)
    fake_maker, critic = channels_last(fake_maker), channels_last(critic)
    optimizers = [torch.optim.Adam(it.parameters(), _LR, betas=(0.5, 0.999)) for it in (fake_maker, critic)]
    for done, real in random_batches(images, _BATCH, steps, random, "GAN"):
        for optimizer in optimizers:
            set_lr(optimizer, _LR, done)
        fake = fake_maker(torch.randn(_BATCH, LATENT, generator=random))
        blurred = [it + _NOISE * (1 - done) * torch.randn(it.shape, generator=random) for it in (real, fake.detach())]
        loss = _cross_entropy(critic(blurred[0]), _REAL) + _cross_entropy(critic(blurred[1]), 0.0)
        _update(optimizers[1], loss)
        _update(optimizers[0], _cross_entropy(critic(fake), 1.0))
    fake_maker.eval()
    with torch.inference_mode():
        latents = torch.randn(count, LATENT, generator=random).split(CHUNK)
        return np.concatenate([to_uint8(fake_maker(it)) for it in latents])


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
