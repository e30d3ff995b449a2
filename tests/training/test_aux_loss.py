"""The auxiliary object-class target: its loss, and its marginalisation in the logits of the label."""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import settings
from torch.nn import functional as F

from lib.data.batches import load_tensors
from lib.data.dataset import PackedDataset
from lib.export.onnx_file import export_onnx
from lib.models.networks import JointLinear, build_network
from lib.models.weights import load_weights
from lib.training.detector import aux_losses
from lib.training.train import train

JOINT = torch.randn(6, 2, 10, generator=torch.Generator().manual_seed(0))
LABELS, OBJECTS = torch.tensor([0, 1, 0, 1, 1, 0]), torch.tensor([0, 9, 3, 3, 7, 9])
TARGETS = torch.eye(20)[10 * LABELS + OBJECTS].unflatten(1, (2, 10))


def test_label_probabilities_are_the_marginal_of_the_joint_classes() -> None:
    layer, features = JointLinear(8, 10), torch.randn(5, 8)
    joint_logits = layer.joint_logits(features)
    assert joint_logits.shape == (5, 2, 10)
    marginal = joint_logits.flatten(1).softmax(1).view(5, 2, 10).sum(2)
    torch.testing.assert_close(layer(features).softmax(1), marginal)


def test_label_loss_and_auxiliary_loss_add_up_to_the_joint_loss() -> None:
    joint = F.cross_entropy(JOINT.flatten(1), 10 * LABELS + OBJECTS, reduction="none")
    label = F.cross_entropy(JOINT.logsumexp(2), LABELS, reduction="none")
    torch.testing.assert_close(label + aux_losses(JOINT, TARGETS), joint)


def test_auxiliary_loss_is_linear_in_soft_targets() -> None:
    soft = 0.3 * TARGETS + 0.7 * TARGETS.flip(1)
    expected = 0.3 * aux_losses(JOINT, TARGETS) + 0.7 * aux_losses(JOINT, TARGETS.flip(1))
    torch.testing.assert_close(aux_losses(JOINT, soft), expected)


@pytest.mark.slow
def test_auxiliary_target_is_learnt_reloaded_and_exported(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    plan = settings(network="plain_32_64", epochs=6, aux_loss_weight=1.0, dropout=0.0, max_train_samples=0)
    network = train(sample_dataset, plan, tmp_path, progress=False)
    indices = sample_dataset.indices("val")
    images, labels = load_tensors(sample_dataset, indices)
    object_classes = torch.from_numpy(sample_dataset.object_classes()[0][indices])
    with torch.no_grad():
        joint_logits = network.joint_logits(images.permute(0, 3, 1, 2))[:, 0]
        logits = network(images.permute(0, 3, 1, 2))
    predicted = joint_logits.logsumexp(1).argmax(1)
    assert (predicted == object_classes).float().mean() > 0.3, "chance level is 0.1"
    assert (logits.argmax(1) == labels).float().mean() > 0.8
    loaded = load_weights(tmp_path / "weights.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(loaded(images.permute(0, 3, 1, 2)), logits)
    export_onnx(loaded, tmp_path / "model.onnx")  # raises if the logits differ


def test_without_object_classes_the_auxiliary_target_has_no_effect(
    sample_dataset: PackedDataset, tmp_path: Path
) -> None:
    unknown = dataclasses.replace(sample_dataset, records=sample_dataset.records.assign(object_class="unknown"))
    given = settings(epochs=1)
    with pytest.warns(UserWarning, match="aux_loss_weight has no effect: the images have no object classes"):
        with_target = train(unknown, dataclasses.replace(given, aux_loss_weight=1.0), tmp_path / "1", progress=False)
    without = train(unknown, given, tmp_path / "0", progress=False)
    for first, second in zip(with_target.parameters(), without.parameters(), strict=True):
        assert torch.equal(first, second)


def test_network_without_auxiliary_target_ends_in_a_linear_layer() -> None:
    assert type(build_network("plain_16_32", [0.0] * 3, [1.0] * 3).backbone[-1]) is torch.nn.Linear
