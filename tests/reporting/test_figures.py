"""Figures of notebooks as files: named after their function, and the same pixels in fewer bytes."""

import base64
import io

import nbformat
import numpy as np
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from lib.reporting.figures import figures_of, optimised, with_optimised_figures


def png() -> bytes:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot(np.sin(np.arange(50.0)), label="sine")
    right.imshow(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    file = io.BytesIO()
    figure.savefig(file)
    return file.getvalue()


def notebook(*sources: str) -> nbformat.NotebookNode:
    output = new_output("display_data", {"image/png": base64.b64encode(png()).decode()})
    return new_notebook(cells=[new_code_cell(source, outputs=[output]) for source in sources])


def test_optimised_figures_are_lossless() -> None:
    before = png()
    after = optimised(before)
    pixels = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in (before, after)]
    assert np.array_equal(*pixels)
    assert len(after) < len(before)
    assert list(figures_of(with_optimised_figures(notebook("evaluation_plots.gallery()"))).values()) == [after]


def test_figures_are_named_after_their_function() -> None:
    sources = (
        "training_plots.history(a)",
        "display(training_plots.history(b))",
        "evaluation_plots.gallery(c)",
        "live = live_plots.LiveFigure(live_plots.learning_curves)",
        "plot(d)",
    )
    assert list(figures_of(notebook(*sources))) == ["history", "history-2", "gallery", "learning_curves", "figure"]
