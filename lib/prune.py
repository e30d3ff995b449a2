"""Pruning: filters with most weights at zero, and networks with fewer channels."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torchvision.ops import SqueezeExcitation

from lib.errors import InputError
from lib.networks import Network


def prune_weights(network: Network, share: float) -> Network:
    """Return a copy with the share of all convolutions' weights that are least in magnitude set to zero.

    The shapes stay, so a dense convolution does the same work as before (Han et al. 2015, arXiv 1506.02626).
    """
    pruned = copy.deepcopy(network)
    weights = [(layer, "weight") for layer in pruned.modules() if isinstance(layer, nn.Conv2d)]
    prune.global_unstructured(weights, prune.L1Unstructured, amount=share)
    for layer, name in weights:
        prune.remove(layer, name)
    return pruned


def prune_channels(network: Network, share: float, images: Tensor) -> Network:
    """Return a copy without the share of each convolution's channels whose batch normalisation scales them least.

    Channels are ranked as in Liu et al. 2017 (arXiv 1708.06519). Nothing is trained again; the statistics of the batch
    normalisations are taken anew from `images` (uint8 N×3×32×32, of the training split). Raises InputError for
    a network that is no plain chain of layers.
    """
    pruned = copy.deepcopy(network)
    layers = [layer for layer in pruned.body if not isinstance(layer, nn.Sequential)]
    if len(layers) != len(pruned.body) or not all(isinstance(layer, _CHAIN) for layer in layers):
        raise InputError("channels are pruned only from a chain of layers, and this network is none")
    kept: Tensor | None = None  # of the channels that reach the layer
    for place, layer in enumerate(layers):
        if kept is not None and isinstance(layer, nn.Conv2d | nn.Linear):
            _slice(layer, 1, kept)
        if isinstance(layer, nn.Conv2d):
            scale = next(later for later in layers[place:] if isinstance(later, nn.BatchNorm2d)).weight.abs()
            kept = scale.topk(max(1, round(len(scale) * (1 - share)))).indices.sort().values
            _slice(layer, 0, kept)
        elif isinstance(layer, nn.BatchNorm2d):
            _slice(layer, 0, kept)
        elif isinstance(layer, SqueezeExcitation):
            _slice(layer.fc1, 1, kept)
            _slice(layer.fc2, 0, kept)
    _renew_statistics(pruned, images)
    return pruned


_CHAIN = (
    nn.Conv2d, nn.BatchNorm2d, nn.GELU, nn.ReLU, nn.MaxPool2d, SqueezeExcitation, nn.AdaptiveAvgPool2d, nn.Flatten,
    nn.Dropout, nn.Linear,
)  # fmt: skip


@torch.no_grad()
def _slice(layer: nn.Module, dim: int, kept: Tensor) -> None:
    """Keep these outputs (`dim` 0) or inputs (1) of a layer."""
    names = ("weight", "bias", "running_mean", "running_var") if dim == 0 else ("weight",)
    for name in names:
        if (values := getattr(layer, name, None)) is not None:
            values.data = values.data.index_select(dim, kept)
    for name in ("out_channels", "num_features") if dim == 0 else ("in_channels", "in_features"):
        if hasattr(layer, name):
            setattr(layer, name, len(kept))


@torch.no_grad()
def _renew_statistics(network: Network, images: Tensor) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over all batches
    network.train()
    for batch in images.split(256):
        network(batch)
    network.eval()
