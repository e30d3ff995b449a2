"""Training on data sets of one's own: other sizes, no object classes, unequal classes, sets that stay in their file."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import each_network, encoded, settings
from PIL import Image

from lib.core.errors import InputError
from lib.core.input_rule import InputRule
from lib.data.dataset import PackedDataset
from lib.data.packing import pack_dataset
from lib.data.source import open_source
from lib.evaluation.explain import grad_cam
from lib.evaluation.predictions import predict
from lib.export.cascade import flipped, join
from lib.export.onnx_file import export_onnx
from lib.inference.images import decode_image
from lib.inference.occlusion import explanation
from lib.inference.predictor import Predictor
from lib.models.networks import build_network, count_macs
from lib.models.weights import load_weights
from lib.training.data_module import PackedDataModule
from lib.training.train import train

MEAN, STD = [120.0] * 3, [60.0] * 3


@pytest.fixture
def dataset(tmp_path: Path) -> PackedDataset:
    """Pack 30 FAKE and 90 REAL images of 48×48, of which FAKE is darker, without object classes or a split."""
    rng = np.random.default_rng(0)
    for label, n, top in (("fake", 30, 200), ("real", 90, 256)):
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(n):
            pixels = rng.integers(0, top, (60, 48, 3), np.uint8)
            (tmp_path / "own" / label / f"{number}.png").write_bytes(encoded(pixels, "PNG"))
    source = open_source(str(tmp_path / "own"), tmp_path)
    return pack_dataset(source, tmp_path / "pack", progress=False, image_size=48, resize="crop")


def test_classes_of_unequal_size_count_alike(dataset: PackedDataset) -> None:
    with pytest.warns(UserWarning, match=r"unequal size, and weighted in the loss: 22 FAKE \(weight 1.98\), 65 REAL"):
        data = PackedDataModule(dataset, settings())
    labels = dataset.records["label"].to_numpy()[data.train_indices]
    weights = data.class_weights.numpy()[labels]
    assert weights.mean() == pytest.approx(1)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())


def test_equal_classes_are_not_weighted(sample_dataset: PackedDataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (PackedDataModule(sample_dataset, settings()).class_weights == 1).all()


def test_cutout_larger_than_the_image_is_refused(dataset: PackedDataset) -> None:
    with pytest.raises(InputError, match="cutout_size is 48: give less than image_size, 48"):
        PackedDataModule(dataset, settings(cutout_size=48))


@pytest.mark.filterwarnings("ignore:the classes are of unequal size")
def test_a_set_that_stays_in_its_file_gives_the_same_weights(
    dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(epochs=1, max_train_samples=0, batch_size=16)
    in_memory = train(dataset, given, tmp_path / "memory", progress=False)
    monkeypatch.setattr("lib.data.batches.RESIDENT", 0)
    in_file = train(dataset, given, tmp_path / "file", progress=False)
    for first, second in zip(in_memory.state_dict().values(), in_file.state_dict().values(), strict=True):
        assert torch.equal(first, second)
    table, _ = predict(in_file, dataset, ("val", "test"), "cpu", progress=False, tta=True)
    assert len(table) == len(dataset.indices("val")) + len(dataset.indices("test"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the classes are of unequal size")
def test_the_size_goes_from_the_pack_to_the_prediction(dataset: PackedDataset, tmp_path: Path) -> None:
    given = settings(epochs=1, max_train_samples=0, batch_size=16, aux_loss_weight=0.5, network="texture_net_tiny")
    with pytest.warns(UserWarning, match="aux_loss_weight has no effect: the images have no object classes"):
        train(dataset, given, tmp_path / "run", progress=False)
    network = load_weights(tmp_path / "run" / "weights.safetensors")
    assert network.image_size == network.members()[0].image_size == network.with_hflip_tta(False).image_size == 48
    assert grad_cam(network, dataset.rows("test")[:2]).shape == (2, 48, 48)
    export_onnx(network, tmp_path / "model.onnx")
    (tmp_path / "model.json").write_text(
        '{"input_rule": 2, "calibration": {"temperature": 1}, "selective": {"selective_threshold": null}}'
    )
    predictor = Predictor(tmp_path / "model.onnx")
    assert predictor.input_rule == InputRule(48, 2)
    file = tmp_path / "own" / dataset.records["file"][0]
    image = decode_image(file.read_bytes(), predictor.input_rule)
    np.testing.assert_array_equal(image.pixels, dataset.images[0])
    assert image.warning == "the image is 48×60 and only its central 48×48 pixels were classified"
    assert predictor.predict(image.pixels[None])[0].prediction in ("FAKE", "REAL")
    explained = explanation(predictor.logits, image.pixels)
    assert (len(explained.saliency), len(explained.saliency[0])) == (48, 48)
    with pytest.raises(InputError, match="too small to crop 48×48 from it"):
        decode_image(encoded(np.zeros((40, 60, 3), np.uint8), "PNG"), predictor.input_rule)


@pytest.mark.parametrize("name", each_network())
def test_every_network_takes_larger_images(name: str) -> None:
    network = build_network(name, MEAN, STD, image_size=64).eval()
    assert network(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 2)
    small = build_network(name, MEAN, STD)
    assert count_macs(network) == pytest.approx(4 * count_macs(small), rel=0.01)


def test_vgg_refuses_images_that_its_pools_leave_nothing_of() -> None:
    with pytest.raises(InputError, match="'vgg16_bn' needs images of 32 pixels at least: image_size is 16"):
        build_network("vgg16_bn", MEAN, STD, image_size=16)


@pytest.mark.slow
def test_a_cascade_has_the_size_of_its_networks(tmp_path: Path) -> None:
    import onnx

    network = build_network("texture_net_tiny", MEAN, STD, image_size=48)
    export_onnx(network, tmp_path / "one.onnx")
    first = onnx.load(tmp_path / "one.onnx")
    join(first, flipped(first), np.inf, tmp_path / "two.onnx", mean=True)
    image = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
    joined, plain = (Predictor(tmp_path / name) for name in ("two.onnx", "one.onnx"))
    assert joined.input_rule.size == 48
    expected = (plain.logits(image) + plain.logits(np.ascontiguousarray(image[:, :, ::-1]))) / 2
    np.testing.assert_allclose(joined.logits(image), expected, atol=1e-4)


def test_a_rule_crops_or_resizes() -> None:
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 100, 3), np.uint8))
    assert InputRule(64, 1).apply(photograph).shape == InputRule(64, 2).apply(photograph).shape == (64, 64, 3)
    np.testing.assert_array_equal(InputRule(64, 2).apply(photograph), np.asarray(photograph)[13:77, 18:82])
