"""Which variant of a network is served: what each keeps, what each costs, measured side by side, and a rule."""

import statistics
import time
from typing import Any

import numpy as np
import pandas as pd

from lib.cost import BATCH
from lib.errors import InputError
from lib.metrics import change, mcnemar, percent, proportion
from lib.predictions import LOGITS, is_right
from lib.variants import Answer, Variant

CALLS = {1: 40, BATCH: 2}  # batch size: calls timed in a round, after a quarter as many to warm up
_PASS = 128  # images a call when all are judged


def answers(variants: dict[str, Variant], images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the logits (float32 N×2) that each variant gives for `images` (uint8 N×3×32×32)."""
    return {name: in_parts(variant.answer, images) for name, variant in variants.items()}


def in_parts(answer: Answer, images: np.ndarray) -> np.ndarray:
    """Return what `answer` gives for `images`, asked for some at a time."""
    return np.concatenate([answer(part) for part in np.array_split(images, -(-len(images) // _PASS))])


def judge(logits: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return of each variant what it keeps of the first: `accuracy`, its `change` (McNemar), `agreement` of verdicts.

    `logits` are those of `answers`, `labels` (N) say what the images are.
    """
    first = next(iter(logits.values()))
    first_right = is_right(table_of(first, labels))
    entries = {}
    for name, own in logits.items():
        right, same = is_right(table_of(own, labels)), own.argmax(1) == first.argmax(1)
        entries[name] = {
            "accuracy": proportion(right.sum(), len(labels)),
            "change": mcnemar(right, first_right),
            "agreement": proportion(same.sum(), len(labels)),
        }
    return entries


def table_of(logits: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return logits and labels as the table that figures are computed from (lib.predictions)."""
    return pd.DataFrame(dict(zip(LOGITS, logits.T, strict=True)) | {"label": labels})


def measure(variants: dict[str, Variant], images: np.ndarray, rounds: int) -> dict[str, dict[str, Any]]:
    """Time all variants in alternating rounds, so that what else the machine does falls on all of them alike.

    Returns of each `latency_1` and `latency_256` (seconds of a call, the median of a round) and `images_per_second`
    (of the larger calls), as mean, sd and n over the rounds. `images` are at least 256. Raises InputError for
    fewer than two rounds, which have no standard deviation.
    """
    if rounds < 2:
        raise InputError(f"rounds is {rounds}: give at least 2, a standard deviation needs them")
    seconds: dict[str, dict[int, list[float]]] = {name: {size: [] for size in CALLS} for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            for size, calls in CALLS.items():
                seconds[name][size].append(_median_seconds(variant.answer, images[:size], calls))
    return {
        name: {f"latency_{size}": _spread(taken) for size, taken in by_size.items()}
        | {"images_per_second": _spread([BATCH / of_call for of_call in by_size[BATCH]])}
        for name, by_size in seconds.items()
    }


def _median_seconds(answer: Answer, images: np.ndarray, calls: int) -> float:
    warm_up, taken = -(-calls // 4), []
    for _ in range(warm_up + calls):
        start = time.perf_counter()
        answer(images)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[warm_up:])


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values), "n": len(values)}


def choose(entries: dict[str, dict[str, Any]], max_loss: float) -> str:
    """Return the variant to serve: of those shown to lose at most `max_loss` points, the one with most images/s.

    Shown means that the whole 95 % interval of the paired change of accuracy lies above −`max_loss` points (a test of
    non-inferiority): few images show little, and then what changes no verdict wins. The first always qualifies.
    Of those within a standard deviation of the fastest, which are as fast, the first is taken.
    """
    rates = {
        name: entry["cost"]["images_per_second"]
        for name, entry in entries.items()
        if entry["servable"] and 100 * entry["change"]["low"] >= -max_loss
    }
    fastest = max(rates.values(), key=lambda rate: rate["mean"])
    return next(name for name, rate in rates.items() if rate["mean"] >= fastest["mean"] - fastest["sd"])


def kept_table(entries: dict[str, dict[str, Any]], unavailable: dict[str, str]) -> pd.DataFrame:
    """Return for people what each variant keeps: accuracy, its change against the first, agreement, size."""
    rows = {
        name: {
            "accuracy": percent(entry["accuracy"]),
            "change (points)": change(entry["change"]),
            "only it / only the first right": f"{entry['change']['only_ours']} / {entry['change']['only_theirs']}",
            "same verdicts": f"{100 * entry['agreement']['value']:.2f} %",
            "file": f"{entry['bytes'] / 1e6:.2f} MB",
        }
        for name, entry in entries.items()
    }
    rows |= {name: {"accuracy": reason} for name, reason in unavailable.items()}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("–")


def cost_table(entries: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return for people what each variant costs, mean ± standard deviation over the rounds."""
    first = next(iter(entries.values()))["cost"]["images_per_second"]["mean"]
    rows = {}
    for name, entry in entries.items():
        one, many, rate = (entry["cost"][key] for key in ("latency_1", f"latency_{BATCH}", "images_per_second"))
        rows[name] = {
            "1 image": f"{1e3 * one['mean']:.2f} ± {1e3 * one['sd']:.2f} ms",
            f"{BATCH} images": f"{1e3 * many['mean']:.1f} ± {1e3 * many['sd']:.1f} ms",
            "answered": f"{rate['mean']:,.0f} ± {rate['sd']:,.0f} images/s",
            "times the first": f"{rate['mean'] / first:.2f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")
