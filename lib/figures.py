"""The figures of an executed notebook, as files that are named after what drew them."""

import base64
import io
import re
from collections import Counter
from pathlib import Path

from nbformat import NotebookNode
from PIL import Image

from lib.files import whole_folder

_PNG = "image/png"
_COLOURS = 128  # of a picture: photographs of 32×32 pixels still show what they show
_DRAWN_BY = re.compile(r"\bplots\w*\.(\w+)\(")


def figures_of(notebook: NotebookNode) -> dict[str, bytes]:
    """Return the PNG of each figure by its name: the function of lib.plots… that its cell calls, then a number."""
    figures: dict[str, bytes] = {}
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        drawn_by = _DRAWN_BY.search(cell.source)
        for output in cell.get("outputs", ()):
            if _PNG in (picture := output.get("data", {})):
                name = drawn_by[1] if drawn_by else "figure"
                seen[name] += 1
                figures[name if seen[name] == 1 else f"{name}-{seen[name]}"] = base64.b64decode(picture[_PNG])
    return figures


def save_figures(notebooks: dict[str, NotebookNode], folder: Path) -> None:
    """Write the figures of notebooks, given by name, to `folder` as `<notebook>-<figure>.png`; others there go."""
    with whole_folder(folder) as partial:
        for name, notebook in notebooks.items():
            for figure, content in figures_of(notebook).items():
                (partial / f"{name}-{figure}.png").write_bytes(content)


def with_smaller_figures(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook with its figures in fewer bytes."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if _PNG in (picture := output.get("data", {})):
                picture[_PNG] = base64.b64encode(smaller(base64.b64decode(picture[_PNG]))).decode()
    return notebook


def smaller(png: bytes) -> bytes:
    """Return an opaque picture in fewer bytes: without transparency, in the _COLOURS that suit it best."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return min(png, file.getvalue(), key=len)
