"""Batches: every image once, augmented as told, the same for the same seed."""

from dataclasses import replace

import numpy as np
import torch

from lib.batches import Augmentation, Batches, draw, gather, tensors
from lib.pack import Pack

IMAGES = torch.randint(0, 256, (50, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(50)


def none(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int64)


def test_gather_leaves_an_image_alone_when_told_nothing() -> None:
    rows = torch.tensor([7, 3, 3])
    picked = gather(IMAGES, rows, none(3).bool(), none(3), none(3))
    assert torch.equal(picked, IMAGES[rows].permute(0, 3, 1, 2))
    assert picked.is_contiguous(memory_format=torch.channels_last)


def test_gather_mirrors_and_moves_each_image_by_its_own_amount() -> None:
    rows = torch.tensor([4, 4, 4])
    flip, down, right = torch.tensor([True, False, True]), torch.tensor([0, 2, -1]), torch.tensor([0, -2, 2])
    picked = gather(IMAGES, rows, flip, down, right)
    for image, mirrored, dy, dx in zip(picked, flip, down, right, strict=True):
        source = IMAGES[4].numpy()[:, ::-1] if mirrored else IMAGES[4].numpy()
        padded = np.pad(source, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        moved = padded[2 - dy : 34 - dy, 2 - dx : 34 - dx]
        assert np.array_equal(image.permute(1, 2, 0).numpy(), moved)


def test_draw_covers_all_moves_evenly() -> None:
    flip, down, right = draw(Augmentation(flip=True, shift=2), 10_000, torch.Generator().manual_seed(0))
    assert 0.47 < flip.float().mean() < 0.53
    for moves in (down, right):
        values, counts = moves.unique(return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1, 2]
        assert counts.min() > 1800
    assert abs(torch.corrcoef(torch.stack([down, right]).double())[0, 1]) < 0.05


def test_an_epoch_holds_every_image_once() -> None:
    seen = torch.cat([labels for _, labels in Batches(IMAGES, LABELS, 8, Augmentation(), seed=1)])
    assert sorted(seen.tolist()) == LABELS.tolist()
    assert seen.tolist() != LABELS.tolist()


def test_batches_differ_in_length_by_one_at_most() -> None:
    lengths = {len(labels) for _, labels in Batches(IMAGES, LABELS, 8, seed=1)}
    assert lengths == {7, 8}


def test_processes_together_see_what_one_sees() -> None:
    augmentation = Augmentation(degrade=0.5)
    alone = list(Batches(IMAGES, LABELS, 8, augmentation, seed=1))
    parts = [list(Batches(IMAGES, LABELS, 8, augmentation, 1, rank, ranks=3)) for rank in range(3)]
    for (images, labels), *shares in zip(alone, *parts, strict=True):
        assert torch.equal(torch.cat([share[0] for share in shares]), images)
        assert torch.equal(torch.cat([share[1] for share in shares]), labels)
        assert max(len(share[1]) for share in shares) - min(len(share[1]) for share in shares) <= 1


def test_the_seed_decides_everything() -> None:
    def epoch(seed: int) -> torch.Tensor:
        return torch.cat([images for images, _ in Batches(IMAGES, LABELS, 8, Augmentation(), seed)])

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


def test_the_share_that_was_asked_for_is_degraded() -> None:
    mild = Augmentation(flip=False, shift=0, degrade=0.4)
    flip, _, _, kind, strength, noise = draw(mild, 10_000, torch.Generator().manual_seed(0))
    assert not flip.any()
    assert 0.38 < (kind > 0).float().mean() < 0.42
    assert all(0.12 < (kind == index).float().mean() < 0.15 for index in (1, 2, 3))
    assert (strength.min(), strength.max()) < (0.01, 1)
    assert noise.shape == (10_000, 3, 32, 32)
    ways = (replace(mild, degrade=0.0), mild)
    (images, _), (harmed, _) = (next(iter(Batches(IMAGES, LABELS, 50, way, seed=1))) for way in ways)
    same = (images == harmed).flatten(1).all(1)
    assert 0.4 < same.float().mean() < 0.8
