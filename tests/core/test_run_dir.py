"""Run folders: resumed by the same run, cleared by any other."""

from pathlib import Path

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


def test_damaged_fingerprint_matches_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    prepare_run_dir(folder, {"seed": 2})
    (folder / "unfinished").touch()
    (folder / "fingerprint.json").write_text("{")
    assert not prepare_run_dir(folder, {"seed": 2})
    assert [path.name for path in folder.iterdir()] == ["fingerprint.json"]
