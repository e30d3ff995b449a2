"""An autoencoder: its images are aligned with photographs, but for what its code cannot hold.

With an adversarial loss a discriminator of patches makes it replace the detail that it cannot keep (as in VQGAN, Esser
et al. 2021, arXiv 2012.09841); without, it leaves it out.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from lib.generators.tensors import CHUNK, channels_last, random_batches, set_lr, to_float, to_uint8

CODE, NOISE = 8, 4  # channels of the 8×8 code; of noise beside it
_BATCH, _LR, _WARM_UP = 48, 1e-3, 0.1


class Autoencoder(nn.Module):
    """Encode images (float N×3×32×32) to N×8×8×8, and decode that with noise of four channels."""

    def __init__(self, upsampling: str) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 4, 2, 1), nn.GELU(), nn.Conv2d(32, 64, 4, 2, 1), nn.GELU(), nn.Conv2d(64, CODE, 3, 1, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(CODE + NOISE, 64, 3, 1, 1), nn.GELU(), _up(upsampling, 64, 48), nn.GELU(),
            _up(upsampling, 48, 24), nn.GELU(), nn.Conv2d(24, 3, 3, 1, 1),
        )  # fmt: skip

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        code = self.encoder(images)
        noise = torch.randn(len(code), NOISE, *code.shape[2:], generator=generator)
        return self.decoder(torch.cat([code, noise], 1))


def _up(upsampling: str, width_in: int, width: int) -> nn.Module:
    if upsampling == "transposed":
        return nn.ConvTranspose2d(width_in, width, 4, 2, 1)
    return nn.Sequential(nn.Upsample(scale_factor=2, mode=upsampling), nn.Conv2d(width_in, width, 3, 1, 1))


def _discriminator() -> nn.Sequential:
    widths = ((3, 24, 4, 2), (24, 48, 4, 2), (48, 48, 3, 1))
    layers: list[nn.Module] = []
    for width_in, width, kernel, stride in widths:
        layers += [spectral_norm(nn.Conv2d(width_in, width, kernel, stride, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(48, 1, 3, 1, 1)))


def autoencoder_fakes(
    images: np.ndarray, sources: np.ndarray, steps: int, seed: int, upsampling: str, adversarial: bool
) -> np.ndarray:
    """Train on `images` (uint8 N×32×32×3) and return `sources` (the same) as the autoencoder gives them back.

    `upsampling` is "transposed" or a mode of `nn.Upsample`.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model, critic = channels_last(Autoencoder(upsampling)), channels_last(_discriminator())
    optimizers = [torch.optim.Adam(it.parameters(), _LR, betas=(0.5, 0.99)) for it in (model, critic)]
    for done, real in random_batches(images, _BATCH, steps, random, "autoencoder"):
        fake = model(real, random)
        if adversarial and done > _WARM_UP:
            _update(optimizers[1], done, (F.relu(1 - critic(real)) + F.relu(1 + critic(fake.detach()))).mean())
            # Only the means of 2×2 pixels must be right: the discriminator asks for the detail.
            loss = 5 * F.l1_loss(F.avg_pool2d(fake, 2), F.avg_pool2d(real, 2)) - 0.5 * critic(fake).mean()
        else:
            loss = 5 * F.l1_loss(fake, real)
        _update(optimizers[0], done, loss)
    with torch.inference_mode():
        parts = [to_float(sources[start : start + CHUNK]) for start in range(0, len(sources), CHUNK)]
        return np.concatenate([to_uint8(model(it, random)) for it in parts])


def _update(optimizer: torch.optim.Optimizer, done: float, loss: Tensor) -> None:
    set_lr(optimizer, _LR, done)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
