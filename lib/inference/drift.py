"""Drift detection by two-sample tests: does a batch of images come from the distribution of the training data?

Kolmogorov–Smirnov tests of each coordinate, with Bonferroni's correction for their number (Rabanser et al. 2019, arXiv
1810.11953), within each predicted class. The classes differ in every statistic, so a test of all images together
detects that a batch has another share of FAKE than the reference, which is no drift.
"""

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from scipy import ndimage, special

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.files import atomic_file

STATISTICS = ("luma mean", "luma spread", "blue", "red", "colour spread", "sharpness", "finest detail", "blockiness")
ALPHA = 0.05  # significance level: the false positive rate of the test
# A predicted class is tested from this many images, and from this share of the batch: with a smaller share most of them
# are errors of the network on the other class, of which the reference has few.
MIN_IMAGES, MIN_SHARE = 5, 0.1
MIN_REFERENCE = 100  # images of a class in the reference, below which the p-values are too small
_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # JFIF


def image_statistics(images: np.ndarray) -> np.ndarray:
    """Return STATISTICS of each image (uint8 N×H×W×3), float32 N×8; no network is needed.

    Mean and standard deviation of the luma, means of both chroma channels and their joint standard deviation, mean
    absolute Laplacian of the luma, mean absolute mixed difference (the finest diagonal detail), and by how much
    steps across the borders of 8×8 blocks are larger than others. The sizes of steps are given as log(1 + x).
    """
    ycc = images.astype(np.float32) @ _YCC.T.astype(np.float32)
    luma, chroma = ycc[..., 0], ycc[..., 1:]
    laplacian = np.abs(ndimage.laplace(luma, axes=(1, 2))).mean((1, 2))
    finest = np.abs(np.diff(np.diff(luma, axis=1), axis=2)).mean((1, 2))
    step = np.abs(np.diff(luma, axis=2))
    border = np.arange(step.shape[2]) % 8 == 7
    columns = [
        luma.mean((1, 2)), luma.std((1, 2)), *chroma.mean((1, 2)).T, chroma.std((1, 2)).mean(1), np.log1p(laplacian),
        np.log1p(finest), np.log1p(step[:, :, border].mean((1, 2))) - np.log1p(step[:, :, ~border].mean((1, 2))),
    ]  # fmt: skip
    return np.stack(columns, 1).astype(np.float32)


class Projection(Protocol):
    """Map N×F arrays to N×D ones."""

    def transform(self, images: np.ndarray) -> np.ndarray: ...


class Ranks(NamedTuple):
    """Hold the place of N images among the reference images of their predicted class.

    `predicted` is their class (int N), `at_most` and `below` are the shares of that reference that are at most, and
    below, each coordinate (float N×D; NaN for a class without reference).
    """

    predicted: np.ndarray
    at_most: np.ndarray
    below: np.ndarray

    def subset(self, indices: np.ndarray) -> "Ranks":
        """Return the ranks of some of the images."""
        return Ranks(*(column[indices] for column in self))


@dataclass(frozen=True)
class DriftTest:
    """Compare batches with a reference (N×D, its predicted classes int N), class by class.

    An optional `projection`, fitted on the reference, is applied to batches.
    """

    reference: np.ndarray
    predicted: np.ndarray
    projection: Projection | None = None

    def p_values(self, batch: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
        """Return by class the corrected p-value of the null hypothesis that batch and reference have one distribution.

        Drift is detected where the least of them is below ALPHA. `batch` is N×D, `predicted` are its classes. A class
        is left out if fewer than MIN_IMAGES, or less than MIN_SHARE, of the batch are predicted as it, or fewer than
        MIN_REFERENCE of the reference.

        The p-value of a class is the least of its coordinates' p-values times the number of tests in the batch,
        coordinates × tested classes (Bonferroni; Dunn 1961). Given the predictions that number is fixed, so the share
        of batches with a p-value below ALPHA is at most ALPHA at any share of the classes. Those of the coordinates are
        of one sample of mn/(m+n) images, for m reference images and n of the batch, as in `scipy.stats.ks_2samp(...,
        method="asymp")`: twice the exact one-sided p-value (Birnbaum & Tingey 1951), which is the two-sided one where
        that is below 0.1, and larger elsewhere. At the levels that count here the exact p-value for two samples (Hodges
        1958) is at most 1.1 times as large for m = 5,000, 1.3 times for 300, 1.7 times for 100 (n from 5 to 100). Ties
        make the p-values larger, never smaller (Noether 1963).
        """
        return self.p_values_of(self.ranks(batch, predicted))

    def ranks(self, images: np.ndarray, predicted: np.ndarray) -> Ranks:
        """Return the ranks of images (N×D) among the reference images of their predicted class (int N)."""
        images = self.projection.transform(images) if self.projection else images
        ranks = Ranks(predicted, *np.full((2, *images.shape), np.nan))
        for label, known in enumerate(self._sorted):
            chosen = predicted == label
            for side, shares in (("right", ranks.at_most), ("left", ranks.below)):
                if len(known):
                    columns = zip(known.T, images[chosen].T, strict=True)
                    shares[chosen] = np.stack([np.searchsorted(*pair, side) for pair in columns], 1) / len(known)
        return ranks

    def p_values_of(self, ranks: Ranks) -> dict[str, float]:
        """Return the `p_values` of a batch, given its `ranks`."""
        least = max(MIN_IMAGES, MIN_SHARE * len(ranks.predicted))
        batches = (ranks.subset(ranks.predicted == label) for label in range(len(CLASSES)))
        tested = {
            name: (known, batch)
            for name, known, batch in zip(CLASSES, self._sorted, batches, strict=True)
            if len(known) >= MIN_REFERENCE and len(batch.predicted) >= least
        }
        return {
            name: min(1.0, _least_p_value(len(known), batch) * batch.below.shape[1] * len(tested))
            for name, (known, batch) in tested.items()
        }

    @cached_property
    def _sorted(self) -> list[np.ndarray]:
        return [np.sort(self.reference[self.predicted == label], axis=0) for label in range(len(CLASSES))]


def _least_p_value(m: int, batch: Ranks) -> float:
    """Return the least p-value of the coordinates of a batch of one class, given the number of reference images."""
    n = len(batch.predicted)
    # Distribution functions of a batch jump at its values: the gap is largest at one of them, or just before.
    over = (np.arange(1, n + 1) / n)[:, None] - np.sort(batch.at_most, axis=0)
    under = np.sort(batch.below, axis=0) - (np.arange(n) / n)[:, None]
    return float(2 * special.smirnov(round(m * n / (m + n)), max(over.max(), under.max())))


def save_reference(path: Path, statistics: np.ndarray, predicted: np.ndarray) -> None:
    """Write image statistics (N×8) and predicted classes (int N) of known images, the reference of later tests."""
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.savez(file, names=np.array(STATISTICS), statistics=statistics, predicted=predicted.astype(np.uint8))


def read_reference(path: Path) -> DriftTest:
    """Return the test against the image statistics that `save_reference` wrote; raise InputError for another file."""
    remedy = "take it from the same release as the network, or run 04_evaluate again"
    try:
        with np.load(path, allow_pickle=False) as saved:
            names, statistics = tuple(saved["names"].tolist()), saved["statistics"]
            predicted = saved.get("predicted")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path} holds no image statistics: {remedy}") from None
    if names != STATISTICS or statistics.ndim != 2 or statistics.shape[1] != len(names):
        raise InputError(f"{path} holds other statistics than this version's: {remedy}")
    if predicted is None:
        raise InputError(f"{path} is of an earlier version, without predicted classes: {remedy}")
    if predicted.dtype != np.uint8 or predicted.shape != (len(statistics),) or (predicted >= len(CLASSES)).any():
        raise InputError(f"{path} does not hold one predicted class for each image: {remedy}")
    return DriftTest(statistics, predicted)
