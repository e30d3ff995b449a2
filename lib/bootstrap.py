"""Bootstrap intervals of everything that depends on more than a count: all figures of a resample at once."""

import numpy as np

CALIBRATION_BINS = 15
RESAMPLES = 1000
FIGURES = (
    "balanced_accuracy", "f1_FAKE", "f1_REAL", "roc_auc", "average_precision", "brier_score", "log_loss",
    "calibration_error", "fpr_at_95_tpr",
)  # fmt: skip
_CHUNK = 2_000_000  # values held at once


def bootstrap(label: np.ndarray, p_fake: np.ndarray, resamples: int = RESAMPLES) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each of FIGURES, as (low, high).

    `label` (N, 0 FAKE, 1 REAL) and `p_fake` (N, in [0, 1]) describe the images; a resample draws as many of each
    class with replacement (Efron & Tibshirani 1993, chapter 8). The interval runs between the percentiles of the
    resamples, less the bias that they show (their mean minus the figure), which matters for the calibration
    error: resampling adds noise to every bin, and the error counts noise as error.
    """
    value = {name: v[0] for name, v in weighted_figures(label, p_fake, np.ones((1, len(label)))).items()}
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(label == index) for index in (0, 1)]
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in FIGURES}
    for size in [len(part) for part in np.array_split(np.arange(resamples), -(-resamples * len(label) // _CHUNK))]:
        weights = np.zeros((size, len(label)), np.float32)
        for row in weights:
            for of_class in rows:
                row[of_class] = np.bincount(rng.integers(len(of_class), size=len(of_class)), minlength=len(of_class))
        for name, values in weighted_figures(label, p_fake, weights).items():
            drawn[name].append(values)
    intervals = {}
    for name, parts in drawn.items():
        values = np.concatenate(parts)
        low, high = np.quantile(values, [0.025, 0.975]) - (values.mean() - value[name])
        most = np.inf if name == "log_loss" else 1.0
        intervals[name] = (float(np.clip(low, 0, most)), float(np.clip(high, 0, most)))
    return intervals


def weighted_figures(label: np.ndarray, p_fake: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return each of FIGURES for each row of `weights` (R×N: how often each image counts), float64 R.

    With weights of one they are what scikit-learn and torchmetrics give (a test holds them to it); here all
    resamples are worked at once, a hundred times as fast.
    """
    order = np.argsort(-p_fake, kind="stable")
    score, is_fake = p_fake[order], label[order] == 0
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # the last image of each level of score
    drawn = weights[:, order].astype(np.float64)
    fake, real = np.cumsum(drawn * is_fake, 1)[:, last], np.cumsum(drawn * ~is_fake, 1)[:, last]
    n_fake, n_real = fake[:, -1:], real[:, -1:]
    tpr, fpr, precision = fake / n_fake, real / n_real, fake / np.maximum(fake + real, 1e-12)

    called = np.searchsorted(-score[last], -0.5, side="left") - 1  # levels above one half are called FAKE
    found, accused = (side[:, called] if called >= 0 else np.zeros(len(drawn)) for side in (fake, real))
    missed, cleared = n_fake[:, 0] - found, n_real[:, 0] - accused
    steps = np.diff(fpr, axis=1, prepend=0)
    heights = (tpr + np.hstack([np.zeros((len(drawn), 1)), tpr[:, :-1]])) / 2
    enough = np.argmax(tpr >= 0.95, axis=1)

    gap = score - is_fake
    bins = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    in_bin = bins == np.arange(CALIBRATION_BINS)[:, None]
    total = n_fake[:, 0] + n_real[:, 0]
    chance = np.clip(np.where(is_fake, score, 1 - score), np.finfo(np.float64).eps, 1)
    return {
        "balanced_accuracy": (found / n_fake[:, 0] + cleared / n_real[:, 0]) / 2,
        "f1_FAKE": 2 * found / (2 * found + accused + missed),
        "f1_REAL": 2 * cleared / (2 * cleared + accused + missed),
        "roc_auc": (steps * heights).sum(1),
        "average_precision": (np.diff(tpr, axis=1, prepend=0) * precision).sum(1),
        "brier_score": drawn @ gap**2 / total,
        "log_loss": drawn @ -np.log(chance) / total,
        "calibration_error": np.abs((drawn * gap) @ in_bin.T).sum(1) / total,
        "fpr_at_95_tpr": np.take_along_axis(fpr, enough[:, None], 1)[:, 0],
    }
