"""Networks: known sizes, the shapes that the contract asks for, and weights that come back as they were."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib.errors import InputError
from lib.networks import NETWORKS, build_network, count_macs, count_parameters
from lib.weights import load_weights, save_weights

MEAN, STD = [120.0, 118.0, 107.0], [61.0, 61.0, 68.0]
IMAGES = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_uint8_images_in_two_finite_logits_out(name: str) -> None:
    logits = build_network(name, MEAN, STD).eval()(IMAGES)
    assert (logits.shape, logits.dtype) == ((4, 2), torch.float32)
    assert logits.isfinite().all()


def test_sizes_are_the_published_ones() -> None:
    # 76,098 is the count of the earlier project's released network, 14.7 million that of VGG16's convolutions.
    assert count_parameters(build_network("plain_64_128", MEAN, STD)) == 76_098
    assert count_parameters(build_network("vgg16_bn", MEAN, STD)) == 14_723_136 + 512 * 2 + 2
    assert count_parameters(build_network("texture_net", MEAN, STD)) < 1_000_000


def test_macs_are_counted_by_hand_for_one_network() -> None:
    by_hand = 32 * 32 * 16 * 3 * 9 + 16 * 16 * 32 * 16 * 9 + 32 * 2
    network = build_network("plain_16_32", MEAN, STD).train()
    assert count_macs(network) == by_hand
    assert network.training


def test_light_network_has_the_weights_of_the_small_one_and_half_its_work() -> None:
    small, light = (build_network(f"texture_net_{name}", MEAN, STD) for name in ("small", "light"))
    assert count_parameters(light) == count_parameters(small)
    assert count_macs(light) < 0.55 * count_macs(small)


def test_inputs_are_normalised_inside() -> None:
    network = build_network("plain_16_32", MEAN, STD)
    constant = torch.tensor(MEAN).to(torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    torch.testing.assert_close(network.normalise(constant), torch.zeros(1, 3, 32, 32))


def test_mirrored_network_cannot_tell_an_image_from_its_mirror_image() -> None:
    network = build_network("plain_16_32", MEAN, STD, mirror=True).eval()
    torch.testing.assert_close(network(IMAGES), network(IMAGES.flip(3)))
    one_view = network.with_mirror(False)
    torch.testing.assert_close(network(IMAGES), (one_view(IMAGES) + one_view(IMAGES.flip(3))) / 2)
    assert count_macs(network) == 2 * count_macs(one_view)
    assert torch.equal(network.train()(IMAGES), one_view.train()(IMAGES)), "a view too many in training"


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="'resnet' is not known: choose one of texture_net"):
        build_network("resnet", MEAN, STD)


def test_weights_come_back_and_the_file_is_the_same_each_time(tmp_path: Path) -> None:
    recipe = {"name": "plain_16_32", "mean": MEAN, "std": STD, "mirror": True}
    network = build_network(**recipe).eval()
    for name in ("a", "b"):
        save_weights(tmp_path / name, network, recipe)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert torch.equal(load_weights(tmp_path / "a")(IMAGES), network(IMAGES))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
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


def test_whitened_stem_starts_from_the_patches_and_is_one_convolution() -> None:
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.rand(64, 3, 36, 36), 5, 1) * 255
    network = build_network("texture_net_small", MEAN, STD)
    network.fit(smooth.to(torch.uint8))
    stem = network.body[0]
    patches = torch.nn.functional.unfold(network.normalise(smooth.to(torch.uint8)), 4, stride=2)
    white = stem.whitening @ patches.transpose(1, 2).flatten(0, 1).T
    variance = white.var(1)
    assert 0.9 < variance.max() < 1.1
    assert torch.cov(white).sub(torch.diag(variance)).abs().max() < 0.01
    one = torch.nn.functional.conv2d(
        network.normalise(IMAGES), (stem.weight.flatten(1) @ stem.whitening).view(-1, 3, 4, 4), None, 2, 1
    )
    torch.testing.assert_close(stem(network.normalise(IMAGES)), one)
