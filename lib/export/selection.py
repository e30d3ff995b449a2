"""Selection of the variant to serve: accuracy and latency of all variants, measured side by side, and a rule."""

import statistics
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lib.core.errors import InputError
from lib.core.rows import ImageRows, equal_pixels
from lib.evaluation.latency import BATCH, median_seconds
from lib.evaluation.metrics import change, mcnemar, percent, proportion
from lib.evaluation.predictions import LOGITS, is_correct
from lib.export.variants import PredictLogits, Variant

CALLS = {1: 40, BATCH: 2}  # batch size: calls timed in a round, after a quarter as many to warm up
_CHUNK = 128  # images of 32×32 a call when a whole split is classified


def predict_logits(variants: dict[str, Variant], images: np.ndarray | ImageRows) -> dict[str, np.ndarray]:
    """Return the logits (float32 N×2) of each variant for `images` (uint8 N×3×S×S)."""
    return {name: in_chunks(variant.predict_logits, images) for name, variant in variants.items()}


def in_chunks(predict: PredictLogits, images: np.ndarray | ImageRows) -> np.ndarray:
    """Return the logits (float32 N×2) that `predict` computes for `images`, chunk by chunk."""
    size = equal_pixels(_CHUNK, images[0].shape[-1])
    chunks = np.array_split(np.arange(len(images)), -(-len(images) // size))
    return np.concatenate([predict(images[chunk]) for chunk in chunks])


def evaluate_variants(logits: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, dict[str, Any]]:
    """Compare each variant with the first: `accuracy`, its `change` (McNemar), `agreement` of predictions.

    `logits` are those of `predict_logits`, `labels` (N) the classes of the images.
    """
    first = next(iter(logits.values()))
    first_correct = is_correct(table_of(first, labels))
    entries = {}
    for name, own in logits.items():
        correct, same = is_correct(table_of(own, labels)), own.argmax(1) == first.argmax(1)
        entries[name] = {
            "accuracy": proportion(correct.sum(), len(labels)),
            "change": mcnemar(correct, first_correct),
            "agreement": proportion(same.sum(), len(labels)),
        }
    return entries


def table_of(logits: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return logits and labels as a table of predictions (lib.evaluation.predictions)."""
    return pd.DataFrame(dict(zip(LOGITS, logits.T, strict=True)) | {"label": labels})


def measure_variants(
    variants: dict[str, Variant], images: np.ndarray | ImageRows, rounds: int
) -> dict[str, dict[str, Any]]:
    """Time all variants in alternating rounds, so that other load on the machine affects all of them alike.

    Returns for each `latency_bs1` and `latency_bs256` (seconds a call, the median of a round) and `images_per_second`
    (at the larger batch size), as mean, sd and n over the rounds. Images larger than 32×32 are computed in several
    passes of as many pixels. Fewer than 256 `images` are repeated. Raises
    InputError for fewer than two rounds, which have no standard deviation.
    """
    if rounds < 2:
        raise InputError(f"rounds is {rounds}: give at least 2, a standard deviation needs them")
    first = images[:BATCH]
    images = np.resize(first, (BATCH, *first.shape[1:]))
    passes = equal_pixels(BATCH, images.shape[-1])
    seconds: dict[str, dict[int, list[float]]] = {name: {size: [] for size in CALLS} for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            for size, calls in CALLS.items():
                parts = [images[start : min(start + passes, size)] for start in range(0, size, passes)]
                run = partial(_run_all, variant.predict_logits)
                median = median_seconds(run, parts, -(-calls // 4), calls)
                seconds[name][size].append(median)
    return {
        name: {f"latency_bs{size}": _mean_sd(values) for size, values in by_size.items()}
        | {"images_per_second": _mean_sd([BATCH / of_call for of_call in by_size[BATCH]])}
        for name, by_size in seconds.items()
    }


def _run_all(predict: PredictLogits, parts: list[np.ndarray]) -> None:
    for part in parts:
        predict(part)


def _mean_sd(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values), "n": len(values)}


def select(entries: dict[str, dict[str, Any]], max_accuracy_drop: float) -> str:
    """Return the servable variant of the highest throughput that loses at most `max_accuracy_drop` points of accuracy.

    The whole 95 % interval of the paired change of accuracy must lie above −`max_accuracy_drop` points (a test of
    non-inferiority), which few images can show only of a variant that changes hardly a prediction. The first variant
    always qualifies. Of those within a standard deviation of the fastest the first is taken.
    """
    rates = {
        name: entry["latency"]["images_per_second"]
        for name, entry in entries.items()
        if entry["servable"] and 100 * entry["change"]["ci_low"] >= -max_accuracy_drop
    }
    fastest = max(rates.values(), key=lambda rate: rate["mean"])
    return next(name for name, rate in rates.items() if rate["mean"] >= fastest["mean"] - fastest["sd"])


def accuracy_table(entries: dict[str, dict[str, Any]], unavailable: dict[str, str]) -> pd.DataFrame:
    """Format the accuracy of each variant: change against the first, agreement, size of the file."""
    rows = {}
    for name, entry in entries.items():
        test = entry["change"]
        rows[name] = {
            "accuracy": percent(entry["accuracy"]),
            "change (points)": change(test),
            "only it / only the first correct": f"{test['only_first_correct']} / {test['only_second_correct']}",
            "same predictions": f"{100 * entry['agreement']['value']:.2f} %",
            "file": f"{entry['bytes'] / 1e6:.2f} MB",
        }
    rows |= {name: {"accuracy": reason} for name, reason in unavailable.items()}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("–")


def latency_table(entries: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Format latency and throughput of each variant, mean ± standard deviation over the rounds."""
    first = next(iter(entries.values()))["latency"]["images_per_second"]["mean"]
    rows = {}
    for name, entry in entries.items():
        one, many, rate = (entry["latency"][key] for key in ("latency_bs1", f"latency_bs{BATCH}", "images_per_second"))
        rows[name] = {
            "1 image": f"{1e3 * one['mean']:.2f} ± {1e3 * one['sd']:.2f} ms",
            f"{BATCH} images": f"{1e3 * many['mean']:.1f} ± {1e3 * many['sd']:.1f} ms",
            "throughput": f"{rate['mean']:,.0f} ± {rate['sd']:,.0f} images/s",
            "times the first": f"{rate['mean'] / first:.2f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")
