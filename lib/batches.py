"""Batches: whole tensors of images, augmented together on the training device."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.augment import AS_IT_IS, Augmentation
from lib.pack import Pack


class Batches:
    """Iterate over `(images, labels)`: uint8 N×3×32×32 in channels-last memory, and int64 N.

    All images lie on one device as one N×32×32×3 tensor. One gather a batch picks its images, mirrors and
    moves them: no image is ever touched alone. With `seed` given the order is random, and the same for the same
    seed; without, the images come in order. Batches differ in length by one image at most: a short last one would
    be a poor sample for batch normalisation. With `rows` given only those images come.

    Of `ranks` processes that train together, each iterates over its own part of every batch, and all of them
    together see what one process alone would have seen.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        augmentation: Augmentation = AS_IT_IS,
        seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        rows: Tensor | None = None,
    ) -> None:
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.rows = torch.arange(len(images)) if rows is None else rows
        self.augmentation, self.seed = augmentation, seed
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator()
        order = self.rows
        if self.seed is not None:
            order = order[torch.randperm(len(order), generator=generator.manual_seed(self.seed))]
        for batch in order.tensor_split(len(self)):
            drawn = self.augmentation.draw(len(batch), generator)
            rows, *parts = (part.tensor_split(self.ranks)[self.rank] for part in (batch, *drawn.values()))
            images = self.augmentation.apply(self.images, rows, dict(zip(drawn, parts, strict=True)))
            yield images, self.labels[rows.to(self.labels.device, non_blocking=True)]


class TrainBatch(NamedTuple):
    """Hold images to train on (uint8 N×3×32×32), and of each what to learn (`targets`, float32 N×2×K: how far it is
    of each pair of label and object class, adding up to 1), which it is, how much it weighs, and whether it is one
    whole image."""

    images: Tensor
    targets: Tensor
    rows: Tensor
    weights: Tensor
    whole: Tensor


def tensors(pack: Pack, rows: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Load the images (uint8 N×32×32×3) and labels (int64 N) of `rows` onto `device`."""
    labels = pack.index["label"].to_numpy()[rows]
    return torch.from_numpy(pack.images[rows]).to(device), torch.from_numpy(labels).to(device)
