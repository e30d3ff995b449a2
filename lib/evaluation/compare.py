"""Networks compared: the measurements of each, the table of all, and the sentences that follow from it."""

from pathlib import Path
from typing import Any

import pandas as pd

from lib.core.files import read_json
from lib.evaluation.latency import measure_latency
from lib.evaluation.metrics import change, evaluate, is_balanced, mcnemar, percent
from lib.evaluation.predictions import is_correct


def evaluate_network(predictions: pd.DataFrame, ours: pd.DataFrame, weights: Path, threads: int) -> dict[str, Any]:
    """Return what is compared of one network: `metrics`, `run`, `latency`, and `mcnemar` of ours against it.

    `predictions` are its own and `ours` those of our network; `weights` lie beside its run.json. Raises ValueError when
    the tables are of different test images.
    """
    test, our_test = (table[table["split"] == "test"] for table in (predictions, ours))
    if test["file"].tolist() != our_test["file"].tolist():
        raise ValueError("the predictions are not of the same test images")
    return {
        "metrics": {"test": evaluate(test), "test_without_leaks": evaluate(test[~test["leaked"]])},
        "run": read_json(weights.with_name("run.json")),
        "latency": measure_latency(weights, threads),
        "mcnemar": mcnemar(is_correct(our_test), is_correct(test)),
    }


def comparison_table(
    networks: dict[str, dict[str, Any]], unavailable: dict[str, str], num_train_images: int
) -> pd.DataFrame:
    """Return the comparison, formatted: a column a network, and for those unavailable the reason.

    `num_train_images` is the number of training images; a run with a `max_train_samples` of 0, or larger, uses all.
    Balanced accuracy is a row where the classes are unbalanced.
    """
    columns: dict[str, dict[str, str]] = {}
    for name, entry in networks.items():
        metrics, run, latency = (entry[key] for key in ("metrics", "run", "latency"))
        parameters = run["parameters"]
        epochs = parameters["epochs"]
        trained_on = min(parameters["max_train_samples"] or num_train_images, num_train_images)
        images = round(parameters["sample_fraction"] * trained_on)
        balanced = (
            {}
            if is_balanced(metrics["test"])
            else {
                "balanced accuracy, all test images": percent(metrics["test"]["balanced_accuracy"]),
                "accuracy of the majority class": percent(metrics["test"]["majority_class_accuracy"]),
            }
        )
        columns[name] = {
            "network": parameters["network"],
            "accuracy, all test images": percent(metrics["test"]["accuracy"]),
            "accuracy, without leaked images": percent(metrics["test_without_leaks"]["accuracy"]),
            **balanced,
            "ROC AUC (%)": percent(metrics["test"]["roc_auc"]),
            "expected calibration error": percent(metrics["test"]["expected_calibration_error"]),
            "accuracy difference, ours minus it (points)": change(entry["mcnemar"]),
            "parameters": f"{run['network_parameters']:,}",
            "MACs (millions)": f"{run['macs'] / 1e6:.1f}",
            "weights file": f"{latency['bytes'] / 2**20:.2f} MiB",
            "epochs × training images": f"{epochs} × {images:,}",
            "training time": f"{run['train_seconds']:.0f} s",
            "training throughput": f"{epochs * images / run['train_seconds']:.0f} images/s",
            "latency, 1 image": f"{1e3 * latency['latency_bs1']:.2f} ms",
            "latency, 256 images": f"{1e3 * latency['latency_bs256']:.0f} ms",
            "inference throughput": f"{latency['images_per_second']:.0f} images/s",
            "peak memory": "–" if latency["peak_memory"] is None else f"{latency['peak_memory'] / 2**20:.0f} MiB",
        }
    columns |= {name: {"network": reason} for name, reason in unavailable.items()}
    return pd.DataFrame(columns).fillna("–")


def describe_difference(difference: dict[str, float]) -> str:
    """Describe a paired difference of accuracy by its confidence interval."""
    if difference["ci_low"] > 0:
        return "ours is more accurate"
    return "ours is less accurate" if difference["ci_high"] < 0 else "no significant difference"


def conclusion(networks: dict[str, dict[str, Any]], data: str) -> list[str]:
    """Return a sentence on each network but the first, ours: accuracy, MACs and throughput at these budgets."""
    (ours, our_entry), *others = networks.items()
    sentences = []
    for name, entry in others:
        macs = entry["run"]["macs"] / our_entry["run"]["macs"]
        speed = our_entry["latency"]["images_per_second"] / entry["latency"]["images_per_second"]
        sentences.append(
            f"{name}, on {data} and at these budgets: {describe_difference(entry['mcnemar'])} "
            f"({change(entry['mcnemar'])} points, {_p_value(entry['mcnemar']['p_value'])}); "
            f"it takes {macs:.2g} times the MACs of {ours}, and {ours} has {speed:.2g} times its throughput."
        )
    return sentences


def _p_value(p: float) -> str:
    return f"p = {p:.2g}" if p > 1e-300 else "p < 1e-300"
