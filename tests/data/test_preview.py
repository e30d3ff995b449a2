"""Previews show what the training does to images, one step at a time."""

import numpy as np
import torch

from lib.data.augment import Augmentation
from lib.data.dataset import PackedDataset
from lib.data.preview import augmentation_steps, class_pairs
from lib.data.spectrum import fine_detail, high_frequency_ratio

IMAGES = torch.randint(0, 256, (6, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


def test_each_step_is_shown_alone() -> None:
    steps = augmentation_steps(IMAGES, LABELS, Augmentation(True, 2, 0.2, 12), 0.5)
    assert list(steps) == [
        "as stored", "flip", "translation, up to 2 px", "noise", "JPEG", "blur", "Cutout, 12 px", "CutMix",
        "all together",
    ]  # fmt: skip
    assert torch.equal(steps["as stored"], IMAGES)
    assert torch.equal(steps["flip"], IMAGES.flip(2))
    assert all(step.shape == IMAGES.shape and step.dtype == torch.uint8 for step in steps.values())
    hidden = (steps["Cutout, 12 px"] == 128).all(3).sum((1, 2))
    assert (hidden <= 144).all() and hidden.any()
    pasted = (steps["CutMix"] != IMAGES).any(3)
    assert torch.equal(steps["CutMix"][pasted], IMAGES.roll(1, 0)[pasted])


def test_images_keep_their_size() -> None:
    images = IMAGES.repeat(1, 2, 2, 1)
    steps = augmentation_steps(images, LABELS, Augmentation(True, 2, 0.2, 12, image_size=64), 0.5)
    assert len(steps) == 9
    assert {step.shape for step in steps.values()} == {images.shape}


def test_what_is_switched_off_is_left_out() -> None:
    steps = augmentation_steps(IMAGES, LABELS, Augmentation(), 0.0)
    assert list(steps) == ["as stored", "all together"]
    assert torch.equal(steps["all together"], IMAGES)


def test_pairs_are_of_the_same_object_class(sample_dataset: PackedDataset) -> None:
    pairs = class_pairs(sample_dataset)
    assert pairs["FAKE"][0] == pairs["REAL"][0]
    for label, (objects, indices) in enumerate(pairs.values()):
        records = sample_dataset.records.loc[indices]
        assert (records["label"] == label).all() and (records["split"] == "train").all()
        assert records["object_class"].tolist() == objects


def test_fine_detail_of_a_smooth_image_is_grey_and_that_of_a_checkerboard_is_not() -> None:
    y, x = np.indices((32, 32))
    ramp, board = 4 * x, 118 + 20 * ((x + y) % 2)
    images = np.repeat(np.stack([ramp, board])[..., None], 3, 3).astype(np.uint8)
    smooth, fine = fine_detail(images).astype(int)[:, 6:-6, 6:-6]
    assert np.abs(smooth - 128).max() <= 1
    assert np.abs(np.abs(fine - 128) - 40).max() <= 1, "ten levels above and below the mean, four times as strong"


def test_ratio_is_that_of_the_high_frequencies() -> None:
    real = np.ones((32, 32))
    fake = real.copy()
    fake[0, 0] = 1 + (np.hypot(*(np.indices((32, 32)) - 16)) >= 8).sum()
    assert high_frequency_ratio({"FAKE": fake, "REAL": real}) == 2
