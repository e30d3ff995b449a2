"""The diagrams in README and on the site are those of today's code."""

import runpy

import pytest

from lib.core.files import ROOT

SCRIPT = runpy.run_path(str(ROOT / "docs" / "scripts" / "diagrams.py"))


@pytest.mark.parametrize("name", SCRIPT["DIAGRAMS"])
def test_diagram_is_that_of_the_code(name: str) -> None:
    committed = (SCRIPT["IMAGES"] / f"{name}.svg").read_text(encoding="utf-8")
    assert committed == SCRIPT["DIAGRAMS"][name](), "run: python docs/scripts/diagrams.py"


def test_package_diagram_has_every_package_and_an_import_that_we_know() -> None:
    imports = SCRIPT["package_imports"]()
    assert {path.parent.name for path in (ROOT / "lib").glob("*/__init__.py")} <= set(imports.nodes)
    assert imports.has_edge("training", "data")
    assert not imports.has_edge("data", "training")
