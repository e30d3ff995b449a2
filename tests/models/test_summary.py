"""The summary of a network agrees with the network."""

import numpy as np
import pytest
import torch
from conftest import each_network

from lib.models.networks import build_network, count_macs, count_parameters
from lib.models.summary import layers, whitened_patterns

MEAN, STD = [127.5] * 3, [74.0] * 3


@pytest.mark.parametrize("name", [name for name in each_network() if name != "texture_net_x2"])
def test_layers_sum_to_the_network(name: str) -> None:
    network = build_network(name, MEAN, STD).train()
    found = layers(network)
    assert network.training
    assert sum(layer.macs for layer in found) == count_macs(network)
    assert sum(layer.parameters for layer in found) == count_parameters(network)
    assert (found[0].channels, found[0].side) == (3, 32)
    assert (found[-1].kind, found[-1].channels, found[-1].side) == ("linear", 2, 1)


def test_an_ensemble_shows_its_first_member() -> None:
    one, two = (layers(build_network(name, MEAN, STD)) for name in ("texture_net", "texture_net_x2"))
    assert one == two
    assert one[1].kind == "whitened 4×4, stride 2" and one[1].side == 16


def test_patterns_are_orthonormal_and_the_strongest_come_first() -> None:
    network = build_network("texture_net_tiny", MEAN, STD)
    images = torch.randint(0, 256, (64, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    network.init_whitening((images.float() / 2 + 20 * torch.arange(32)[None, None, :, None]).clamp(0, 255).byte())
    patterns, deviation = whitened_patterns(network)
    flat = patterns.reshape(48, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(48), atol=1e-4)
    assert (np.diff(deviation) <= 1e-9).all() and deviation[0] > 2 * deviation[-1]
    assert whitened_patterns(build_network("plain_16_32", MEAN, STD)) is None
