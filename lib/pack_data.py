"""Serve a pack to Lightning: what each epoch sees, and what is to be learnt of it."""

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from lib import CLASSES
from lib.batches import Batches, TrainBatch, tensors
from lib.cutmix import cutmix
from lib.distil import Teacher
from lib.errors import InputError
from lib.hard_examples import HardExamples
from lib.pack import Pack
from lib.settings import Settings

_JUDGED = 1000  # images of the validation split at a time


class PackData(pl.LightningDataModule):
    """Serve the train and val images of a pack to Lightning from the memory of the training device.

    Each epoch has its own seed, made of the run's and the epoch's number, so that a resumed run sees what the
    unbroken one would have seen. `train_images` limits training to the first images of a fixed random order
    (0: all of them), and `epoch_share` an epoch to a share of those (`hard_examples`). A `teacher` has a say in their
    targets. Batches to train on are TrainBatch, mixed with one another where `cutmix` says so (each process mixes its
    own part of a batch); those of val are images and labels.
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
        self.images, labels = tensors(self.pack, self.train_rows, device)
        labels = self.teacher.labels(self.images, labels) if self.teacher else F.one_hot(labels, len(CLASSES)).float()
        objects, n = self.pack.objects()
        objects = F.one_hot(torch.from_numpy(objects[self.train_rows]).to(device), n)
        self.targets = labels[:, :, None] * objects[:, None]
        self.val = tensors(self.pack, self.pack.rows("val"), device)
        self.part = {"rank": self.trainer.global_rank, "ranks": self.trainer.world_size}

    def train_dataloader(self) -> Batches:
        epoch_seed = self.settings.seed * 10_000 + self.trainer.current_epoch
        rows, weights = self.hard_examples.choose(epoch_seed)
        device = self.images.device
        self.weights = weights.to(device)
        numbers = torch.arange(len(self.images), device=device)  # in the place of labels: they lead to the targets
        self.mixing = torch.Generator().manual_seed(epoch_seed * 4096 + self.part["rank"])
        batch_size, augmentation = self.settings.batch_size, self.settings.augmentation
        return Batches(self.images, numbers, batch_size, augmentation, epoch_seed, **self.part, rows=rows)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, ...]:
        if not self.trainer.training:
            return batch
        images, rows = batch
        whole = torch.ones_like(rows, dtype=torch.bool)
        batch = TrainBatch(images, self.targets[rows], rows, self.weights[rows], whole)
        return cutmix(batch, self.settings.cutmix, self.mixing) if self.settings.cutmix else batch

    def val_dataloader(self) -> Batches:
        return Batches(*self.val, max(_JUDGED, self.settings.batch_size), **self.part)
