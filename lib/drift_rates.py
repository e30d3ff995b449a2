"""How often drift tests raise an alarm, by the number of images: on known images falsely, on others rightly."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.drift import LEVEL, DriftTest
from lib.metrics import proportion

BATCH_SIZES = (10, 30, 100, 300, 1000)
_COMPONENTS = 16


def features_test(features: np.ndarray) -> DriftTest:
    """Return a test on the first principal components of a network's features (float N×F)."""
    parts = min(_COMPONENTS, *features.shape)
    projection = make_pipeline(StandardScaler(), PCA(parts, random_state=0)).fit(features)
    return DriftTest(projection.transform(features), projection)


def alarm_rates(
    test: DriftTest, images: np.ndarray, batches: int = 50, sizes: tuple[int, ...] = BATCH_SIZES, level: float = LEVEL
) -> dict[str, dict[str, Any]]:
    """Return for each batch size the share of `batches` random batches of `images` (N×D) that raise an alarm.

    A batch holds no image twice; sizes above the number of images are left out. Ranks are looked up once for all
    images, which makes it a hundred times as fast as test by test.
    """
    rng = np.random.default_rng(0)
    ranks = test.ranks(images)
    rates = {}
    for size in (size for size in sizes if size <= len(images)):
        drawn = (rng.choice(len(images), size, replace=False) for _ in range(batches))
        alarms = sum(test.p_value_of(*(side[rows] for side in ranks)) < level for rows in drawn)
        rates[str(size)] = proportion(alarms, batches)
    return rates


def rates_table(rates: dict[str, dict[str, dict[str, float]]]) -> pd.DataFrame:
    """Return alarm rates for people: a row a condition, a column a batch size, in percent."""
    rows = {name: {f"{size} images": f"{100 * rate['value']:.0f} %" for size, rate in of_size.items()}
            for name, of_size in rates.items()}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").fillna("–")
