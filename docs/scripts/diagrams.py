"""Draw the diagrams of README and of the site from the code: python docs/scripts/diagrams.py

`data_flow.svg` has the tasks and the products of pipeline.yaml, `packages.svg` the imports between the packages of lib,
`network.svg` the layers of texture_net with their shapes. They lie in docs/images; a test fails where they are old.
"""

import ast
import sys
import tomllib
from pathlib import Path

import grimp
import networkx as nx
import yaml

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]  # the lib of this checkout, and svg

from svg import Drawing

from lib.core.files import ROOT, atomic_file
from lib.models.networks import build_network, count_macs
from lib.models.summary import Layer, layers

IMAGES = ROOT / "docs" / "images"
# Where each task stands: column, row, rows that it spans. What it says comes from pipeline.yaml.
PLACES = {
    "01_data": (1, 1, 1), "02_train": (2, 1, 1), "03_sweep": (2, 3, 1), "04_evaluate": (3, 1, 1),
    "05_compare_vgg": (3, 2, 1), "06_export": (3, 0, 1), "report": (4, 1, 3),
}  # fmt: skip

WIDE = {"__main__": 858, "evaluation": 450, "core": 858}  # widths of packages that have a layer to themselves


def data_flow() -> str:
    """Return the way of the data as SVG: sources, the pipeline's tasks with their products, and the service."""
    tasks = yaml.safe_load((ROOT / "pipeline.yaml").read_text(encoding="utf-8"))["tasks"]
    graph = nx.DiGraph((before, task["name"]) for task in tasks for before in task.get("upstream", ()))
    drawing = Drawing("The way of the data", 880, 452)

    def box(column: int, row: int, title: str, lines: list[str], rows: int = 1, kind: str = "box") -> str:
        x, y = 14 + 173 * column, 14 + 110 * row
        return drawing.box(title, x, y, 143 if column < 4 else 160, 110 * rows - 14, title, lines, kind)

    box(0, 1, "source", ["sample, folder,", "zip or Kaggle"], kind="edge")
    for task in tasks:
        name = task["name"]
        column, row, rows = PLACES[name]
        product = task["product"]
        paths = [product] if isinstance(product, str) else [path for key, path in product.items() if key != "nb"]
        box(column, row, name, [Path(path).name for path in paths], rows)
    box(4, 0, "service", ["cifake serve", "page and HTTP"], kind="edge")
    drawing.arrow("source", "01_data")
    for before, after in sorted(nx.transitive_reduction(graph).edges):
        drawing.arrow(before, after)
    drawing.arrow("06_export", "service")
    return drawing.svg()


def packages() -> str:
    """Return the packages of lib as SVG, in the layers of the import contract, with the imports between them."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [
        [name.strip().removeprefix("lib.") for name in layer.split("|")] for layer in linter["contracts"][0]["layers"]
    ]
    drawing, y = Drawing("Packages, and what they import", 880, 0), 14
    for layer in layers:
        width = min(200.0, 868 / len(layer))
        wide = {name: WIDE.get(name, width - 10) for name in sorted(layer, key=lambda name: name == "inference")}
        lines = {name: drawing.wrapped(_sentence(name), wide[name] - 20) for name in wide}
        height = 32 + 15 * max(map(len, lines.values()))
        for column, name in enumerate(wide):
            title = "cifake" if name == "__main__" else name
            drawing.box(name, 11 + width * column, y, wide[name], height, title, lines[name], "box")
        y += height + 40
    drawing.height = y - 26
    for importer, imported in sorted(nx.transitive_reduction(package_imports()).edges):
        drawing.arrow(importer, imported, downwards=True)
    return drawing.svg()


def package_imports() -> nx.DiGraph:
    """Return which package of lib imports which, directly."""
    graph = grimp.build_graph("lib", exclude_type_checking_imports=True, cache_dir=None)
    edges = set()
    for importer in graph.modules - {"lib"}:
        for imported in graph.find_modules_directly_imported_by(importer) - {"lib"}:
            edges.add((importer.split(".")[1], imported.split(".")[1]))
    return nx.DiGraph(edge for edge in edges if edge[0] != edge[1])


def _sentence(package: str) -> str:
    if package == "__main__":
        return "the command line"
    text = ast.get_docstring(ast.parse((ROOT / "lib" / package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return text.partition(":")[2].strip().removesuffix(".") or text.removesuffix(".")


def network() -> str:
    """Return the layers of texture_net as SVG, with output shapes and MACs."""
    untrained = build_network("texture_net", (0, 0, 0), (1, 1, 1))
    image, *found = layers(untrained)
    drawing = Drawing(f"texture_net: {_shape(image)} in, two logits out", 700, 44 + 28 * len(found))
    drawing.text(14, 28, "layer", "head")
    drawing.text(330, 28, "output", "head")
    drawing.text(440, 28, f"MACs, {count_macs(untrained) / 1e6:.1f} M in all", "head")
    widest = max(layer.macs for layer in found)
    for row, layer in enumerate(found):
        y = 44 + 28 * row
        drawing.text(14, y + 15, layer.kind)
        drawing.text(330, y + 15, _shape(layer))
        if layer.macs:
            drawing.bar(440, y + 3, 170 * layer.macs / widest, 16)
            text = f"{layer.macs / 1e6:.1f} M" if layer.macs > 5e4 else f"{layer.macs:,}"
            drawing.text(446 + 170 * layer.macs / widest, y + 15, text)
    return drawing.svg()


def _shape(layer: Layer) -> str:
    return f"{layer.side}×{layer.side}×{layer.channels}" if layer.side > 1 else str(layer.channels)


DIAGRAMS = {"data_flow": data_flow, "packages": packages, "network": network}

if __name__ == "__main__":
    for name, draw in DIAGRAMS.items():
        with atomic_file(IMAGES / f"{name}.svg") as partial:
            partial.write_text(draw(), encoding="utf-8")
