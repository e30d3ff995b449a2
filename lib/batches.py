"""Cut a pack into batches: whole tensors, augmented together on the training device."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lib.decode import SIDE
from lib.degrade import KINDS, degrade
from lib.distil import Teacher
from lib.errors import InputError
from lib.hard_examples import HardExamples
from lib.pack import Pack


@dataclass(frozen=True)
class Augmentation:
    """Say how training images vary: half of them mirrored left to right, each moved by up to `shift` pixels, and the
    share `degrade` of them made worse by noise, JPEG or blur (lib.degrade)."""

    flip: bool = True
    shift: int = 2
    degrade: float = 0.0


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
        augmentation: Augmentation | None = None,
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
        # Always drawn on the CPU, so that every device sees the same images.
        generator = torch.Generator()
        order = self.rows
        if self.seed is not None:
            order = order[torch.randperm(len(order), generator=generator.manual_seed(self.seed))]
        for batch in order.tensor_split(len(self)):
            drawn = draw(self.augmentation, len(batch), generator)
            rows, flip, down, right, *harm = (part.tensor_split(self.ranks)[self.rank] for part in (batch, *drawn))
            images = gather(self.images, rows, flip, down, right)
            yield degrade(images, *harm) if harm else images, self.labels[rows.to(self.labels.device)]


def draw(augmentation: Augmentation | None, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draw what happens to each of `n` images.

    Returns whether it is mirrored (bool), how far it moves down and right (int64, pixels), and, where images are
    degraded at all, the three arguments of `lib.degrade.degrade`.
    """
    flip = torch.zeros(n, dtype=torch.bool)
    shifts = torch.zeros(2, n, dtype=torch.int64)
    if augmentation is None:
        return flip, shifts[0], shifts[1]
    if augmentation.flip:
        flip = torch.rand(n, generator=generator) < 0.5
    shifts = torch.randint(-augmentation.shift, augmentation.shift + 1, (2, n), generator=generator)
    if not augmentation.degrade:
        return flip, shifts[0], shifts[1]
    kind = torch.randint(1, len(KINDS), (n,), generator=generator)
    kind[torch.rand(n, generator=generator) >= augmentation.degrade] = 0
    strength = torch.rand(n, generator=generator)
    noise = torch.randn(n, 3, SIDE, SIDE, generator=generator)
    return flip, shifts[0], shifts[1], kind, strength, noise


def gather(images: Tensor, rows: Tensor, flip: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Return `images[rows]`, each mirrored and moved as told, as uint8 N×3×32×32 in channels-last memory.

    `images` is N×32×32×3. What a move uncovers is filled by reflection.
    """
    side = torch.arange(SIDE)
    y = _reflect(side - down[:, None])
    x = _reflect(side - right[:, None])
    x = torch.where(flip[:, None], SIDE - 1 - x, x)
    pixel = ((rows[:, None] * SIDE + y)[:, :, None] * SIDE + x[:, None, :]).flatten()
    picked = images.view(-1, 3).index_select(0, pixel.to(images.device))
    return picked.view(len(rows), SIDE, SIDE, 3).permute(0, 3, 1, 2)


def _reflect(position: Tensor) -> Tensor:
    last = SIDE - 1
    return last - (last - position.abs()).abs()


class TrainBatch(NamedTuple):
    """Hold images to train on, what to learn of them, which images they are, and how much each weighs."""

    images: Tensor
    labels: Tensor
    rows: Tensor
    weights: Tensor


class PackData(pl.LightningDataModule):
    """Serve the train and val images of a pack to Lightning from the memory of the training device.

    Each epoch has its own seed, made of `seed` and the epoch's number, so that a resumed run sees what the
    unbroken one would have seen. `train_images` limits training to the first images of a fixed random order
    (0: all of them), and `epoch_share` an epoch to a share of those (`hard_examples`). Of a `teacher` they have soft
    labels. Batches to train on are TrainBatch, those of val images and labels.
    """

    def __init__(
        self,
        pack: Pack,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        train_images: int = 0,
        epoch_share: float = 1.0,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.pack, self.batch_size, self.augmentation, self.seed = pack, batch_size, augmentation, seed
        rows = pack.rows("train")
        if train_images > len(rows):
            raise InputError(f"train_images is {train_images}, but the pack has {len(rows)} training images: lower it")
        # The subset does not follow `seed`: runs that differ in nothing else train on the same images.
        self.train_rows = np.random.default_rng(0).permutation(rows)[: train_images or None]
        self.hard_examples = HardExamples(len(self.train_rows), epoch_share)

    def some_images(self, n: int = 1000) -> Tensor:
        """Return the first `n` images to train on (or all of fewer), uint8 N×3×32×32."""
        return tensors(self.pack, self.train_rows[:n])[0].permute(0, 3, 1, 2)

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        self.train = tensors(self.pack, self.train_rows, device)
        if self.teacher:
            self.train = self.train[0], self.teacher.labels(*self.train)
        self.val = tensors(self.pack, self.pack.rows("val"), device)
        self.part = {"rank": self.trainer.global_rank, "ranks": self.trainer.world_size}

    def train_dataloader(self) -> Batches:
        epoch_seed = self.seed * 10_000 + self.trainer.current_epoch
        rows, weights = self.hard_examples.choose(epoch_seed)
        images = self.train[0]
        self.weights = weights.to(images.device)
        numbers = torch.arange(len(images), device=images.device)  # in the place of labels, which these lead to
        return Batches(images, numbers, self.batch_size, self.augmentation, epoch_seed, **self.part, rows=rows)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, ...]:
        if not self.trainer.training:
            return batch
        images, rows = batch
        return TrainBatch(images, self.train[1][rows], rows, self.weights[rows])

    def val_dataloader(self) -> Batches:
        return Batches(*self.val, self.batch_size, **self.part)


def tensors(pack: Pack, rows: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Load the images (uint8 N×32×32×3) and labels (int64 N) of `rows` onto `device`."""
    labels = pack.index["label"].to_numpy()[rows]
    return torch.from_numpy(pack.images[rows]).to(device), torch.from_numpy(labels).to(device)
