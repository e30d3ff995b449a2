"""Hard-example sampling: an epoch has the hardest images, and weights keep the expected gradient unbiased."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import settings
from torch.nn import functional as F

from lib.data.batches import load_tensors
from lib.data.dataset import PackedDataset
from lib.training.hard_examples import HardExampleSampler, last_losses
from lib.training.train import train

LOSSES = torch.rand(1000, generator=torch.Generator().manual_seed(0)) ** 4


def sampled(fraction: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    sampler = HardExampleSampler(len(LOSSES), fraction)
    sampler.losses = LOSSES
    return sampler.sample(seed)


def test_hardest_images_are_always_sampled_and_others_at_random() -> None:
    hardest = set(LOSSES.argsort(descending=True)[:200].tolist())
    (first, _), (again, _), (other, _) = (sampled(0.5, seed) for seed in (1, 1, 2))
    assert len(first) == len(set(first.tolist())) == 500
    assert hardest <= set(first.tolist()) & set(other.tolist())
    assert torch.equal(first, again)
    assert 200 < len(set(first.tolist()) & set(other.tolist())) < 400, "the random part must differ between seeds"


def test_expected_weight_of_every_image_is_the_same() -> None:
    seeds = 400
    mean = sum(sampled(0.5, seed)[1] for seed in range(seeds)) / seeds
    assert mean == pytest.approx(0.5 * torch.ones(1000), abs=0.15)
    indices, weights = sampled(0.5)
    assert weights[indices].mean().item() == pytest.approx(1)
    assert weights.count_nonzero() == len(indices)


@pytest.mark.parametrize("losses", [LOSSES, torch.full((1000,), torch.inf)], ids=["known", "unknown"])
def test_fraction_of_one_samples_every_image_in_order(losses: torch.Tensor) -> None:
    sampler = HardExampleSampler(1000, 1.0)
    sampler.losses = losses
    indices, weights = sampler.sample(3)
    assert torch.equal(indices, torch.arange(1000))
    assert torch.equal(weights, torch.ones(1000))


def test_images_without_a_loss_come_first() -> None:
    sampler = HardExampleSampler(1000, 0.5)
    sampler.losses = LOSSES.clone()
    sampler.losses[:200] = torch.inf
    assert set(range(200)) <= set(sampler.sample(0)[0].tolist())


@pytest.mark.slow
def test_training_records_the_loss_of_each_image(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    plan = settings(
        epochs=2, flip=False, translate=0, dropout=0.0, hflip_tta=False, max_train_samples=0, sample_fraction=0.8
    )
    network = train(sample_dataset, plan, tmp_path, progress=False)
    indices = sample_dataset.indices("train")
    recorded = last_losses(tmp_path / "checkpoints", len(indices))
    images, labels = load_tensors(sample_dataset, np.random.default_rng(0).permutation(indices))
    with torch.inference_mode():
        losses = F.cross_entropy(network(images.permute(0, 3, 1, 2)), labels, reduction="none")
    known = recorded.isfinite()
    assert known.double().mean() > 0.9
    assert torch.corrcoef(torch.stack((recorded[known], losses[known])))[0, 1] > 0.7


def test_without_a_checkpoint_no_loss_is_known(tmp_path: Path) -> None:
    assert torch.equal(last_losses(tmp_path, 3), torch.full((3,), torch.inf))
