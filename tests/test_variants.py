"""Variants of a network: each keeps the contract, is what its name says, and the rule takes the right one."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from lib import choice
from lib.cascade import join, second_look, small_first
from lib.choice import answers, choose, judge, measure
from lib.columns import ColumnHeads, Columns
from lib.errors import InputError
from lib.export import export_onnx
from lib.files import ROOT
from lib.model import Model, open_onnx
from lib.networks import Network, build_network, count_macs
from lib.pack import Pack
from lib.prune import prune_channels, prune_weights
from lib.quantise import quantise
from lib.variants import Variant, onnx_variants
from lib.weights import load_weights

REFERENCE = ROOT / "outputs" / "reference"


@pytest.fixture(scope="module")
def images(sample_pack: Pack) -> np.ndarray:
    return np.ascontiguousarray(sample_pack.images[::16].transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def network() -> Network:
    """Return the released network's first column, with two views."""
    return load_weights(REFERENCE / "weights.safetensors").columns()[0].with_mirror(True)


def integers(path: Path) -> int:
    """Count the filter banks of 8-bit integers."""
    return sum(
        len(bank.dims) == 4 for bank in onnx.load(path).graph.initializer if bank.data_type == onnx.TensorProto.INT8
    )


def test_quantised_network_is_of_integers_and_says_nearly_the_same(
    network: Network, images: np.ndarray, tmp_path: Path
) -> None:
    model = tmp_path / "model.onnx"
    export_onnx(network, model)
    plain = open_onnx(model).run(None, {"images": images})[0]
    margin = plain[:, 0] - plain[:, 1]
    apart = {}
    for kept in (0, 2):
        quantise(model, tmp_path / "int8.onnx", images[:64], kept=kept)
        logits = open_onnx(tmp_path / "int8.onnx").run(None, {"images": images})[0]
        apart[kept] = np.abs(logits[:, 0] - logits[:, 1] - margin).mean()
    assert integers(tmp_path / "int8.onnx") > 0
    assert 0 < apart[2] < 0.2 * margin.std()
    assert apart[2] < apart[0] / 2, "the first layers are what 8 bits harm"
    assert (tmp_path / "int8.onnx").stat().st_size < 0.7 * model.stat().st_size


def test_what_cannot_be_quantised_is_refused(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'Most': choose one of MinMax"):
        quantise(REFERENCE / "model.onnx", tmp_path / "int8.onnx", images, method="Most")
    with pytest.raises(InputError, match="no convolution to quantise"):
        quantise(REFERENCE / "model.onnx", tmp_path / "int8.onnx", images, kept=99)
    assert not list(tmp_path.iterdir())


def test_pruning(network: Network, images: np.ndarray) -> None:
    x, macs = torch.from_numpy(images[:128]), count_macs(network)
    zeros = prune_weights(network, 0.3)
    weights = torch.cat([layer.weight.flatten() for layer in zeros.modules() if isinstance(layer, torch.nn.Conv2d)])
    assert (weights == 0).float().mean() == pytest.approx(0.3, abs=1e-4)
    assert count_macs(zeros) == macs
    whole, cut = prune_channels(network, 0.0, x), prune_channels(network, 0.5, x)
    assert count_macs(cut) < 0.4 * macs
    with torch.no_grad():
        assert cut(x).shape == (128, 2)
        whole.train(False)
        for new, old in zip(whole.modules(), network.modules(), strict=True):
            if isinstance(new, torch.nn.BatchNorm2d):
                new.running_mean, new.running_var = old.running_mean, old.running_var
        assert torch.allclose(whole(x), network(x), atol=1e-4), "nothing cut, nothing changed"
    with pytest.raises(InputError, match="only from a chain"):
        prune_channels(build_network("plain_32_64_128_residual", [120.0] * 3, [60.0] * 3), 0.5, x)


@pytest.mark.parametrize("objects", [0, 10])
def test_all_variants_of_a_small_network_keep_the_contract(images: np.ndarray, tmp_path: Path, objects: int) -> None:
    torch.manual_seed(0)
    small = build_network("plain_16_32", [120.0] * 3, [60.0] * 3, mirror=True, objects=objects)
    variants, unavailable = onnx_variants(small, images[:64], 0.5, tmp_path, 1)
    assert next(iter(variants)) == "float32"
    assert {"float32, one view", "float32, 50% of channels cut", "int8, first two layers too"} <= set(variants)
    assert set(unavailable) == {
        "int8",
        "int8, Entropy",
        "int8, Percentile",
        "int8, one scale a layer",
        "int8, one view",
    }
    logits = answers(variants, images)
    with torch.no_grad():
        np.testing.assert_allclose(logits["float32"], small(torch.from_numpy(images)).numpy(), atol=1e-3)
    assert not np.allclose(logits["float32"], logits["float32, one view"], atol=1e-6)


def test_figures_are_those_of_a_change() -> None:
    labels = np.array([0] * 6 + [1] * 4)
    right = np.where(labels[:, None] == [0, 1], 1.0, 0.0).astype(np.float32)
    worse = right.copy()
    worse[:3] = worse[:3, ::-1]
    entries = judge({"plain": right, "worse": worse}, labels)
    assert entries["plain"]["change"]["difference"] == 0
    assert entries["worse"]["change"]["difference"] == pytest.approx(-0.3)
    assert (entries["worse"]["accuracy"]["value"], entries["worse"]["agreement"]["value"]) == (0.7, 0.7)


def test_rounds_alternate_and_slow_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "CALLS", {1: 2, 256: 1})
    order: list[str] = []

    def answering(name: str, work: int) -> Variant:
        def answer(images: np.ndarray) -> np.ndarray:
            order.append(name)
            return np.linalg.svd(np.ones((work, work)))[1]

        return Variant(answer, Path("x.onnx"))

    costs = measure(
        {"quick": answering("quick", 2), "slow": answering("slow", 200)}, np.zeros((256, 3, 2, 2)), rounds=2
    )
    assert [name for name, before in zip(order, ["", *order], strict=False) if name != before] == ["quick", "slow"] * 2
    assert costs["slow"]["latency_1"]["mean"] > costs["quick"]["latency_1"]["mean"]
    assert costs["slow"]["images_per_second"]["n"] == 2
    with pytest.raises(InputError, match="at least 2"):
        measure({}, np.zeros((256, 3, 2, 2)), rounds=1)


def test_rule_takes_the_fastest_that_is_shown_to_be_good_enough() -> None:
    def entry(rate: float, low: float, servable: bool = True) -> dict[str, Any]:
        speed = {"images_per_second": {"mean": rate, "sd": 0.5}}
        return {"cost": speed, "change": {"low": low}, "servable": servable}

    entries = {"float32": entry(1, 0), "int8": entry(4, -0.0009), "wrong": entry(9, -0.0011)}
    entries |= {"torch": entry(8, 0, False), "as fast": entry(4.4, -0.0009)}
    assert choose(entries, max_loss=0.1) == "int8"
    assert choose(entries, max_loss=0.05) == "float32"
    assert choose(entries, max_loss=0.2) == "wrong"
    assert choose(entries | {"faster": entry(5, 0)}, max_loss=0.1) == "faster"


@pytest.fixture(scope="module")
def pair(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Export two networks that say different things, one of them of object classes too."""
    folder = tmp_path_factory.mktemp("pair")
    for seed, (name, objects) in enumerate({"small": 0, "large": 10}.items()):
        torch.manual_seed(seed)
        small = build_network("plain_16_32", [120.0] * 3, [60.0] * 3, objects=objects).train()
        for _ in range(3):  # statistics of batch normalisation, without which all images look alike
            small(torch.from_numpy(images[:64]))
        export_onnx(small, folder / f"{name}.onnx")
    return folder / "small.onnx", folder / "large.onnx"


def test_a_small_network_answers_what_is_easy_and_the_large_one_the_rest(
    pair: tuple[Path, Path], images: np.ndarray, tmp_path: Path
) -> None:
    small, large = (open_onnx(file).run(None, {"images": images})[0] for file in pair)
    apart = np.abs(small[:, 0] - small[:, 1])
    graphs = [onnx.load(file) for file in pair]
    for margin in (0.0, float(np.median(apart)), np.inf):
        for mean, then in ((False, large), (True, (small / 2 + large) / 2)):
            join(*graphs, margin, tmp_path / "both.onnx", 0.5, mean)
            both = open_onnx(tmp_path / "both.onnx").run(None, {"images": images})[0]
            expected = np.where((apart < margin)[:, None], then, small / 2)
            np.testing.assert_allclose(both, expected, atol=1e-5)
    join(*graphs, 0.0, tmp_path / "both.onnx")
    pixels = images.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(Model(tmp_path / "both.onnx").logits(pixels), small, atol=1e-5)
    np.testing.assert_allclose(Model(tmp_path / "both.onnx").logits(pixels, thorough=True), large, atol=1e-5)
    np.testing.assert_array_equal(Model(pair[1]).logits(pixels, thorough=True), Model(pair[1]).logits(pixels))


def test_the_small_network_answers_alone_only_where_it_keeps_the_stated_error(
    images: np.ndarray, network: Network, tmp_path: Path
) -> None:
    with torch.no_grad():
        truth = network(torch.from_numpy(images)).numpy()
    labels = truth.argmax(1)
    large = REFERENCE / "model.onnx"
    small_first(network.with_mirror(False), images[:64], (images, labels), large, tmp_path / "both.onnx", 0.05)
    model, pixels = Model(tmp_path / "both.onnx"), images.transpose(0, 2, 3, 1)
    alone = np.abs(model.logits(pixels) - Model(large).logits(pixels)).max(1) > 1e-4
    assert 0.5 < alone.mean() <= 1
    assert (model.logits(pixels)[alone].argmax(1) != labels[alone]).mean() <= 0.05
    with pytest.raises(InputError, match=r"nowhere shown to err in at most 0.00%: train it longer"):
        small_first(network.with_mirror(False), images[:64], (images, 1 - labels), large, tmp_path / "none.onnx", 1e-6)
    assert not (tmp_path / "none.onnx").exists()


def test_a_second_view_is_taken_only_where_one_leaves_the_network_unsure(
    images: np.ndarray, network: Network, tmp_path: Path
) -> None:
    export_onnx(network.with_mirror(False), tmp_path / "one.onnx")
    one, pixels = Model(tmp_path / "one.onnx"), images.transpose(0, 2, 3, 1)
    sure = np.abs(np.diff(one.logits(pixels))[:, 0])
    labels = one.logits(pixels).argmax(1) ^ (sure < np.quantile(sure, 0.2))  # it errs where it is least sure
    second_look(tmp_path / "one.onnx", None, tmp_path / "both.onnx", images, (images, labels), 0.05)
    both = Model(tmp_path / "both.onnx")
    two = (one.logits(pixels) + one.logits(pixels[:, :, ::-1])) / 2
    looked_again = np.abs(both.logits(pixels) - one.logits(pixels)).max(1) > 1e-4
    assert 0 < looked_again.mean() < 0.5
    np.testing.assert_allclose(both.logits(pixels)[looked_again], two[looked_again], atol=1e-4)
    np.testing.assert_allclose(both.logits(pixels, thorough=True), two, atol=1e-4)
    assert (tmp_path / "both.onnx").stat().st_size < 1.02 * (tmp_path / "one.onnx").stat().st_size

    export_onnx(build_network("plain_16_32", [120.0] * 3, [60.0] * 3), tmp_path / "small.onnx")
    join(onnx.load(tmp_path / "small.onnx"), onnx.load(tmp_path / "both.onnx"), 0.1, tmp_path / "three.onnx")
    three = Model(tmp_path / "three.onnx")
    np.testing.assert_allclose(three.logits(pixels, thorough=True), two, atol=1e-4)


def test_a_second_column_is_asked_only_where_the_first_is_unsure(
    images: np.ndarray, network: Network, tmp_path: Path
) -> None:
    other = prune_weights(network, 0.6)
    body = torch.nn.Sequential(
        Columns([network.body[:-1], other.body[:-1]]), ColumnHeads([network.body[-1], other.body[-1]])
    )
    pair = Network(body, network.mean, network.std, mirror=False).eval()
    with torch.no_grad():
        labels = other(torch.from_numpy(images)).numpy().argmax(1)  # which the first column has not always right
    second = partial(second_look, calibration=images[:128], val=(images, labels), error=0.05)
    variants, _ = onnx_variants(pair, images[:128], 0.3, tmp_path, threads=1, second_look=second)
    whole, one, both = (
        variants[name].answer(images) for name in ("int8", "int8, one column", "int8, second column if unsure")
    )
    asked = np.abs(both - one).max(1) > 1e-4
    assert 0 < asked.mean() < 0.5
    thorough = Model(variants["int8, second column if unsure"].file).logits(images.transpose(0, 2, 3, 1), thorough=True)
    np.testing.assert_allclose(both[asked], thorough[asked], atol=1e-4)
    assert np.abs(thorough - whole).mean() < 0.2 * np.abs(one - whole).mean(), "that is what both columns say together"
