"""Watch the pictures of the last minutes: are they of the kind that the network knows?"""

from collections import deque
from dataclasses import dataclass
from math import nan

import numpy as np

from lib.drift import LEVEL, DriftTest, image_statistics


@dataclass
class DriftWatch:
    """Test the last `window` pictures together, as often as `update` is called, without their verdicts.

    A test of disjoint windows of known pictures raises an alarm as often as 04_evaluate measured, at LEVEL.
    `p_value` is that of the last test, NaN before `window` pictures came. Without a `test`, nothing is watched.
    """

    test: DriftTest | None
    window: int
    p_value: float = nan

    def __post_init__(self) -> None:
        self._recent: deque[np.ndarray] = deque(maxlen=self.window)
        self._new = False

    @property
    def alarm(self) -> bool:
        """Tell whether the last test found a drift."""
        return self.p_value < LEVEL

    @property
    def warning(self) -> str | None:
        """Say that a verdict may be worth little, or None."""
        if not self.alarm:
            return None
        return (
            f"the last {self.window} pictures together are unlike those that the network knows (p {self.p_value:.2g})"
        )

    @property
    def pictures(self) -> int:
        """Count the pictures in the window."""
        return len(self._recent)

    def add(self, pixels: np.ndarray) -> None:
        """Remember a picture (uint8 32×32×3)."""
        self._recent.append(pixels)
        self._new = True

    def update(self) -> None:
        """Test the window again, if it is full and has changed."""
        if self.test is None or not self._new or len(self._recent) < self.window:
            return
        self._new = False
        self.p_value = self.test.p_value(image_statistics(np.stack(list(self._recent))))
