"""Networks: known sizes, input and output shapes, normalisation, TTA, whitening, and weight files."""

from pathlib import Path

import pytest
import torch
from conftest import each_network
from safetensors.torch import save_file

from lib.core.errors import InputError
from lib.models.networks import build_network, count_macs, count_parameters
from lib.models.weights import load_weights, save_weights

MEAN, STD = [120.0, 118.0, 107.0], [61.0, 61.0, 68.0]
IMAGES = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", each_network())
def test_networks_map_uint8_images_to_finite_logits(name: str) -> None:
    logits = build_network(name, MEAN, STD).eval()(IMAGES)
    assert (logits.shape, logits.dtype) == ((4, 2), torch.float32)
    assert logits.isfinite().all()


def test_parameter_counts_are_the_published_ones() -> None:
    # 76,098 is the count of the CNN baseline (student project), 14,723,136 that of VGG16-BN's convolutional part in
    # torchvision, of which 4,224 are biases.
    assert count_parameters(build_network("plain_64_128", MEAN, STD)) == 76_098
    with torch.device("meta"):
        vgg = build_network("vgg16_bn", MEAN, STD)
    assert count_parameters(vgg) == 14_723_136 - 4_224 + 512 * 2 + 2
    assert count_parameters(build_network("texture_net", MEAN, STD)) < 1_000_000


def test_count_macs_agrees_with_a_count_by_hand() -> None:
    by_hand = 32 * 32 * 16 * 3 * 9 + 16 * 16 * 32 * 16 * 9 + 32 * 2
    network = build_network("plain_16_32", MEAN, STD).train()
    assert count_macs(network) == by_hand
    assert network.training


def test_stride_downsampling_halves_the_macs_at_equal_parameters() -> None:
    small, light = (build_network(f"texture_net_{name}", MEAN, STD) for name in ("small", "light"))
    assert count_parameters(light) == count_parameters(small)
    assert count_macs(light) < 0.55 * count_macs(small)


def test_networks_normalise_their_inputs() -> None:
    network = build_network("plain_16_32", MEAN, STD)
    constant = torch.tensor(MEAN).to(torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    torch.testing.assert_close(network.normalise(constant), torch.zeros(1, 3, 32, 32))


def test_flip_tta_averages_an_image_and_its_flip_in_evaluation_only() -> None:
    network = build_network("plain_16_32", MEAN, STD, hflip_tta=True).eval()
    torch.testing.assert_close(network(IMAGES), network(IMAGES.flip(3)))
    without_tta = network.with_hflip_tta(False)
    torch.testing.assert_close(network(IMAGES), (without_tta(IMAGES) + without_tta(IMAGES.flip(3))) / 2)
    assert count_macs(network) == 2 * count_macs(without_tta)
    assert torch.equal(network.train()(IMAGES), without_tta.train()(IMAGES)), "TTA was applied in training"


def test_unknown_network_lists_all_names() -> None:
    with pytest.raises(InputError, match="'resnet' does not exist: choose one of texture_net"):
        build_network("resnet", MEAN, STD)


def test_weight_files_are_deterministic_and_reload_exactly(tmp_path: Path) -> None:
    model_config = {"name": "plain_16_32", "mean": MEAN, "std": STD, "hflip_tta": True}
    network = build_network(**model_config).eval()
    for name in ("a", "b"):
        save_weights(tmp_path / name, network, model_config)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert torch.equal(load_weights(tmp_path / "a")(IMAGES), network(IMAGES))


def test_invalid_weight_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(InputError, match="is missing"):
        load_weights(path)
    path.write_bytes(b"pickle?")
    with pytest.raises(InputError, match="does not hold weights"):
        load_weights(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="does not hold weights"):
        load_weights(path)
    save_weights(path, build_network("plain_16_32", MEAN, STD), {"name": "plain_32_64", "mean": MEAN, "std": STD})
    with pytest.raises(InputError, match="does not hold weights"):
        load_weights(path)


def test_init_whitening_decorrelates_patches_and_folds_into_one_convolution() -> None:
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.rand(64, 3, 36, 36), 5, 1) * 255
    network = build_network("texture_net_small", MEAN, STD)
    network.init_whitening(smooth.to(torch.uint8))
    stem = network.backbone[0]
    patches = torch.nn.functional.unfold(network.normalise(smooth.to(torch.uint8)), 4, stride=2)
    whitened = stem.whitening @ patches.transpose(1, 2).flatten(0, 1).T
    variance = whitened.var(1)
    assert 0.9 < variance.max() < 1.1
    assert torch.cov(whitened).sub(torch.diag(variance)).abs().max() < 0.01
    expected = torch.nn.functional.conv2d(
        network.normalise(IMAGES), (stem.weight.flatten(1) @ stem.whitening).view(-1, 3, 4, 4), None, 2, 1
    )
    torch.testing.assert_close(stem(network.normalise(IMAGES)), expected)
