"""Drift detection over the most recent images: do they come from the distribution of the training data?"""

from collections import deque
from dataclasses import dataclass
from math import nan

import numpy as np

from lib.inference.drift import ALPHA, DriftTest, image_statistics


@dataclass
class DriftMonitor:
    """Test the last `window` images together at each call of `update`; their predictions play no part.

    On disjoint windows of images from the training distribution, the false positive rate at ALPHA is the one that
    04_evaluate measured. `p_value` is that of the last test, NaN before `window` images came. Without a `test`,
    no drift is ever detected.
    """

    test: DriftTest | None
    window: int
    p_value: float = nan

    def __post_init__(self) -> None:
        self._recent: deque[np.ndarray] = deque(maxlen=self.window)
        self._new = False

    @property
    def is_drift(self) -> bool:
        """Tell whether the last test detected drift, at the significance level ALPHA."""
        return self.p_value < ALPHA

    @property
    def num_images(self) -> int:
        """Return the number of images in the window."""
        return len(self._recent)

    def add(self, pixels: np.ndarray) -> None:
        """Append an image (uint8 32×32×3, RGB) to the window."""
        self._recent.append(pixels)
        self._new = True

    def update(self) -> None:
        """Repeat the test where the window is full and has changed since the last one."""
        if self.test is None or not self._new or len(self._recent) < self.window:
            return
        self._new = False
        self.p_value = self.test.p_value(image_statistics(np.stack(list(self._recent))))
