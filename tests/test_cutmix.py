"""CutMix: what comes from another image counts for it, in the target and in the weight, and for no more."""

from pathlib import Path

import pytest
import torch
from conftest import settings

from lib.batches import TrainBatch
from lib.cutmix import cutmix
from lib.detector import Detector
from lib.networks import build_network
from lib.pack import Pack
from lib.training import train

N = 2000
# Every pixel of an image tells which it is.
NUMBERS = (torch.arange(N) % 256).to(torch.uint8)
IMAGES = NUMBERS[:, None, None, None].expand(N, 3, 32, 32).contiguous(memory_format=torch.channels_last)
TARGETS = torch.eye(20)[torch.arange(N) % 20].unflatten(1, (2, 10))
BATCH = TrainBatch(IMAGES, TARGETS, torch.arange(N), torch.linspace(0.5, 2, N), torch.ones(N, dtype=torch.bool))


def mixed(share: float, seed: int = 0) -> tuple[TrainBatch, torch.Tensor]:
    """Return the batch, mixed, and which part of each image is its own."""
    batch = cutmix(BATCH, share, torch.Generator().manual_seed(seed))
    return batch, (batch.images == IMAGES).float().mean((1, 2, 3))


def test_targets_and_weights_count_both_images_by_their_parts() -> None:
    batch, own = mixed(0.5)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.rows, BATCH.rows)
    assert torch.equal(batch.whole, own == 1)
    assert torch.equal(batch.images[batch.whole], IMAGES[batch.whole])
    torch.testing.assert_close(batch.targets.sum((1, 2)), torch.ones(N))
    weighed = BATCH.weights[:, None, None] * TARGETS
    expected = own[:, None, None] * weighed + (1 - own)[:, None, None] * weighed.roll(1, 0)
    torch.testing.assert_close(batch.weights[:, None, None] * batch.targets, expected)


def test_a_box_of_the_image_before_comes_in() -> None:
    batch, own = mixed(1.0)
    other = batch.images != IMAGES
    assert torch.equal(batch.images[other], IMAGES.roll(1, 0)[other])
    for taken in other[own < 1][:50, 0]:
        rows, columns = taken.any(1), taken.any(0)
        assert torch.equal(taken, rows[:, None] & columns), "what is taken should be a box"
        assert all((side.int().diff() > 0).sum() <= 1 for side in (rows, columns)), "in one piece"


def test_the_share_that_was_asked_for_is_mixed_everywhere_and_in_all_sizes() -> None:
    batch, own = mixed(0.5)
    assert 0.45 < (~batch.whole).float().mean() < 0.52
    taken = (batch.images != IMAGES)[:, 0].float().mean(0)
    assert taken.min() > 0.2 * taken.max(), "no place should be spared"
    parts = 1 - own[~batch.whole]
    assert parts.min() < 0.05
    assert parts.max() > 0.8
    assert mixed(0.0)[0].whole.all()


def test_the_same_draws_mix_the_same() -> None:
    assert torch.equal(mixed(0.5, 1)[0].images, mixed(0.5, 1)[0].images)
    assert not torch.equal(mixed(0.5, 1)[0].images, mixed(0.5, 2)[0].images)


def test_a_mixed_image_says_nothing_of_how_hard_it_is() -> None:
    batch, _ = mixed(0.5)
    few = TrainBatch(*(part[:64] for part in batch))
    network = build_network("plain_16_32", [128.0] * 3, [64.0] * 3)
    losses = Detector(network, settings(network="plain_16_32")).losses(few)["losses"]
    assert (losses[few.whole] > 0).all()
    assert (losses[~few.whole] == -1).all()


@pytest.mark.parametrize("object_weight", [0.0, 0.25])
def test_training_learns_from_mixed_images(sample_pack: Pack, tmp_path: Path, object_weight: float) -> None:
    recipe = settings(network="plain_32_64", epochs=6, cutmix=0.5, object_weight=object_weight, train_images=0)
    network = train(sample_pack, recipe, tmp_path, progress=False)
    rows = sample_pack.rows("val")
    images = torch.from_numpy(sample_pack.images[rows]).permute(0, 3, 1, 2)
    with torch.no_grad():
        verdicts = network(images).argmax(1).numpy()
    assert (verdicts == sample_pack.index["label"].to_numpy()[rows]).mean() > 0.8
