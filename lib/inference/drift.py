"""Drift detection by two-sample tests: does a batch of images come from the distribution of the training data?

One Kolmogorov–Smirnov test a coordinate, with Bonferroni's correction for their number (Rabanser et al. 2019,
arXiv 1810.11953).
"""

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy import ndimage, stats

from lib.core.errors import InputError
from lib.core.files import atomic_file

STATISTICS = ("luma mean", "luma spread", "blue", "red", "colour spread", "sharpness", "finest detail", "blockiness")
ALPHA = 0.05  # significance level: the false positive rate of the test
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


@dataclass(frozen=True)
class DriftTest:
    """Compare batches of N×D arrays with a reference, after an optional `projection` fitted on the reference."""

    reference: np.ndarray
    projection: Projection | None = None

    def p_value(self, batch: np.ndarray) -> float:
        """Return the p-value of the null hypothesis that the batch (N×D) and the reference have one distribution.

        Equal to the least of `scipy.stats.ks_2samp(..., method="asymp")` over the coordinates, times their number.
        """
        return self.p_value_of(*self.ranks(batch))

    def ranks(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the shares of the reference that are at most, and below, each coordinate of images (both N×D)."""
        images = self.projection.transform(images) if self.projection else images
        columns = list(zip(self._sorted.T, images.T, strict=True))
        at_most, below = (
            np.stack([np.searchsorted(known, new, side) for known, new in columns], 1) for side in ("right", "left")
        )
        return at_most / len(self.reference), below / len(self.reference)

    def p_value_of(self, at_most: np.ndarray, below: np.ndarray) -> float:
        """Return the p-value of a batch, given its `ranks`."""
        m, (n, coordinates) = len(self.reference), at_most.shape
        # Distribution functions of a batch jump at its values: the gap is largest at one of them, or just before.
        over = (np.arange(1, n + 1) / n)[:, None] - np.sort(at_most, axis=0)
        under = np.sort(below, axis=0) - (np.arange(n) / n)[:, None]
        p = stats.kstwo.sf(max(over.max(), under.max()), round(m * n / (m + n)))
        return float(min(1.0, p * coordinates))

    @cached_property
    def _sorted(self) -> np.ndarray:
        return np.sort(self.reference, axis=0)


def save_reference(path: Path, statistics: np.ndarray) -> None:
    """Write the image statistics (N×8) of images from the training distribution, the reference of later tests."""
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.savez(file, names=np.array(STATISTICS), statistics=statistics)


def read_reference(path: Path) -> DriftTest:
    """Return the test against the image statistics that `save_reference` wrote; raise InputError for another file."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            names, statistics = tuple(saved["names"].tolist()), saved["statistics"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path} holds no image statistics: take it from the same release as the network") from None
    if names != STATISTICS or statistics.ndim != 2 or statistics.shape[1] != len(names):
        raise InputError(f"{path} holds other statistics than this version's: take both from one release")
    return DriftTest(statistics)
