"""Report of a pipeline run: its executed notebooks, without code, as one self-contained HTML page."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Template

from lib.core.files import atomic_file, read_json
from lib.reporting.figures import save_figures

NOTEBOOKS = ("01_data", "02_train", "03_sweep", "04_evaluate", "05_compare_vgg", "06_export")
_TEMPLATE = Path(__file__).with_name("report.html.j2")


def build(product: Any, upstream: Mapping[str, Mapping[str, Any]], profile: str, lib_hash: str) -> None:
    """Write the report of a pipeline run to `product`, and its figures as files to `figures/` beside it.

    `upstream` gives the products of each notebook: of all of them `nb`, of 02_train also `run`, of 04_evaluate
    `metrics`. `lib_hash` only makes the pipeline run this task again after an edit.
    """
    run = read_json(Path(upstream["02_train"]["run"]))
    metrics = read_json(Path(upstream["04_evaluate"]["metrics"]))
    notebooks = {name: nbformat.read(upstream[name]["nb"], as_version=4) for name in NOTEBOOKS}
    save_figures(notebooks, Path(str(product)).with_name("figures"))
    chapters = {name: _chapter(notebook) for name, notebook in notebooks.items()}
    page = Template(_TEMPLATE.read_text(encoding="utf-8"), autoescape=True).render(
        profile=profile, run=run, metrics=metrics, chapters=chapters
    )
    with atomic_file(Path(str(product))) as partial:
        partial.write_text(page, encoding="utf-8")


def _chapter(content: nbformat.NotebookNode) -> dict[str, str]:
    """Return the title of an executed notebook and its text, tables and figures as HTML."""
    from nbconvert import HTMLExporter  # here, because the pipeline imports this module at every start

    title = content.cells[0].source.splitlines()[0].lstrip("# ")
    content.cells[0].source = "\n".join(content.cells[0].source.splitlines()[1:])
    for cell in content.cells:
        if cell.cell_type == "code":  # progress bars are no result
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    exporter = HTMLExporter(template_name="basic", embed_images=True, exclude_input=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(content)
    return {"title": title, "body": re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="#\1"', body)}
