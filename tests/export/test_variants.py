"""Variants of a network: quantised, pruned, cascaded, and the selection of the one to serve."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.data.dataset import PackedDataset
from lib.export import selection
from lib.export.cascade import early_exit, join, student_first
from lib.export.onnx_file import export_onnx
from lib.export.prune import prune_channels, prune_weights
from lib.export.quantize import quantize
from lib.export.selection import evaluate_variants, measure_variants, predict_logits, select
from lib.export.variants import Variant, onnx_variants, torch_variants
from lib.inference.predictor import Predictor, open_onnx
from lib.models.networks import Network, build_network, count_macs
from lib.models.weights import load_weights

REFERENCE = ROOT / "outputs" / "reference"


@pytest.fixture(scope="module")
def images(sample_dataset: PackedDataset) -> np.ndarray:
    return np.ascontiguousarray(sample_dataset.images[::16].transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def released() -> Network:
    return load_weights(REFERENCE / "weights.safetensors")


@pytest.fixture(scope="module")
def network(released: Network) -> Network:
    """Return the first member of the released ensemble, with flip TTA."""
    return released.members()[0].with_hflip_tta(True)


@pytest.fixture(scope="module")
def single(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the first member of the released ensemble, without TTA."""
    path = tmp_path_factory.mktemp("single") / "single.onnx"
    export_onnx(network.with_hflip_tta(False), path)
    return path


def count_int8(path: Path) -> int:
    """Count the filter banks in int8."""
    return sum(
        len(bank.dims) == 4 for bank in onnx.load(path).graph.initializer if bank.data_type == onnx.TensorProto.INT8
    )


@pytest.mark.slow
def test_execution_modes_of_pytorch_agree(images: np.ndarray, tmp_path: Path) -> None:
    small = build_network("plain_16_32", [120.0] * 3, [60.0] * 3).eval()
    variants, unavailable = torch_variants(small, tmp_path, compiled=True)
    reference = variants["PyTorch, eager"].predict_logits(images[:8])
    for name, variant in variants.items():
        tolerance = 0.05 if "bfloat16" in name else 1e-4
        np.testing.assert_allclose(variant.predict_logits(images[:8]), reference, atol=tolerance, err_msg=name)
    # Inductor finds no C++ compiler on some machines.
    assert {*variants, *unavailable} >= {"PyTorch, channels last, compiled", "PyTorch, channels last, bfloat16"}
    assert "compiled" not in " ".join(torch_variants(small, tmp_path, compiled=False)[0])


@pytest.mark.slow
def test_quantized_network_has_int8_filters_and_nearly_the_same_logits(
    single: Path, images: np.ndarray, tmp_path: Path
) -> None:
    plain = open_onnx(single).run(None, {"images": images})[0]
    margin = plain[:, 0] - plain[:, 1]
    difference = {}
    for kept in (0, 2):
        quantize(single, tmp_path / "int8.onnx", images[:64], kept=kept)
        logits = open_onnx(tmp_path / "int8.onnx").run(None, {"images": images})[0]
        difference[kept] = np.abs(logits[:, 0] - logits[:, 1] - margin).mean()
    assert count_int8(tmp_path / "int8.onnx") > 0
    assert 0 < difference[2] < 0.2 * margin.std()
    # Below a half on some processors; 0.52 to 0.55 on an EPYC with AVX-512, by four subsets of the images.
    assert difference[2] < 2 / 3 * difference[0], "8 bits are too few for the first layers"
    assert (tmp_path / "int8.onnx").stat().st_size < 0.7 * single.stat().st_size


@pytest.mark.slow
def test_number_of_calibration_images_need_not_be_a_multiple_of_the_batches(
    single: Path, images: np.ndarray, tmp_path: Path
) -> None:
    for n in (5, 131):
        quantize(single, tmp_path / "int8.onnx", images[:n], method="Entropy")
        assert count_int8(tmp_path / "int8.onnx") > 0


def test_quantization_refuses_unknown_methods_and_networks_without_convolutions(
    images: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'Most': choose one of MinMax"):
        quantize(REFERENCE / "model.onnx", tmp_path / "int8.onnx", images, method="Most")
    with pytest.raises(InputError, match="no convolution to quantise"):
        quantize(REFERENCE / "model.onnx", tmp_path / "int8.onnx", images, kept=99)
    assert not list(tmp_path.iterdir())


def test_weight_pruning_sets_a_share_of_all_filters_to_zero(network: Network) -> None:
    pruned = prune_weights(network, 0.3)
    weights = torch.cat([layer.weight.flatten() for layer in pruned.modules() if isinstance(layer, nn.Conv2d)])
    assert (weights == 0).float().mean() == pytest.approx(0.3, abs=1e-4)
    assert count_macs(pruned) == count_macs(network)


def test_channel_pruning_removes_the_channels_of_least_scale_from_every_member(
    released: Network, images: np.ndarray
) -> None:
    x = torch.from_numpy(images[:128])
    pruned = prune_channels(released, 0.5, x)
    assert count_macs(pruned) < 0.3 * count_macs(released)
    # A channel whose batch normalisation has scale and shift 0 contributes nothing, as if it were removed.
    masked = load_weights(REFERENCE / "weights.safetensors")
    for layer in masked.modules():
        if isinstance(layer, nn.BatchNorm2d):
            least = layer.weight.detach().abs().argsort()[: len(layer.weight) // 2]
            layer.weight.data[least] = layer.bias.data[least] = 0
    masked = prune_channels(masked, 0.0, x)
    assert count_macs(masked) == count_macs(released)
    with torch.no_grad():
        torch.testing.assert_close(pruned(x), masked(x), atol=1e-3, rtol=0)


def test_channel_pruning_follows_residual_connections(images: np.ndarray) -> None:
    residual = build_network("plain_32_64_128_residual", [120.0] * 3, [60.0] * 3)
    pruned = prune_channels(residual, 0.5, torch.from_numpy(images[:8]))
    assert count_macs(pruned) < 0.4 * count_macs(residual)
    assert pruned(torch.from_numpy(images[:8])).shape == (8, 2)


@pytest.mark.slow
def test_variants_of_a_small_network_are_written_or_unavailable(images: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = build_network("plain_16_32", [120.0] * 3, [60.0] * 3, hflip_tta=True, num_object_classes=10)
    variants, unavailable = onnx_variants(small, images[:64], 0.5, tmp_path, 1)
    assert list(variants) == [
        "float32", "float32, optimised offline", "int8, second layer too", "int8, first two layers too",
        "float32, 50% of weights pruned", "float32, 50% of channels pruned", "float32, without TTA",
    ]  # fmt: skip
    # It has two convolutions, which otherwise stay in float.
    assert list(unavailable) == ["int8", "int8, Entropy", "int8, Percentile", "int8, per-tensor", "int8, without TTA"]
    logits = predict_logits(variants, images)
    with torch.no_grad():
        np.testing.assert_allclose(logits["float32"], small(torch.from_numpy(images)).numpy(), atol=1e-3)
    assert not np.allclose(logits["float32"], logits["float32, without TTA"], atol=1e-6)


def test_cascades_are_built_from_one_member_and_the_early_exit(
    released: Network, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stems = [member.backbone[0] for member in released.members()]

    def name(network: Network) -> str:
        return next((f"member {i}" for i, stem in enumerate(stems) if network.backbone[0] is stem), "other")

    module = "lib.export.variants"  # instead of networks, the files hold what they were made from
    monkeypatch.setattr(f"{module}.export_onnx", lambda network, file: file.write_text(name(network)))
    monkeypatch.setattr(f"{module}.quantize", lambda source, file, **_: file.write_text(f"int8 {source.read_text()}"))
    monkeypatch.setattr(f"{module}._optimise_offline", lambda source, file: file.touch())
    monkeypatch.setattr(f"{module}.open_onnx", lambda file, threads: None)
    variants, _ = onnx_variants(
        released, images[:8], 0.3, tmp_path, 1,
        early_exit=lambda first, second, file: file.write_text(f"{first.read_text()}, {name(second)}"),
        student_first={0.001: lambda network, file: file.write_text(f"student, {network.read_text()}")},
    )  # fmt: skip
    written = {name: variant.file.read_text() for name, variant in variants.items()}
    assert written["float32, one member"] == "member 0"
    assert written["int8, one member"] == "int8 member 0"
    assert written["int8, early exit"] == "int8 member 0, member 1"
    assert written["int8, student first, 0.10%"] == "student, int8 member 0, member 1"


def test_variants_are_compared_with_the_first() -> None:
    labels = np.array([0] * 6 + [1] * 4)
    correct = np.where(labels[:, None] == [0, 1], 1.0, 0.0).astype(np.float32)
    worse = correct.copy()
    worse[:3] = worse[:3, ::-1]
    entries = evaluate_variants({"plain": correct, "worse": worse}, labels)
    assert entries["plain"]["change"]["difference"] == 0
    assert entries["worse"]["change"]["difference"] == pytest.approx(-0.3)
    assert (entries["worse"]["accuracy"]["value"], entries["worse"]["agreement"]["value"]) == (0.7, 0.7)


def test_timing_alternates_between_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "CALLS", {1: 2, 256: 1})
    order: list[str] = []

    def variant(name: str, size: int) -> Variant:
        def predict(images: np.ndarray) -> np.ndarray:
            order.append(name)
            return np.linalg.svd(np.ones((size, size)))[1]

        return Variant(predict, Path("x.onnx"))

    latency = measure_variants(
        {"fast": variant("fast", 2), "slow": variant("slow", 200)}, np.zeros((256, 3, 2, 2)), rounds=2
    )
    assert [name for name, before in zip(order, ["", *order], strict=False) if name != before] == ["fast", "slow"] * 2
    assert latency["slow"]["latency_bs1"]["mean"] > latency["fast"]["latency_bs1"]["mean"]
    assert latency["slow"]["latency_bs256"]["n"] == latency["slow"]["images_per_second"]["n"] == 2
    with pytest.raises(InputError, match="at least 2"):
        measure_variants({}, np.zeros((256, 3, 2, 2)), rounds=1)


def test_timing_repeats_images_where_there_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "CALLS", {1: 1, 256: 1})
    sizes: set[int] = set()
    variant = Variant(lambda images: np.zeros((sizes.add(len(images)) or 1, 2)), Path("x.onnx"))
    measure_variants({"only": variant}, np.zeros((4, 3, 2, 2), np.uint8), rounds=2)
    assert sizes == {1, 256}


def test_selection_takes_the_fastest_variant_that_is_not_inferior() -> None:
    def entry(rate: float, low: float, servable: bool = True) -> dict[str, Any]:
        latency = {"images_per_second": {"mean": rate, "sd": 0.5}}
        return {"latency": latency, "change": {"ci_low": low}, "servable": servable}

    entries = {"float32": entry(1, 0), "int8": entry(4, -0.0009), "worse": entry(9, -0.0011)}
    entries |= {"torch": entry(8, 0, False), "as fast": entry(4.4, -0.0009)}
    assert select(entries, max_accuracy_drop=0.1) == "int8"
    assert select(entries, max_accuracy_drop=0.05) == "float32"
    assert select(entries, max_accuracy_drop=0.2) == "worse"
    assert select(entries | {"faster": entry(5, 0)}, max_accuracy_drop=0.1) == "faster"


@pytest.fixture(scope="module")
def pair(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Export two networks with different logits, one of them with the auxiliary object-class target."""
    folder = tmp_path_factory.mktemp("pair")
    for seed, (name, num_object_classes) in enumerate({"first": 0, "second": 10}.items()):
        torch.manual_seed(seed)
        small = build_network("plain_16_32", [120.0] * 3, [60.0] * 3, num_object_classes=num_object_classes).train()
        for _ in range(3):  # statistics of batch normalisation, without which all images get the same logits
            small(torch.from_numpy(images[:64]))
        export_onnx(small, folder / f"{name}.onnx")
    return folder / "first.onnx", folder / "second.onnx"


@pytest.mark.slow
def test_cascade_has_the_logits_of_the_second_network_where_those_of_the_first_are_close(
    pair: tuple[Path, Path], images: np.ndarray, tmp_path: Path
) -> None:
    first, second = (open_onnx(file).run(None, {"images": images})[0] for file in pair)
    distance = np.abs(first[:, 0] - first[:, 1])
    graphs = [onnx.load(file) for file in pair]
    for margin in (0.0, float(np.median(distance)), np.inf):
        for mean, close in ((False, second), (True, (first / 2 + second) / 2)):
            join(*graphs, margin, tmp_path / "cascade.onnx", 0.5, mean)
            logits = open_onnx(tmp_path / "cascade.onnx").run(None, {"images": images})[0]
            expected = np.where((distance < margin)[:, None], close, first / 2)
            np.testing.assert_allclose(logits, expected, atol=1e-5)
    join(*graphs, 0.0, tmp_path / "cascade.onnx")
    cascade, pixels = Predictor(tmp_path / "cascade.onnx"), images.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(cascade.logits(pixels), first, atol=1e-5)
    np.testing.assert_allclose(cascade.logits(pixels, full_cascade=True), second, atol=1e-5)
    plain = Predictor(pair[1])
    np.testing.assert_array_equal(plain.logits(pixels, full_cascade=True), plain.logits(pixels))


@pytest.mark.slow
def test_student_classifies_alone_only_within_the_target_risk(
    images: np.ndarray, network: Network, tmp_path: Path
) -> None:
    with torch.no_grad():
        labels = network(torch.from_numpy(images)).numpy().argmax(1)
    model, student = REFERENCE / "model.onnx", network.with_hflip_tta(False)
    student_first(student, images[:64], (images, labels), model, tmp_path / "cascade.onnx", 0.05)
    cascade, pixels = Predictor(tmp_path / "cascade.onnx"), images.transpose(0, 2, 3, 1)
    alone = np.abs(cascade.logits(pixels) - Predictor(model).logits(pixels)).max(1) > 1e-4
    assert 0.5 < alone.mean() <= 1
    assert (cascade.logits(pixels)[alone].argmax(1) != labels[alone]).mean() <= 0.05


@pytest.mark.slow
def test_early_exit_skips_the_flip_where_the_first_pass_is_confident(
    images: np.ndarray, single: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    first, pixels = Predictor(single), images.transpose(0, 2, 3, 1)
    distance = np.abs(np.diff(first.logits(pixels))[:, 0])
    labels = first.logits(pixels).argmax(1) ^ (distance < np.quantile(distance, 0.2))  # the least confident are errors
    early_exit(single, None, tmp_path / "exit.onnx", images, (images, labels), 0.05)
    exits = Predictor(tmp_path / "exit.onnx")
    with_tta = (first.logits(pixels) + first.logits(pixels[:, :, ::-1])) / 2
    went_on = np.abs(exits.logits(pixels) - first.logits(pixels)).max(1) > 1e-4
    assert 0 < went_on.mean() < 0.5
    np.testing.assert_allclose(exits.logits(pixels)[went_on], with_tta[went_on], atol=1e-4)
    np.testing.assert_allclose(exits.logits(pixels, full_cascade=True), with_tta, atol=1e-4)
    assert (tmp_path / "exit.onnx").stat().st_size < 1.02 * single.stat().st_size

    join(onnx.load(pair[0]), onnx.load(tmp_path / "exit.onnx"), 0.1, tmp_path / "three.onnx")
    three = Predictor(tmp_path / "three.onnx")
    np.testing.assert_allclose(three.logits(pixels, full_cascade=True), with_tta, atol=1e-4)

    with pytest.raises(InputError, match=r"with a risk of at most 0.00%: train it longer"):
        early_exit(single, None, tmp_path / "none.onnx", images, (images, 1 - labels), 1e-6)
    assert not (tmp_path / "none.onnx").exists()


@pytest.mark.slow
def test_early_exit_skips_the_second_member_where_the_first_is_confident(
    images: np.ndarray, network: Network, single: Path, tmp_path: Path
) -> None:
    members = [network.with_hflip_tta(False), prune_weights(network.with_hflip_tta(False), 0.6)]
    with torch.no_grad():
        logits = [member(torch.from_numpy(images)).numpy() for member in members]
    labels = logits[1].argmax(1)  # of which the first member gets some wrong
    early_exit(single, members[1], tmp_path / "exit.onnx", images[:128], (images, labels), 0.05)
    exits, first, pixels = Predictor(tmp_path / "exit.onnx"), Predictor(single), images.transpose(0, 2, 3, 1)
    went_on = np.abs(exits.logits(pixels) - first.logits(pixels)).max(1) > 1e-4
    assert 0 < went_on.mean() < 0.5
    full_cascade = exits.logits(pixels, full_cascade=True)
    np.testing.assert_allclose(exits.logits(pixels)[went_on], full_cascade[went_on], atol=1e-4)
    ensemble = np.mean(logits, 0)
    assert np.abs(full_cascade - ensemble).mean() < 0.2 * np.abs(first.logits(pixels) - ensemble).mean()
