"""Batches: every image once an epoch, augmented, and reproducible by the seed."""

import numpy as np
import torch

from lib.data.augment import Augmentation
from lib.data.batches import Batches, load_tensors
from lib.data.dataset import PackedDataset

IMAGES = torch.randint(0, 256, (50, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(50)
AUGMENTATION = Augmentation(flip=True, translate=2)


def test_an_epoch_holds_every_image_once_in_random_order() -> None:
    labels = torch.cat([labels for _, labels in Batches(IMAGES, LABELS, 8, AUGMENTATION, seed=1)])
    assert sorted(labels.tolist()) == LABELS.tolist()
    assert labels.tolist() != LABELS.tolist()


def test_batch_sizes_differ_by_one_at_most() -> None:
    assert {len(labels) for _, labels in Batches(IMAGES, LABELS, 8, seed=1)} == {7, 8}


def test_only_the_given_indices_come() -> None:
    indices = torch.tensor([9, 2, 30])
    ((images, labels),) = Batches(IMAGES, LABELS, 8, indices=indices)
    assert labels.tolist() == [9, 2, 30]
    assert torch.equal(images, IMAGES[indices].permute(0, 3, 1, 2))


def test_parts_of_all_ranks_equal_the_batches_of_one_process() -> None:
    augmentation = Augmentation(flip=True, translate=2, corruption_prob=0.5, cutout_size=8)
    single = list(Batches(IMAGES, LABELS, 8, augmentation, seed=1))
    ranks = [list(Batches(IMAGES, LABELS, 8, augmentation, 1, rank, world_size=3)) for rank in range(3)]
    for (images, labels), *parts in zip(single, *ranks, strict=True):
        assert torch.equal(torch.cat([part[0] for part in parts]), images)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
        assert max(len(part[1]) for part in parts) - min(len(part[1]) for part in parts) <= 1


def test_the_seed_determines_the_epoch() -> None:
    def epoch(seed: int) -> torch.Tensor:
        return torch.cat([images for images, _ in Batches(IMAGES, LABELS, 8, AUGMENTATION, seed)])

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))


def test_images_come_in_order_without_a_seed() -> None:
    batches = list(Batches(IMAGES, LABELS, 8))
    assert len(batches) == len(Batches(IMAGES, LABELS, 8)) == 7
    assert torch.equal(torch.cat([images for images, _ in batches]), IMAGES.permute(0, 3, 1, 2))


def test_load_tensors_follows_the_indices(sample_dataset: PackedDataset) -> None:
    indices = sample_dataset.indices("val")
    images, labels = load_tensors(sample_dataset, indices)
    assert images.dtype == torch.uint8
    assert np.array_equal(images.numpy(), sample_dataset.images[indices])
    assert labels.tolist() == sample_dataset.records["label"][indices].tolist()
