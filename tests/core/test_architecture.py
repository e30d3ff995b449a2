"""The architecture: folders say what is in them, modules are short, and imports go downwards."""

import ast
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

LIB = Path(__file__).parents[2] / "lib"
PACKAGES = (
    "core", "data", "evaluation", "export", "generators", "inference", "models", "plots", "reporting",
    "serving", "sweep", "training",
)  # fmt: skip


def test_imports_go_downwards() -> None:
    """Hold the contracts in pyproject.toml: layers, and what must not be imported at all."""
    config = str(LIB.parent / "pyproject.toml")
    assert lint_imports(config_filename=config, no_cache=True) == EXIT_STATUS_SUCCESS


def test_lib_holds_packages_and_nothing_beside_them() -> None:
    files = {path.name for path in LIB.iterdir() if path.name != "__pycache__"}
    assert files == {"__init__.py", "__main__.py", *PACKAGES}


def test_each_package_says_in_a_sentence_what_is_in_it() -> None:
    for name in PACKAGES:
        content = ast.parse((LIB / name / "__init__.py").read_text(encoding="utf-8"))
        text = ast.get_docstring(content) or ""
        assert text.endswith(".") and len(content.body) == 1, f"lib/{name}/__init__.py holds its docstring alone"


def test_no_module_is_too_long_to_read_at_once() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in LIB.rglob("*.py")}
    assert {path.name: lines for path, lines in lengths.items() if lines > 220} == {}
