"""Networks compared: the measurements of each, the tables of all, and the sentences that follow from them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.core.provenance import processor
from lib.evaluation.latency import measure_latency
from lib.evaluation.metrics import change, evaluate, is_balanced, mcnemar, percent
from lib.evaluation.predictions import is_correct
from lib.models.networks import build_network
from lib.models.weights import save_weights

_NUM_OBJECT_CLASSES = 10  # CIFAKE's


def evaluate_network(predictions: pd.DataFrame, ours: pd.DataFrame, run: dict[str, Any]) -> dict[str, Any]:
    """Return what is compared of one network on test images: `metrics`, its `run`, and `mcnemar` of ours against it.

    `predictions` are its own and `ours` those of our network; `run` is its run.json. Raises ValueError when the tables
    are of different test images.
    """
    test, our_test = _test(predictions), _test(ours)
    if test["file"].tolist() != our_test["file"].tolist():
        raise ValueError("the predictions are not of the same test images")
    return {
        "metrics": {"test": evaluate(test), "test_without_leaks": evaluate(test[~test["leaked"]])},
        "run": run,
        "mcnemar": mcnemar(is_correct(our_test), is_correct(test)),
    }


def measure_latencies(
    runs: Mapping[str, dict[str, Any]], weights: Mapping[str, Path], threads: int
) -> dict[str, dict[str, Any]]:
    """Measure the latency of each network once, and give it to all runs of that network.

    `runs` are run.json by name. A run without `weights` is measured with random ones. Returns for each run what
    `measure_latency` does, with the size of its own file.
    """
    measured: dict[tuple[str, bool], dict[str, Any]] = {}
    latencies = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, run in runs.items():
            path = weights.get(name) or _random_weights(Path(folder) / "random.safetensors", run["parameters"])
            network = tuple(run["parameters"][key] for key in ("network", "hflip_tta"))
            if network not in measured:
                measured[network] = measure_latency(path, threads)
            latencies[name] = measured[network] | {"bytes": path.stat().st_size}
    return latencies


def comparison_tables(networks: dict[str, dict[str, Any]], unavailable: dict[str, str]) -> dict[str, pd.DataFrame]:
    """Return the comparison, formatted: tables by title, a row a network, ours first, and one machine in each table.

    Each of `networks` has what `evaluate_network` returns, and `training` (a `training_cost`), `latency`, and
    `robustness` (accuracy by corruption; it may be empty). `unavailable` gives the reasons of those left out. Balanced
    accuracy is a column where the classes are unbalanced.
    """
    tables: dict[str, dict[str, dict[str, str]]] = {"Accuracy": {}, "Size": {}}
    for name, entry in networks.items():
        training, latency = entry["training"], entry["latency"]
        tables["Accuracy"][name] = _accuracy_row(entry)
        if name == next(iter(networks)):  # ours itself
            tables["Accuracy"][name] |= dict.fromkeys(("ours minus it (points)", "McNemar's test"), "–")
        tables["Size"][name] = {
            "network": entry["run"]["parameters"]["network"],
            "parameters": f"{entry['run']['network_parameters']:,}",
            "MACs (millions)": f"{entry['run']['macs'] / 1e6:.1f}",
            "weights file": f"{latency['bytes'] / 2**20:.2f} MiB",
        }
        tables.setdefault(f"Training on {training['machine']}", {})[name] = {
            "epochs × training images": f"{entry['run']['parameters']['epochs']} × "
            f"{round(training['images'] / entry['run']['parameters']['epochs']):,}",
            "training time": f"{training['seconds']:.0f} s",
            "training throughput": f"{training['images_per_second']:,.0f} images/s",
            "throughput measured": "in a run of its own" if training["alone"] else "in this run",
        }
        tables.setdefault(f"Inference on {processor()}, {latency['threads']} threads", {})[name] = {
            "latency, 1 image": f"{1e3 * latency['latency_bs1']:.2f} ms",
            "latency, 256 images": f"{1e3 * latency['latency_bs256']:.0f} ms",
            "inference throughput": f"{latency['images_per_second']:.0f} images/s",
            "peak memory": "–" if latency["peak_memory"] is None else f"{latency['peak_memory'] / 2**20:.0f} MiB",
        }
        if entry["robustness"]:
            tables.setdefault("Accuracy on corrupted test images", {})[name] = {
                corruption: percent(accuracy) for corruption, accuracy in entry["robustness"].items()
            }
    tables["Size"] |= {name: {"network": reason} for name, reason in unavailable.items()}
    return {title: pd.DataFrame.from_dict(rows, orient="index").fillna("–") for title, rows in tables.items()}


def budget(run: dict[str, Any], training: dict[str, Any]) -> str:
    """Return how long a network was trained: "40 epochs × 90,001 images". `training` is its `training_cost`."""
    epochs = run["parameters"]["epochs"]
    return f"{epochs} epochs × {round(training['images'] / epochs):,} images"


def describe_difference(difference: dict[str, float], name: str = "ours") -> str:
    """Describe a paired difference of accuracy, of `name` minus another, by its confidence interval."""
    if difference["ci_low"] > 0:
        return f"{name} is more accurate"
    return f"{name} is less accurate" if difference["ci_high"] < 0 else "no significant difference"


def conclusion(networks: dict[str, dict[str, Any]], data: str) -> list[str]:
    """Return a sentence on each network but the first, ours: accuracy, MACs and throughput at these budgets."""
    (ours, our_entry), *others = networks.items()
    sentences = []
    for name, entry in others:
        macs = entry["run"]["macs"] / our_entry["run"]["macs"]
        speed = our_entry["latency"]["images_per_second"] / entry["latency"]["images_per_second"]
        sentence = (
            f"{name}, on {data} and at these budgets: {describe_difference(entry['mcnemar'])} "
            f"({change(entry['mcnemar'])} points, {_p_value(entry['mcnemar']['p_value'])})"
        )
        same = entry["run"]["parameters"]["network"] == our_entry["run"]["parameters"]["network"]
        cost = f"it takes {macs:.2g} times the MACs of {ours}, and {ours} has {speed:.2g} times its throughput"
        sentences.append(f"{sentence}; {'it is the same network' if same else cost}.")
    return sentences


def merits(predictions: dict[str, pd.DataFrame], networks: dict[str, dict[str, Any]], baseline: str, ours_by: str,
           by_ours: str) -> tuple[dict[str, dict[str, Any]], list[str]]:  # fmt: skip
    """Separate what a recipe and what a network is worth, for `baseline` by its own recipe against ours by ours.

    `ours_by` is ours by the recipe of `baseline`, `by_ours` is `baseline` by our recipe. Returns paired differences, as
    `mcnemar` does: `lead` of ours over `baseline`, `recipe` (ours by our recipe minus `ours_by`), `network` (`ours_by`
    minus `baseline`); and the sentences that they give. `lead` is the sum of the other two.
    """
    correct = {name: is_correct(_test(table)) for name, table in predictions.items()}
    lead = networks[baseline]["mcnemar"]
    recipe = networks[ours_by]["mcnemar"]
    network = mcnemar(correct[ours_by], correct[baseline])
    size = networks["ours"]["run"]["network_parameters"] / networks[baseline]["run"]["network_parameters"]
    macs = networks["ours"]["run"]["macs"] / networks[baseline]["run"]["macs"]
    carried, own = (networks[name]["metrics"]["test"]["accuracy"] for name in (by_ours, baseline))
    sentences = [
        f"The recipe: ours by our recipe instead of that of {baseline} has {change(recipe)} points; its lead over "
        f"{baseline} by that recipe is {change(lead)} points.",
        f"The network: by the recipe of {baseline}, ours against {baseline} has {change(network)} points "
        f"({describe_difference(network)}), with {100 * size:.1f} % of its parameters and {100 * macs:.0f} % of its "
        "MACs.",
        f"Our recipe, with the learning rates of ours, gives {baseline} {percent(carried)}, its own {percent(own)}: "
        f"{'it does not carry over untuned' if carried['value'] < own['value'] else 'it carries over'}.",
    ]
    return {"lead": lead, "recipe": recipe, "network": network}, sentences


def equal_budget(curves: dict[str, list[dict[str, Any]]], first: str, second: str) -> str:
    """Return a sentence on which of two networks is more accurate after how many seconds of training.

    `curves` are those of `budget_curves`; between its points, accuracy of `second` is linear in the logarithm of time.
    """
    x, y = ([np.log(p["seconds"]) for p in curves[second]], [p["accuracy"]["value"] for p in curves[second]])
    ahead = [point["accuracy"]["value"] > np.interp(np.log(point["seconds"]), x, y) for point in curves[first]]
    behind = [point["seconds"] for point, is_ahead in zip(curves[first], ahead, strict=True) if not is_ahead]
    after = [point["seconds"] for point in curves[first] if point["seconds"] > max(behind, default=0)]
    if not behind:
        return f"At equal training time, {first} is more accurate than {second} at each budget measured."
    start = f"At equal training time, {second} is at least as accurate as {first} up to {max(behind):.1f} s"
    return start + (f", and less accurate from {min(after):.1f} s on." if after else ", the longest budget.")


def _random_weights(path: Path, parameters: dict[str, Any]) -> Path:
    config = {"name": parameters["network"], "mean": [120.0] * 3, "std": [60.0] * 3,
              "hflip_tta": parameters["hflip_tta"],
              "num_object_classes": _NUM_OBJECT_CLASSES if parameters["aux_loss_weight"] else 0}  # fmt: skip
    save_weights(path, build_network(**config), config)
    return path


def _test(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "test"]


def _accuracy_row(entry: dict[str, Any]) -> dict[str, str]:
    test = entry["metrics"]["test"]
    balanced = (
        {}
        if is_balanced(test)
        else {
            "balanced accuracy, all test images": percent(test["balanced_accuracy"]),
            "accuracy of the majority class": percent(test["majority_class_accuracy"]),
        }
    )
    return {
        **balanced,
        "accuracy, all test images": percent(test["accuracy"]),
        "accuracy, without leaked images": percent(entry["metrics"]["test_without_leaks"]["accuracy"]),
        "ours minus it (points)": change(entry["mcnemar"]),
        "McNemar's test": _p_value(entry["mcnemar"]["p_value"]),
        "ROC AUC (%)": percent(test["roc_auc"]),
        "expected calibration error": percent(test["expected_calibration_error"]),
    }


def _p_value(p: float) -> str:
    return f"p = {p:.2g}" if p > 1e-300 else "p < 1e-300"
