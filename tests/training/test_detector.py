"""The Detector: its losses and its optimiser overfit one batch."""

from types import SimpleNamespace

import pytest
import torch
from conftest import settings

from lib.data.batches import TrainBatch
from lib.models.networks import build_network
from lib.training.detector import Detector
from lib.training.muon import Muon

N = 16


@pytest.mark.parametrize(
    "optimiser",
    [{"muon_lr": 0.1}, {"muon_lr": 0.0}, {"muon_lr": 0.0, "optimizer": "sgd", "lr": 0.05}],
    ids=["muon", "adamw", "sgd"],
)
@pytest.mark.parametrize("network", ["plain_16_32", "texture_net_tiny"])
def test_overfits_one_batch_of_random_labels(network: str, optimiser: dict[str, object]) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (N, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 2, (N,))  # independent of the images: they can only be memorised
    targets = torch.eye(2)[labels, :, None]
    batch = TrainBatch(images, targets, torch.arange(N), torch.ones(N), torch.ones(N, dtype=torch.bool))
    model = build_network(network, [127.5] * 3, [74.0] * 3)
    model.init_whitening(images)
    detector = Detector(model, settings(network=network, **optimiser))
    optimizer = detector.optimizer()
    for _ in range(25):
        outputs = detector.losses(batch)
        outputs["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    _, correct, n = outputs["sums"]
    assert outputs["loss"] < 0.1
    assert correct == n == N


def detector_of(**changes: object) -> Detector:
    detector = Detector(build_network("plain_16_32", [127.5] * 3, [74.0] * 3), settings(**changes))
    detector._trainer = SimpleNamespace(estimated_stepping_batches=20)
    return detector


def test_default_is_muon_with_adamw_under_one_cycle() -> None:
    configured = detector_of().configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert isinstance(optimizer, Muon)
    assert [(group["max_lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (0.1, 0.01), (0.01, 0.01), (0.01, 0.0),
    ]  # fmt: skip
    lrs = [schedule.get_last_lr()[1]]
    for _ in range(19):
        optimizer.step()
        schedule.step()
        lrs.append(schedule.get_last_lr()[1])
    expected = [0.01 / 25, *torch.linspace(0.01, 0.01 / 25e4, 19).tolist()]
    assert lrs == pytest.approx(expected, abs=1e-8)


def test_a_constant_rate_has_no_schedule() -> None:
    configured = detector_of(schedule="constant").configure_optimizers()
    assert list(configured) == ["optimizer"]
    assert [group["lr"] for group in configured["optimizer"].param_groups] == [0.1, 0.01, 0.01]


def test_the_loss_that_is_recorded_is_of_the_label_alone() -> None:
    """Without the auxiliary target and smoothing, and weighted: it can be compared with the validation loss."""
    torch.manual_seed(0)
    images, labels = torch.randint(0, 256, (N, 3, 32, 32), dtype=torch.uint8), torch.arange(N) % 2
    targets = torch.eye(2)[labels][:, :, None] * torch.eye(10)[torch.arange(N) % 10][:, None]
    weights = torch.linspace(0.5, 3, N)
    batch = TrainBatch(images, targets, torch.arange(N), weights, torch.ones(N, dtype=torch.bool))
    network = build_network("plain_16_32", [127.5] * 3, [74.0] * 3, num_object_classes=10)
    detector = Detector(network, settings(aux_loss_weight=0.5, label_smoothing=0.1))
    detector.eval()
    with torch.inference_mode():
        sums, logits = detector.losses(batch)["sums"], network(images)
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = [losses, (logits.argmax(1) == labels).float(), torch.ones(N)]
    assert sums.tolist() == pytest.approx([float((row * weights).sum()) for row in expected], rel=1e-5)
