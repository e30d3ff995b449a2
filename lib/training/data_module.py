"""The LightningDataModule: training and validation batches of a packed dataset."""

import warnings

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.rows import ImageRows, equal_pixels
from lib.data.batches import Batches, TrainBatch, load_tensors
from lib.data.cutmix import cutmix
from lib.data.dataset import PackedDataset, sample_size
from lib.training.distillation import Teacher
from lib.training.hard_examples import HardExampleSampler
from lib.training.settings import Settings

_VAL_BATCH_SIZE = 1000  # of images of 32×32
_REMEDIES = {"training": "raise max_train_samples, or ", "validation": "raise val_fraction of 01_data, or "}


class PackedDataModule(pl.LightningDataModule):
    """Serve the train and val images of a packed dataset from the memory of the training device, or from its file.

    Where a class has more than 55 % of the training images, each image is weighted by the inverse of the size of its
    class, so that both classes count alike in the loss, with a warning.

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
        if settings.cutout_size >= dataset.image_size:
            raise InputError(f"cutout_size is {settings.cutout_size}: give less than image_size, {dataset.image_size}")
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
        self.class_weights = self._class_weights()
        self.sampler = HardExampleSampler(len(self.train_indices), settings.sample_fraction)

    def first_images(self, n: int = 1000) -> Tensor:
        """Return the first training images, uint8 N×3×S×S: at most `n`, or the pixels of `n` of 32×32."""
        return self.first_tensors(equal_pixels(n, self.dataset.image_size))[0].permute(0, 3, 1, 2)

    def first_tensors(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the first `n` training images (or all, if fewer), uint8 N×S×S×3, and their labels (int64 N)."""
        indices = self.train_indices[:n]
        labels = self.dataset.records["label"].to_numpy()[indices]
        return torch.from_numpy(self.dataset.images[indices]), torch.from_numpy(labels)

    def _class_weights(self) -> Tensor:
        """Return the weight of each class in the loss (float32 2), of mean 1 over the training images."""
        if self.dataset.is_balanced(self.train_indices):
            return torch.ones(len(CLASSES))
        counts = np.bincount(self.dataset.records["label"].to_numpy()[self.train_indices])
        weights = counts.sum() / (len(CLASSES) * counts)
        shown = ", ".join(f"{n:,} {name} (weight {w:.2f})" for name, n, w in zip(CLASSES, counts, weights, strict=True))
        warnings.warn(f"the classes are of unequal size, and weighted in the loss: {shown}", stacklevel=3)
        return torch.from_numpy(weights).float()

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        self.images, labels = load_tensors(self.dataset, self.train_indices, device, with_margin=True)
        self.image_weights = self.class_weights.to(device)[labels]
        targets = F.one_hot(labels, len(CLASSES)).float()
        if self.teacher:
            targets = self.teacher.targets(self._centres(), labels)
        object_classes, n = self.dataset.object_classes()
        object_classes = F.one_hot(torch.from_numpy(object_classes[self.train_indices]).to(device), n)
        self.targets = targets[:, :, None] * object_classes[:, None]
        self.val = load_tensors(self.dataset, self.dataset.indices("val"), device)
        self.shard = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def _centres(self) -> Tensor | ImageRows:
        """Return the training images without their margin."""
        if not self.dataset.margin:
            return self.images
        return load_tensors(self.dataset, self.train_indices, self.image_weights.device)[0]

    def train_dataloader(self) -> Batches:
        epoch_seed = self.settings.seed * 10_000 + self.trainer.current_epoch
        indices, weights = self.sampler.sample(epoch_seed)
        device = self.image_weights.device
        self.weights = weights.to(device) * self.image_weights
        positions = torch.arange(len(self.images), device=device)  # in place of labels: they index targets and weights
        self.cutmix_generator = torch.Generator().manual_seed(epoch_seed * 4096 + self.shard["rank"])
        batch_size = self.settings.batch_size
        augmentation = self.settings.augmentation(self.dataset.image_size, self.dataset.margin)
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
        batch_size = equal_pixels(_VAL_BATCH_SIZE, self.dataset.image_size)
        return Batches(*self.val, max(batch_size, self.settings.batch_size), **self.shard)
