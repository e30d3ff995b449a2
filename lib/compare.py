"""Networks side by side: one judgement for each, the table of all, and the sentences that follow from it."""

from pathlib import Path
from typing import Any

import pandas as pd

from lib.cost import measure
from lib.files import read_json
from lib.metrics import change, evaluate, mcnemar, percent
from lib.predictions import is_right


def judge(predictions: pd.DataFrame, ours: pd.DataFrame, weights: Path, threads: int) -> dict[str, Any]:
    """Return all that is compared of one network: `figures`, `run`, `cost`, and `mcnemar` of ours against it.

    `predictions` are its own and `ours` those of our network; `weights` lie beside its run.json.
    """
    test, our_test = (table[table["split"] == "test"] for table in (predictions, ours))
    if test["file"].tolist() != our_test["file"].tolist():
        raise ValueError("not the same test images")
    return {
        "figures": {"test": evaluate(test), "test_not_in_train": evaluate(test[~test["in_train"]])},
        "run": read_json(weights.with_name("run.json")),
        "cost": measure(weights, threads),
        "mcnemar": mcnemar(is_right(our_test), is_right(test)),
    }


def comparison_table(networks: dict[str, dict[str, Any]], unavailable: dict[str, str], train_rows: int) -> pd.DataFrame:
    """Return the comparison for people: a column a network; those that could not be had say why.

    `train_rows` is the number of images that a run trains on when its `train_images` is 0.
    """
    columns: dict[str, dict[str, str]] = {}
    for name, entry in networks.items():
        figures, run, cost = (entry[key] for key in ("figures", "run", "cost"))
        recipe = run["parameters"]
        epochs = recipe["epochs"]
        images = round(recipe["epoch_share"] * (recipe["train_images"] or train_rows))
        columns[name] = {
            "network": recipe["network"],
            "accuracy, all test images": percent(figures["test"]["accuracy"]),
            "accuracy, those not in train": percent(figures["test_not_in_train"]["accuracy"]),
            "area under ROC (%)": percent(figures["test"]["roc_auc"]),
            "expected calibration error": percent(figures["test"]["calibration_error"]),
            "accuracy of ours minus its": change(entry["mcnemar"]),
            "parameters": f"{run['network_parameters']:,}",
            "million multiply-accumulates": f"{run['macs'] / 1e6:.1f}",
            "file of weights": f"{cost['bytes'] / 2**20:.2f} MiB",
            "epochs × training images": f"{epochs} × {images:,}",
            "training time": f"{run['train_seconds']:.0f} s",
            "training images/s": f"{epochs * images / run['train_seconds']:.0f} images/s",
            "latency, 1 image": f"{1e3 * cost['latency_1']:.2f} ms",
            "latency, 256 images": f"{1e3 * cost['latency_256']:.0f} ms",
            "answered": f"{cost['images_per_second']:.0f} images/s",
            "peak memory": "–" if cost["peak_memory"] is None else f"{cost['peak_memory'] / 2**20:.0f} MiB",
        }
    columns |= {name: {"network": reason} for name, reason in unavailable.items()}
    return pd.DataFrame(columns).fillna("–")


def verdict(difference: dict[str, float]) -> str:
    """Say what the interval of a paired difference of accuracy shows."""
    if difference["low"] > 0:
        return "ours is more accurate"
    return "ours is less accurate" if difference["high"] < 0 else "no difference is shown"


def conclusion(networks: dict[str, dict[str, Any]], data: str) -> list[str]:
    """Return a sentence on each network but ours (the first): accuracy and cost, at these budgets, on this data."""
    (ours, our_entry), *others = networks.items()
    sentences = []
    for name, entry in others:
        work = entry["run"]["macs"] / our_entry["run"]["macs"]
        speed = our_entry["cost"]["images_per_second"] / entry["cost"]["images_per_second"]
        sentences.append(
            f"{name}, on {data} and at these budgets: {verdict(entry['mcnemar'])} "
            f"({change(entry['mcnemar'])} points, {_p_value(entry['mcnemar']['p_value'])}); "
            f"it does {work:.2g} times the multiply-accumulates of {ours}, which answers {speed:.2g} times as fast."
        )
    return sentences


def _p_value(p: float) -> str:
    return f"p = {p:.2g}" if p > 1e-300 else "p < 1e-300"
