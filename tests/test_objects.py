"""Object classes: learnt beside the label, and summed out of the verdict."""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import settings
from torch.nn import functional as F

from lib.batches import tensors
from lib.detector import object_losses
from lib.errors import InputError
from lib.export import export_onnx
from lib.networks import JointLinear, build_network
from lib.pack import Pack
from lib.training import train
from lib.weights import load_weights

JOINT = torch.randn(6, 2, 10, generator=torch.Generator().manual_seed(0))
LABELS, OBJECTS = torch.tensor([0, 1, 0, 1, 1, 0]), torch.tensor([0, 9, 3, 3, 7, 9])
TARGETS = torch.eye(20)[10 * LABELS + OBJECTS].unflatten(1, (2, 10))


def test_verdict_is_the_marginal_of_all_pairs() -> None:
    layer, features = JointLinear(8, 10), torch.randn(5, 8)
    pairs = layer.joint(features)
    assert pairs.shape == (5, 2, 10)
    marginal = pairs.flatten(1).softmax(1).view(5, 2, 10).sum(2)
    torch.testing.assert_close(layer(features).softmax(1), marginal)


def test_losses_of_label_and_object_make_that_of_the_pair() -> None:
    pair = F.cross_entropy(JOINT.flatten(1), 10 * LABELS + OBJECTS, reduction="none")
    label = F.cross_entropy(JOINT.logsumexp(2), LABELS, reduction="none")
    torch.testing.assert_close(label + object_losses(JOINT, TARGETS), pair)


def test_soft_targets_weigh_the_object_under_both_labels() -> None:
    soft = 0.3 * TARGETS + 0.7 * TARGETS.flip(1)
    expected = 0.3 * object_losses(JOINT, TARGETS) + 0.7 * object_losses(JOINT, TARGETS.flip(1))
    torch.testing.assert_close(object_losses(JOINT, soft), expected)


def test_a_network_learns_what_images_show_and_answers_from_its_files_alone(sample_pack: Pack, tmp_path: Path) -> None:
    recipe = settings(network="plain_32_64", epochs=6, object_weight=1.0, dropout=0.0, train_images=0)
    network = train(sample_pack, recipe, tmp_path, progress=False)
    rows = sample_pack.rows("val")
    images, labels = tensors(sample_pack, rows)
    objects = torch.from_numpy(sample_pack.objects()[0][rows])
    with torch.no_grad():
        joint = network.joint(images.permute(0, 3, 1, 2))[:, 0]
        logits = network(images.permute(0, 3, 1, 2))
    seen = joint.logsumexp(1).argmax(1)
    assert (seen == objects).float().mean() > 0.3, "a guess is right in one of ten"
    assert (logits.argmax(1) == labels).float().mean() > 0.8
    again = load_weights(tmp_path / "weights.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(images.permute(0, 3, 1, 2)), logits)
    export_onnx(again, tmp_path / "model.onnx")  # which compares its logits with ours


def test_nothing_is_asked_of_images_that_all_show_the_same(sample_pack: Pack, tmp_path: Path) -> None:
    unknown = dataclasses.replace(sample_pack, index=sample_pack.index.assign(object_class="unknown"))
    with pytest.raises(InputError, match=r"object_weight asks for object classes .* set it to 0"):
        train(unknown, settings(object_weight=1.0), tmp_path, progress=False)


def test_label_alone_is_judged_by_a_plain_layer() -> None:
    assert type(build_network("plain_16_32", [0.0] * 3, [1.0] * 3).body[-1]) is torch.nn.Linear
