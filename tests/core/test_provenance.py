"""Provenance: an edit in lib changes the hash of the notebooks that import it, and of no others."""

import shutil
from pathlib import Path

import pytest
import yaml

from lib.core import files, provenance
from lib.core.errors import InputError

NOTEBOOKS = ("01_data", "02_train", "03_sweep", "04_evaluate", "05_compare_vgg", "06_export")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy lib and the notebooks to a folder that lib_hash then reads instead of the project."""
    for name in ("lib", "notebooks"):
        shutil.copytree(files.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "_LIB", tmp_path / "lib")
    return tmp_path


def hashes() -> dict[str, str]:
    """Return the hashes that the pipeline computes: of each notebook and of the report."""
    tasks = yaml.safe_load(files.project_path("pipeline.yaml").read_text())["tasks"]
    named = {task["name"]: dict(task["params"]["lib_hash"]) for task in tasks}
    assert {names.pop("dotted_path") for names in named.values()} == {"lib.core.provenance::lib_hash"}
    return {task: provenance.lib_hash(**names) for task, names in named.items()}


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("data/packing.py", {"01_data"}),
        ("training/detector.py", {"02_train", "03_sweep", "05_compare_vgg", "06_export"}),
        ("evaluation/metrics.schema.json", {"04_evaluate", "05_compare_vgg", "06_export"}),
        ("export/quantize.py", {"06_export"}),
        ("sweep/engine.py", {"03_sweep"}),
        ("plots/sweep.py", {"03_sweep"}),
        ("plots/style.py", {*NOTEBOOKS}),
        ("plots/__init__.py", {*NOTEBOOKS}),
        ("reporting/__init__.py", {"report"}),
        ("reporting/report.html.j2", {"report"}),
        ("core/errors.py", {*NOTEBOOKS, "report"}),
        ("__init__.py", {*NOTEBOOKS, "report"}),
        ("serving/app.py", set()),
        ("__main__.py", set()),
    ],
)
def test_edit_changes_the_hashes_of_its_importers_only(copy: Path, file: str, changed: set[str]) -> None:
    before = hashes()
    path = copy / "lib" / file
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert {name for name, value in hashes().items() if value != before[name]} == changed


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        ("import lib.extra.module", True),
        ("from lib.extra import module", True),
        ("from lib.extra.module import name", True),
        ("from lib.extra.module import name as other", True),
        ("from lib import extra", False),  # the package alone, which imports nothing
        ("import torch.extra.module", False),
    ],
)
def test_every_form_of_import_is_followed_through_packages(copy: Path, statement: str, changes: bool) -> None:
    package = copy / "lib" / "extra"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "module.py").write_text("name = 1\n")
    # Inside a function too, where lib imports what is slow.
    (copy / "notebooks" / "07_new.py").write_text(f"def late():\n    {statement}\n")
    before = provenance.lib_hash("07_new")
    (package / "module.py").write_text("name = 2\n")
    assert (provenance.lib_hash("07_new") != before) == changes


def test_modules_of_one_name_in_two_packages_are_told_apart(copy: Path) -> None:
    before = provenance.lib_hash(module="evaluation.metrics")
    (copy / "lib" / "serving" / "metrics.py").write_text("")
    assert provenance.lib_hash(module="evaluation.metrics") == before


def test_line_endings_do_not_count(copy: Path) -> None:
    before = hashes()
    path = copy / "lib" / "core" / "errors.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert hashes() == before


@pytest.mark.parametrize("given", [{"notebook": "07_none"}, {"module": "training.none"}, {"module": "training"}, {}])
def test_unknown_name(given: dict[str, str]) -> None:
    with pytest.raises(InputError, match="lib_hash needs the name"):
        provenance.lib_hash(**given)
