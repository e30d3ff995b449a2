"""The battery: its figures, and that finished conditions are kept, but only of the same work."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib import CLASSES, battery
from lib.battery import CONDITIONS, battery_table, load_condition, run_battery
from lib.conditions import Condition
from lib.errors import InputError
from lib.networks import Network, build_network
from lib.pack import Pack

FEW = {name: CONDITIONS[name] for name in ("clean", "blur 0.6", "only below 0.1")}


class Bright(torch.nn.Module):
    """A body that calls bright images FAKE: its margin is the mean brightness (normalised)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.mean((1, 2, 3))[:, None])

    def __getitem__(self, index: int) -> torch.nn.Module:
        return self.head


@pytest.fixture
def bright(sample_pack: Pack, tmp_path: Path) -> tuple[Network, Pack, Path]:
    """Return a network, a pack in which it is always right (FAKE 200 bright, REAL 50), and its file of weights."""
    network = build_network("plain_16_32", [125.0] * 3, [25.0] * 3)
    network.body = Bright()
    with torch.no_grad():
        network.body.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        network.body.head.bias.zero_()
    labels = sample_pack.index["label"].to_numpy()
    values = np.where(labels == 0, 200, 50) + np.random.default_rng(0).integers(-20, 21, len(labels))
    images = np.broadcast_to(values.astype(np.uint8)[:, None, None, None], (len(labels), 32, 32, 3))
    (tmp_path / "w").write_bytes(b"1")
    return network, Pack(images, sample_pack.index, sample_pack.facts), tmp_path / "w"


def test_figures_tell_a_lost_threshold_from_lost_evidence(bright: tuple[Network, Pack, Path], tmp_path: Path) -> None:
    network, pack, weights = bright
    conditions = {
        "clean": CONDITIONS["clean"],
        "dark": Condition("brightness", 0.4, lambda x: (x.float() * 0.4).to(torch.uint8)),
        "black": Condition("brightness", 0.0, lambda x: x * 0),
    }
    figures = run_battery(network, pack, weights, tmp_path / "b", 200, "cpu", conditions)
    assert [entry["refitted"]["accuracy"]["value"] for entry in figures.values()][:2] == [1.0, 1.0]
    recall = {name: [entry["recall"][label]["value"] for label in CLASSES] for name, entry in figures.items()}
    assert recall == {"clean": [1.0, 1.0], "dark": [0.0, 1.0], "black": [0.0, 1.0]}
    assert [entry["roc_auc"]["value"] for entry in figures.values()] == [1.0, 1.0, 0.5]
    assert figures["dark"]["accuracy"]["n"] == 200
    assert battery_table(figures).loc["dark", "FAKE recall"].startswith("0.00 % [0.00, ")


def test_killed_battery_goes_on_but_not_with_the_work_of_others(
    bright: tuple[Network, Pack, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, pack, weights = bright
    runs = []
    honest = battery.run_network
    monkeypatch.setattr(battery, "run_network", lambda *given, **options: runs.append(1) or honest(*given, **options))
    first = run_battery(network, pack, weights, tmp_path / "b", 50, "cpu", FEW)
    assert len(runs) == 3
    (tmp_path / "b" / "blur_0.6.npz").unlink()  # as if killed before it
    assert run_battery(network, pack, weights, tmp_path / "b", 50, "cpu", FEW) == first
    assert len(runs) == 4
    run_battery(network, pack, weights, tmp_path / "b", 60, "cpu", FEW)
    weights.write_bytes(b"2")
    run_battery(network, pack, weights, tmp_path / "b", 60, "cpu", FEW)
    assert len(runs) == 10
    kept = load_condition(tmp_path / "b", "blur 0.6")
    assert kept["features"].shape == (60, 1)
    assert kept["statistics"].shape == (60, 8)


def test_images_kept_for_the_study_of_drift_are_of_both_classes(
    bright: tuple[Network, Pack, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(battery, "DRIFT_IMAGES", 40)
    run_battery(*bright, tmp_path / "b", 100, "cpu", {"clean": CONDITIONS["clean"]})
    brightness = load_condition(tmp_path / "b", "clean")["statistics"][:, 0]
    assert len(brightness) == 40
    assert 8 < (brightness > 125).sum() < 32, "FAKE is bright here"


def test_more_images_than_there_are(bright: tuple[Network, Pack, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="battery_images is 5000, but the pack has 300 val images: lower it"):
        run_battery(*bright, tmp_path / "b", 5000, "cpu", FEW)
