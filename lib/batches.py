"""Cut a pack into batches: whole tensors, augmented together on the training device."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lib.augment import AS_IT_IS, Augmentation
from lib.distil import Teacher
from lib.errors import InputError
from lib.hard_examples import HardExamples
from lib.pack import Pack
from lib.settings import Settings

_JUDGED = 1000  # images of the validation split at a time


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
    """Hold images to train on, what to learn of them (labels and object classes), which they are, and how much each
    weighs."""

    images: Tensor
    labels: Tensor
    objects: Tensor
    rows: Tensor
    weights: Tensor


class PackData(pl.LightningDataModule):
    """Serve the train and val images of a pack to Lightning from the memory of the training device.

    Each epoch has its own seed, made of the run's and the epoch's number, so that a resumed run sees what the
    unbroken one would have seen. `train_images` limits training to the first images of a fixed random order
    (0: all of them), and `epoch_share` an epoch to a share of those (`hard_examples`). Of a `teacher` they have soft
    labels. Batches to train on are TrainBatch, those of val images and labels.
    """

    def __init__(self, pack: Pack, settings: Settings, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.pack, self.settings, self.teacher = pack, settings, teacher
        rows = pack.rows("train")
        if settings.train_images > len(rows):
            raise InputError(
                f"train_images is {settings.train_images}, but the pack has {len(rows)} training images: lower it"
            )
        # The subset does not follow the seed: runs that differ in nothing else train on the same images.
        self.train_rows = np.random.default_rng(0).permutation(rows)[: settings.train_images or None]
        self.hard_examples = HardExamples(len(self.train_rows), settings.epoch_share)

    def some_images(self, n: int = 1000) -> Tensor:
        """Return the first `n` images to train on (or all of fewer), uint8 N×3×32×32."""
        return tensors(self.pack, self.train_rows[:n])[0].permute(0, 3, 1, 2)

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        self.train = tensors(self.pack, self.train_rows, device)
        if self.teacher:
            self.train = self.train[0], self.teacher.labels(*self.train)
        self.objects = torch.from_numpy(self.pack.objects()[0][self.train_rows]).to(device)
        self.val = tensors(self.pack, self.pack.rows("val"), device)
        self.part = {"rank": self.trainer.global_rank, "ranks": self.trainer.world_size}

    def train_dataloader(self) -> Batches:
        epoch_seed = self.settings.seed * 10_000 + self.trainer.current_epoch
        rows, weights = self.hard_examples.choose(epoch_seed)
        images = self.train[0]
        self.weights = weights.to(images.device)
        numbers = torch.arange(len(images), device=images.device)  # in the place of labels, which these lead to
        batch_size, augmentation = self.settings.batch_size, self.settings.augmentation
        return Batches(images, numbers, batch_size, augmentation, epoch_seed, **self.part, rows=rows)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, ...]:
        if not self.trainer.training:
            return batch
        images, rows = batch
        return TrainBatch(images, self.train[1][rows], self.objects[rows], rows, self.weights[rows])

    def val_dataloader(self) -> Batches:
        return Batches(*self.val, max(_JUDGED, self.settings.batch_size), **self.part)


def tensors(pack: Pack, rows: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Load the images (uint8 N×32×32×3) and labels (int64 N) of `rows` onto `device`."""
    labels = pack.index["label"].to_numpy()[rows]
    return torch.from_numpy(pack.images[rows]).to(device), torch.from_numpy(labels).to(device)
