"""Columns: networks side by side that learn alone and answer together, in every form that is served."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import settings
from torch import nn

from lib import networks
from lib.batches import TrainBatch
from lib.columns import in_columns
from lib.detector import Detector
from lib.explain import grad_cam
from lib.export import export_onnx
from lib.model import open_onnx
from lib.networks import Network, build_network
from lib.pack import Pack
from lib.predictions import run_network
from lib.quantise import quantise
from lib.training import train
from lib.weights import load_weights

MEAN, STD = [120.0, 118.0, 107.0], [61.0, 61.0, 68.0]
IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "pair", in_columns(2, networks.NETWORKS["plain_16_32"]))


@pytest.mark.parametrize("objects", [0, 10])
@pytest.mark.parametrize("mirror", [False, True])
def test_answer_is_the_mean_of_the_columns_and_these_begin_differently(objects: int, mirror: bool) -> None:
    network = build_network("pair", MEAN, STD, objects=objects, mirror=mirror).eval()
    with torch.no_grad():
        first, second = (column(IMAGES) for column in network.columns())
        torch.testing.assert_close(network(IMAGES), (first + second) / 2)
        assert (first - second).abs().max() > 1e-3
        assert network.joint(IMAGES).shape == (6, 2, 2, objects or 1)


def test_parts_of_a_network_lie_where_it_lies() -> None:
    network = build_network("pair", MEAN, STD).to("meta")
    for part in (*network.columns(), network.with_mirror(True)):
        assert part(IMAGES.to("meta")).is_meta


@pytest.mark.parametrize("object_weight", [0.0, 1.0])
def test_each_column_learns_what_it_would_alone(object_weight: float) -> None:
    network = build_network("pair", MEAN, STD, objects=10 if object_weight else 0)
    targets = torch.eye(20)[torch.arange(6) * 3].unflatten(1, (2, 10))
    whole = torch.ones(6, dtype=torch.bool)
    batch = TrainBatch(IMAGES, targets, torch.arange(6), torch.linspace(0.5, 1.5, 6), whole)
    recipe = settings(network="pair", object_weight=object_weight)

    def learn(network: Network) -> torch.Tensor:
        detector = Detector(network, recipe)
        figures = detector.losses(batch)
        figures["loss"].backward()
        return figures["losses"]

    together = learn(network)
    columns = network.columns()
    gradients = [[p.grad.clone() for p in column.parameters()] for column in columns]
    network.zero_grad()
    apart = torch.stack([learn(column) for column in columns])
    torch.testing.assert_close(together, apart.mean(0))
    for column, gradient in zip(columns, gradients, strict=True):
        torch.testing.assert_close([p.grad / 2 for p in column.parameters()], gradient)


def test_trained_columns_come_back_from_their_files_and_do_better_than_theirs_on_average(
    sample_pack: Pack, tmp_path: Path
) -> None:
    recipe = settings(network="pair", epochs=4, object_weight=1.0, train_images=0, mirror=False)
    network = train(sample_pack, recipe, tmp_path, progress=False)
    again = load_weights(tmp_path / "weights.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(IMAGES), network(IMAGES))
    export_onnx(again, tmp_path / "model.onnx")  # which compares its logits with ours
    val, labels = sample_pack.images[sample_pack.rows("val")], sample_pack.index["label"][sample_pack.rows("val")]

    def loss(network: Network) -> float:
        logits = run_network(network, torch.from_numpy(val), progress=False).logits
        return float(nn.functional.cross_entropy(torch.from_numpy(logits), torch.tensor(labels.to_numpy())))

    # The loss is convex in the logits, so the mean's cannot be above the mean of theirs; equal, they would be one.
    losses = [loss(column) for column in network.columns()]
    assert loss(network) < 0.999 * np.mean(losses)


def test_features_are_those_of_all_columns() -> None:
    network = build_network("pair", MEAN, STD).eval()
    outputs = run_network(network, IMAGES.permute(0, 2, 3, 1).contiguous(), progress=False)
    assert outputs.features.shape == (6, 64)
    with torch.no_grad():
        logits = network.body[-1](torch.from_numpy(outputs.features).view(6, 2, 32))
    np.testing.assert_allclose(logits, outputs.logits, atol=1e-5)


def test_map_of_evidence_adds_up_the_columns() -> None:
    network = build_network("pair", MEAN, STD).eval()
    images = IMAGES.permute(0, 2, 3, 1).numpy()
    columns = network.columns()
    with torch.no_grad():
        columns[1].body[-1].weight.zero_()  # the second column says the same of every image
    np.testing.assert_allclose(grad_cam(network, images), grad_cam(columns[0], images), atol=1e-5)


def test_first_convolutions_of_every_column_stay_in_float(tmp_path: Path) -> None:
    network = build_network("texture_net_x2", MEAN, STD)
    export_onnx(network, tmp_path / "model.onnx")
    images = IMAGES.repeat(22, 1, 1, 1).numpy()
    quantise(tmp_path / "model.onnx", tmp_path / "int8.onnx", images)
    banks = [
        bank for bank in onnx.load(tmp_path / "int8.onnx").graph.initializer if len(bank.dims) == 4 and bank.dims[2] > 1
    ]
    integers = [bank for bank in banks if bank.data_type == onnx.TensorProto.INT8]
    floats = [bank for bank in banks if bank.data_type == onnx.TensorProto.FLOAT]
    assert (len(integers), len(floats)) == (2 * 4, 2 * 2)
    assert open_onnx(tmp_path / "int8.onnx").run(None, {"images": images})[0].shape == (132, 2)
