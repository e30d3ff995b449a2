"""Explanations: the predictions to inspect, and Grad-CAM maps of the image regions that they depend on."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from lib import CLASSES
from lib.evaluation.predictions import is_correct, probability_fake
from lib.models.ensemble import members_of
from lib.models.networks import Network

_MIN_SIDE = 8  # a smaller feature map would not separate one part of an image from another


def most_confident_errors(predictions: pd.DataFrame, most: int = 24) -> np.ndarray:
    """Return the indices of at most `most` wrong predictions, the most confident first."""
    p_fake = probability_fake(predictions)
    wrong = np.flatnonzero(~is_correct(predictions))
    return wrong[np.argsort(-np.abs(p_fake[wrong] - 0.5), kind="stable")][:most]


def cases(predictions: pd.DataFrame, each: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Return indices of correct and wrong predictions of both classes, `each` at random (or all, if fewer)."""
    correct, label = is_correct(predictions), predictions["label"].to_numpy()
    rng = np.random.default_rng(seed)
    chosen = {
        f"{name}, {outcome}": rng.permutation(np.flatnonzero((label == i) & (correct == wanted)))[:each]
        for i, name in enumerate(CLASSES)
        for outcome, wanted in (("correct", True), ("wrong", False))
    }
    return {name: indices for name, indices in chosen.items() if len(indices)}


def grad_cam(network: Network, images: np.ndarray) -> np.ndarray:
    """Return a Grad-CAM map for each image (uint8 N×S×S×3): float32 N×S×S, above 0 for FAKE, below 0 for REAL.

    Grad-CAM by captum (Selvaraju et al. 2017, arXiv 1610.02391), with its sign: the gradient is that of the margin
    between both logits, the layer the last one with a feature map of at least 8×8. Maps of ensemble members are summed,
    upsampled bilinearly, and scaled so that the largest magnitude of each is 1. Raises ValueError for a network without
    such a layer.
    """
    network = network.cpu().eval()
    batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    x = network.normalise(batch)  # without flip TTA, so that each layer runs once

    def margin(member: nn.Module, x: Tensor) -> Tensor:
        return -member(x).diff(dim=1)[:, 0]

    maps = sum(
        LayerGradCam(partial(margin, member), _layer(member, x[:1])).attribute(x).detach()
        for member in members_of(network.backbone)
    )
    maps = LayerAttribution.interpolate(maps, images.shape[1:3], "bilinear")[:, 0]
    return (maps / maps.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)).numpy()


def _layer(backbone: nn.Module, x: Tensor) -> nn.Module:
    """Return the last layer of `backbone` whose feature map is at least 8×8."""
    chosen = None
    with torch.no_grad():
        for layer in _layers(backbone):
            x = layer(x)
            if x.ndim == 4 and x.shape[2] >= _MIN_SIDE:
                chosen = layer
    if chosen is None:
        raise ValueError("no layer of this network has a feature map of 8×8")
    return chosen


def _layers(backbone: nn.Module) -> list[nn.Module]:
    """Return the layers of `backbone` in order, with nested sequences (VGG's features) flattened."""
    return [inner for layer in backbone for inner in (_layers(layer) if isinstance(layer, nn.Sequential) else [layer])]
