"""CutMix: another image counts in target and weight by the area of its box."""

from pathlib import Path

import pytest
import torch
from conftest import settings

from lib.data.batches import TrainBatch
from lib.data.cutmix import cutmix
from lib.data.dataset import PackedDataset
from lib.models.networks import build_network
from lib.training.detector import Detector
from lib.training.train import train

N = 2000
# Every pixel of an image holds its index (modulo 256).
VALUES = (torch.arange(N) % 256).to(torch.uint8)
IMAGES = VALUES[:, None, None, None].expand(N, 3, 32, 32).contiguous(memory_format=torch.channels_last)
TARGETS = torch.eye(20)[torch.arange(N) % 20].unflatten(1, (2, 10))
BATCH = TrainBatch(IMAGES, TARGETS, torch.arange(N), torch.linspace(0.5, 2, N), torch.ones(N, dtype=torch.bool))


def mixed(prob: float, seed: int = 0) -> tuple[TrainBatch, torch.Tensor]:
    """Return the mixed batch, and the share of each image's area that is its own."""
    batch = cutmix(BATCH, prob, torch.Generator().manual_seed(seed))
    return batch, (batch.images == IMAGES).float().mean((1, 2, 3))


def test_targets_and_weights_are_mixed_by_area() -> None:
    batch, own = mixed(0.5)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.indices, BATCH.indices)
    assert torch.equal(batch.unmixed, own == 1)
    assert torch.equal(batch.images[batch.unmixed], IMAGES[batch.unmixed])
    torch.testing.assert_close(batch.targets.sum((1, 2)), torch.ones(N))
    weighted = BATCH.weights[:, None, None] * TARGETS
    expected = own[:, None, None] * weighted + (1 - own)[:, None, None] * weighted.roll(1, 0)
    torch.testing.assert_close(batch.weights[:, None, None] * batch.targets, expected)


def test_the_previous_image_fills_one_box() -> None:
    batch, own = mixed(1.0)
    replaced = batch.images != IMAGES
    assert torch.equal(batch.images[replaced], IMAGES.roll(1, 0)[replaced])
    for mask in replaced[own < 1][:50, 0]:
        y, x = mask.any(1), mask.any(0)
        assert torch.equal(mask, y[:, None] & x), "not a box"
        assert all((side.int().diff() > 0).sum() <= 1 for side in (y, x)), "not connected"


def test_the_configured_share_is_mixed_at_all_positions_and_sizes() -> None:
    batch, own = mixed(0.5)
    assert 0.45 < (~batch.unmixed).float().mean() < 0.52
    frequency = (batch.images != IMAGES)[:, 0].float().mean(0)
    assert frequency.min() > 0.2 * frequency.max()
    areas = 1 - own[~batch.unmixed]
    assert areas.min() < 0.05
    assert areas.max() > 0.8
    assert mixed(0.0)[0].unmixed.all()


def test_the_seed_determines_the_mix() -> None:
    assert torch.equal(mixed(0.5, 1)[0].images, mixed(0.5, 1)[0].images)
    assert not torch.equal(mixed(0.5, 1)[0].images, mixed(0.5, 2)[0].images)


def test_mixed_images_report_no_loss_to_the_hard_example_sampler() -> None:
    batch = TrainBatch(*(part[:64] for part in mixed(0.5)[0]))
    network = build_network("plain_16_32", [128.0] * 3, [64.0] * 3)
    losses = Detector(network, settings(network="plain_16_32")).losses(batch)["losses"]
    assert (losses[batch.unmixed] > 0).all()
    assert (losses[~batch.unmixed] == -1).all()


@pytest.mark.slow
@pytest.mark.parametrize("aux_loss_weight", [0.0, 0.25])
def test_training_converges_on_mixed_images(
    sample_dataset: PackedDataset, tmp_path: Path, aux_loss_weight: float
) -> None:
    with_cutmix = settings(
        network="plain_32_64", epochs=6, cutmix_prob=0.5, aux_loss_weight=aux_loss_weight, max_train_samples=0
    )
    network = train(sample_dataset, with_cutmix, tmp_path, progress=False)
    val = sample_dataset.indices("val")
    images = torch.from_numpy(sample_dataset.images[val]).permute(0, 3, 1, 2)
    with torch.no_grad():
        predictions = network(images).argmax(1).numpy()
    assert (predictions == sample_dataset.records["label"].to_numpy()[val]).mean() > 0.8
