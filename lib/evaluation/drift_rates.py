"""Detection rates of drift tests by batch size: false positives on test images, detections on corrupted ones."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.evaluation.metrics import proportion
from lib.inference.drift import ALPHA, DriftTest

BATCH_SIZES = (10, 30, 100, 300, 1000)
_COMPONENTS = 16


def features_test(features: np.ndarray) -> DriftTest:
    """Return a drift test on the first principal components of a network's features (float N×F)."""
    components = min(_COMPONENTS, *features.shape)
    projection = make_pipeline(StandardScaler(), PCA(components, random_state=0)).fit(features)
    return DriftTest(projection.transform(features), projection)


def detection_rates(
    test: DriftTest, images: np.ndarray, batches: int = 50, sizes: tuple[int, ...] = BATCH_SIZES, alpha: float = ALPHA
) -> dict[str, dict[str, Any]]:
    """Return for each batch size the share of `batches` random batches of `images` (N×D) in which drift is detected.

    A batch holds no image twice; sizes above the number of images are left out. Ranks are computed once for all
    images, which makes it a hundred times as fast as test by test.
    """
    rng = np.random.default_rng(0)
    ranks = test.ranks(images)
    rates = {}
    for size in (size for size in sizes if size <= len(images)):
        drawn = (rng.choice(len(images), size, replace=False) for _ in range(batches))
        detected = sum(test.p_value_of(*(side[indices] for side in ranks)) < alpha for indices in drawn)
        rates[str(size)] = proportion(detected, batches)
    return rates


def rates_table(rates: dict[str, dict[str, dict[str, float]]]) -> pd.DataFrame:
    """Return detection rates in percent, formatted: a row a test or corruption, a column a batch size."""
    rows = {name: {f"{size} images": f"{100 * rate['value']:.0f} %" for size, rate in by_size.items()}
            for name, by_size in rates.items()}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").fillna("–")
