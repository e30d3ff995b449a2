"""What `predict` finds and reads: any kind of file, folder, link and name, in a bounded time and memory."""

import csv
import io
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded

from lib.core.errors import InputError
from lib.core.terminal import printable
from lib.inference import image_files, predict_files
from lib.inference.image_files import MAX_BYTES, find_images, skipped_line
from lib.inference.predict_files import predict, predicted
from lib.inference.predictor import Predictor, default_model_path

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
JPEG, PNG = encoded(PIXELS), encoded(PIXELS, "PNG")
posix = pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="needs file names of any bytes")


@pytest.fixture(scope="module")
def network() -> Predictor:
    return Predictor(default_model_path(), threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a folder with one image; return it."""
    path = tmp_path / "folder"
    path.mkdir()
    (path / "good.png").write_bytes(PNG)
    return path


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("content", [JPEG, PNG, *(encoded(PIXELS, form) for form in ("WEBP", "GIF", "BMP", "TIFF"))])
@pytest.mark.parametrize("name", ["a.jfif", "no suffix", "A.JPG", "readme.txt", "a.jpg.part", "wrong.gif"])
def test_images_are_found_by_their_content(name: str, content: bytes, folder: Path, network: Predictor) -> None:
    (folder / name).write_bytes(content)
    files, skipped = find_images([folder])
    assert [Path(file.name).name for file in files] == sorted(["good.png", name])
    assert skipped == []
    assert [row["error"] for row in predicted(network, files)] == [None, None]


@pytest.mark.parametrize("name", ["._a.jpg", ".a.jpg", "Thumbs.db", ".ipynb_checkpoints/a.jpg", "__MACOSX/a/b.jpg"])
def test_hidden_files_are_left_out_unless_given(name: str, folder: Path) -> None:
    hidden = folder / name
    hidden.parent.mkdir(parents=True, exist_ok=True)
    hidden.write_bytes(JPEG)
    files, skipped = find_images([folder])
    assert ([file.path for file in files], skipped) == ([folder / "good.png"], [])
    assert [file.path for file in find_images([hidden, folder])[0]] == [hidden, folder / "good.png"]


def test_texts_beside_images_are_counted_and_a_text_that_is_called_an_image_is_an_error(
    folder: Path, network: Predictor
) -> None:
    for name in ("README.md", "LICENSE", "labels.csv", "good.txt", "page.jpg", "photo.heic"):
        (folder / name).write_text("<html>BMW II RIFF</html>")
    files, skipped = find_images([folder])
    assert [path.name for path in skipped] == ["LICENSE", "README.md", "good.txt", "labels.csv"]
    assert skipped_line(skipped).startswith("skipped as no images: 4 (")
    rows = {Path(row["file"]).name: row["error"] for row in predicted(network, files)}
    assert rows.keys() == {"good.png", "page.jpg", "photo.heic"}
    assert (rows.pop("good.png"), all("no image that can be read" in error for error in rows.values())) == (None, True)
    (given,) = predicted(network, find_images([folder / "README.md"])[0])
    assert "no image that can be read" in given["error"], "a file that is given has a row"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda path: os.mkfifo(path), "it is a pipe", marks=posix),
        pytest.param(socket_at, "it is a socket", marks=posix),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "it is a device", marks=posix),
        (lambda path: path.symlink_to("nothing"), "the link leads to nothing"),
        (lambda path: path.symlink_to(path.name), "the file cannot be read: "),
        (lambda path: sparse(path, 6 * 2**30), "larger than 256 MiB"),
        (lambda path: sparse(path, MAX_BYTES + 1), "larger than 256 MiB"),
        (lambda path: sparse(path, 2**20), "no image that can be read"),
        (lambda path: path.touch(), "the file is empty"),
    ],
)
def test_what_cannot_be_read_is_a_row_with_a_sentence(
    make: Callable[[Path], object],
    reason: str,
    tmp_path: Path,
    network: Predictor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    Path("f").mkdir()
    for name in ("a.png", "z.png"):
        Path("f", name).write_bytes(PNG)
    make(Path("f") / "odd.tif")
    for paths in (["f"], ["f/a.png", "f/odd.tif", "f/z.png"]):
        first, odd, last = predicted(network, find_images(paths)[0])
        assert first["error"] is last["error"] is None
        assert reason in odd["error"]
        assert "\n" not in odd["error"]


def test_a_folder_that_cannot_be_read_is_a_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "z.jpg"):
        (folder / name).mkdir()
        (folder / name / "x.png").write_bytes(PNG)
    listed = os.scandir

    def refused(path: Path) -> object:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refused)
    files, _ = find_images([folder])
    assert [(file.path, file.error) for file in files] == [
        (folder / "a", "the folder cannot be read: Permission denied"),
        (folder / "good.png", None),
        (folder / "z.jpg" / "x.png", None),
    ]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError()])
def test_a_file_that_cannot_be_read_is_a_row(
    error: BaseException, folder: Path, network: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = find_images([folder])

    def refuse(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    (row,) = predicted(network, files)
    assert row["error"].startswith("the file ")


def test_links_are_followed_once_and_after_real_folders(folder: Path, tmp_path: Path) -> None:
    (folder / "z").mkdir()
    (folder / "z" / "x.png").write_bytes(PNG)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "y.png").write_bytes(PNG)
    for link, target in (("a", "z"), ("z/up", folder), ("b", tmp_path / "other"), ("c", tmp_path / "other")):
        (folder / link).symlink_to(target, target_is_directory=True)
    (folder / "good2.png").symlink_to("good.png")  # a name of its own
    files, _ = find_images([folder])
    names = [file.path.relative_to(folder).as_posix() for file in files]
    assert names == ["b/y.png", "good.png", "good2.png", "z/x.png"]
    assert [file.path for file in find_images([folder, folder, folder / "z"])[0]] == [file.path for file in files]
    both, _ = find_images([folder, tmp_path / "other"])
    assert both[-1].path == tmp_path / "other" / "y.png", "a folder that is given comes under the name that is given"
    assert len(both) == 4


def test_the_same_file_given_twice_has_two_rows(folder: Path) -> None:
    file = folder / "good.png"
    assert [it.path for it in find_images([file, file, folder])[0]] == [file] * 3


def test_nothing_at_any_path_is_refused_and_a_missing_path_beside_others_is_a_row(folder: Path, tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no image")
    for paths, message in (
        ([missing], "missing: there is no such file or folder"),
        ([empty], "empty: the folder holds no image"),
        ([empty, missing], "there is no such file or folder"),
        ([""], "the path is empty"),
    ):
        with pytest.raises(InputError, match=message):
            find_images(paths)
    files, _ = find_images([missing, folder, empty, folder / "good.png" / "below"])
    assert [file.error is None for file in files] == [False, True, False, False]
    assert "no such file" in files[0].error


@pytest.mark.parametrize("style", ["table", "json", "csv"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@posix
def test_any_name_is_printed_in_a_line(
    style: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [
        "käse.jpg",
        "中文😀.jpg",
        "new\nline.jpg",
        "\x1b[2Jclear.jpg",
        "tab\t\r.jpg",
        "\u202egpj.exe",
    ]
    undecodable = os.fsdecode(b"k\xe4se\xff.jpg")
    for name in (*names, undecodable):
        (tmp_path / name).write_bytes(JPEG)
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding, errors="backslashreplace", newline="")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert predict([str(tmp_path)], default_model_path(), style) == 0
    text = raw.getvalue().decode(encoding)
    rows = text.splitlines()
    assert len(rows) == len(names) + 1 + (style == "csv")
    assert printable(text.replace("\n", "").replace("\r", "")) == text.replace("\n", "").replace("\r", "")
    if style == "json":
        found = {Path(json.loads(row)["file"]).name for row in rows}
        assert found == {*names, r"k\udce4se\udcff.jpg"}, "a name is exact but for bytes that are no text"
    if style == "csv" and encoding == "utf-8":
        found = {Path(row["file"]).name for row in csv.DictReader(rows)}
        assert {r"new\nline.jpg", r"\x1b[2Jclear.jpg", "中文😀.jpg"} < found


@pytest.mark.parametrize(
    ("content", "reason"),
    [(JPEG, None), (b"no image", "no image that can be read"), (b"", "is empty"), (b"0" * 3000, "larger than")],
)
def test_standard_input_is_an_image_among_others(
    content: bytes, reason: str | None, folder: Path, network: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "MAX_BYTES", 2999)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    files, _ = find_images([str(folder), "-", str(folder / "good.png")])
    monkeypatch.undo()
    first, row, last = predicted(network, files)
    assert (first["error"], last["error"], row["file"]) == (None, None, "-")
    assert row["error"] is None if reason is None else reason in row["error"]


@pytest.mark.parametrize("given", [["-"], ["./-"]])
def test_a_file_called_like_standard_input(
    given: list[str], tmp_path: Path, network: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(PNG)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    (row,) = predicted(network, find_images(given)[0])
    assert row["error"] == (None if given == ["./-"] else "the file is empty: send an image")


@pytest.mark.parametrize("closed", [False, True])
def test_a_terminal_is_no_file(closed: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", None if closed else Terminal())
    with pytest.raises(InputError, match="-: standard input holds no file"):
        find_images(["-"])
    assert [file.error is None for file in find_images(["-", folder])[0]] == [False, True]


def test_rows_come_before_the_last_images_are_read(
    folder: Path, network: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_files, "_BATCH", 1)
    for i in range(20):
        (folder / f"{i:02}.png").write_bytes(PNG)
    rows = predicted(network, find_images([folder])[0])
    assert next(rows)["error"] is None
    (folder / "good.png").unlink()
    *_, last = rows
    assert last["error"] == "the file cannot be read: No such file or directory"
