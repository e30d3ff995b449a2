"""Training: it learns, it repeats to the bit, it goes on after a kill, and it says what went wrong."""

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

from lib.detector import Detector
from lib.errors import InputError
from lib.files import ROOT, read_json, write_json
from lib.networks import build_network
from lib.pack import Pack
from lib.predictions import predict
from lib.training import train
from lib.weights import load_weights

COLUMNS = ["epoch", "train/acc", "train/loss", "val/acc", "val/loss", "seconds"]


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(sample_pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(sample_pack, settings(), folder, progress=False)
    return folder


def test_one_batch_can_be_learnt_by_heart(sample_pack: Pack) -> None:
    torch.manual_seed(0)
    images = torch.from_numpy(sample_pack.images[sample_pack.rows("train")[::100]]).permute(0, 3, 1, 2)
    labels = torch.arange(len(images)) % 2  # of no meaning: only the heart can know them
    detector = Detector(build_network("plain_32_64", [120.0] * 3, [60.0] * 3), settings())
    optimizer = torch.optim.Adam(detector.parameters(), 0.01)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(detector.network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_training_begins_with_the_weights_that_it_is_given(sample_pack: Pack, tmp_path: Path) -> None:
    slow = settings(epochs=2, train_images=256, muon_rate=0.0, learning_rate=1e-8, weight_decay=0.0)
    first = {f"body.{layer}.weight": torch.full(shape, 0.01) for layer, shape in ((0, (16, 3, 3, 3)), (11, (2, 32)))}
    scores = []
    # All in one folder: none may be taken for another, finished one.
    for start in ({}, first, {key: 2 * value for key, value in first.items()}):
        network = train(sample_pack, slow, tmp_path, progress=False, start=start)
        scores.append(network.body[0].weight.mean().item())
    assert scores[1:] == pytest.approx([0.01, 0.02], rel=1e-3)
    with pytest.raises(InputError, match=r"plain_16_32 has no weights 'body\.99\.weight'"):
        train(sample_pack, slow, tmp_path, progress=False, start={"body.99.weight": torch.zeros(1)})


def test_run_leaves_history_weights_and_record(finished: Path, sample_pack: Pack) -> None:
    history = pd.read_csv(finished / "history.csv")
    assert list(history) == COLUMNS
    assert history["epoch"].tolist() == [1, 2, 3]
    run = read_json(finished / "run.json")
    assert run["parameters"] == asdict(settings())
    assert run["data"]["checksums"] == sample_pack.facts["checksums"]
    assert run["val_acc"] == history["val/acc"].max()
    assert run["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_weights_are_those_of_the_best_epoch(finished: Path, sample_pack: Pack) -> None:
    table, _ = predict(load_weights(finished / "weights.safetensors"), sample_pack, ("val",), "cpu", progress=False)
    verdict = np.where(table["logit_REAL"] > table["logit_FAKE"], 1, 0)
    assert (verdict == table["label"]).mean() == pytest.approx(read_json(finished / "run.json")["val_acc"], abs=1e-6)


def test_same_seed_same_weights_bit_for_bit(finished: Path, sample_pack: Pack, tmp_path: Path) -> None:
    train(sample_pack, settings(), tmp_path / "same", progress=False)
    train(sample_pack, settings(seed=1), tmp_path / "other", progress=False)
    assert weights(tmp_path / "same") == weights(finished) != weights(tmp_path / "other")


def test_whole_steps_as_a_gpu_is_given_them_learn_the_same(
    finished: Path, sample_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a GPU would record is done here at once: lib.cuda_graph is tested where there is one.
    monkeypatch.setattr("lib.detector.on_one_gpu", lambda trainer: True)
    monkeypatch.setattr("lib.detector.RecordedStep", lambda step, optimizer: step)
    train(sample_pack, settings(), tmp_path, progress=False)
    assert weights(tmp_path) == weights(finished)
    one, other = (pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (tmp_path, finished))
    pd.testing.assert_frame_equal(one, other)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from conftest import settings
from lib.pack import open_pack
from lib.training import train
train(open_pack(Path(sys.argv[1])), settings(), Path(sys.argv[2]), progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_best_and_last_epoch_are_both_kept(finished: Path) -> None:
    best, last = (torch.load(finished / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert last["epoch"] + 1 == 3
    assert best["epoch"] + 1 == read_json(finished / "run.json")["best_epoch"] < 3, (
        "choose settings that tell them apart"
    )


def test_killed_run_goes_on_to_the_same_weights(finished: Path, sample_pack: Pack, tmp_path: Path) -> None:
    pack_folder = Path(sample_pack.images.filename).parent
    command = [sys.executable, "-c", SCRIPT, str(pack_folder), str(tmp_path / "run"), str(ROOT / "tests")]
    process = subprocess.Popen(command, cwd=ROOT)
    history, deadline = tmp_path / "run" / "history.csv", time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(pd.read_csv(history)) < 3, "the kill came too late to test anything"
    first_epoch = history.read_text().splitlines()[1]
    train(sample_pack, settings(), tmp_path / "run", progress=False)
    assert weights(tmp_path / "run") == weights(finished)
    assert history.read_text().splitlines()[1] == first_epoch, "the first epoch was trained again"


def test_finished_run_is_not_trained_again_but_a_changed_one_is(finished: Path, sample_pack: Pack) -> None:
    seconds = pd.read_csv(finished / "history.csv")["seconds"].tolist()
    record = {**read_json(finished / "run.json"), "processor": "another machine's"}
    write_json(finished / "run.json", record)
    network = train(sample_pack, settings(), finished, progress=False)
    assert pd.read_csv(finished / "history.csv")["seconds"].tolist() == seconds
    assert read_json(finished / "run.json") == record, "who trained it is forgotten"
    taken = load_weights(finished / "weights.safetensors").state_dict()
    assert all(torch.equal(value, taken[name]) for name, value in network.state_dict().items())
    before = weights(finished)
    (finished / "weights.safetensors").write_bytes(before[:-100])
    train(sample_pack, settings(), finished, progress=False)
    assert weights(finished) == before, "damaged weights were not written again"
    train(sample_pack, settings(learning_rate=0.02, epochs=1), finished, progress=False)
    assert weights(finished) != before
    assert len(pd.read_csv(finished / "history.csv")) == 1


def test_diverging_run_stops_and_says_what_to_lower(sample_pack: Pack, tmp_path: Path) -> None:
    # Inputs of 1e38 overflow in the first layer.
    exploding = replace(sample_pack, facts={**sample_pack.facts, "std": [1e-36] * 3})
    with pytest.raises(InputError, match=r"in epoch 1: lower learning_rate \(now 0.01\) or muon_rate \(now 0.1\)"):
        train(exploding, settings(), tmp_path, progress=False)
    assert not (tmp_path / "weights.safetensors").exists()


def test_two_processes_learn_what_one_learns(finished: Path, sample_pack: Pack, tmp_path: Path) -> None:
    # The same images in the same order, but batch normalisation sees half of each batch.
    together = settings(devices=2, threads=1, train_images=0)
    train(sample_pack, together, tmp_path / "two", progress=False)
    train(sample_pack, replace(together, devices=1), tmp_path / "one", progress=False)
    two, one = (pd.read_csv(tmp_path / name / "history.csv") for name in ("two", "one"))
    assert two["epoch"].tolist() == [1, 2, 3]
    assert two["val/acc"].max() == pytest.approx(one["val/acc"].max(), abs=0.05)
    assert two["train/loss"].iloc[0] == pytest.approx(one["train/loss"].iloc[0], abs=0.05)
    network = load_weights(tmp_path / "two" / "weights.safetensors")
    table, _ = predict(network, sample_pack, ("val",), "cpu", progress=False)
    accuracy = ((table["logit_REAL"] > table["logit_FAKE"]) == table["label"]).mean()
    assert accuracy == pytest.approx(two["val/acc"].max(), abs=1e-6), "validation did not see each image once"
    last = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    known = last["callbacks"]["HardExamples"]["losses"].isfinite().double().mean()
    assert known > 0.95, "what the other process saw is not known"


def test_a_mistake_in_a_process_of_two_is_told_as_in_one(sample_pack: Pack, tmp_path: Path) -> None:
    exploding = replace(sample_pack, facts={**sample_pack.facts, "std": [1e-36] * 3})
    with pytest.raises(InputError, match=r"^training diverged in epoch 1: lower learning_rate"):
        train(exploding, settings(devices=2), tmp_path, progress=False)


def test_wandb_offline_leaves_a_run_to_sync(sample_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    train(sample_pack, settings(epochs=1), tmp_path, wandb="auto", progress=False)
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"devices": 0}, "devices is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"precision": "float16"}, "precision is 'float16': choose one of float32, bfloat16"),
        ({"accelerator": "tpu"}, "accelerator is 'tpu'"),
    ],
)
def test_settings_that_make_no_sense(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(**change)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_where_there_is_none() -> None:
    with pytest.raises(InputError, match="PyTorch sees no GPU"):
        settings(accelerator="gpu")


def test_more_training_images_than_there_are(sample_pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train_images is 9999, but the pack has 2700"):
        train(sample_pack, settings(train_images=9999), tmp_path, progress=False)


@pytest.mark.parametrize("images", [200, 300, 500])
def test_two_steps_are_enough_and_one_is_refused(sample_pack: Pack, tmp_path: Path, images: int) -> None:
    train(sample_pack, settings(train_images=images, epochs=1), tmp_path, progress=False)
    with pytest.raises(InputError, match="a single step: lower batch_size"):
        train(sample_pack, settings(train_images=100, epochs=1), tmp_path, progress=False)


def test_unknown_wandb_mode(sample_pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wandb is 'on'"):
        train(sample_pack, settings(), tmp_path, wandb="on", progress=False)
