"""Opening a dataset: the records of each kind of source, and the message for each kind of bad source."""

import zipfile
from pathlib import Path

import pytest
from conftest import zipped

from lib.core.errors import InputError
from lib.data.source import open_source


def open_at(path: Path):
    return open_source(str(path), path.parent / "sample")


def test_folder_and_zip_give_the_same_records_and_bytes(tiny: Path) -> None:
    folder, archive = open_at(tiny), open_at(zipped(tiny, prefix="archive/"))
    assert folder.records == archive.records
    assert all(folder.read(record) == archive.read(record) for record in folder.records)
    assert (folder.kind, archive.kind) == ("folder", "zip")


def test_records_come_in_canonical_order(tiny: Path) -> None:
    records = open_at(tiny).records
    assert [(r.split, r.label) for r in records[::20]] == [("train", 0), ("train", 1), ("test", 0), ("test", 1)]
    # Code points: the space before a suffix sorts before the dot of the extension.
    assert [r.file.rpartition("/")[2] for r in records[:3]] == ["0 (10).jpg", "0 (2).jpg", "0 (3).jpg"]
    assert [r.object_class for r in records[:2]] == ["truck", "automobile"]
    assert next(r for r in records if r.file.endswith("/0.jpg")).object_class == "airplane"


def test_hidden_files_are_skipped_and_others_counted(tiny: Path) -> None:
    (tiny / "train" / "FAKE" / ".DS_Store").write_bytes(b"")
    (tiny / "train" / "FAKE" / "notes.txt").write_text("mine")
    source = open_at(tiny)
    assert (len(source.records), source.ignored) == (80, 1)


def test_relative_paths_start_at_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"there is no .*no_such\.zip; give a zip, a folder"):
        open_source("no_such.zip", tmp_path)


def test_truncated_zip(tiny: Path) -> None:
    archive = zipped(tiny)
    archive.write_bytes(archive.read_bytes()[:-500])
    with pytest.raises(InputError, match="not a complete zip"):
        open_at(archive)


def test_damaged_member(tiny: Path) -> None:
    archive = zipped(tiny)
    content = bytearray(archive.read_bytes())
    content[200:240] = bytes(40)
    archive.write_bytes(content)
    source = open_at(archive)
    with pytest.raises(InputError, match="is damaged"):
        for record in source.records:
            source.read(record)


@pytest.mark.parametrize("name", ["../evil.jpg", "train/../../evil.jpg", "/evil.jpg", "..\\evil.jpg"])
def test_member_outside_the_archive(tiny: Path, name: str) -> None:
    archive = zipped(tiny)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, b"")
    with pytest.raises(InputError, match="points outside the archive"):
        open_at(archive)


def test_missing_class_folder(tiny: Path) -> None:
    for file in (tiny / "test" / "REAL").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="no image in test/REAL"):
        open_at(tiny)


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image in train/FAKE"):
        open_at(tmp_path / "empty")


def test_two_datasets_in_one_folder(tiny: Path) -> None:
    with pytest.raises(InputError, match="more than one dataset"):
        (tiny / "copy").mkdir()
        (tiny / "train").rename(tiny / "copy" / "train")
        open_at(tiny)


def test_kaggle_unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The real client, with a proxy on a local port where no server listens.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"'kaggle': the download failed .* give its zip as the source"):
        open_source("kaggle", tmp_path)
