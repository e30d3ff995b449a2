"""Drift detection over the most recent images: do they come from the distribution of the training data?"""

from collections import deque
from dataclasses import dataclass, field
from math import nan

import numpy as np

from lib import CLASSES
from lib.inference.drift import ALPHA, DriftTest, image_statistics


@dataclass
class DriftMonitor:
    """Test the last `window` images together, within each predicted class, at each call of `update`.

    On disjoint windows of images from the training distribution, whatever the share of the classes, the false positive
    rate at ALPHA is the one that 04_evaluate measured. `p_values` are those of the last test, by predicted class;
    empty before `window` images came. Without a `test`, no drift is ever detected.
    """

    test: DriftTest | None
    window: int
    p_values: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._recent: deque[tuple[np.ndarray, str]] = deque(maxlen=self.window)
        self._new = False

    @property
    def is_drift(self) -> bool:
        """Tell whether the last test detected drift in any class, at the significance level ALPHA."""
        return min(self.p_values.values(), default=1.0) < ALPHA

    def p_value(self, name: str) -> float:
        """Return the p-value of a predicted class in the last test; NaN where too few images were of it."""
        return self.p_values.get(name, nan)

    def num_images(self, name: str) -> int:
        """Return the number of images in the window that were predicted as a class."""
        return sum(prediction == name for _, prediction in self._recent)

    def add(self, pixels: np.ndarray, prediction: str) -> None:
        """Append an image (uint8 S×S×3, RGB) and its predicted class to the window."""
        self._recent.append((pixels, prediction))
        self._new = True

    def update(self) -> None:
        """Repeat the test where the window is full and has changed since the last one."""
        if self.test is None or not self._new or len(self._recent) < self.window:
            return
        self._new = False
        images, predictions = zip(*list(self._recent), strict=True)
        predicted = np.array([CLASSES.index(name) for name in predictions])
        self.p_values = self.test.p_values(image_statistics(np.stack(images)), predicted)
