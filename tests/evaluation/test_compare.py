"""The comparison: its table, and the sentences that follow from the metrics."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.core.files import write_json
from lib.evaluation import compare
from lib.evaluation.compare import comparison_table, conclusion, describe_difference, evaluate_network
from lib.evaluation.metrics import mcnemar
from lib.evaluation.predictions import LOGITS


def run_of(folder: Path, name: str, seconds: float) -> Path:
    run = {"parameters": {"network": name, "epochs": 2, "max_train_samples": 0, "sample_fraction": 0.5},
           "network_parameters": 1, "macs": 10**6, "train_seconds": seconds}  # fmt: skip
    write_json(folder / name / "run.json", run)
    return folder / name / "weights.safetensors"


def predictions(wrong: int) -> pd.DataFrame:
    label = np.tile([0, 1], 200)
    margin = np.where(label == 0, 2.0, -2.0)
    margin[:wrong] *= -1
    logits = {LOGITS[0]: margin, LOGITS[1]: 0.0}
    files = np.arange(400).astype(str)
    return pd.DataFrame({"file": files, "split": "test", "label": label, "leaked": False, **logits})


def test_table_and_sentences_follow_from_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latency = {
        "latency_bs1": 0.001,
        "latency_bs256": 0.1,
        "images_per_second": 2560.0,
        "peak_memory": None,
        "bytes": 2**20,
    }
    monkeypatch.setattr(compare, "measure_latency", lambda weights, threads: latency | {"threads": threads})
    ours, baseline = predictions(4), predictions(40)
    networks = {
        "ours": evaluate_network(ours, ours, run_of(tmp_path, "plain_16_32", 10.0), 1),
        "baseline": evaluate_network(baseline, ours, run_of(tmp_path, "plain_32_64", 20.0), 1),
    }
    table = comparison_table(networks, {"ImageNet": "no weights: set vgg_weights"}, num_train_images=100)
    assert table.loc["accuracy, all test images"].str[:7].tolist() == ["99.00 %", "90.00 %", "–"]
    assert table.loc["epochs × training images", "baseline"] == "2 × 50"
    assert table.loc["training throughput", "baseline"] == "5 images/s"
    assert table.loc["inference throughput", "baseline"] == "2560 images/s"
    assert table.loc["network", "ImageNet"].startswith("no weights")
    (sentence,) = conclusion(networks, "the sample")
    assert sentence.startswith("baseline, on the sample and at these budgets: ours is more accurate (+9.00 [")
    with pytest.raises(ValueError, match="not of the same test images"):
        evaluate_network(baseline.assign(file="x"), ours, tmp_path / "plain_32_64" / "weights.safetensors", 1)


def test_unbalanced_classes_have_a_row_for_balanced_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latency = {"latency_bs1": 1.0, "latency_bs256": 1.0, "images_per_second": 1.0, "peak_memory": None, "bytes": 1}
    monkeypatch.setattr(compare, "measure_latency", lambda weights, threads: latency)
    weights = run_of(tmp_path, "plain_16_32", 10.0)
    balanced = predictions(0)
    unbalanced = balanced[(balanced["label"] == 1) | (balanced.index < 40)]
    rows = [
        comparison_table({"ours": evaluate_network(part, part, weights, 1)}, {}, num_train_images=100).index
        for part in (balanced, unbalanced)
    ]
    assert set(rows[1]) - set(rows[0]) == {"balanced accuracy, all test images", "accuracy of the majority class"}


def test_a_limit_above_the_number_of_images_counts_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latency = {"latency_bs1": 1.0, "latency_bs256": 1.0, "images_per_second": 1.0, "peak_memory": None, "bytes": 1}
    monkeypatch.setattr(compare, "measure_latency", lambda weights, threads: latency)
    entry = evaluate_network(predictions(0), predictions(0), run_of(tmp_path, "plain_16_32", 10.0), 1)
    entry["run"]["parameters"]["max_train_samples"] = 600
    assert comparison_table({"ours": entry}, {}, 100).loc["epochs × training images", "ours"] == "2 × 50"


def test_difference_is_described_by_its_interval() -> None:
    good, bad = np.arange(100) < 95, np.arange(100) < 60
    assert describe_difference(mcnemar(good, bad)) == "ours is more accurate"
    assert describe_difference(mcnemar(bad, good)) == "ours is less accurate"
    for other in (good, np.roll(good, 1)):
        assert describe_difference(mcnemar(good, other)) == "no significant difference"
