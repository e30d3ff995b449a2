"""Hard examples: an epoch has those that it should, and on average weighs all images alike."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import settings
from torch.nn import functional as F

from lib.batches import tensors
from lib.errors import InputError
from lib.hard_examples import HardExamples
from lib.pack import Pack
from lib.training import train

LOSSES = torch.rand(1000, generator=torch.Generator().manual_seed(0)) ** 4


def chosen(share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    examples = HardExamples(len(LOSSES), share)
    examples.losses = LOSSES
    return examples.choose(seed)


def test_the_hardest_are_always_there_and_the_others_by_chance() -> None:
    hardest = set(LOSSES.argsort(descending=True)[:200].tolist())
    (first, _), (again, _), (other, _) = (chosen(0.5, seed) for seed in (1, 1, 2))
    assert len(first) == len(set(first.tolist())) == 500
    assert hardest <= set(first.tolist()) & set(other.tolist())
    assert torch.equal(first, again)
    assert 200 < len(set(first.tolist()) & set(other.tolist())) < 400, "of the rest there should be others each time"


def test_the_weights_make_up_for_what_is_left_out() -> None:
    seeds = 400
    mean = sum(chosen(0.5, seed)[1] for seed in range(seeds)) / seeds
    assert mean == pytest.approx(0.5 * torch.ones(1000), abs=0.15), "each weighs on average what it would among all"
    rows, weights = chosen(0.5)
    assert weights[rows].mean().item() == pytest.approx(1)
    assert weights.count_nonzero() == len(rows)


@pytest.mark.parametrize("losses", [LOSSES, torch.full((1000,), torch.inf)], ids=["known", "unknown"])
def test_all_of_them_is_all_of_them_in_order(losses: torch.Tensor) -> None:
    examples = HardExamples(1000, 1.0)
    examples.losses = losses
    rows, weights = examples.choose(3)
    assert torch.equal(rows, torch.arange(1000))
    assert torch.equal(weights, torch.ones(1000))


def test_what_was_not_yet_seen_comes_first() -> None:
    examples = HardExamples(1000, 0.5)
    examples.losses = LOSSES.clone()
    examples.losses[:200] = torch.inf
    assert set(range(200)) <= set(examples.choose(0)[0].tolist())


def test_training_notes_the_loss_of_each_image_where_it_belongs(sample_pack: Pack, tmp_path: Path) -> None:
    still = settings(epochs=2, flip=False, shift=0, dropout=0.0, mirror=False, train_images=0, epoch_share=0.8)
    network = train(sample_pack, still, tmp_path, progress=False)
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    noted = last["callbacks"]["HardExamples"]["losses"]
    rows = sample_pack.rows("train")
    images, labels = tensors(sample_pack, np.random.default_rng(0).permutation(rows))
    with torch.inference_mode():
        losses = F.cross_entropy(network(images.permute(0, 3, 1, 2)), labels, reduction="none")
    known = noted.isfinite()
    assert known.double().mean() > 0.9
    assert torch.corrcoef(torch.stack((noted[known], losses[known])))[0, 1] > 0.7


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"epoch_share is 0\.0: give a value from 0\.01 to 1"):
        settings(epoch_share=0.0)
