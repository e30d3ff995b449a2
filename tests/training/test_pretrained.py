"""Pretrained weights: where they are read from, the frozen network on top of them, and fine-tuning."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import settings
from sklearn.linear_model import LogisticRegression
from torchvision.models import vgg16_bn

from lib.core.errors import InputError
from lib.core.files import read_json
from lib.data.dataset import PackedDataset
from lib.evaluation.predictions import predict, probability_fake
from lib.models.networks import build_network
from lib.models.weights import load_weights
from lib.training.pretrained import fit_frozen, imagenet_weights
from lib.training.train import train


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a weights file of torchvision's vgg16_bn (with random weights, biases and means); return its path."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16_bn.pth"
    state = vgg16_bn(weights=None).state_dict()
    for key, value in state.items():
        if key.startswith("features.") and key.endswith(("bias", "running_mean")):
            value.normal_(std=0.1)
    torch.save({key: value for key, value in state.items() if not key.startswith("classifier.0")}, path)
    return path


@pytest.mark.slow
def test_weights_of_a_file_are_loaded_into_the_network(vgg_file: Path) -> None:
    init_state_dict = imagenet_weights(str(vgg_file))
    network = build_network("vgg16_bn", [120.0] * 3, [60.0] * 3)
    assert not network.load_state_dict(init_state_dict, strict=False).unexpected_keys
    saved = torch.load(vgg_file, weights_only=True)
    for key, value in network.backbone[0].state_dict().items():
        if "running_mean" not in key:
            assert torch.equal(value, saved[f"features.{key}"]), key


@pytest.mark.slow
def test_features_are_those_of_torchvisions_network(vgg_file: Path) -> None:
    expected = vgg16_bn(weights=None).eval()
    expected.load_state_dict(torch.load(vgg_file, weights_only=True), strict=False)
    network = build_network("vgg16_bn", [120.0] * 3, [60.0] * 3).eval()
    network.load_state_dict(imagenet_weights(str(vgg_file)), strict=False)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(network.backbone[0](images), expected.features(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_unavailable_weights_are_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("weights?")
    for where, message in (
        ("", "^no weights: set vgg_weights"),
        (str(tmp_path / "none.pth"), "gave no weights \\(FileNotFoundError\\): set vgg_weights"),
        (str(tmp_path / "text.pth"), "gave no weights \\(UnpicklingError\\): set vgg_weights"),
        (str(tmp_path / "other.pth"), "does not hold the weights of torchvision's vgg16_bn: set vgg_weights"),
    ):
        with pytest.raises(InputError, match=message):
            imagenet_weights(where)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(InputError, match="download gave no weights \\(URLError\\)"):
        imagenet_weights("download")


@pytest.mark.slow
def test_frozen_network_is_a_logistic_regression_on_its_features(
    sample_dataset: PackedDataset, vgg_file: Path, tmp_path: Path
) -> None:
    plan = settings(network="vgg16_bn", max_train_samples=100, hflip_tta=False)
    network = fit_frozen(sample_dataset, imagenet_weights(str(vgg_file)), plan, tmp_path)
    assert torch.equal(load_weights(tmp_path / "weights.safetensors").backbone[-1].weight, network.backbone[-1].weight)
    saved = torch.load(vgg_file, weights_only=True)
    assert torch.equal(network.backbone[0][0].weight, saved["features.0.weight"]), "the convolutions were trained"
    run = read_json(tmp_path / "run.json")
    assert (run["parameters"]["epochs"], run["parameters"]["flip"], run["network_parameters"]) == (1, False, 14_719_938)

    table, features = predict(network, sample_dataset, ("val",), "cpu", progress=False)
    indices = np.random.default_rng(0).permutation(sample_dataset.indices("train"))[:100]
    train_part = PackedDataset(
        sample_dataset.images[indices],
        sample_dataset.records.iloc[indices].assign(split="val"),
        sample_dataset.metadata,
    )
    _, train_features = predict(network, train_part, ("val",), "cpu", progress=False)
    scale, mean = train_features.std(0), train_features.mean(0)
    scale[scale == 0] = 1
    regression = LogisticRegression(max_iter=1000).fit((train_features - mean) / scale, train_part.records["label"])
    p_real = regression.predict_proba((features - mean) / scale)[:, 1]
    assert np.corrcoef(1 - p_real, probability_fake(table))[0, 1] > 0.999


@pytest.mark.slow
def test_finetuning_starts_from_the_weights(sample_dataset: PackedDataset, vgg_file: Path, tmp_path: Path) -> None:
    init_state_dict = imagenet_weights(str(vgg_file))
    plan = settings(
        network="vgg16_bn", epochs=1, max_train_samples=64, batch_size=32, muon_lr=0.0, lr=1e-7, hflip_tta=False
    )
    finetuned = train(sample_dataset, plan, tmp_path, progress=False, init_state_dict=init_state_dict)
    torch.testing.assert_close(
        finetuned.backbone[0][0].weight, init_state_dict["backbone.0.0.weight"], atol=1e-5, rtol=0
    )
