"""Which answers to look at, and where in them the network looks."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from lib import CLASSES
from lib.columns import columns_of
from lib.decode import SIDE
from lib.networks import Network
from lib.predictions import is_right, probability_fake

_PLACES = 8  # a map of fewer places a side would not tell one part of a 32×32 image from another


def surest_mistakes(predictions: pd.DataFrame, most: int = 24) -> np.ndarray:
    """Return the row numbers of the wrong verdicts, the surest first."""
    p_fake = probability_fake(predictions)
    wrong = np.flatnonzero(~is_right(predictions))
    return wrong[np.argsort(-np.abs(p_fake[wrong] - 0.5), kind="stable")][:most]


def cases(predictions: pd.DataFrame, each: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Return rows of right and wrong verdicts of both classes, `each` at random (fewer where there are fewer)."""
    right, label = is_right(predictions), predictions["label"].to_numpy()
    rng = np.random.default_rng(seed)
    chosen = {
        f"{name}, {'right' if good else 'wrong'}": rng.permutation(np.flatnonzero((label == i) & (right == good)))[
            :each
        ]
        for i, name in enumerate(CLASSES)
        for good in (True, False)
    }
    return {name: rows for name, rows in chosen.items() if len(rows)}


def grad_cam(network: Network, images: np.ndarray) -> np.ndarray:
    """Return a map of evidence for each image (uint8 N×32×32×3): float32 N×32×32, above 0 FAKE, below 0 REAL.

    Grad-CAM by captum (Selvaraju et al. 2017, arXiv 1610.02391), with its sign: the gradient is that of the margin
    between both logits, the layer the last one with at least 8×8 places. Maps of columns are added up. They are
    enlarged bilinearly, and scaled so that the largest magnitude of each is 1.
    """
    network = network.cpu().eval()
    batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    x = network.normalise(batch)  # one view, so that each layer is passed once

    def margin(column: nn.Module, x: Tensor) -> Tensor:
        return -column(x).diff(dim=1)[:, 0]

    maps = sum(
        LayerGradCam(partial(margin, column), _layer(column, x[:1])).attribute(x).detach()
        for column in columns_of(network.body)
    )
    maps = LayerAttribution.interpolate(maps, (SIDE, SIDE), "bilinear")[:, 0]
    return (maps / maps.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)).numpy()


def _layer(body: nn.Module, x: Tensor) -> nn.Module:
    """Return the last part of `body` whose output has at least 8×8 places."""
    chosen = None
    with torch.no_grad():
        for part in _parts(body):
            x = part(x)
            if x.ndim == 4 and x.shape[2] >= _PLACES:
                chosen = part
    if chosen is None:
        raise ValueError("no layer of this network has 8×8 places")
    return chosen


def _parts(body: nn.Module) -> list[nn.Module]:
    """List what `body` does in order, with what lies in a sequence (VGG's features) one by one."""
    return [inner for part in body for inner in (_parts(part) if isinstance(part, nn.Sequential) else [part])]
