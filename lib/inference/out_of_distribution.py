"""Out-of-distribution detection for a single image: how far it is from the images that a network was validated on.

The statistics are of pixels alone, so that the test is the same for every network, and costs a fraction of one: the
drift test of whole batches (lib.inference.drift) has others, which cost ten times as much.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.core.rows import ImageRows, in_parts

STATISTICS = (
    "green mean", "green spread", "red less blue", "spread of red less blue", "steps", "mixed differences",
    "second differences",
)  # fmt: skip
FALSE_ALARMS = 0.01  # share of validation images of either class that are beyond the threshold, at most


def pixel_statistics(images: np.ndarray) -> np.ndarray:
    """Return STATISTICS of each image (uint8 N×H×W×3), float32 N×7.

    Mean and standard deviation of green, and of red less blue; then of green, as log(1 + x), the mean absolute
    difference of horizontal neighbours, of those differences in neighbouring rows, and of those in neighbouring
    columns.
    """
    count, height, width, _ = images.shape
    # Few calls on contiguous memory: each costs microseconds, and may give other threads of the service their turn.
    values = np.empty((5, count, height, width), np.float32)
    green, colour, steps, mixed, second = values
    green[:], colour[:] = images[..., 1], images[..., 0]
    colour -= images[..., 2]
    line, _, line_steps, line_mixed, line_second = values.reshape(5, -1)
    np.subtract(line[1:], line[:-1], out=line_steps[1:])
    steps[:, :, 0] = 0  # no neighbours: the end of the row before
    np.subtract(line_steps[width:], line_steps[:-width], out=line_mixed[width:])
    mixed[:, 0] = 0
    np.subtract(line_steps[1:], line_steps[:-1], out=line_second[1:])
    second[:, :, :2] = 0
    np.abs(values[2:], out=values[2:])
    flat, size = values.reshape(5, count, -1), height * width
    sizes = size, size, height * (width - 1), (height - 1) * (width - 1), height * (width - 2)
    means = flat.sum(2).T / sizes
    levels = flat[:2] - means.T[:2, :, None].astype(np.float32)
    spreads = np.sqrt(np.vecdot(levels, levels).T / size)
    columns = means[:, 0], spreads[:, 0], means[:, 1], spreads[:, 1], *np.log1p(means[:, 2:]).T
    return np.stack(columns, 1, dtype=np.float32)


@dataclass(frozen=True)
class DistanceTest:
    """Compare the Mahalanobis distance of an image's statistics from known images with a threshold.

    `mean` (D) and `precision` (D×D, the inverse covariance) are those of `pixel_statistics` of validation images,
    `threshold` is a squared distance (Mahalanobis 1936; for detection Lee et al. 2018, arXiv 1807.03888).
    """

    mean: np.ndarray
    precision: np.ndarray
    threshold: float

    def distances(self, images: np.ndarray | ImageRows) -> np.ndarray:
        """Return the squared distance of each image (uint8 N×H×W×3), float64 N, at least 0."""
        return _squared_distances(in_parts(pixel_statistics, images), self.mean, self.precision)

    def beyond(self, images: np.ndarray | ImageRows) -> np.ndarray:
        """Return for each image (uint8 N×H×W×3) whether it is out of distribution (bool N)."""
        return self.distances(images) > self.threshold

    def to_json(self) -> dict[str, Any]:
        """Return the test as plain JSON values, which `from_json` reads."""
        return {"statistics": list(STATISTICS), "mean": self.mean.tolist(), "precision": self.precision.tolist(),
                "threshold": self.threshold}  # fmt: skip


def from_json(content: dict[str, Any]) -> DistanceTest:
    """Return the test that `to_json` wrote; raise KeyError where a part is missing, ValueError for other statistics."""
    if tuple(content["statistics"]) != STATISTICS:
        raise ValueError("its image statistics are others")
    return DistanceTest(np.array(content["mean"]), np.array(content["precision"]), float(content["threshold"]))


def fit_distance(
    images: np.ndarray | ImageRows, labels: np.ndarray, false_alarms: float = FALSE_ALARMS
) -> DistanceTest:
    """Fit the test on known images (uint8 N×H×W×3); of each class (`labels`, N) at most `false_alarms` are beyond."""
    statistics = in_parts(pixel_statistics, images).astype(np.float64)
    mean, precision = statistics.mean(0), np.linalg.pinv(np.cov(statistics, rowvar=False))
    distances = _squared_distances(statistics, mean, precision)
    quantiles = [np.quantile(distances[labels == it], 1 - false_alarms, method="higher") for it in np.unique(labels)]
    return DistanceTest(mean, precision, float(max(quantiles)))


def _squared_distances(statistics: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    centred = statistics - mean
    return np.einsum("nd,de,ne->n", centred, precision, centred)
