"""Out-of-distribution detection for a single image: how far it is from the images that a network was validated on."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.inference.drift import STATISTICS, image_statistics

FALSE_ALARMS = 0.01  # share of validation images of either class that are beyond the threshold, at most


@dataclass(frozen=True)
class DistanceTest:
    """Compare the Mahalanobis distance of an image's statistics from known images with a threshold.

    `mean` (D) and `precision` (D×D, the inverse covariance) are those of image statistics (lib.inference.drift) of
    validation images, `threshold` is a squared distance (Mahalanobis 1936; for detection Lee et al. 2018,
    arXiv 1807.03888).
    """

    mean: np.ndarray
    precision: np.ndarray
    threshold: float

    def distances(self, images: np.ndarray) -> np.ndarray:
        """Return the squared distance of each image (uint8 N×H×W×3), float64 N, at least 0."""
        return squared_distances(image_statistics(images), self.mean, self.precision)

    def beyond(self, images: np.ndarray) -> np.ndarray:
        """Return for each image (uint8 N×H×W×3) whether it is out of distribution (bool N)."""
        return self.distances(images) > self.threshold

    def to_json(self) -> dict[str, Any]:
        """Return the test as plain JSON values, which `from_json` reads."""
        return {"statistics": list(STATISTICS), "mean": self.mean.tolist(), "precision": self.precision.tolist(),
                "threshold": self.threshold}  # fmt: skip


def from_json(content: dict[str, Any]) -> DistanceTest:
    """Return the test that `to_json` wrote; raise KeyError where a part is missing, ValueError for other statistics."""
    if tuple(content["statistics"]) != STATISTICS:
        raise ValueError("other image statistics")
    return DistanceTest(np.array(content["mean"]), np.array(content["precision"]), float(content["threshold"]))


def fit_distance(statistics: np.ndarray, labels: np.ndarray, false_alarms: float = FALSE_ALARMS) -> DistanceTest:
    """Fit the test on image statistics (float N×D) of known images; of each class at most `false_alarms` are beyond."""
    mean = statistics.mean(0, dtype=np.float64)
    precision = np.linalg.pinv(np.cov(statistics, rowvar=False, dtype=np.float64))
    distances = squared_distances(statistics, mean, precision)
    quantiles = [np.quantile(distances[labels == label], 1 - false_alarms, method="higher") for label in set(labels)]
    return DistanceTest(mean, precision, float(max(quantiles)))


def squared_distances(statistics: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return the squared Mahalanobis distance of each row of `statistics` (float N×D) from `mean`, float64 N."""
    centred = statistics - mean
    return np.einsum("nd,de,ne->n", centred, precision, centred)
