"""Explanations: maps that point where a network that we built looks, and the cases that are shown."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.explain import cases, grad_cam, surest_mistakes
from lib.networks import Network, build_network
from lib.predictions import LOGITS


def network_that_sees_red() -> Network:
    """Return a network for which bright red is FAKE, bright blue REAL, and nothing else matters."""
    network = build_network("plain_16_32", [0.0] * 3, [255.0] * 3, mirror=True)
    colours = nn.Conv2d(3, 2, 1, bias=False)
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        colours.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[:, :, None, None])
        head.weight.copy_(torch.eye(2))
    network.body = nn.Sequential(
        nn.Sequential(colours, nn.ReLU()), nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )
    return network


def test_maps_point_at_the_evidence_with_its_sign() -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, :8, :8, 0] = 255
    image[0, 24:, 24:, 2] = 128
    evidence = grad_cam(network_that_sees_red(), image)[0]
    assert evidence.shape == (32, 32)
    assert evidence[2, 2] == pytest.approx(1)
    assert evidence[29, 29] == pytest.approx(-128 / 255, abs=0.01)
    assert np.abs(evidence[16, 16]) < 1e-6


@pytest.mark.parametrize("name", ["texture_net", "texture_net_x2", "vgg16_bn"])
def test_maps_of_real_networks_are_finite_and_scaled(name: str) -> None:
    network = build_network(name, [120.0] * 3, [60.0] * 3, mirror=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert np.abs(grad_cam(network, images)).max((1, 2)) == pytest.approx(1)
    assert network.mirror, "the network was left as it was"


def test_cases_and_surest_mistakes() -> None:
    table = pd.DataFrame({"label": [0, 0, 0, 1, 1], LOGITS[0]: [2.0, -1.0, -3.0, 4.0, -1.0], LOGITS[1]: 0.0})
    assert surest_mistakes(table).tolist() == [3, 2, 1]
    assert surest_mistakes(table, most=1).tolist() == [3]
    shown = {name: sorted(rows.tolist()) for name, rows in cases(table).items()}
    assert shown == {"FAKE, right": [0], "FAKE, wrong": [1, 2], "REAL, right": [4], "REAL, wrong": [3]}
    assert "REAL, wrong" not in cases(table.iloc[:3]), "no empty rows"
