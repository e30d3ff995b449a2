"""Batches: every image once, augmented as told, the same for the same seed."""

import numpy as np
import torch

from lib.augment import Augmentation
from lib.batches import Batches, tensors
from lib.pack import Pack

IMAGES = torch.randint(0, 256, (50, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(50)
VARIED = Augmentation(flip=True, shift=2)


def test_an_epoch_holds_every_image_once() -> None:
    seen = torch.cat([labels for _, labels in Batches(IMAGES, LABELS, 8, VARIED, seed=1)])
    assert sorted(seen.tolist()) == LABELS.tolist()
    assert seen.tolist() != LABELS.tolist()


def test_batches_differ_in_length_by_one_at_most() -> None:
    lengths = {len(labels) for _, labels in Batches(IMAGES, LABELS, 8, seed=1)}
    assert lengths == {7, 8}


def test_processes_together_see_what_one_sees() -> None:
    augmentation = Augmentation(flip=True, shift=2, degrade=0.5, erase=8)
    alone = list(Batches(IMAGES, LABELS, 8, augmentation, seed=1))
    parts = [list(Batches(IMAGES, LABELS, 8, augmentation, 1, rank, ranks=3)) for rank in range(3)]
    for (images, labels), *shares in zip(alone, *parts, strict=True):
        assert torch.equal(torch.cat([share[0] for share in shares]), images)
        assert torch.equal(torch.cat([share[1] for share in shares]), labels)
        assert max(len(share[1]) for share in shares) - min(len(share[1]) for share in shares) <= 1


def test_the_seed_decides_everything() -> None:
    def epoch(seed: int) -> torch.Tensor:
        return torch.cat([images for images, _ in Batches(IMAGES, LABELS, 8, VARIED, seed)])

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))


def test_without_a_seed_images_come_in_order() -> None:
    batches = list(Batches(IMAGES, LABELS, 8))
    assert len(batches) == len(Batches(IMAGES, LABELS, 8)) == 7
    assert torch.equal(torch.cat([images for images, _ in batches]), IMAGES.permute(0, 3, 1, 2))


def test_tensors_follow_the_rows(sample_pack: Pack) -> None:
    rows = sample_pack.rows("val")
    images, labels = tensors(sample_pack, rows)
    assert images.dtype == torch.uint8
    assert np.array_equal(images.numpy(), sample_pack.images[rows])
    assert labels.tolist() == sample_pack.index["label"][rows].tolist()
