"""The comparison: its tables, and the sentences that follow from the metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.evaluation import compare
from lib.evaluation.compare import (
    comparison_tables,
    conclusion,
    describe_difference,
    equal_budget,
    evaluate_network,
    measure_latencies,
    merits,
)
from lib.evaluation.metrics import mcnemar
from lib.evaluation.predictions import LOGITS
from lib.models.networks import build_network, count_parameters
from lib.models.weights import load_weights, save_weights

LATENCY = {"latency_bs1": 0.001, "latency_bs256": 0.1, "images_per_second": 2560.0, "peak_memory": None,
           "bytes": 2**20, "threads": 1}  # fmt: skip


def run_of(network: str = "plain_16_32") -> dict[str, Any]:
    return {"parameters": {"network": network, "epochs": 2, "hflip_tta": False, "aux_loss_weight": 0.0},
            "network_parameters": 1, "macs": 10**6}  # fmt: skip


def predictions(wrong: int) -> pd.DataFrame:
    label = np.tile([0, 1], 200)
    margin = np.where(label == 0, 2.0, -2.0)
    margin[:wrong] *= -1
    logits = {LOGITS[0]: margin, LOGITS[1]: 0.0}
    files = np.arange(400).astype(str)
    return pd.DataFrame({"file": files, "split": "test", "label": label, "leaked": False, **logits})


def entry_of(table: pd.DataFrame, ours: pd.DataFrame, network: str = "plain_16_32", machine: str = "one") -> dict:
    training = {"machine": machine, "images": 100, "seconds": 20.0, "images_per_second": 5.0, "alone": False}
    entry = evaluate_network(table, ours, run_of(network))
    return entry | {"training": training, "latency": LATENCY, "robustness": {}}


def test_tables_and_sentences_follow_from_the_metrics() -> None:
    ours, baseline = predictions(4), predictions(40)
    networks = {"ours": entry_of(ours, ours), "baseline": entry_of(baseline, ours, "plain_32_64")}
    networks["baseline"]["robustness"] = {"blur 1": networks["ours"]["metrics"]["test"]["accuracy"]}
    tables = comparison_tables(networks, {"ImageNet": "no weights: set vgg_weights"})
    assert tables["Accuracy"]["accuracy, all test images"].str[:7].tolist() == ["99.00 %", "90.00 %"]
    assert tables["Size"].loc["ImageNet", "network"].startswith("no weights")
    assert tables["Training on one"].loc["baseline"].tolist() == ["2 × 50", "20 s", "5 images/s", "in this run"]
    (inference,) = (table for title, table in tables.items() if title.startswith("Inference on "))
    assert inference.loc["baseline", "inference throughput"] == "2560 images/s"
    robustness = tables["Accuracy on corrupted test images"]
    assert robustness.loc["baseline", "blur 1"].startswith("99.00 %")
    (sentence,) = conclusion(networks, "the sample")
    assert sentence.startswith("baseline, on the sample and at these budgets: ours is more accurate (+9.00 [")
    with pytest.raises(ValueError, match="not of the same test images"):
        evaluate_network(baseline.assign(file="x"), ours, run_of())


def test_a_table_has_one_machine() -> None:
    ours = predictions(0)
    networks = {name: entry_of(ours, ours, machine=machine) for name, machine in (("a", "GPU"), ("b", "CPU"))}
    tables = comparison_tables(networks, {})
    assert [table.index.tolist() for title, table in tables.items() if title.startswith("Training")] == [["a"], ["b"]]


def test_unbalanced_classes_have_a_column_for_balanced_accuracy() -> None:
    balanced = predictions(0)
    unbalanced = balanced[(balanced["label"] == 1) | (balanced.index < 40)]
    columns = [
        comparison_tables({"ours": entry_of(part, part)}, {})["Accuracy"].columns for part in (balanced, unbalanced)
    ]
    assert set(columns[1]) - set(columns[0]) == {"balanced accuracy, all test images", "accuracy of the majority class"}


@pytest.mark.parametrize(
    ("by_theirs", "theirs", "by_ours", "said"),
    [(8, 8, 40, ("no significant difference", "does not carry over")), (8, 60, 2, ("ours is more", ": it carries"))],
)
def test_merits_of_recipe_and_network_add_up_to_the_lead(
    by_theirs: int, theirs: int, by_ours: int, said: tuple[str, str]
) -> None:
    tables = {"ours": predictions(2), "a": predictions(theirs), "b": predictions(by_theirs), "c": predictions(by_ours)}
    networks = {name: entry_of(table, tables["ours"]) for name, table in tables.items()}
    parts, sentences = merits(tables, networks, "a", "b", "c")
    assert parts["lead"]["difference"] == pytest.approx((theirs - 2) / 400)
    assert parts["recipe"]["difference"] == pytest.approx((by_theirs - 2) / 400)
    assert parts["network"]["difference"] == pytest.approx((theirs - by_theirs) / 400)
    assert said[0] in sentences[1]
    assert said[1] in sentences[2]


def curve(*accuracies: float) -> list[dict[str, Any]]:
    return [{"seconds": 10.0**i, "accuracy": {"value": value}} for i, value in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (curve(0.8, 0.9, 0.99), curve(0.9, 0.95, 0.96), "b is at least .* up to 10.0 s, and less .* from 100.0 s"),
        (curve(0.9, 0.95), curve(0.8, 0.9), "a is more accurate than b at each budget measured"),
        (curve(0.8, 0.9), curve(0.9, 0.95), "up to 10.0 s, the longest budget"),
    ],
)  # fmt: skip
def test_equal_budget_names_the_seconds_at_which_the_order_changes(first: list, second: list, said: str) -> None:
    assert pd.Series([equal_budget({"a": first, "b": second}, "a", "b")]).str.contains(said).all()


def test_a_network_is_measured_once_for_all_of_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []  # parameters

    def measure(path: Path, threads: int) -> dict[str, Any]:
        measured.append(count_parameters(load_weights(path)))
        return LATENCY

    monkeypatch.setattr(compare, "measure_latency", measure)
    runs = {"own": run_of("plain_32_64"), "a": run_of(), "b": run_of("plain_32_64"), "c": run_of()}
    runs["c"]["parameters"]["aux_loss_weight"] = 0.25
    config = {"name": "plain_32_64", "mean": [1.0] * 3, "std": [1.0] * 3}
    save_weights(tmp_path / "own", build_network(**config), config)
    latencies = measure_latencies(runs, {"own": tmp_path / "own"}, 1)
    networks = [build_network(name, [0.0] * 3, [1.0] * 3) for name in ("plain_32_64", "plain_16_32")]
    assert measured == [count_parameters(network) for network in networks]
    sizes = {name: latency["bytes"] for name, latency in latencies.items()}
    assert sizes["own"] == (tmp_path / "own").stat().st_size
    # An auxiliary target of ten object classes has ten times the head, in float32.
    assert abs(sizes["c"] - sizes["a"] - 4 * 9 * 2 * (32 + 1)) < 50


def test_difference_is_described_by_its_interval() -> None:
    good, bad = np.arange(100) < 95, np.arange(100) < 60
    assert describe_difference(mcnemar(good, bad)) == "ours is more accurate"
    assert describe_difference(mcnemar(bad, good)) == "ours is less accurate"
    for other in (good, np.roll(good, 1)):
        assert describe_difference(mcnemar(good, other)) == "no significant difference"
