"""Previews for people: images of both classes side by side, and a batch after each step of the augmentation."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib import CLASSES
from lib.data.augment import Augmentation
from lib.data.batches import TrainBatch
from lib.data.corrupt import CORRUPTION_TYPES
from lib.data.cutmix import cutmix
from lib.data.dataset import PackedDataset

_SEVERE = 0.8  # severity of the corruptions that are shown: the mild end can hardly be seen


def class_pairs(dataset: PackedDataset, most: int = 6, seed: int = 0) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return for each class object classes, and the index of a training image of each, at most `most`.

    The object classes are those that both classes have, or any, where they have none in common.
    """
    train = dataset.records.loc[dataset.indices("train")].sample(frac=1, random_state=seed)
    fake, real = (train[train["label"] == label] for label in range(len(CLASSES)))
    if common := set(fake["object_class"]) & set(real["object_class"]):
        fake, real = (part[part["object_class"].isin(common)] for part in (fake, real))
    n = min(most, len(fake), len(real))
    chosen = {}
    for name, part in zip(CLASSES, (fake, real), strict=True):
        turn = part.assign(turn=part.groupby("object_class").cumcount()).sort_values(["turn", "object_class"])
        chosen[name] = (turn["object_class"].tolist()[:n], turn.index.to_numpy()[:n])
    return chosen


def augmentation_steps(
    images: Tensor, labels: Tensor, augmentation: Augmentation, cutmix_prob: float, seed: int = 0
) -> dict[str, Tensor]:
    """Return images (uint8 N×S×S×3) as they are, after each step of the augmentation alone, and after all steps.

    A step that is switched off is left out. Corruptions and CutMix, which the training applies to a share of them,
    are applied to all of them, but in the last entry with their own probability. `labels` are int64 N.
    """
    generator = torch.Generator().manual_seed(seed)
    n, indices = len(images), torch.arange(len(images))
    alone = Augmentation(image_size=augmentation.image_size)
    steps = {"as stored": images}

    def augmented(configured: Augmentation, **forced: Tensor) -> Tensor:
        params = configured.get_params(n, generator) | forced
        return configured.apply(images, indices, params).permute(0, 2, 3, 1)

    if augmentation.flip:
        steps["flip"] = augmented(replace(alone, flip=True), flip=torch.ones(n, dtype=torch.bool))
    if augmentation.translate:
        steps[f"translation, up to {augmentation.translate} px"] = augmented(
            replace(alone, translate=augmentation.translate)
        )
    if augmentation.corruption_prob:
        severe, corrupting = torch.full((n,), _SEVERE), replace(alone, corruption_prob=1.0)
        for number, name in enumerate(CORRUPTION_TYPES[1:], 1):
            steps[name.replace("jpeg", "JPEG")] = augmented(
                corrupting, corruption_type=torch.full((n,), number), severity=severe
            )
    if augmentation.cutout_size:
        steps[f"Cutout, {augmentation.cutout_size} px"] = augmented(
            replace(alone, cutout_size=augmentation.cutout_size)
        )
    if cutmix_prob:
        steps["CutMix"] = _mixed(images, labels, 1.0, generator)
    steps["all together"] = _mixed(augmented(augmentation), labels, cutmix_prob, generator)
    return steps


def _mixed(images: Tensor, labels: Tensor, prob: float, generator: torch.Generator) -> Tensor:
    n = len(images)
    targets = F.one_hot(labels, len(CLASSES)).float()[:, :, None]
    batch = TrainBatch(
        images.permute(0, 3, 1, 2), targets, torch.arange(n), torch.ones(n), torch.ones(n, dtype=torch.bool)
    )
    return cutmix(batch, prob, generator).images.permute(0, 2, 3, 1)
