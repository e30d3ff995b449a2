"""Summary of a network: its layers in order, with their output shapes, MACs and parameters."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import SqueezeExcitation

from lib.models.ensemble import members_of
from lib.models.networks import Network, Residual, count_parameters
from lib.models.texture_net import WhitenedConv2d

_MERGED = (nn.BatchNorm2d, nn.GELU, nn.ReLU, nn.Dropout, nn.Flatten)  # they change no shape worth a box of its own


class Layer(NamedTuple):
    """One layer: what it is, the channels and the side of its output, MACs an image, trainable parameters."""

    kind: str
    channels: int
    side: int
    macs: int
    parameters: int


def layers(network: Network) -> list[Layer]:
    """Return the layers of a network, of an ensemble those of its first member, without TTA.

    Normalisation, activation, dropout and flattening belong to the layer before.
    """
    member = members_of(network.backbone)[0]
    side = network.image_size
    x = network.normalise(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=network.centre.device))
    training, found = network.training, [Layer("image", 3, side, 0, 0)]
    network.eval()
    with torch.no_grad():
        for layer in _flat(member):
            with FlopCounterMode(display=False) as counter:
                x = layer(x)
            macs, parameters = counter.get_total_flops() // 2, count_parameters(layer)
            if isinstance(layer, _MERGED):
                last = found[-1]
                found[-1] = last._replace(parameters=last.parameters + parameters)
            else:
                found.append(Layer(_kind(layer), x.shape[1], x.shape[2] if x.ndim == 4 else 1, macs, parameters))
    network.train(training)
    return found


def whitened_patterns(network: Network) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the patterns of image patches that the stem whitens, the strongest first, and their standard deviations.

    The patterns are float K×3×h×w, each of length 1; the deviations (K) are those of normalised images. None for a
    network without a whitened layer.
    """
    stem = next((layer for layer in network.modules() if isinstance(layer, WhitenedConv2d)), None)
    if stem is None:
        return None
    rows = stem.whitening.detach().cpu().double().flip(0)
    length = rows.norm(dim=1)  # one over the deviation, but for the constant that keeps it finite
    return (rows / length[:, None]).view(-1, *stem.weight.shape[1:]).numpy(), (1 / length).numpy()


def _flat(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [inner for layer in module for inner in _flat(layer)]
    return [module]


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d):
        name = "whitened" if isinstance(layer, WhitenedConv2d) else "conv"
        stride = f", stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
        return f"{name} {layer.kernel_size[0]}×{layer.kernel_size[1]}{stride}"
    names = {nn.MaxPool2d: "max-pool", SqueezeExcitation: "squeeze–excite", nn.AdaptiveAvgPool2d: "average",
             Residual: "residual", nn.Linear: "linear"}  # fmt: skip
    return next((name for kind, name in names.items() if isinstance(layer, kind)), type(layer).__name__)
