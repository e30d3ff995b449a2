"""The figures of an executed notebook, as files that are named after what drew them."""

import base64
import re
from collections import Counter
from pathlib import Path

from nbformat import NotebookNode

from lib.files import whole_folder

_DRAWN_BY = re.compile(r"\bplots\w*\.(\w+)\(")


def figures_of(notebook: NotebookNode) -> dict[str, bytes]:
    """Return the PNG of each figure by its name: the function of lib.plots… that its cell calls, then a number."""
    figures: dict[str, bytes] = {}
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        drawn_by = _DRAWN_BY.search(cell.source)
        for output in cell.get("outputs", ()):
            if "image/png" in (picture := output.get("data", {})):
                name = drawn_by[1] if drawn_by else "figure"
                seen[name] += 1
                figures[name if seen[name] == 1 else f"{name}-{seen[name]}"] = base64.b64decode(picture["image/png"])
    return figures


def save_figures(notebooks: dict[str, NotebookNode], folder: Path) -> None:
    """Write the figures of notebooks, given by name, to `folder` as `<notebook>-<figure>.png`; others there go."""
    with whole_folder(folder) as partial:
        for name, notebook in notebooks.items():
            for figure, content in figures_of(notebook).items():
                (partial / f"{name}-{figure}.png").write_bytes(content)
