"""Detection rates of drift tests by batch size and mixture: false positives on known images, detections of others."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.evaluation.metrics import percent, proportion
from lib.inference.drift import ALPHA, DriftTest, Ranks

BATCH_SIZES = (10, 30, 100, 300, 1000)
MIXTURES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # shares of a group of images in a batch
_COMPONENTS = 16

Rates = dict[str, dict[str, Any]]  # by batch size: an Estimate, n the number of batches


def features_test(features: np.ndarray, predicted: np.ndarray) -> DriftTest:
    """Return a drift test on the first principal components of a network's features (float N×F), by class (int N)."""
    components = min(_COMPONENTS, *features.shape)
    projection = make_pipeline(StandardScaler(), PCA(components, random_state=0)).fit(features)
    return DriftTest(projection.transform(features), predicted, projection)


def detection_rates(
    test: DriftTest, images: np.ndarray, predicted: np.ndarray, batches: int = 50, sizes: tuple[int, ...] = BATCH_SIZES
) -> Rates:
    """Return for each batch size the share of `batches` random batches of images in which drift is detected.

    `images` are N×D, `predicted` their classes (int N). No batch holds an image twice. Batches without a class that
    can be tested, and sizes above the number of images, count as no batch.
    """
    return _rates(test, test.ranks(images, predicted), [np.arange(len(images))], 1.0, batches, sizes)


def rates_by_share(
    test: DriftTest,
    images: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    batches: int = 50,
    sizes: tuple[int, ...] = BATCH_SIZES,
    shares: tuple[float, ...] = MIXTURES,
) -> dict[str, Rates]:
    """Return the `detection_rates` of batches with given shares of a group of images, by share ("25%").

    `group` tells which images are of it (bool N); the rest of a batch are other images. For the images of a class
    without drift these are false positive rates.
    """
    ranks, pools = test.ranks(images, predicted), [np.flatnonzero(group), np.flatnonzero(~group)]
    return {f"{share:.0%}": _rates(test, ranks, pools, share, batches, sizes) for share in shares}


def rates_by_corruption(tests: dict[str, DriftTest], corrupted: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Return the `detection_rates` of named tests for images under named corruptions, by test and corruption.

    `corrupted` holds for each corruption the inputs of each test, by its name, and the `predicted` classes.
    """
    return {
        name: {
            corruption: detection_rates(test, arrays[name], arrays["predicted"])
            for corruption, arrays in corrupted.items()
        }
        for name, test in tests.items()
    }


def rates_table(rates: dict[str, dict[str, Rates]]) -> pd.DataFrame:
    """Return rates by test, row and batch size, formatted with intervals: a row a mixture or corruption of a test."""
    return pd.concat(
        {
            name: pd.DataFrame.from_dict(
                {
                    row: {f"{size} images": percent(rate, 1) for size, rate in by_size.items()}
                    for row, by_size in of_test.items()
                },
                orient="index",
            )
            for name, of_test in rates.items()
        }
    )


def _rates(
    test: DriftTest, ranks: Ranks, pools: list[np.ndarray], share: float, batches: int, sizes: tuple[int, ...]
) -> Rates:
    """Return the detection rates of batches, a share of each drawn from the first of `pools`, the rest from the last.

    Ranks are computed once for all images, which makes it a hundred times as fast as test by test.
    """
    rng = np.random.default_rng(0)
    rates = {}
    for size in sizes:
        counts = round(share * size), size - round(share * size)
        parts = [(pool, n) for pool, n in zip((pools[0], pools[-1]), counts, strict=True) if n]
        least = []
        for _ in range(batches if all(n <= len(pool) for pool, n in parts) else 0):
            drawn = np.concatenate([rng.choice(pool, n, replace=False) for pool, n in parts])
            least += sorted(test.p_values_of(ranks.subset(drawn)).values())[:1]
        rates[str(size)] = proportion(sum(p < ALPHA for p in least), len(least))
    return rates
