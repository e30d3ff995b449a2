"""Read images of a pack as they are needed: a set that does not fit into memory stays in its file."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lib.core.input_rule import IMAGE_SIZE

_AT_ONCE = 2**28  # bytes of images: all of CIFAKE's validation and test images, a part of a large set


class ImageRows:
    """Hold the images at `indices` (int64 N) of `images` (uint8 M×S×S×3, memory-mapped), and copy those asked for.

    Indexed by a slice or an array it returns uint8 n×S×S×3, or n×3×S×S with `channels_first`; by an integer, one image.
    """

    def __init__(self, images: np.ndarray, indices: np.ndarray, channels_first: bool = False) -> None:
        self._images, self._indices, self._channels_first = images, indices, channels_first
        self.size = images.shape[1]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: Any) -> np.ndarray:
        pixels = self._images[self._indices[key]]
        return np.ascontiguousarray(np.moveaxis(pixels, -1, -3) if self._channels_first else pixels)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all of the images."""
        return len(self) * 3 * self.size**2


def in_parts(function: Callable[[np.ndarray], np.ndarray], images: ImageRows | np.ndarray) -> np.ndarray:
    """Return what `function` makes of `images`, row by row, computed for as many of them at once as memory may hold."""
    step = max(1, _AT_ONCE // images[0].nbytes)
    return np.concatenate([function(images[start : start + step]) for start in range(0, len(images), step)])


def equal_pixels(count: int, size: int) -> int:
    """Return how many images of `size` pixels a side have as many pixels as `count` of 32×32, one at least."""
    return max(1, count * IMAGE_SIZE**2 // size**2)
