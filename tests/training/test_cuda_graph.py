"""CUDA graphs: graphed steps train as eager ones do."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lib.training.cuda_graph import GraphedStep
from lib.training.muon import Muon
from lib.training.sgd import SGD

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


class Batch(NamedTuple):
    images: Tensor
    labels: Tensor


def muon(network: nn.Module) -> torch.optim.Optimizer:
    filters = [network[0].weight, network[3].weight]
    others = [p for p in network.parameters() if not any(p is it for it in filters)]
    return Muon(filters, [{"params": others}], 0.1, 0.01, 0.1)


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return SGD([{"params": list(network.parameters())}], 0.05, 0.001)


def losses_of_training(network: nn.Module, optimizer: torch.optim.Optimizer, graphed: bool) -> list[float]:
    """Train on batches of two lengths with a falling learning rate; return the losses."""

    def step(batch: Batch) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(network(batch.images), batch.labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return {"loss": loss.detach()}

    run = GraphedStep(step, optimizer) if graphed else step
    losses = []
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        n = 32 - seed % 2
        batch = Batch(torch.randn(n, 3, 8, 8, generator=generator), torch.arange(n) % 2)
        losses.append(run(Batch(*(part.cuda() for part in batch)))["loss"].item())
        for group in optimizer.param_groups:
            group["lr"] *= 0.8
    return losses


@pytest.mark.parametrize("make_optimizer", [muon, sgd])
def test_graphed_steps_train_as_eager_ones(make_optimizer: Callable[[nn.Module], torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 8, 3, bias=False),
        nn.BatchNorm2d(8), nn.GELU(), nn.Flatten(), nn.Linear(128, 2),
    ).cuda()  # fmt: skip
    eager = copy.deepcopy(network)
    graphed, expected = (losses_of_training(net, make_optimizer(net), net is network) for net in (network, eager))
    assert graphed == pytest.approx(expected, rel=1e-3)
    for value, expected in zip(network.state_dict().values(), eager.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-2, atol=1e-3)
