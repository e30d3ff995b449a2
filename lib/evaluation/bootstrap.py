"""Bootstrap confidence intervals of the metrics that are not proportions: all metrics of a resample at once."""

import numpy as np

CALIBRATION_BINS = 15
RESAMPLES = 1000
METRICS = (
    "balanced_accuracy", "f1_FAKE", "f1_REAL", "roc_auc", "average_precision", "brier_score", "log_loss",
    "expected_calibration_error", "fpr_at_95_tpr",
)  # fmt: skip
_CHUNK = 2_000_000  # weights in memory at once


def bootstrap(label: np.ndarray, p_fake: np.ndarray, resamples: int = RESAMPLES) -> dict[str, tuple[float, float]]:
    """Return the 95 % confidence interval of each of METRICS, as (low, high).

    `label` (N, 0 FAKE, 1 REAL) and `p_fake` (N, in [0, 1]) describe the images; a resample draws as many of each
    class with replacement (Efron & Tibshirani 1993, chapter 8). The interval runs between the percentiles of the
    resamples, less their bias (their mean minus the estimate), which matters for the expected calibration error:
    resampling adds noise to every bin, and the error counts noise as error.
    """
    value = {name: v[0] for name, v in weighted_metrics(label, p_fake, np.ones((1, len(label)))).items()}
    rng = np.random.default_rng(0)
    by_class = [np.flatnonzero(label == index) for index in (0, 1)]
    values_of: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    for size in [len(part) for part in np.array_split(np.arange(resamples), -(-resamples * len(label) // _CHUNK))]:
        weights = np.zeros((size, len(label)), np.float32)
        for row in weights:
            for indices in by_class:
                row[indices] = np.bincount(rng.integers(len(indices), size=len(indices)), minlength=len(indices))
        for name, values in weighted_metrics(label, p_fake, weights).items():
            values_of[name].append(values)
    intervals = {}
    for name, parts in values_of.items():
        values = np.concatenate(parts)
        low, high = np.quantile(values, [0.025, 0.975]) - (values.mean() - value[name])
        highest = np.inf if name == "log_loss" else 1.0
        intervals[name] = (float(np.clip(low, 0, highest)), float(np.clip(high, 0, highest)))
    return intervals


def weighted_metrics(label: np.ndarray, p_fake: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return each of METRICS for each row of `weights` (R×N: how often each image counts), float64 R.

    With weights of one they equal those of scikit-learn and torchmetrics (a test compares them); here all resamples are
    computed at once, a hundred times as fast.
    """
    order = np.argsort(-p_fake, kind="stable")
    score, is_fake = p_fake[order], label[order] == 0
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # the last image of each distinct score
    counts = weights[:, order].astype(np.float64)
    fake, real = np.cumsum(counts * is_fake, 1)[:, last], np.cumsum(counts * ~is_fake, 1)[:, last]
    n_fake, n_real = fake[:, -1:], real[:, -1:]
    tpr, fpr, precision = fake / n_fake, real / n_real, fake / np.maximum(fake + real, 1e-12)

    above = np.searchsorted(-score[last], -0.5, side="left") - 1  # scores above one half are predicted FAKE
    tp, fp = (side[:, above] if above >= 0 else np.zeros(len(counts)) for side in (fake, real))
    fn, tn = n_fake[:, 0] - tp, n_real[:, 0] - fp
    steps = np.diff(fpr, axis=1, prepend=0)
    heights = (tpr + np.hstack([np.zeros((len(counts), 1)), tpr[:, :-1]])) / 2
    at_95_tpr = np.argmax(tpr >= 0.95, axis=1)

    gap = score - is_fake
    bins = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    in_bin = bins == np.arange(CALIBRATION_BINS)[:, None]
    total = n_fake[:, 0] + n_real[:, 0]
    likelihood = np.clip(np.where(is_fake, score, 1 - score), np.finfo(np.float64).eps, 1)
    return {
        "balanced_accuracy": (tp / n_fake[:, 0] + tn / n_real[:, 0]) / 2,
        "f1_FAKE": 2 * tp / (2 * tp + fp + fn),
        "f1_REAL": 2 * tn / (2 * tn + fp + fn),
        "roc_auc": (steps * heights).sum(1),
        "average_precision": (np.diff(tpr, axis=1, prepend=0) * precision).sum(1),
        "brier_score": counts @ gap**2 / total,
        "log_loss": counts @ -np.log(likelihood) / total,
        "expected_calibration_error": np.abs((counts * gap) @ in_bin.T).sum(1) / total,
        "fpr_at_95_tpr": np.take_along_axis(fpr, at_95_tpr[:, None], 1)[:, 0],
    }
