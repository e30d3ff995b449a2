"""Pruning of weights (unstructured) and of channels (structured)."""

import copy

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.utils import prune

from lib.core.rows import equal_pixels
from lib.models.networks import Network


def prune_weights(network: Network, ratio: float) -> Network:
    """Return a copy with the share `ratio` of all convolutions' weights that are least in magnitude set to zero.

    The shapes stay, so a dense convolution takes as long as before (Han et al. 2015, arXiv 1506.02626).
    """
    pruned = copy.deepcopy(network)
    weights = [(layer, "weight") for layer in pruned.modules() if isinstance(layer, nn.Conv2d)]
    prune.global_unstructured(weights, prune.L1Unstructured, amount=ratio)
    for layer, name in weights:
        prune.remove(layer, name)
    return pruned


def prune_channels(network: Network, ratio: float, images: Tensor) -> Network:
    """Return a copy without the share `ratio` of each layer's channels whose batch normalisation scale is least.

    Channels are ranked as in Liu et al. 2017 (arXiv 1708.06519), and removed from all layers that depend on them as in
    Fang et al. 2023 (arXiv 2301.12900). Nothing is fine-tuned; the statistics of batch normalisation are estimated
    again from `images` (uint8 N×3×S×S, of the training split).
    """
    pruned = copy.deepcopy(network).eval()
    importance = torch_pruning.importance.BNScaleImportance()
    for member in pruned.members():  # one by one, or their last layers would be ranked together
        torch_pruning.BasePruner(
            member.backbone, member.normalise(images[:2]), importance, pruning_ratio=ratio,
            ignored_layers=[member.backbone[-1]],
        ).step()  # fmt: skip
    _estimate_statistics(pruned, images)
    return pruned


@torch.no_grad()
def _estimate_statistics(network: Network, images: Tensor) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over all batches
    network.train()
    for batch in images.split(max(2, equal_pixels(256, network.image_size))):
        network(batch)
    network.eval()
