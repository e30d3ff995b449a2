"""The kept runs of the baselines: their figures follow from their predictions, and only their own data are taken."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.core.files import read_json, write_json
from lib.data.dataset import PackedDataset
from lib.evaluation.baseline_runs import FOLDER, NAMES, budget_curves, keep_runs, load_runs, training_cost
from lib.evaluation.metrics import proportion

NUM_VAL, NUM_TEST, NUM_TRAIN = 9_999, 20_000, 90_001  # of CIFAKE, in its kept split
TEST_LABEL = np.repeat([0, 1], NUM_TEST // 2)  # sorted by class


@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_the_kept_predictions(name: str) -> None:
    result = read_json(FOLDER / name / "result.json")
    with np.load(FOLDER / name / "predictions.npz") as saved:
        margin = saved["margin"].astype(float)
    assert len(margin) == NUM_VAL + NUM_TEST
    correct = (margin[NUM_VAL:] <= 0) == (TEST_LABEL == 1)
    assert result["test"] == pytest.approx(proportion(correct.sum(), NUM_TEST))
    assert set(result["robustness"]) == {"noise 0.1", "JPEG 40", "blur 0.6", "blur 1"}


@pytest.mark.parametrize("name", NAMES)
def test_results_and_history_are_of_the_run(name: str) -> None:
    run, result = (read_json(FOLDER / name / f"{file}.json") for file in ("run", "result"))
    history = pd.read_csv(FOLDER / name / "history.csv")
    assert result["parameters"] == run["parameters"]
    assert f"{run['parameters']['network']}-by-{result['recipe']}" == name
    assert len(history) == run["parameters"]["epochs"] == result["epochs"]
    assert run["val_acc"] == pytest.approx(history["val/acc"].max())


def test_curves_end_with_the_whole_recipe_and_have_seconds_of_one_machine() -> None:
    curves = budget_curves()
    assert list(curves) == ["ours", "VGG16-BN", "CNN baseline (student project)"]
    for points in curves.values():
        assert [round(point["epochs"]) for point in points[:5]] == [1, 2, 4, 8, 16]
        assert [point["whole"] for point in points] == [False] * 5 + [True]
        # The same throughput for all: time is in proportion to images.
        rates = [point["epochs"] / point["seconds"] for point in points]
        assert rates == pytest.approx([rates[0]] * 6)


def test_training_cost_is_by_the_throughput_alone_on_that_machine_only() -> None:
    run = read_json(FOLDER / "vgg16_bn-by-vgg16_bn" / "run.json")
    speed = read_json(FOLDER / "runs.json")["speed/vgg16_bn-by-vgg16_bn"]["images_per_second"]
    alone = training_cost(run, NUM_TRAIN, FOLDER)
    assert (alone["machine"], alone["alone"], alone["images"]) == (run["gpu"], True, 40 * NUM_TRAIN)
    assert alone["seconds"] == pytest.approx(40 * NUM_TRAIN / speed)
    for other in (run | {"gpu": "another"}, run | {"parameters": run["parameters"] | {"batch_size": 512}}):
        cost = training_cost(other, NUM_TRAIN, FOLDER)
        assert (cost["seconds"], cost["alone"]) == (run["train_seconds"], False)
    assert training_cost(run, NUM_TRAIN)["seconds"] == run["train_seconds"]
    on_cpu = training_cost(run | {"device": "cpu"}, NUM_TRAIN)["machine"]
    assert on_cpu == f"{run['processor']}, {run['threads']} threads"


def test_a_limit_of_images_above_their_number_counts_those() -> None:
    run = read_json(FOLDER / "vgg16_bn-by-ours" / "run.json")
    assert training_cost(run, 100)["images"] == 80 * 50
    run["parameters"]["max_train_samples"] = 600
    assert training_cost(run, 100)["images"] == 80 * 50
    run["parameters"]["max_train_samples"] = 20
    assert training_cost(run, 100)["images"] == 80 * 10


def test_other_data_are_refused(sample_dataset: PackedDataset) -> None:
    with pytest.raises(
        InputError, match=r"of all of CIFAKE with val_fraction 0.1 .* not of this sample: set baselines"
    ):
        load_runs(sample_dataset)


def test_runs_are_kept_with_all_signs_and_read_with_the_images(tmp_path: Path, sample_dataset: PackedDataset) -> None:
    rows = np.concatenate([sample_dataset.indices(split) for split in ("val", "test")])
    dataset = replace(sample_dataset, metadata=sample_dataset.metadata | {"data": "CIFAKE"})
    logits = np.random.default_rng(0).normal(size=(len(rows), 2)).astype(np.float32)
    logits[0] = (1.0001, 1.0)  # equal in float16
    for name in (*(f"full/{name}/0" for name in NAMES), "budget/x/1"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        write_json(folder / "run.json", {"data": dataset.fingerprint()})
        write_json(folder / "result.json", {"name": name})
        (folder / "history.csv").write_text("epoch\n1\n")
        np.savez(folder / "predictions.npz", clean=logits)
    keep_runs(tmp_path / "runs", tmp_path / "kept")
    assert read_json(tmp_path / "kept" / "runs.json") == {"budget/x/1": {"name": "budget/x/1"}}
    runs = load_runs(dataset, tmp_path / "kept")
    assert list(runs) == list(NAMES.values())
    table = runs["VGG16-BN"].predictions
    assert table["file"].tolist() == dataset.records.iloc[rows]["file"].tolist()
    margin = (table["logit_FAKE"] - table["logit_REAL"]).to_numpy()
    assert np.array_equal(margin > 0, logits[:, 0] > logits[:, 1])
    assert math.isclose(margin[1], logits[1, 0] - logits[1, 1], rel_tol=1e-3)
