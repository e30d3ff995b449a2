"""Run folders: resumed by the same run, cleared by any other."""

from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.core.run_dir import prepare_run_dir


def test_files_are_kept_for_the_same_fingerprint_only(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    unfinished = folder / "unfinished"
    assert not prepare_run_dir(folder, {"seed": 1})
    unfinished.touch()
    assert prepare_run_dir(folder, {"seed": 1})
    assert unfinished.exists()
    assert not prepare_run_dir(folder, {"seed": 2})
    assert not unfinished.exists()


@pytest.mark.parametrize("content", [b"{", b"", b"\0" * 80, b"\xff\xfe"])
def test_damaged_fingerprint_matches_no_run(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "run"
    prepare_run_dir(folder, {"seed": 2})
    (folder / "unfinished").touch()
    (folder / "fingerprint.json").write_bytes(content)
    with pytest.warns(UserWarning, match=r"fingerprint\.json is not valid JSON .*starts anew"):
        assert not prepare_run_dir(folder, {"seed": 2})
    assert [path.name for path in folder.iterdir()] == ["fingerprint.json"]


def test_folder_is_cleared_through_a_symlink(tmp_path: Path) -> None:
    folder, disk, elsewhere = tmp_path / "run", tmp_path / "disk", tmp_path / "elsewhere"
    for made in (disk, elsewhere):
        (made / "old").mkdir(parents=True)
        (made / "old" / "weights").touch()
    folder.symlink_to(disk)
    (disk / "link").symlink_to(elsewhere)
    assert not prepare_run_dir(folder, {"seed": 1})
    assert folder.is_symlink()
    assert [path.name for path in disk.iterdir()] == ["fingerprint.json"]
    assert (elsewhere / "old" / "weights").exists(), "a symlink inside is removed, not followed"
    assert prepare_run_dir(folder, {"seed": 1})


def test_label_is_not_written_over_what_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    prepare_run_dir(folder, {"seed": 1})
    (folder / "old").mkdir()

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch, pytest.raises(InputError, match="cannot clear"):
        patch.setattr("shutil.rmtree", lambda path, ignore_errors=False: ignore_errors or refuse(path))
        prepare_run_dir(folder, {"seed": 2})
    fingerprint = folder / "fingerprint.json"
    assert not fingerprint.exists() or '"seed": 1' in fingerprint.read_text()
    assert not prepare_run_dir(folder, {"seed": 2})
