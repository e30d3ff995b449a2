"""Figures of an executed notebook, as files named after the function that drew each."""

import base64
import re
from collections import Counter
from pathlib import Path

from nbformat import NotebookNode

from lib.core.files import atomic_dir

_PNG = "image/png"
_DRAWN_BY = re.compile(r"\w+_plots\.([a-z]\w*)")


def figures_of(notebook: NotebookNode) -> dict[str, bytes]:
    """Return the PNG of each figure by its name: the function of lib.plots that its cell calls, then a number."""
    figures: dict[str, bytes] = {}
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        drawn_by = _DRAWN_BY.search(cell.source)
        for output in cell.get("outputs", ()):
            if _PNG in (image := output.get("data", {})):
                name = drawn_by[1] if drawn_by else "figure"
                seen[name] += 1
                figures[name if seen[name] == 1 else f"{name}-{seen[name]}"] = base64.b64decode(image[_PNG])
    return figures


def save_figures(notebooks: dict[str, NotebookNode], folder: Path) -> None:
    """Replace the content of `folder` by the figures of notebooks, given by name, as `<notebook>-<figure>.png`."""
    with atomic_dir(folder) as partial:
        for name, notebook in notebooks.items():
            for figure, content in figures_of(notebook).items():
                (partial / f"{name}-{figure}.png").write_bytes(content)


def with_optimised_figures(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook, changed in place, with each figure as `optimised` returns it."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if _PNG in (image := output.get("data", {})):
                image[_PNG] = base64.b64encode(optimised(base64.b64decode(image[_PNG]))).decode()
    return notebook


def optimised(png: bytes) -> bytes:
    """Return a PNG in fewer bytes, with the same pixels."""
    from oxipng import StripChunks, optimize_from_memory  # here, because the report imports this module and needs none

    return optimize_from_memory(png, level=4, strip=StripChunks.safe())
