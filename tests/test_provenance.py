"""Provenance: an edit in lib changes the hash of what uses it, and of nothing else."""

import shutil
from pathlib import Path

import pytest

from lib import files, provenance
from lib.errors import InputError
from lib.files import project_path, read_json, whole_file, whole_folder, write_json
from lib.resume import claim

NOTEBOOKS = ("01_data", "02_train", "03_sweep", "04_evaluate", "05_compare_vgg")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("lib", "notebooks"):
        shutil.copytree(files.ROOT / name, tmp_path / name)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "_LIB", tmp_path / "lib")
    return tmp_path


def hashes() -> dict[str, str]:
    return {name: provenance.lib_hash(name) for name in NOTEBOOKS} | {"report": provenance.lib_hash(module="report")}


@pytest.mark.parametrize(
    ("file", "touched"),
    [
        ("packing.py", {"01_data"}),
        ("detector.py", {"02_train", "05_compare_vgg"}),
        ("plots.py", {*NOTEBOOKS}),
        ("metrics.schema.json", {"04_evaluate", "05_compare_vgg"}),
        ("sweep.py", {"03_sweep"}),
        ("report.html.j2", {"report"}),
        ("errors.py", {*NOTEBOOKS, "report"}),
        ("service.py", set()),
    ],
)
def test_an_edit_touches_what_uses_it(copy: Path, file: str, touched: set[str]) -> None:
    before = hashes()
    path = copy / "lib" / file
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert {name for name, value in hashes().items() if value != before[name]} == touched


def test_line_endings_do_not_count(copy: Path) -> None:
    before = hashes()
    path = copy / "lib" / "errors.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert hashes() == before


def test_unknown_notebook() -> None:
    with pytest.raises(InputError, match="lib_hash needs the name"):
        provenance.lib_hash("06_none")


def test_paths_start_at_the_project(tmp_path: Path) -> None:
    assert project_path("outputs/x") == files.ROOT / "outputs" / "x"
    assert project_path(tmp_path) == tmp_path


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a.json") as partial:
        partial.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "folder") as partial:
        (partial / "file").write_text("half")
        raise RuntimeError
    assert read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_missing_and_damaged_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing: run the notebook"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_a_folder_is_kept_for_the_same_work_only(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    claim(folder, {"seed": 1})
    (folder / "half").touch()
    claim(folder, {"seed": 1})
    assert (folder / "half").exists()
    claim(folder, {"seed": 2})
    assert not (folder / "half").exists()
    (folder / "half").touch()
    (folder / "belongs_to.json").write_text("{")
    claim(folder, {"seed": 2})
    assert not (folder / "half").exists()
