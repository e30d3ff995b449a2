"""Iterate over batches: whole tensors of images, augmented together on the training device."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.core.rows import ImageRows
from lib.data.augment import Augmentation
from lib.data.dataset import PackedDataset

RESIDENT = 2**29  # bytes of images that are held on the device; larger sets stay in their file


class Batches:
    """Iterate over `(images, labels)`: uint8 N×3×S×S in channels-last memory, and int64 N.

    All images are on one device as one N×P×P×3 tensor, or in a file (ImageRows), from which those of each batch are
    read. P is larger than S by the margin of the augmentation on each side (without one P = S). One gather a batch
    selects, flips and translates its images: there is no per-image Python. With `seed` the order is random, and the
    same for the same seed; without, the images come in order. With `indices` (int64, into `images`) only those images
    come. Batch sizes differ by one at most: a short last batch would be a poor sample for batch normalisation.

    In distributed training each of `world_size` processes iterates over its own part of every batch, by `rank`; put
    together, the parts equal the batches of a single process.
    """

    def __init__(
        self,
        images: Tensor | ImageRows,
        labels: Tensor,
        batch_size: int,
        augmentation: Augmentation | None = None,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        indices: Tensor | None = None,
    ) -> None:
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.indices = torch.arange(len(images)) if indices is None else indices
        size = images.size if isinstance(images, ImageRows) else images.shape[1]
        self.augmentation, self.seed = augmentation or Augmentation(image_size=size), seed
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator()
        order = self.indices
        if self.seed is not None:
            order = order[torch.randperm(len(order), generator=generator.manual_seed(self.seed))]
        for batch in order.tensor_split(len(self)):
            params = self.augmentation.get_params(len(batch), generator)
            # Drawn for the whole batch, then split: the draws do not depend on the number of processes.
            parts = (part.tensor_split(self.world_size)[self.rank] for part in (batch, *params.values()))
            indices, *values = parts
            images = self.augmentation.apply(*self._read(indices), dict(zip(params, values, strict=True)))
            yield images, self.labels[indices.to(self.labels.device, non_blocking=True)]

    def _read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return a tensor of images, and the places of those at `indices` in it."""
        if not isinstance(self.images, ImageRows):
            return self.images, indices
        images = torch.from_numpy(self.images[indices.numpy()])
        return images.to(self.labels.device, non_blocking=True), torch.arange(len(indices))


class TrainBatch(NamedTuple):
    """Hold a batch of training images, with the targets and the weights of the loss.

    `images` is uint8 N×3×S×S. `targets` is float32 N×2×K: the joint probability of each label and object class, which
    sums to 1 over an image. `indices` (int64 N) identifies the images, `weights` (float32 N) weighs their losses, and
    `unmixed` (bool N) is true for those that CutMix left unchanged.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    weights: Tensor
    unmixed: Tensor


def load_tensors(
    dataset: PackedDataset, indices: np.ndarray, device: torch.device | str = "cpu", with_margin: bool = False
) -> tuple[Tensor | ImageRows, Tensor]:
    """Load the images (uint8 N×S×S×3) and labels (int64 N) at `indices` onto `device`.

    Images of more than RESIDENT bytes stay in their file, as ImageRows. With `with_margin` the images have the margin
    in which a random crop moves.
    """
    labels = torch.from_numpy(dataset.records["label"].to_numpy()[indices]).to(device)
    images = ImageRows(dataset.packed if with_margin else dataset.images, indices)
    return images if images.nbytes > RESIDENT else torch.from_numpy(images[:]).to(device), labels
