"""Files: relative paths start at the project, and writes are atomic."""

from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.core.files import ROOT, atomic_dir, atomic_file, project_path, read_json, write_json


def test_relative_paths_start_at_the_project(tmp_path: Path) -> None:
    assert (ROOT / "lib" / "core" / "files.py").is_file()
    assert project_path("outputs/x") == ROOT / "outputs" / "x"
    assert project_path(tmp_path) == tmp_path


def test_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "a.json") as partial:
        partial.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), atomic_dir(tmp_path / "folder") as partial:
        (partial / "file").write_text("half")
        raise RuntimeError
    assert read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_missing_and_damaged_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json is missing: run the notebook"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json is not valid JSON .* delete it and run its notebook again"):
        read_json(tmp_path / "a.json")
