"""Muon: steps are orthogonal, other parameters follow AdamW, and the state survives a checkpoint."""

import copy

import torch
from torch import nn

from lib.training.muon import Muon, newton_schulz


def test_newton_schulz_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((8, 40), (40, 8), (16, 16)):
        values = torch.linalg.svdvals(newton_schulz(torch.randn(shape)))
        assert 0.5 < values.min() <= values.max() < 1.3, shape


def test_newton_schulz_on_the_gram_matrix_equals_that_on_the_matrix() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(8, 40)
    x = matrix / matrix.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    torch.testing.assert_close(newton_schulz(matrix), x, rtol=0, atol=1e-4)
    torch.testing.assert_close(newton_schulz(matrix.T), x.T, rtol=0, atol=1e-4)


def test_newton_schulz_approximates_the_nearest_orthogonal_matrix() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(8, 40)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    cosine = nn.functional.cosine_similarity(newton_schulz(matrix).flatten(), (u @ v).flatten(), dim=0)
    assert cosine > 0.97


def test_newton_schulz_of_a_batch_equals_that_of_each_matrix() -> None:
    torch.manual_seed(0)
    matrices = [scale * torch.randn(40, 8) for scale in (1e-3, 1.0, 1e3)]
    torch.testing.assert_close(newton_schulz(torch.stack(matrices)), torch.stack(list(map(newton_schulz, matrices))))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 8, 3, bias=False), nn.Flatten(), nn.Linear(8, 8))


def muon(net: nn.Sequential) -> Muon:
    return Muon([net[1].weight], [{"params": [*net[0].parameters(), *net[3].parameters()]}], 0.1, 0.01, 0.1)


def step(net: nn.Sequential, optimizer: torch.optim.Optimizer, seed: int) -> None:
    images = torch.randn(64, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    net(images).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_conv_filters_follow_muon_and_all_others_adamw() -> None:
    net, reference = network(), network()
    reference[1].weight.requires_grad_(False)
    adamw = torch.optim.AdamW([*reference[0].parameters(), *reference[3].parameters()], 0.01, weight_decay=0.1)
    step(net, muon(net), 1)
    step(reference, adamw, 1)
    assert torch.equal(net[0].weight, reference[0].weight)
    assert torch.equal(net[3].weight, reference[3].weight)
    scaled = reference[1].weight * 8**0.5 / reference[1].weight.norm()
    values = torch.linalg.svdvals((net[1].weight - scaled).detach().flatten(1))
    assert 0.05 < values.min() <= values.max() < 0.13


def test_state_survives_a_checkpoint() -> None:
    net = network()
    optimizer = muon(net)
    step(net, optimizer, 1)
    resumed = copy.deepcopy(net)
    restored = muon(resumed)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(net, optimizer, 2)
    step(resumed, restored, 2)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), resumed.parameters(), strict=True))
