"""Opening a dataset: the records of each kind of source, and the message for each kind of bad source."""

import os
import re
import shutil
import stat
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import zipped

from lib.core.errors import InputError
from lib.core.file_set import MAX_BYTES, escaped
from lib.data.source import Source, open_source, source_state


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


def contents(source: Source) -> Counter[tuple[str, int, str, bytes]]:
    return Counter((r.split, r.label, r.object_class, source.read(r)) for r in source.records)


def renamed(folder: Path, change: Callable[[str], str]) -> None:
    """Rename every file of a dataset, through another folder, so that systems without case see a change too."""
    moved = folder.rename(folder.with_name("moved"))
    for file in [path for path in moved.rglob("*") if path.is_file()]:
        target = folder / change(file.relative_to(moved).as_posix())
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)


@pytest.mark.parametrize(
    "change",
    [
        str.lower,
        str.upper,
        lambda name: name.replace("train/", "Train/").replace("REAL", "Real"),
        lambda name: name.replace("0.jpg", "0.JPEG"),
        lambda name: f"CIFAKE/{name}",
    ],
    ids=["lower", "upper", "mixed", "extension", "top"],
)
@pytest.mark.parametrize("as_zip", [False, True])
def test_names_in_any_case(tiny: Path, change: Callable[[str], str], as_zip: bool) -> None:
    expected = contents(open_at(tiny))
    renamed(tiny, change)
    assert contents(open_at(zipped(tiny) if as_zip else tiny)) == expected


def test_a_folder_in_two_cases_is_one_class(tiny: Path) -> None:
    # On one system two folders, in a zip two members: nothing is lost.
    with zipfile.ZipFile(archive := zipped(tiny), "a") as file:
        for name in ("train/fake/0.jpg", "train/FAKE/0.JPG"):
            file.writestr(name, b"another")
    records = open_at(archive).records
    assert len(records) == 82
    assert sum((r.split, r.label) == ("train", 0) for r in records) == 22


needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


@needs_links
def test_links_are_followed_once(tiny: Path) -> None:
    expected = contents(open_at(tiny))
    elsewhere = tiny.parent / "disk"
    elsewhere.mkdir()
    (tiny / "train").rename(elsewhere / "images")
    (tiny / "train").symlink_to(elsewhere / "images")  # a folder on another disk
    (tiny / "test" / "FAKE" / "0.jpg").rename(elsewhere / "0.jpg")
    (tiny / "test" / "FAKE" / "0.jpg").symlink_to(elsewhere / "0.jpg")  # one image there
    (tiny / "test" / "REAL" / "loop").symlink_to(tiny)  # loops
    (tiny / "self").symlink_to("self")
    (tiny / "again").symlink_to(tiny / "train")
    (elsewhere / "images" / "back").symlink_to(elsewhere / "images")
    (tiny / "note.txt").symlink_to("gone.txt")  # no image is lost by it
    assert contents(open_at(tiny)) == expected


@needs_links
def test_two_ways_to_one_dataset_are_one(tiny: Path) -> None:
    expected = contents(open_at(tiny))
    (tiny.parent / "all").mkdir()
    tiny.rename(tiny.parent / "all" / "v1")
    (tiny.parent / "all" / "latest").symlink_to("v1")
    source = open_at(tiny.parent / "all")
    assert contents(source) == expected


@needs_links
@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("train/FAKE/9.jpg", "gone.jpg", "9.jpg is a link that cannot be followed .*: restore its target or remove it"),
        ("train/FAKE/9.jpg", "9.jpg", "9.jpg is a link that cannot be followed"),
        ("test", "gone", "no image in test/FAKE: its test is a link that cannot be followed"),
        ("test", "train", "no image in test/FAKE: its test links to train, which is read once"),
    ],
)
def test_links_that_lead_nowhere(tiny: Path, name: str, target: str, message: str) -> None:
    if name == "test":
        shutil.rmtree(tiny / "test")
    (tiny / name).symlink_to(target)
    with pytest.raises(InputError, match=message):
        open_at(tiny)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_file_is_named(tiny: Path) -> None:
    os.mkfifo(tiny / "train" / "REAL" / "pipe.png")
    with pytest.raises(InputError, match=r"train/REAL/pipe.png is neither a file nor a folder"):
        open_at(tiny)


def test_a_huge_file_is_not_read(tiny: Path) -> None:
    with (tiny / "train" / "REAL" / "huge.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    source = open_at(tiny)
    with pytest.raises(InputError, match=r"huge.jpg has .* bytes, more than an image should have"):
        contents(source)


NAMES = [
    b"k\xe4se.jpg",
    b"a\\b.jpg",
    b"\\xe4.jpg",
    b"tab\there.jpg",
    b"line\nbreak.jpg",
    "käse.jpg".encode(),
]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these systems take valid names only")
@pytest.mark.parametrize("name", NAMES)
def test_names_are_escaped_so_that_their_bytes_can_be_restored(tiny: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tiny / "train" / "REAL"), name)  # noqa: PTH118
    os.rename(tiny / "train" / "REAL" / "0.jpg", path)  # noqa: PTH104
    source = open_at(tiny)
    assert len(source.records) == 80
    file = next(r.file for r in source.records if not re.fullmatch(r"\w+/\w+/\d( \(\d+\))?\.jpg", r.file))
    assert file.isprintable()
    restored = re.sub(
        rb"\\(\\|x[0-9a-f]{2})",
        lambda match: b"\\" if match[1] == b"\\" else bytes([int(match[1][1:], 16)]),
        file.encode(),
    )
    assert restored == b"train/REAL/" + name
    assert sum(map(len, map(source.read, source.records))) > 0


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("train/FAKE/0 (10).jpg", "käse 画像.png"):
        assert escaped(name) == name


def rezipped(path: Path, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """Write an archive again, with sizes of 64 bits, and each member's header changed by `change`."""
    other = path.with_name("other.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            change(info)
            with target.open(info, "w", force_zip64=True) as file:
                file.write(content)
    return other


def with_backslashes(info: zipfile.ZipInfo) -> None:
    info.filename = info.filename.replace("/", "\\")


def with_dot(info: zipfile.ZipInfo) -> None:
    info.filename = f"./{info.filename}"


def with_lzma(info: zipfile.ZipInfo) -> None:
    info.compress_type = zipfile.ZIP_LZMA


@pytest.mark.parametrize("change", [with_backslashes, with_dot, with_lzma])
def test_archives_of_other_systems_are_read(tiny: Path, change: Callable[[zipfile.ZipInfo], None]) -> None:
    source = open_at(rezipped(zipped(tiny), change))
    assert contents(source) == contents(open_at(tiny))
    assert all("\\" not in record.file for record in source.records)


@pytest.mark.parametrize("name", ["train/", "train/FAKE/", "train\\", "a.jpg/", "train/FAKE/b.jpg/"])
def test_folders_among_the_members_are_no_images(tiny: Path, name: str) -> None:
    archive = zipped(tiny)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, b"")
    source = open_at(archive)
    assert (len(source.records), source.ignored) == (80, 0)


def test_of_equal_members_the_last_counts(tiny: Path) -> None:
    archive = zipped(tiny)
    with zipfile.ZipFile(archive, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("train/FAKE/0.jpg", b"second")
    source = open_at(archive)
    assert len(source.records) == 80
    assert source.read(next(r for r in source.records if r.file == "train/FAKE/0.jpg")) == b"second"


@pytest.mark.parametrize(("raw", "name"), [("é.jpg".encode(), "é.jpg"), (b"k\x84se.jpg", "käse.jpg")])
def test_names_without_the_flag_of_utf8(tiny: Path, raw: bytes, name: str) -> None:
    """Unix programs write UTF-8 without saying so, DOS programs code page 437."""
    archive = zipped(tiny)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("train/REAL/" + "x" * (len(raw) - 4) + ".jpg", b"content")
    placeholder = b"train/REAL/" + b"x" * (len(raw) - 4) + b".jpg"
    archive.write_bytes(archive.read_bytes().replace(placeholder, b"train/REAL/" + raw))
    source = open_at(archive)
    assert source.read(next(r for r in source.records if r.file == f"train/REAL/{name}")) == b"content"


def patched(archive: Path, offsets: tuple[int, int], value: bytes) -> Path:
    """Overwrite a field in the local and the central header of the first image, as another writer would."""
    content = bytearray(archive.read_bytes())
    for signature, offset in zip((b"PK\x03\x04", b"PK\x01\x02"), offsets, strict=True):
        start = content.index(signature) + offset
        content[start : start + len(value)] = value
    archive.write_bytes(content)
    return archive


@pytest.mark.parametrize(
    ("offsets", "value", "message"),
    [
        ((8, 10), b"\x09\x00", "is compressed by deflate64, which Python cannot read: unpack the archive"),
        ((8, 10), b"\x5f\x00", "is compressed by .*, which Python cannot read: unpack the archive"),
        ((6, 8), b"\x01\x00", "is encrypted: unpack the archive and give the folder"),
    ],
    ids=["Deflate64", "xz", "encrypted"],
)
def test_members_that_cannot_be_read_are_named(
    tiny: Path, offsets: tuple[int, int], value: bytes, message: str
) -> None:
    archive = patched(zipped(tiny), offsets, value)
    with pytest.raises(InputError, match=rf"tiny.zip: test/FAKE/0 \(10\).jpg {message}"):
        open_at(archive)


def test_a_link_stored_in_a_zip_is_named(tiny: Path) -> None:
    info = zipfile.ZipInfo("train/FAKE/link.jpg")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive := zipped(tiny), "a") as file:
        file.writestr(info, "0.jpg")
    with pytest.raises(InputError, match=r"link.jpg is stored as a link: make the zip again"):
        open_at(archive)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"])
def test_other_archives_are_no_zips(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(InputError, match="is not a zip: if it is an archive of another kind, unpack it"):
        open_at(tmp_path / "data")


@pytest.mark.parametrize("as_zip", [False, True])
def test_the_state_changes_when_the_data_do(tiny: Path, as_zip: bool) -> None:
    path = zipped(tiny) if as_zip else tiny
    before = source_state(str(path))
    assert before and before == source_state(str(path))
    image = tiny / "train" / "FAKE" / "0.jpg"
    time = image.stat().st_mtime_ns
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    os.utime(image, ns=(time, time + 10**9))  # of the same size
    if as_zip:
        zipped(tiny)
    assert source_state(str(path)) != before
    after = source_state(str(path))
    if not as_zip:
        image.rename(image.with_name("other.jpg"))
        assert source_state(str(path)) != after


@pytest.mark.parametrize("name", ["sample", "kaggle", "no_such.zip"])
def test_what_has_no_files_has_no_state(name: str) -> None:
    assert source_state(name) == ""


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


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "train/../../evil.jpg", "/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg", "C:/evil.jpg"]
)
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
    with pytest.raises(InputError, match="no folder of a class that holds an image"):
        open_at(tmp_path / "empty")


def test_train_and_test_may_lie_in_folders_of_their_own(tiny: Path) -> None:
    expected = contents(open_at(tiny))
    (tiny / "copy").mkdir()
    (tiny / "train").rename(tiny / "copy" / "train")
    assert contents(open_at(tiny)) == expected


def test_kaggle_unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The real client, with a proxy on a local port where no server listens.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"'kaggle': the download failed .* give its zip as the source"):
        open_source("kaggle", tmp_path)
