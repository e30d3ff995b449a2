"""Many images in one picture: an axis an image would cost a hundred times as much."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes


def show_tiles(
    ax: Axes, images: np.ndarray, columns: int, titles: Sequence[str] = (), colours: Sequence[str] = (), size: float = 9
) -> None:
    """Show images (uint8 N×H×W×3) in lines of `columns`, with `titles` above them, in `colours`, of `size` points."""
    n, height, width = images.shape[:3]
    lines, above, gap = max(1, -(-n // columns)), width // 5 if titles else 0, max(2, width // 10)
    step_y, step_x = height + above + gap, width + gap
    canvas = np.full((lines * step_y - gap, columns * step_x - gap, 3), 255, np.uint8)
    for number, image in enumerate(images):
        line, column = divmod(number, columns)
        y, x = line * step_y + above, column * step_x
        canvas[y : y + height, x : x + width] = image
        if titles:
            ax.text(x + width / 2, y - 1.5, titles[number], ha="center", va="bottom", fontsize=size,
                    color=colours[number])  # fmt: skip
    ax.imshow(canvas)
    ax.set_axis_off()
