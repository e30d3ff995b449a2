"""The comparison: weights from elsewhere, costs, and sentences that follow from the figures."""

import socket
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import settings
from sklearn.linear_model import LogisticRegression
from torchvision.models import vgg16_bn

from lib.compare import comparison_table, conclusion, judge, verdict
from lib.cost import measure
from lib.errors import InputError
from lib.files import read_json, write_json
from lib.metrics import mcnemar
from lib.networks import build_network
from lib.pack import Pack
from lib.predictions import LOGITS, predict, probability_fake
from lib.pretrained import fit_frozen, imagenet_weights
from lib.training import train
from lib.weights import load_weights, save_weights


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of torchvision's vgg16_bn (with random weights), as a user would have it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16_bn.pth"
    torch.save({key: value for key, value in vgg16_bn(weights=None).state_dict().items()
                if not key.startswith("classifier.0")}, path)  # fmt: skip
    return path


def test_weights_of_a_file_arrive_in_the_network(vgg_file: Path) -> None:
    start = imagenet_weights(str(vgg_file))
    network = build_network("vgg16_bn", [120.0] * 3, [60.0] * 3)
    assert not network.load_state_dict(start, strict=False).unexpected_keys
    saved = torch.load(vgg_file, weights_only=True)
    for key, value in network.body[0].state_dict().items():
        assert torch.equal(value, saved[f"features.{key}"]), key


def test_weights_that_cannot_be_had_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_frozen_features_under_a_logistic_regression(sample_pack: Pack, vgg_file: Path, tmp_path: Path) -> None:
    plan = settings(network="vgg16_bn", train_images=100, mirror=False)
    network = fit_frozen(sample_pack, imagenet_weights(str(vgg_file)), plan, tmp_path)
    assert torch.equal(load_weights(tmp_path / "weights.safetensors").body[-1].weight, network.body[-1].weight)
    saved = torch.load(vgg_file, weights_only=True)
    assert torch.equal(network.body[0][0].weight, saved["features.0.weight"]), "the convolutions have moved"
    run = read_json(tmp_path / "run.json")
    assert (run["parameters"]["epochs"], run["parameters"]["flip"], run["network_parameters"]) == (1, False, 14_724_162)

    table, features = predict(network, sample_pack, ("val",), "cpu", progress=False)
    rows = np.random.default_rng(0).permutation(sample_pack.rows("train"))[:100]
    known = Pack(sample_pack.images[rows], sample_pack.index.iloc[rows].assign(split="val"), sample_pack.facts)
    _, seen = predict(network, known, ("val",), "cpu", progress=False)
    scale, mean = seen.std(0), seen.mean(0)
    scale[scale == 0] = 1
    regression = LogisticRegression(max_iter=1000).fit((seen - mean) / scale, known.index["label"])
    p_real = regression.predict_proba((features - mean) / scale)[:, 1]
    assert np.corrcoef(1 - p_real, probability_fake(table))[0, 1] > 0.999


@pytest.mark.slow
def test_tuning_begins_with_the_weights(sample_pack: Pack, vgg_file: Path, tmp_path: Path) -> None:
    start = imagenet_weights(str(vgg_file))
    plan = settings(
        network="vgg16_bn", epochs=1, train_images=64, batch_size=32, muon_rate=0.0, learning_rate=1e-7, mirror=False
    )
    tuned = train(sample_pack, plan, tmp_path, progress=False, start=start)
    torch.testing.assert_close(tuned.body[0][0].weight, start["body.0.0.weight"], atol=1e-5, rtol=0)


def saved(folder: Path, name: str, seconds: float) -> Path:
    recipe = {"name": name, "mean": [120.0] * 3, "std": [60.0] * 3, "mirror": False}
    save_weights(folder / name / "weights.safetensors", build_network(**recipe), recipe)
    run = {"parameters": {"network": name, "epochs": 2, "train_images": 0, "epoch_share": 0.5}, "network_parameters": 1,
           "macs": 10**6, "train_seconds": seconds}  # fmt: skip
    write_json(folder / name / "run.json", run)
    return folder / name / "weights.safetensors"


def test_cost_grows_with_the_network(tmp_path: Path) -> None:
    small, large = (measure(saved(tmp_path, name, 1.0), 1) for name in ("plain_16_32", "plain_32_64_128_256"))
    assert 0 < small["latency_1"] < small["latency_256"] < large["latency_256"]
    assert small["images_per_second"] == pytest.approx(256 / small["latency_256"])
    assert large["bytes"] > small["bytes"] > 4 * 5000
    if sys.platform == "linux":
        # 256 images hold 32 MiB and more after the first layer alone.
        assert 2**25 < small["peak_memory"] < large["peak_memory"] < 2**30
    with pytest.raises(InputError, match=r"could not be measured: .*is missing"):
        measure(tmp_path / "none.safetensors", 1)


def answers(wrong: int) -> pd.DataFrame:
    label = np.tile([0, 1], 200)
    margin = np.where(label == 0, 2.0, -2.0)
    margin[:wrong] *= -1
    logits = {LOGITS[0]: margin, LOGITS[1]: 0.0}
    files = np.arange(400).astype(str)
    return pd.DataFrame({"file": files, "split": "test", "label": label, "in_train": False, **logits})


def test_table_and_sentences_follow_from_the_figures(tmp_path: Path) -> None:
    ours, theirs = answers(4), answers(40)
    networks = {
        "ours": judge(ours, ours, saved(tmp_path, "plain_16_32", 10.0), 1),
        "theirs": judge(theirs, ours, saved(tmp_path, "plain_32_64", 20.0), 1),
    }
    shown = comparison_table(networks, {"ImageNet": "no weights: set vgg_weights"}, train_rows=100)
    assert shown.loc["accuracy, all test images"].str[:7].tolist() == ["99.00 %", "90.00 %", "–"]
    assert shown.loc["epochs × training images", "theirs"] == "2 × 50"
    assert shown.loc["training images/s", "theirs"] == "5 images/s"
    assert shown.loc["network", "ImageNet"].startswith("no weights")
    (sentence,) = conclusion(networks, "the sample")
    assert sentence.startswith("theirs, on the sample and at these budgets: ours is more accurate (+9.00 [")
    with pytest.raises(ValueError, match="not the same test images"):
        judge(theirs.assign(file="x"), ours, tmp_path / "plain_32_64" / "weights.safetensors", 1)


def test_verdicts() -> None:
    good, bad = np.arange(100) < 95, np.arange(100) < 60
    assert verdict(mcnemar(good, bad)) == "ours is more accurate"
    assert verdict(mcnemar(bad, good)) == "ours is less accurate"
    assert verdict(mcnemar(good, good)) == verdict(mcnemar(good, np.roll(good, 1))) == "no difference is shown"
