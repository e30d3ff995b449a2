"""From fakes to a network with both heads, and what each family of fakes is worth where it is left out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.data.dataset import PackedDataset
from lib.evaluation.metrics import proportion
from lib.evaluation.predictions import run_network
from lib.generators.fakes import FAMILIES, Fakes, photographs
from lib.generators.foreign import as_foreign
from lib.generators.head import GeneratorHead, HeadFit, LayerStatistics
from lib.generators.recipe import Recipe
from lib.models.networks import Network


@dataclass(frozen=True)
class Statistics:
    """Hold layer statistics (float32 N×F) of training sets, and of validation sets by name."""

    real: Tensor
    fake: dict[str, Tensor]
    real_val: Tensor
    real_foreign_val: Tensor
    cifake_val: Tensor
    fake_val: dict[str, Tensor]


def layer_statistics(network: Network, images: np.ndarray) -> Tensor:
    """Return the layer statistics (float32 N×F) of images (uint8 N×32×32×3)."""
    headless = Network(nn.Sequential(LayerStatistics(network), nn.Identity()), network.mean, network.std, False)
    return torch.from_numpy(run_network(headless, torch.from_numpy(images), progress=False).features)


def all_statistics(network: Network, dataset: PackedDataset, fakes: dict[str, Fakes], recipe: Recipe) -> Statistics:
    """Return the layer statistics of all that the head is fitted to; images of both classes are resized alike."""
    real, val = (photographs(dataset, split, recipe.seed) for split in ("train", "val"))
    indices = dataset.indices("val")
    cifake = dataset.images[indices[dataset.records["label"].to_numpy()[indices] == 0]]
    half = len(val) // 2

    def of(images: np.ndarray) -> Tensor:
        return layer_statistics(network, images)

    def of_both(images: np.ndarray) -> Tensor:
        """Return those of the images as they are, and of the same as foreign ones."""
        return of(np.concatenate([images, as_foreign(images, recipe.seed)]))

    return Statistics(
        real=of_both(real[: recipe.real]),
        fake={name: of_both(it.train) for name, it in fakes.items()},
        real_val=of(val[:half]),
        real_foreign_val=of(as_foreign(val[half:], recipe.seed + 1)),
        cifake_val=of(cifake),
        fake_val={name: of(it.val) for name, it in fakes.items()},
    )


def check_photographs(dataset: PackedDataset, recipe: Recipe) -> None:
    """Raise InputError where fakes (lib.generators.fakes) would be made of photographs that the head learns as REAL.

    For validation the fakes of all families have the same sources, which the REAL images of `real_val` are not.
    """
    for split, needed in (("train", recipe.real + 2 * len(FAMILIES) * recipe.fakes), ("val", 4 * recipe.val_fakes)):
        if needed > (found := len(photographs(dataset, split, recipe.seed))):
            raise InputError(
                f"the recipe needs {needed:,} REAL images of {split}, but there are {found:,}: "
                "lower real, fakes or val_fakes"
            )


def head_fit(network: Network, statistics: Statistics, recipe: Recipe) -> HeadFit:
    """Return what fits the head to these statistics."""
    return HeadFit(LayerStatistics(network).joint_shape, statistics.real, statistics.fake, recipe.ridge)


def with_head(network: Network, head: GeneratorHead) -> Network:
    """Return the network with both heads."""
    return Network(nn.Sequential(LayerStatistics(network), head), network.mean, network.std, False).eval()


def leave_one_out(fit: HeadFit, statistics: Statistics, recipe: Recipe) -> list[dict[str, Any]]:
    """Return for each set of fakes how the head does on its validation images, its whole family left out.

    `auc` is the ROC AUC of the head's score against REAL validation images, `entropy_auc` that of the entropy of the
    object class alone; `found` the share of the fakes that the network with both heads calls FAKE, `false_alarms` that
    of REAL validation images resized and sharpened.
    """
    rows = []
    for family, names in FAMILIES.items():
        head = _fitted(fit, statistics, recipe, names)
        for name in names:
            fake, real = statistics.fake_val[name], statistics.real_val
            rows.append({
                "family": family, "set": name, "n": len(fake),
                "auc": _auc(head.scores(fake)[1], head.scores(real)[1]),
                "entropy_auc": _auc(head.entropy(fake), head.entropy(real)),
                "found": called_fake(head, fake),
                "false_alarms": called_fake(head, statistics.real_foreign_val),
            })  # fmt: skip
    return rows


def fitted(fit: HeadFit, statistics: Statistics, recipe: Recipe) -> GeneratorHead:
    """Return the head fitted to all families."""
    return _fitted(fit, statistics, recipe, ())


def _fitted(fit: HeadFit, statistics: Statistics, recipe: Recipe, left_out: tuple[str, ...]) -> GeneratorHead:
    return fit.fit(statistics.real_val, statistics.cifake_val, recipe.false_alarms, recipe.recall, left_out)


def called_fake(head: GeneratorHead, statistics: Tensor) -> dict[str, Any]:
    """Return the share of images, by their layer statistics (N×F), that the network with both heads calls FAKE."""
    logits = head(statistics)
    return proportion(int((logits[:, 0] > logits[:, 1]).sum()), len(logits))


def _auc(fake: Tensor, real: Tensor) -> float:
    return float(roc_auc_score(np.repeat([1, 0], [len(fake), len(real)]), torch.cat([fake, real]).numpy()))
