"""Augmentation: each image varied by its own amount, all amounts as often as they should be."""

import numpy as np
import torch

from lib.augment import AS_IT_IS, Augmentation, erase, gather

IMAGES = torch.randint(0, 256, (50, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def none(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int64)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_an_image_is_left_alone_when_nothing_is_told() -> None:
    rows = torch.tensor([7, 3, 3])
    drawn = AS_IT_IS.draw(3, seeded())
    picked = AS_IT_IS.apply(IMAGES, rows, drawn)
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


def test_moves_and_mirror_images_are_drawn_evenly() -> None:
    drawn = Augmentation(flip=True, shift=2).draw(10_000, seeded())
    assert set(drawn) == {"flip", "down", "right"}
    assert 0.47 < drawn["flip"].float().mean() < 0.53
    for moves in (drawn["down"], drawn["right"]):
        values, counts = moves.unique(return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1, 2]
        assert counts.min() > 1800
    assert abs(torch.corrcoef(torch.stack([drawn["down"], drawn["right"]]).double())[0, 1]) < 0.05


def test_erasing_makes_one_square_grey_and_nothing_else() -> None:
    images = IMAGES[:4].permute(0, 3, 1, 2)
    top, left = torch.tensor([3, -5, 30, -7]), torch.tensor([10, 0, 30, 31])
    erased = erase(images, top, left, side=8)
    expected = images.clone()
    expected[0, :, 3:11, 10:18] = 128
    expected[1, :, 0:3, 0:8] = 128
    expected[2, :, 30:, 30:] = 128
    expected[3, :, 0:1, 31:] = 128
    assert torch.equal(erased, expected)
    assert erased.is_contiguous(memory_format=torch.channels_last)


def test_squares_fall_everywhere_as_often_and_touch_every_image() -> None:
    augmentation = Augmentation(erase=12)
    n = 20_000
    black = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    erased = augmentation.apply(black, none(n), augmentation.draw(n, seeded())) > 0
    assert erased.flatten(1).any(1).all()
    often = erased[:, 0].float().mean(0)
    assert often.min() > 0.8 * often.max(), "no place should be spared"


def test_the_share_that_was_asked_for_is_degraded() -> None:
    mild = Augmentation(degrade=0.4)
    drawn = mild.draw(10_000, seeded())
    assert not drawn["flip"].any()
    assert 0.38 < (drawn["kind"] > 0).float().mean() < 0.42
    assert all(0.12 < (drawn["kind"] == index).float().mean() < 0.15 for index in (1, 2, 3))
    assert 0 <= drawn["strength"].min() < 0.01
    assert 0.99 < drawn["strength"].max() < 1
    assert drawn["noise"].shape == (10_000,)
    harmed = mild.apply(IMAGES, torch.arange(50), mild.draw(50, seeded()))
    same = (harmed == IMAGES.permute(0, 3, 1, 2)).flatten(1).all(1)
    assert 0.4 < same.float().mean() < 0.8
