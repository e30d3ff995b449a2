"""The network of this project: fine texture through a whitened stem, weighed channel by channel."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

_DAMPING = 5e-4  # of the whitening: below the variance of the finest patterns there is only rounding


class WhitenedConv2d(nn.Conv2d):
    """Convolve with filters that are learnt in the basis of whitened patches.

    Neighbouring pixels are so alike that smooth patterns have 100,000 times the variance of the finest ones, which
    hold the evidence here: seen through the whitening, all patterns are alike to the optimiser. One convolution
    does both, so it costs nothing (whitening a first layer: Myrtle 2018 and airbench, arXiv 2404.00498).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        inputs = self.weight[0].numel()
        nn.init.orthogonal_(self.weight)
        self.register_buffer("whitening", torch.eye(inputs))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take the whitening from the patches of `images` (float N×C×H×W, as forward will see them)."""
        patches = nn.functional.unfold(images, self.kernel_size, stride=self.stride)
        patches = patches.transpose(1, 2).flatten(0, 1).double()
        variance, pattern = torch.linalg.eigh(patches.T.cov())
        self.whitening.copy_((pattern / (variance + _DAMPING).sqrt()).T)

    def forward(self, x: Tensor) -> Tensor:
        filters = (self.weight.flatten(1) @ self.whitening).view_as(self.weight)
        return self._conv_forward(x, filters.contiguous(memory_format=torch.channels_last), None)


def texture_net(
    widths: Sequence[int], depths: Sequence[int], excite: bool = True, light: bool = False
) -> Callable[[float], nn.Sequential]:
    """Return a builder of the network; the builder takes the dropout before the last layer.

    A 4×4 stem of stride 2, which saves three quarters of the work of later layers; then a stage a width, each of
    as many 3×3 convolutions with GELU as `depths` says. Before each stage but the first stand a convolution that
    widens and a max-pool; with `excite`, squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507) ends each. Last
    comes the mean over all places. `light` takes convolutions of stride 2, without the pool, and ReLU: for short
    trainings, where the epochs that this saves time for bring more than it costs.
    """
    activation = nn.ReLU if light else nn.GELU

    def build(dropout: float) -> nn.Sequential:
        layers: list[nn.Module] = [WhitenedConv2d(3, widths[0], 4, 2, 1), nn.BatchNorm2d(widths[0]), activation()]
        for stage, (width_in, width, depth) in enumerate(zip((widths[0], *widths[:-1]), widths, depths, strict=True)):
            if stage:
                widen = [_conv(width_in, width, 2)] if light else [_conv(width_in, width), nn.MaxPool2d(2)]
                layers += [*widen, nn.BatchNorm2d(width), activation()]
            for _ in range(depth):
                layers += [_conv(width, width), nn.BatchNorm2d(width), activation()]
            if excite:
                layers.append(SqueezeExcitation(width, width // 4, activation=nn.GELU))
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1], 2)
        )

    return build


def _conv(width_in: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
