"""Explanations: Grad-CAM of a network whose evidence is known, and the choice of cases."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.evaluation.explain import cases, grad_cam, most_confident_errors
from lib.evaluation.predictions import LOGITS
from lib.models.networks import Network, build_network


def red_is_fake() -> Network:
    """Return a network whose margin is the mean of red less the mean of blue."""
    network = build_network("plain_16_32", [0.0] * 3, [255.0] * 3, hflip_tta=True)
    colours = nn.Conv2d(3, 2, 1, bias=False)
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        colours.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[:, :, None, None])
        head.weight.copy_(torch.eye(2))
    network.backbone = nn.Sequential(
        nn.Sequential(colours, nn.ReLU()), nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )
    return network


def test_maps_localise_the_evidence_with_its_sign() -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, :8, :8, 0] = 255
    image[0, 24:, 24:, 2] = 128
    saliency = grad_cam(red_is_fake(), image)[0]
    assert saliency.shape == (32, 32)
    assert saliency[2, 2] == pytest.approx(1)
    assert saliency[29, 29] == pytest.approx(-128 / 255, abs=0.01)
    assert np.abs(saliency[16, 16]) < 1e-6


@pytest.mark.parametrize("name", ["texture_net", "texture_net_x2", pytest.param("vgg16_bn", marks=pytest.mark.slow)])
def test_maps_of_our_networks_are_scaled_to_one(name: str) -> None:
    network = build_network(name, [120.0] * 3, [60.0] * 3, hflip_tta=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert np.abs(grad_cam(network, images)).max((1, 2)) == pytest.approx(1)
    assert network.hflip_tta, "the network was changed"


def test_cases_and_most_confident_errors() -> None:
    table = pd.DataFrame({"label": [0, 0, 0, 1, 1], LOGITS[0]: [2.0, -1.0, -3.0, 4.0, -1.0], LOGITS[1]: 0.0})
    assert most_confident_errors(table).tolist() == [3, 2, 1]
    assert most_confident_errors(table, most=1).tolist() == [3]
    chosen = {name: sorted(indices.tolist()) for name, indices in cases(table).items()}
    assert chosen == {"FAKE, correct": [0], "FAKE, wrong": [1, 2], "REAL, correct": [4], "REAL, wrong": [3]}
    assert "REAL, wrong" not in cases(table.iloc[:3]), "a case without images is left out"
