"""Augmentation: every image by its own parameters, each value as often as configured."""

import numpy as np
import torch

from lib.data.augment import Augmentation, cutout, flip_and_translate

IMAGES = torch.randint(0, 256, (50, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_identity_returns_the_images_unchanged() -> None:
    indices = torch.tensor([7, 3, 3])
    identity = Augmentation()
    batch = identity.apply(IMAGES, indices, identity.get_params(3, seeded()))
    assert torch.equal(batch, IMAGES[indices].permute(0, 3, 1, 2))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_each_image_is_flipped_and_translated_by_its_own_parameters() -> None:
    indices = torch.tensor([4, 4, 4])
    flip, down, right = torch.tensor([True, False, True]), torch.tensor([0, 2, -1]), torch.tensor([0, -2, 2])
    batch = flip_and_translate(IMAGES, indices, flip, down, right)
    for image, flipped, dy, dx in zip(batch, flip, down, right, strict=True):
        source = IMAGES[4].numpy()[:, ::-1] if flipped else IMAGES[4].numpy()
        padded = np.pad(source, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        translated = padded[2 - dy : 34 - dy, 2 - dx : 34 - dx]
        assert np.array_equal(image.permute(1, 2, 0).numpy(), translated)


def test_flips_and_translations_are_uniform() -> None:
    params = Augmentation(flip=True, translate=2).get_params(10_000, seeded())
    assert set(params) == {"flip", "down", "right"}
    assert 0.47 < params["flip"].float().mean() < 0.53
    for translation in (params["down"], params["right"]):
        values, counts = translation.unique(return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1, 2]
        assert counts.min() > 1800
    assert abs(torch.corrcoef(torch.stack([params["down"], params["right"]]).double())[0, 1]) < 0.05


def test_cutout_sets_one_square_to_grey() -> None:
    images = IMAGES[:4].permute(0, 3, 1, 2)
    top, left = torch.tensor([3, -5, 30, -7]), torch.tensor([10, 0, 30, 31])
    cut = cutout(images, top, left, size=8)
    expected = images.clone()
    expected[0, :, 3:11, 10:18] = 128
    expected[1, :, 0:3, 0:8] = 128
    expected[2, :, 30:, 30:] = 128
    expected[3, :, 0:1, 31:] = 128
    assert torch.equal(cut, expected)
    assert cut.is_contiguous(memory_format=torch.channels_last)


def test_cutout_covers_all_positions_evenly_and_every_image() -> None:
    augmentation = Augmentation(cutout_size=12)
    n = 20_000
    black = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    indices = torch.zeros(n, dtype=torch.int64)
    grey = augmentation.apply(black, indices, augmentation.get_params(n, seeded())) > 0
    assert grey.flatten(1).any(1).all()
    frequency = grey[:, 0].float().mean(0)
    assert frequency.min() > 0.8 * frequency.max()


def test_the_configured_share_is_corrupted() -> None:
    augmentation = Augmentation(corruption_prob=0.4)
    params = augmentation.get_params(10_000, seeded())
    assert set(params) == {"flip", "down", "right", "corruption_type", "severity", "noise_start"}
    assert not params["flip"].any()
    assert 0.38 < (params["corruption_type"] > 0).float().mean() < 0.42
    assert all(0.12 < (params["corruption_type"] == index).float().mean() < 0.15 for index in (1, 2, 3))
    assert 0 <= params["severity"].min() < 0.01
    assert 0.99 < params["severity"].max() < 1
    assert params["noise_start"].shape == (10_000,)
    corrupted = augmentation.apply(IMAGES, torch.arange(50), augmentation.get_params(50, seeded()))
    unchanged = (corrupted == IMAGES.permute(0, 3, 1, 2)).flatten(1).all(1)
    assert 0.4 < unchanged.float().mean() < 0.8
