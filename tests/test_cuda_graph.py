"""Steps recorded for a GPU: they do what the same steps do one kernel at a time."""

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lib.cuda_graph import RecordedStep
from lib.muon import Muon

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


class Batch(NamedTuple):
    images: Tensor
    labels: Tensor


def learn(network: nn.Module, recorded: bool) -> list[float]:
    """Train on batches of two lengths at a falling rate, and return the losses."""
    filters = [network[0].weight, network[3].weight]
    others = [p for p in network.parameters() if not any(p is bank for bank in filters)]
    optimizer = Muon(filters, [{"params": others}], 0.1, 0.01, 0.1)

    def step(batch: Batch) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(network(batch.images), batch.labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return {"loss": loss.detach()}

    do = RecordedStep(step, optimizer) if recorded else step
    losses = []
    for number in range(12):
        generator = torch.Generator().manual_seed(number)
        n = 32 - number % 2
        batch = Batch(torch.randn(n, 3, 8, 8, generator=generator), torch.arange(n) % 2)
        losses.append(do(Batch(*(part.cuda() for part in batch)))["loss"].item())
        for group in optimizer.param_groups:
            group["lr"] *= 0.8
    return losses


def test_recorded_steps_learn_what_others_learn() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 8, 3, bias=False),
        nn.BatchNorm2d(8), nn.GELU(), nn.Flatten(), nn.Linear(128, 2),
    ).cuda()  # fmt: skip
    twin = copy.deepcopy(network)
    assert learn(network, True) == pytest.approx(learn(twin, False), rel=1e-3)
    for one, other in zip(network.state_dict().values(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)
