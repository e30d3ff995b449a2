"""Ensembles: members are trained separately and averaged, in PyTorch, ONNX and int8, and explained by Grad-CAM."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import settings
from torch import nn

from lib.data.batches import TrainBatch, load_tensors
from lib.data.dataset import PackedDataset
from lib.evaluation.explain import grad_cam
from lib.evaluation.predictions import run_network
from lib.export.onnx_file import export_onnx
from lib.export.quantize import quantize
from lib.inference.predictor import open_onnx
from lib.models import networks
from lib.models.ensemble import make_ensemble
from lib.models.networks import Network, build_network
from lib.models.weights import load_weights
from lib.training.detector import Detector
from lib.training.train import train

MEAN, STD = [120.0, 118.0, 107.0], [61.0, 61.0, 68.0]
IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register "pair", an ensemble of two small networks."""
    monkeypatch.setitem(networks.NETWORKS, "pair", make_ensemble(2, networks.NETWORKS["plain_16_32"]))


@pytest.mark.parametrize("num_object_classes", [0, 10])
@pytest.mark.parametrize("hflip_tta", [False, True])
def test_logits_are_the_mean_of_differently_initialised_members(num_object_classes: int, hflip_tta: bool) -> None:
    network = build_network("pair", MEAN, STD, num_object_classes=num_object_classes, hflip_tta=hflip_tta).eval()
    with torch.no_grad():
        first, second = (member(IMAGES) for member in network.members())
        torch.testing.assert_close(network(IMAGES), (first + second) / 2)
        assert (first - second).abs().max() > 1e-3
        assert network.joint_logits(IMAGES).shape == (6, 2, 2, num_object_classes or 1)


def test_derived_networks_stay_on_the_device() -> None:
    network = build_network("pair", MEAN, STD).to("meta")
    for derived in (*network.members(), network.with_hflip_tta(True)):
        assert derived(IMAGES.to("meta")).is_meta


@pytest.mark.parametrize("aux_loss_weight", [0.0, 1.0])
def test_gradients_of_each_member_are_those_of_separate_training(aux_loss_weight: float) -> None:
    network = build_network("pair", MEAN, STD, num_object_classes=10 if aux_loss_weight else 0)
    targets = torch.eye(20)[torch.arange(6) * 3].unflatten(1, (2, 10))
    unmixed = torch.ones(6, dtype=torch.bool)
    batch = TrainBatch(IMAGES, targets, torch.arange(6), torch.linspace(0.5, 1.5, 6), unmixed)

    def backward(network: Network) -> torch.Tensor:
        detector = Detector(network, settings(network="pair", aux_loss_weight=aux_loss_weight))
        outputs = detector.losses(batch)
        outputs["loss"].backward()
        return outputs["losses"]

    joint = backward(network)
    members = network.members()
    gradients = [[p.grad.clone() for p in member.parameters()] for member in members]
    network.zero_grad()
    separate = torch.stack([backward(member) for member in members])
    torch.testing.assert_close(joint, separate.mean(0))
    for member, gradient in zip(members, gradients, strict=True):
        torch.testing.assert_close([p.grad / 2 for p in member.parameters()], gradient)


@pytest.mark.slow
def test_trained_ensemble_reloads_exports_and_beats_the_mean_of_its_members(
    sample_dataset: PackedDataset, tmp_path: Path
) -> None:
    plan = settings(network="pair", epochs=4, aux_loss_weight=1.0, max_train_samples=0, hflip_tta=False)
    network = train(sample_dataset, plan, tmp_path, progress=False)
    loaded = load_weights(tmp_path / "weights.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(loaded(IMAGES), network(IMAGES))
    export_onnx(loaded, tmp_path / "model.onnx")  # raises if the logits differ
    images, labels = load_tensors(sample_dataset, sample_dataset.indices("val"))

    def loss(network: Network) -> float:
        logits = run_network(network, images, progress=False).logits
        return float(nn.functional.cross_entropy(torch.from_numpy(logits), labels))

    # The loss is convex in the logits: that of the mean is at most the mean loss, and equal only for equal members.
    losses = [loss(member) for member in network.members()]
    assert loss(network) < 0.999 * np.mean(losses)


def test_features_are_those_of_all_members() -> None:
    network = build_network("pair", MEAN, STD).eval()
    outputs = run_network(network, IMAGES.permute(0, 2, 3, 1).contiguous(), progress=False)
    assert outputs.features.shape == (6, 64)
    with torch.no_grad():
        logits = network.backbone[-1](torch.from_numpy(outputs.features).view(6, 2, 32))
    np.testing.assert_allclose(logits, outputs.logits, atol=1e-5)


def test_grad_cam_adds_up_the_members() -> None:
    network = build_network("pair", MEAN, STD).eval()
    images = IMAGES.permute(0, 2, 3, 1).numpy()
    members = network.members()
    with torch.no_grad():
        members[1].backbone[-1].weight.zero_()  # the logits of the second member are constant
    np.testing.assert_allclose(grad_cam(network, images), grad_cam(members[0], images), atol=1e-5)


@pytest.mark.slow
def test_quantisation_keeps_the_first_convolutions_of_every_member_in_float(tmp_path: Path) -> None:
    network = build_network("texture_net_x2", MEAN, STD)
    export_onnx(network, tmp_path / "model.onnx")
    images = IMAGES.repeat(22, 1, 1, 1).numpy()
    quantize(tmp_path / "model.onnx", tmp_path / "int8.onnx", images)
    initializers = onnx.load(tmp_path / "int8.onnx").graph.initializer
    filters = [it for it in initializers if len(it.dims) == 4 and it.dims[2] > 1]
    integers = [it for it in filters if it.data_type == onnx.TensorProto.INT8]
    floats = [it for it in filters if it.data_type == onnx.TensorProto.FLOAT]
    assert (len(integers), len(floats)) == (2 * 4, 2 * 2)
    assert open_onnx(tmp_path / "int8.onnx").run(None, {"images": images})[0].shape == (132, 2)
