"""SGD: its steps are those of torch.optim.SGD with Nesterov momentum, also where learning rates are tensors."""

import copy

import torch
from torch import Tensor, nn

from lib.training.sgd import SGD


def train(network: nn.Sequential, optimizer: torch.optim.Optimizer, tensor_lr: bool = False) -> dict[str, Tensor]:
    for seed, lr in enumerate((0.01, 0.02, 0.005)):
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(lr) if tensor_lr else lr
        images = torch.randn(16, 3, 5, 5, generator=torch.Generator().manual_seed(seed))

        def closure(images: Tensor = images) -> Tensor:
            optimizer.zero_grad()
            loss = network(images).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
    return network.state_dict()


def test_steps_equal_those_of_torch() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    unused = nn.Parameter(torch.ones(2))  # without a gradient: it stays as it is
    expected = copy.deepcopy(network)
    reference = train(expected, torch.optim.SGD(expected.parameters(), 1, 0.9, weight_decay=0.1, nesterov=True))
    for tensor_lr in (False, True):
        trained = copy.deepcopy(network)
        states = train(trained, SGD([{"params": [unused, *trained.parameters()]}], 1, weight_decay=0.1), tensor_lr)
        for name, value in states.items():
            torch.testing.assert_close(value, reference[name], rtol=1e-6, atol=1e-7)
    assert torch.equal(unused, torch.ones(2))
