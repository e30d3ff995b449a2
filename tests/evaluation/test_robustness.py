"""Robustness evaluation: its metrics, and resuming only with the same weights, data and parameters."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib import CLASSES
from lib.data.dataset import PackedDataset
from lib.evaluation import robustness
from lib.evaluation.corruptions import Corruption
from lib.evaluation.robustness import ALL_CORRUPTIONS, evaluate_robustness, load_corruption, robustness_table
from lib.models.networks import Network, build_network

FEW = {name: ALL_CORRUPTIONS[name] for name in ("clean", "blur 0.6", "low-pass 0.1")}


class Bright(torch.nn.Module):
    """A backbone that classifies bright images as FAKE: its margin grows with the mean brightness (normalised)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.mean((1, 2, 3))[:, None])

    def __getitem__(self, index: int) -> torch.nn.Module:
        return self.head


@pytest.fixture
def bright(sample_dataset: PackedDataset, tmp_path: Path) -> tuple[Network, PackedDataset, Path]:
    """Return a network, a dataset on which its accuracy is 1 (FAKE 200 bright, REAL 50), and its file of weights."""
    network = build_network("plain_16_32", [125.0] * 3, [25.0] * 3)
    network.backbone = Bright()
    with torch.no_grad():
        network.backbone.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        network.backbone.head.bias.zero_()
    labels = sample_dataset.records["label"].to_numpy()
    values = np.where(labels == 0, 200, 50) + np.random.default_rng(0).integers(-20, 21, len(labels))
    images = np.broadcast_to(values.astype(np.uint8)[:, None, None, None], (len(labels), 32, 32, 3))
    (tmp_path / "w").write_bytes(b"1")
    return network, PackedDataset(images, sample_dataset.records, sample_dataset.metadata), tmp_path / "w"


def test_retuned_threshold_separates_a_shift_from_lost_discrimination(
    bright: tuple[Network, PackedDataset, Path], tmp_path: Path
) -> None:
    network, dataset, weights = bright
    corruptions = {
        "clean": ALL_CORRUPTIONS["clean"],
        "dark": Corruption("brightness", 0.4, lambda x: (x.float() * 0.4).to(torch.uint8)),
        "black": Corruption("brightness", 0.0, lambda x: x * 0),
    }
    metrics = evaluate_robustness(network, dataset, weights, tmp_path / "b", 200, "cpu", corruptions)
    assert [entry["retuned"]["accuracy"]["value"] for entry in metrics.values()][:2] == [1.0, 1.0]
    recall = {name: [entry["recall"][label]["value"] for label in CLASSES] for name, entry in metrics.items()}
    assert recall == {"clean": [1.0, 1.0], "dark": [0.0, 1.0], "black": [0.0, 1.0]}
    assert [entry["roc_auc"]["value"] for entry in metrics.values()] == [1.0, 1.0, 0.5]
    assert metrics["dark"]["accuracy"]["n"] == 200
    assert robustness_table(metrics).loc["dark", "FAKE recall"].startswith("0.00 % [0.00, ")


def test_killed_evaluation_resumes_unless_weights_or_parameters_change(
    bright: tuple[Network, PackedDataset, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, dataset, weights = bright
    runs = []
    original = robustness.run_network
    monkeypatch.setattr(robustness, "run_network", lambda *args, **kwargs: runs.append(1) or original(*args, **kwargs))
    first = evaluate_robustness(network, dataset, weights, tmp_path / "b", 50, "cpu", FEW)
    assert len(runs) == 3
    (tmp_path / "b" / "blur_0.6.npz").unlink()  # as if killed before it
    assert evaluate_robustness(network, dataset, weights, tmp_path / "b", 50, "cpu", FEW) == first
    assert len(runs) == 4
    evaluate_robustness(network, dataset, weights, tmp_path / "b", 60, "cpu", FEW)
    weights.write_bytes(b"2")
    evaluate_robustness(network, dataset, weights, tmp_path / "b", 60, "cpu", FEW)
    assert len(runs) == 10
    saved = load_corruption(tmp_path / "b", "blur 0.6")
    assert saved["features"].shape == (60, 1)
    assert saved["statistics"].shape == (60, 8)
    assert set(saved["predicted"]) == {0, 1}


def test_images_kept_for_drift_detection_are_of_both_classes(
    bright: tuple[Network, PackedDataset, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness, "DRIFT_IMAGES", 40)
    evaluate_robustness(*bright, tmp_path / "b", 100, "cpu", {"clean": ALL_CORRUPTIONS["clean"]})
    saved = load_corruption(tmp_path / "b", "clean")
    brightness = saved["statistics"][:, 0]
    assert (saved["predicted"] == (brightness <= 125)).all()
    assert len(brightness) == 40
    assert 8 < (brightness > 125).sum() < 32, "FAKE is bright here"


def test_more_samples_than_images_are_all_images(bright: tuple[Network, PackedDataset, Path], tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="max_robustness_samples is 5,000, but there are 300 images: all are used"):
        limited = evaluate_robustness(*bright, tmp_path / "b", 5000, "cpu", FEW)
    assert limited == evaluate_robustness(*bright, tmp_path / "c", 0, "cpu", FEW)


def test_few_images_are_of_both_classes(bright: tuple[Network, PackedDataset, Path], tmp_path: Path) -> None:
    metrics = evaluate_robustness(*bright, tmp_path / "b", 1, "cpu", {"clean": ALL_CORRUPTIONS["clean"]})
    assert {name: recall["n"] for name, recall in metrics["clean"]["recall"].items()} == {"FAKE": 1, "REAL": 1}
