"""The LightningDataModule: training and validation batches of a packed dataset."""

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from lib import CLASSES
from lib.core.errors import InputError
from lib.data.batches import Batches, TrainBatch, load_tensors
from lib.data.cutmix import cutmix
from lib.data.dataset import PackedDataset, sample_size
from lib.training.distillation import Teacher
from lib.training.hard_examples import HardExampleSampler
from lib.training.settings import Settings

_VAL_BATCH_SIZE = 1000
_REMEDIES = {"training": "raise max_train_samples, or ", "validation": "raise val_fraction of 01_data, or "}


class PackedDataModule(pl.LightningDataModule):
    """Serve the train and val images of a packed dataset from the memory of the training device.

    Every epoch has its own seed, derived from the run's seed and the epoch number, so that a resumed run gets the same
    batches as an uninterrupted one. `max_train_samples` limits training to the first images of a fixed random order (0:
    all; more than there are: all, with a warning), and `sample_fraction` an epoch to a fraction of those
    (lib.training.hard_examples). With a `teacher`, targets are soft (lib.training.distillation). Training batches are
    TrainBatch, with CutMix if `cutmix_prob` is above 0 (each process mixes its own part of a batch). Validation batches
    are images and labels. Raises InputError if a class is missing in the training or the validation images.
    """

    def __init__(self, dataset: PackedDataset, settings: Settings, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.dataset, self.settings, self.teacher = dataset, settings, teacher
        indices = dataset.indices("train")
        n = sample_size("max_train_samples", settings.max_train_samples, len(indices))
        # The subset does not depend on the seed: runs that differ in nothing else train on the same images.
        self.train_indices = np.random.default_rng(0).permutation(indices)[:n]
        for name, chosen in (("training", self.train_indices), ("validation", dataset.indices("val"))):
            missing = set(range(len(CLASSES))) - set(dataset.records["label"].to_numpy()[chosen])
            if missing:
                raise InputError(
                    f"none of the {len(chosen)} {name} images is {CLASSES[min(missing)]}: "
                    f"{_REMEDIES[name]}add images of that class to the data"
                )
        self.sampler = HardExampleSampler(len(self.train_indices), settings.sample_fraction)

    def first_images(self, n: int = 1000) -> Tensor:
        """Return the first `n` training images (or all, if fewer), uint8 N×3×32×32."""
        return self.first_tensors(n)[0].permute(0, 3, 1, 2)

    def first_tensors(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the first `n` training images (or all, if fewer), uint8 N×32×32×3, and their labels (int64 N)."""
        return load_tensors(self.dataset, self.train_indices[:n])

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        self.images, labels = load_tensors(self.dataset, self.train_indices, device)
        labels = self.teacher.targets(self.images, labels) if self.teacher else F.one_hot(labels, len(CLASSES)).float()
        object_classes, n = self.dataset.object_classes()
        object_classes = F.one_hot(torch.from_numpy(object_classes[self.train_indices]).to(device), n)
        self.targets = labels[:, :, None] * object_classes[:, None]
        self.val = load_tensors(self.dataset, self.dataset.indices("val"), device)
        self.shard = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def train_dataloader(self) -> Batches:
        epoch_seed = self.settings.seed * 10_000 + self.trainer.current_epoch
        indices, weights = self.sampler.sample(epoch_seed)
        device = self.images.device
        self.weights = weights.to(device)
        positions = torch.arange(len(self.images), device=device)  # in place of labels: they index targets and weights
        self.cutmix_generator = torch.Generator().manual_seed(epoch_seed * 4096 + self.shard["rank"])
        batch_size, augmentation = self.settings.batch_size, self.settings.augmentation
        return Batches(self.images, positions, batch_size, augmentation, epoch_seed, **self.shard, indices=indices)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, ...]:
        if not self.trainer.training:
            return batch
        images, indices = batch
        unmixed = torch.ones_like(indices, dtype=torch.bool)
        batch = TrainBatch(images, self.targets[indices], indices, self.weights[indices], unmixed)
        prob = self.settings.cutmix_prob
        return cutmix(batch, prob, self.cutmix_generator) if prob else batch

    def val_dataloader(self) -> Batches:
        return Batches(*self.val, max(_VAL_BATCH_SIZE, self.settings.batch_size), **self.shard)
