"""Files: relative paths start at the project, and writes are atomic."""

from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.core.files import ROOT, atomic_dir, atomic_file, clear_dir, project_path, read_json, remove_file, write_json


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


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\0" * 64, b""])
def test_json_of_any_bytes_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match=r"folder\.json cannot be read"):
        read_json(tmp_path / "folder.json")


@pytest.mark.parametrize("exists", [True, False])
def test_symlinks_stay_and_what_they_name_is_written(tmp_path: Path, exists: bool) -> None:
    disk = tmp_path / "disk"
    if exists:
        (disk / "folder").mkdir(parents=True)
        (disk / "folder" / "old").touch()
        (disk / "a.json").write_text("0")
    for name in ("a.json", "folder"):
        (tmp_path / name).symlink_to(disk / name)
    write_json(tmp_path / "a.json", 1)
    with atomic_dir(tmp_path / "folder") as partial:
        (partial / "new").touch()
    assert (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert read_json(disk / "a.json") == 1
    assert sorted(path.name for path in disk.rglob("*")) == ["a.json", "folder", "new"]
    remove_file(tmp_path / "a.json")
    clear_dir(tmp_path / "folder")
    assert sorted(path.name for path in disk.rglob("*")) == ["folder"]


def test_replaced_folder_is_there_at_every_moment_or_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match=r"cannot write .*busy; nothing was changed"),
        atomic_dir(folder) as partial,
    ):
        (partial / "new").touch()
        patch.setattr(Path, "rename", refuse)
    assert [path.name for path in folder.iterdir()] == ["old"]
    folder.rename(tmp_path / ".folder.previous")  # as a run leaves it that is killed between the two renames
    with pytest.raises(RuntimeError), atomic_dir(folder):
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["old"]


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").touch()

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    for attempt in (lambda: clear_dir(tmp_path), lambda: remove_file(tmp_path / "old")):
        with pytest.raises(InputError, match=r"cannot clear .*\(Permission denied: .*old\).* remove them, or choose"):
            attempt()
    with pytest.raises(InputError, match=r"cannot clear .*Not a directory"):
        clear_dir(tmp_path / "old")
