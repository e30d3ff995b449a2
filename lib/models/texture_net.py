"""TextureNet: a small CNN with a whitened stem for fine texture, and squeeze-and-excitation."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

_EPSILON = 5e-4  # added to the variances: those of the finest patterns are below the rounding error


class WhitenedConv2d(nn.Conv2d):
    """Convolve with filters that are learnt in the basis of whitened patches.

    Neighbouring pixels correlate so strongly that smooth patterns have 100,000 times the variance of the finest ones,
    which separate the classes here. Whitening gives all patterns the same scale for the optimiser. It is folded into
    the filters, so that inference takes a single convolution (whitening a first layer: Myrtle 2018 and airbench, arXiv
    2404.00498).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        inputs = self.weight[0].numel()
        nn.init.orthogonal_(self.weight)
        self.register_buffer("whitening", torch.eye(inputs))

    @torch.no_grad()
    def init_whitening(self, images: Tensor) -> None:
        """Set the whitening matrix from the patches of `images` (float N×C×H×W, normalised as for `forward`)."""
        patches = nn.functional.unfold(images, self.kernel_size, stride=self.stride)
        patches = patches.transpose(1, 2).flatten(0, 1).double()
        variance, pattern = torch.linalg.eigh(patches.T.cov())
        self.whitening.copy_((pattern / (variance + _EPSILON).sqrt()).T)

    def forward(self, x: Tensor) -> Tensor:
        filters = (self.weight.flatten(1) @ self.whitening).view_as(self.weight)
        return self._conv_forward(x, filters.contiguous(memory_format=torch.channels_last), None)


def texture_net(
    widths: Sequence[int], depths: Sequence[int], use_se: bool = True, stride_downsampling: bool = False
) -> Callable[[float], nn.Sequential]:
    """Return a builder of the network; the builder takes the dropout before the last layer.

    The stem is a 4×4 convolution of stride 2, which saves three quarters of the MACs of later layers. One stage for
    each of `widths` follows, with as many 3×3 convolutions and GELUs as `depths` has for it. Every stage but the first
    starts with a convolution that widens and a max-pool. With `use_se`, squeeze-and-excitation (Hu et al. 2018, arXiv
    1709.01507) ends each stage. Global average pooling and a linear layer come last. With `stride_downsampling`,
    convolutions of stride 2 replace the max-pools, and ReLU replaces GELU: faster epochs, which pay off in short
    trainings only.
    """
    activation = nn.ReLU if stride_downsampling else nn.GELU

    def build(dropout: float) -> nn.Sequential:
        layers: list[nn.Module] = [WhitenedConv2d(3, widths[0], 4, 2, 1), nn.BatchNorm2d(widths[0]), activation()]
        for stage, (width_in, width, depth) in enumerate(zip((widths[0], *widths[:-1]), widths, depths, strict=True)):
            if stage:
                stride = 2 if stride_downsampling else 1
                pool = [] if stride_downsampling else [nn.MaxPool2d(2)]
                layers += [_conv(width_in, width, stride), *pool, nn.BatchNorm2d(width), activation()]
            for _ in range(depth):
                layers += [_conv(width, width), nn.BatchNorm2d(width), activation()]
            if use_se:
                layers.append(SqueezeExcitation(width, width // 4, activation=nn.GELU))
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1], 2)
        )

    return build


def _conv(width_in: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
