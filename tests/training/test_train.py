"""Training: learning, bitwise reproducibility, resume, several processes, W&B, and error messages."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import settings

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.files import ROOT, read_json, write_json
from lib.data.dataset import PackedDataset
from lib.evaluation.predictions import predict
from lib.models.weights import load_weights
from lib.training.data_module import PackedDataModule
from lib.training.detector import Detector
from lib.training.train import train

COLUMNS = ["epoch", "train/acc", "train/loss", "val/acc", "val/loss", "seconds"]


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def metrics(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


@pytest.fixture(scope="module")
def finished(sample_dataset: PackedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small network for three epochs; return the folder of the run."""
    folder = tmp_path_factory.mktemp("run")
    train(sample_dataset, settings(), folder, progress=False)
    return folder


def test_training_learns_and_writes_history_and_record(finished: Path, sample_dataset: PackedDataset) -> None:
    history = pd.read_csv(finished / "history.csv")
    assert list(history) == COLUMNS
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train/loss"].is_monotonic_decreasing
    assert history["val/acc"].max() > 0.7
    run = read_json(finished / "run.json")
    assert run["parameters"] == asdict(settings())
    assert run["data"]["checksums"] == sample_dataset.metadata["checksums"]
    assert run["val_acc"] == history["val/acc"].max()
    assert run["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_weights_are_those_of_the_best_epoch(finished: Path, sample_dataset: PackedDataset) -> None:
    table, _ = predict(load_weights(finished / "weights.safetensors"), sample_dataset, ("val",), "cpu", progress=False)
    predicted = np.where(table["logit_REAL"] > table["logit_FAKE"], 1, 0)
    assert (predicted == table["label"]).mean() == pytest.approx(read_json(finished / "run.json")["val_acc"], abs=1e-6)


def test_same_seed_gives_bitwise_equal_weights(finished: Path, sample_dataset: PackedDataset, tmp_path: Path) -> None:
    train(sample_dataset, settings(), tmp_path / "same", progress=False)
    train(sample_dataset, settings(seed=1), tmp_path / "other", progress=False)
    assert weights(tmp_path / "same") == weights(finished) != weights(tmp_path / "other")


def test_manual_optimisation_equals_automatic_optimisation(
    finished: Path, sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimise_manually(monkeypatch)
    train(sample_dataset, settings(), tmp_path, progress=False)
    assert weights(tmp_path) == weights(finished)
    pd.testing.assert_frame_equal(metrics(tmp_path), metrics(finished))


def optimise_manually(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the steps that a GPU would capture run eagerly: test_cuda_graph tests the capture on a GPU."""
    monkeypatch.setattr("lib.training.detector.on_one_gpu", lambda trainer: True)
    monkeypatch.setattr("lib.training.detector.GraphedStep", lambda step, optimizer: step)


def test_sgd_at_a_constant_rate_learns_by_either_optimisation(
    sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = settings(optimizer="sgd", schedule="constant", muon_lr=0.0, lr=0.05)
    train(sample_dataset, plan, tmp_path / "automatic", progress=False)
    optimise_manually(monkeypatch)
    train(sample_dataset, plan, tmp_path / "manual", progress=False)
    assert weights(tmp_path / "manual") == weights(tmp_path / "automatic")
    assert metrics(tmp_path / "manual")["train/loss"].is_monotonic_decreasing


def test_checkpoints_hold_the_best_and_the_last_epoch(finished: Path) -> None:
    best, last = (torch.load(finished / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert last["epoch"] + 1 == 3
    best_epoch = read_json(finished / "run.json")["best_epoch"]
    assert best["epoch"] + 1 == best_epoch < 3, "choose settings whose best epoch is not the last"


def test_interrupted_run_resumes_to_the_same_weights(
    finished: Path, sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Detector.on_train_epoch_start

    def interrupt(detector: Detector) -> None:
        if detector.current_epoch == 1:
            raise RuntimeError("interrupted")
        started(detector)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="interrupted"):
        patch.setattr(Detector, "on_train_epoch_start", interrupt)
        train(sample_dataset, settings(), tmp_path, progress=False)
    assert len(metrics(tmp_path)) == 1
    train(sample_dataset, settings(), tmp_path, progress=False)
    assert weights(tmp_path) == weights(finished)
    pd.testing.assert_frame_equal(metrics(tmp_path), metrics(finished))


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from conftest import settings
from lib.data.dataset import open_dataset
from lib.training.train import train
train(open_dataset(Path(sys.argv[1])), settings(), Path(sys.argv[2]), progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.slow
def test_killed_run_resumes_to_the_same_weights(finished: Path, sample_dataset: PackedDataset, tmp_path: Path) -> None:
    dataset_folder = Path(sample_dataset.images.filename).parent
    command = [sys.executable, "-c", SCRIPT, str(dataset_folder), str(tmp_path / "run"), str(ROOT / "tests")]
    process = subprocess.Popen(command, cwd=ROOT)
    history, deadline = tmp_path / "run" / "history.csv", time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(pd.read_csv(history)) < 3, "the process was killed too late for this test"
    first_epoch = history.read_text().splitlines()[1]
    train(sample_dataset, settings(), tmp_path / "run", progress=False)
    assert weights(tmp_path / "run") == weights(finished)
    assert history.read_text().splitlines()[1] == first_epoch, "the first epoch was trained again"


def test_training_starts_from_the_initial_weights(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    frozen = settings(epochs=2, max_train_samples=256, muon_lr=0.0, lr=1e-8, weight_decay=0.0)
    shapes = {0: (16, 3, 3, 3), 11: (2, 32)}
    first = {f"backbone.{layer}.weight": torch.full(shape, 0.01) for layer, shape in shapes.items()}
    means = []
    # All in one folder: no run may be reused for other initial weights.
    for init_state_dict in ({}, first, {key: 2 * value for key, value in first.items()}):
        network = train(sample_dataset, frozen, tmp_path, progress=False, init_state_dict=init_state_dict)
        means.append(network.backbone[0].weight.mean().item())
    assert means[1:] == pytest.approx([0.01, 0.02], rel=1e-3)
    with pytest.raises(InputError, match=r"plain_16_32 has no weights 'backbone\.99\.weight'"):
        train(sample_dataset, frozen, tmp_path, progress=False, init_state_dict={"backbone.99.weight": torch.zeros(1)})


def test_finished_run_is_reused_and_a_changed_one_retrained(finished: Path, sample_dataset: PackedDataset) -> None:
    seconds = pd.read_csv(finished / "history.csv")["seconds"].tolist()
    record = {**read_json(finished / "run.json"), "processor": "another machine's"}
    write_json(finished / "run.json", record)
    network = train(sample_dataset, settings(), finished, progress=False)
    assert pd.read_csv(finished / "history.csv")["seconds"].tolist() == seconds
    assert read_json(finished / "run.json") == record, "the record of the first training was overwritten"
    reused = load_weights(finished / "weights.safetensors").state_dict()
    assert all(torch.equal(value, reused[name]) for name, value in network.state_dict().items())
    before = weights(finished)
    (finished / "weights.safetensors").write_bytes(before[:-100])
    with pytest.warns(UserWarning, match=r"damaged or missing in .*: weights\.safetensors"):
        train(sample_dataset, settings(), finished, progress=False)
    assert weights(finished) == before, "damaged weights were not written again"
    train(sample_dataset, settings(lr=0.02, epochs=1), finished, progress=False)
    assert weights(finished) != before
    assert len(pd.read_csv(finished / "history.csv")) == 1


def test_diverging_run_names_the_learning_rates(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    # Inputs of 1e38 overflow in the first layer.
    exploding = replace(sample_dataset, metadata={**sample_dataset.metadata, "std": [1e-36] * 3})
    with pytest.raises(InputError, match=r"in epoch 1: lower lr \(now 0.01\) or muon_lr \(now 0.1\)"):
        train(exploding, settings(), tmp_path, progress=False)
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.slow
def test_two_processes_train_as_one(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    # The same images in the same order, but batch normalisation uses half of each batch.
    together = settings(devices=2, threads=1, max_train_samples=0)
    train(sample_dataset, together, tmp_path / "two", progress=False)
    train(sample_dataset, replace(together, devices=1), tmp_path / "one", progress=False)
    two, one = (pd.read_csv(tmp_path / name / "history.csv") for name in ("two", "one"))
    assert two["epoch"].tolist() == [1, 2, 3]
    assert two["val/acc"].max() == pytest.approx(one["val/acc"].max(), abs=0.05)
    assert two["train/loss"].iloc[0] == pytest.approx(one["train/loss"].iloc[0], abs=0.05)
    network = load_weights(tmp_path / "two" / "weights.safetensors")
    table, _ = predict(network, sample_dataset, ("val",), "cpu", progress=False)
    accuracy = ((table["logit_REAL"] > table["logit_FAKE"]) == table["label"]).mean()
    assert accuracy == pytest.approx(two["val/acc"].max(), abs=1e-6), "validation must use each image once"
    last = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    known = last["callbacks"]["HardExampleSampler"]["losses"].isfinite().double().mean()
    assert known > 0.95, "the losses of the other process are missing"


@pytest.mark.slow
def test_error_in_a_spawned_process_is_raised_as_input_error(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    exploding = replace(sample_dataset, metadata={**sample_dataset.metadata, "std": [1e-36] * 3})
    with pytest.raises(InputError, match=r"^training diverged in epoch 1: lower lr"):
        train(exploding, settings(devices=2), tmp_path, progress=False)


@pytest.mark.slow
def test_wandb_offline_writes_a_run_to_sync(
    sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    train(sample_dataset, settings(epochs=1), tmp_path, wandb="auto", progress=False)
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_more_samples_than_there_are_takes_all(sample_dataset: PackedDataset) -> None:
    with pytest.warns(UserWarning, match=r"max_train_samples is 9,999, but there are 2,700 images: all are used"):
        data = PackedDataModule(sample_dataset, settings(max_train_samples=9999))
    assert sorted(data.train_indices) == sample_dataset.indices("train").tolist()


def test_batch_may_be_larger_than_the_training_set(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    train(sample_dataset, settings(max_train_samples=20, batch_size=500, epochs=2), tmp_path, progress=False)
    assert len(metrics(tmp_path)) == 2


@pytest.mark.parametrize(("split", "remedy"), [("train", "raise max_train_samples"), ("val", "raise val_fraction")])
@pytest.mark.parametrize("label", [0, 1])
def test_missing_class_is_rejected(
    sample_dataset: PackedDataset, tmp_path: Path, split: str, remedy: str, label: int
) -> None:
    records = sample_dataset.records
    unlabelled = records[(records["split"] != split) | (records["label"] != label)]
    dataset = replace(sample_dataset, packed=sample_dataset.packed[unlabelled.index],
                      records=unlabelled.reset_index(drop=True))  # fmt: skip
    with pytest.raises(InputError, match=f"none of the .* images is {CLASSES[label]}: {remedy}"):
        train(dataset, settings(), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n", [200, 300, 500])
def test_two_steps_are_enough(sample_dataset: PackedDataset, tmp_path: Path, n: int) -> None:
    train(sample_dataset, settings(max_train_samples=n, epochs=1), tmp_path, progress=False)


def test_a_single_step_is_a_training(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    train(sample_dataset, settings(max_train_samples=100, epochs=1), tmp_path, progress=False)
    assert len(pd.read_csv(tmp_path / "history.csv")) == 1


def test_unknown_wandb_mode_is_rejected(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wandb is 'on'"):
        train(sample_dataset, settings(), tmp_path, wandb="on", progress=False)
