"""Find the image files of a command line: files, folders, links and standard input, or why there is nothing to read."""

import os
import re
import stat
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.core.errors import InputError
from lib.core.terminal import encodable, printable

STANDARD_INPUT = "-"
MAX_BYTES = 256 * 2**20  # of a file: all of MAX_PIXELS, with 5 bytes each
_TOO_LARGE = f"the file is larger than {MAX_BYTES // 2**20} MiB: make it smaller"
# A file of such a name or content should be an image: if it cannot be read, a row tells why.
_SUFFIXES = {
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".jxl", ".mpo", ".png", ".psd", ".svg", ".tif", ".tiff", ".webp",
}  # fmt: skip
_SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM.{4}\0{4}|RIFF.{4}WEBP|II[*+]\0|MM\0[*+]|.{4}ftyp(?:avi[fs]|hei|hev|mif1|msf1)",
    re.DOTALL,
)
# What file managers leave in folders, beside files with a dot: of macOS (in archives), Synology and Windows.
_HIDDEN = {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"}
_SHOWN = 3  # names of skipped files


@dataclass(frozen=True)
class ImageFile:
    """Hold a file that may be an image (`content` where it came by standard input), or in `error` why it is none.

    `absent` tells that a path was given at which there is nothing.
    """

    path: Path
    error: str | None = None
    absent: bool = False
    content: bytes | None = None

    @property
    def name(self) -> str:
        """Return the path as text that can be encoded (`encodable`)."""
        return encodable(str(self.path))

    def read(self) -> bytes:
        """Return the content; raise InputError with `error`, if the file cannot be read, or has over MAX_BYTES."""
        if self.error is not None:
            raise InputError(self.error)
        if self.content is not None:
            return self.content
        try:
            with self.path.open("rb") as file:
                if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
                    raise InputError(_TOO_LARGE)
                return file.read(size)
        except OSError as error:
            raise InputError(_unreadable("file", error)) from None
        except MemoryError:
            raise InputError("the file needs more memory than there is: give fewer large files at once") from None


def find_images(paths: Sequence[str | Path]) -> tuple[list[ImageFile], list[Path]]:
    """Return the files at `paths` and in all folders below, and those skipped; "-" is an image on standard input.

    A file that is given is taken, whatever it is. In a folder, hidden files and folders are left out, and a file that
    neither its first bytes nor its name calls an image is skipped: texts often lie beside images. All else is taken,
    with an `error` where it cannot be read. Each folder is read once, however many paths and links lead to it: links to
    folders are followed last. Files come in the order of the paths, those of a folder sorted. Raises InputError if
    there is nothing at any of the paths.
    """
    search = _Search(paths)
    files = [file for found in search.files for file in sorted(found, key=lambda file: file.path)]
    if all(file.absent for file in files):
        raise InputError("; ".join(f"{file.name}: {file.error}" for file in files))
    return files, sorted(search.skipped)


def skipped_line(skipped: Sequence[str | Path]) -> str:
    """Return a line that counts the skipped files, and names the first of them."""
    names = ", ".join(printable(str(path)) for path in skipped[:_SHOWN])
    return f"skipped as no images: {len(skipped):,} ({names}{', …' if len(skipped) > _SHOWN else ''})"


class _Search:
    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.files: list[list[ImageFile]] = [[] for _ in paths]  # of each path
        self.skipped: list[Path] = []
        self._folders: deque[tuple[int, Path]] = deque()
        self._walked: dict[tuple[int, int], tuple[int, Path]] = {}  # by device and inode
        for turn, path in enumerate(paths):
            if path == STANDARD_INPUT:
                self.files[turn].append(_standard_input())
            elif path == "":
                self._refuse(turn, Path(), "the path is empty: name a file or a folder", absent=True)
            else:
                self._visit(turn, Path(path), given=True)
        given = list(self._folders)
        while self._folders:
            self._walk(*self._folders.popleft())
        for turn, folder in given:
            if not self.files[turn] and (turn, folder) in self._walked.values():
                self._refuse(turn, folder, "the folder holds no image: check the path", absent=True)

    def _visit(self, turn: int, path: Path, given: bool) -> None:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            self._refuse(turn, path, _unreachable(path, error), absent=given)
            return
        if stat.S_ISDIR(mode):
            later = given or path.is_symlink()
            (self._folders.append if later else self._folders.appendleft)((turn, path))
        elif not stat.S_ISREG(mode):
            self._refuse(turn, path, f"it is {_kind(mode)}, not a file: give -, and send its content to standard input")
        elif given or path.suffix.lower() in _SUFFIXES or _has_signature(path):
            self.files[turn].append(ImageFile(path))
        else:
            self.skipped.append(path)

    def _walk(self, turn: int, folder: Path) -> None:
        try:
            status = folder.stat()
            first = self._walked.setdefault((status.st_dev, status.st_ino), (turn, folder))
            children = sorted(folder.iterdir()) if first == (turn, folder) else []
        except OSError as error:
            self._refuse(turn, folder, _unreadable("folder", error))
            return
        for path in children:
            if not (path.name.startswith(".") or path.name in _HIDDEN):
                self._visit(turn, path, given=False)

    def _refuse(self, turn: int, path: Path, error: str, absent: bool = False) -> None:
        self.files[turn].append(ImageFile(path, error, absent))


def _standard_input() -> ImageFile:
    path = Path(STANDARD_INPUT)
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return ImageFile(path, "standard input holds no file: send it one by < or |", absent=True)
    content = bytearray()
    try:
        # In parts: Python does not notice Ctrl-C within a read of several.
        while len(content) <= MAX_BYTES and (part := sys.stdin.buffer.read1(2**16)):
            content += part
    except OSError as error:
        return ImageFile(path, _unreadable("file", error))
    return ImageFile(path, content=bytes(content)) if len(content) <= MAX_BYTES else ImageFile(path, _TOO_LARGE)


def _has_signature(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _SIGNATURE.match(file.read(16)) is not None
    except OSError:
        return True  # reading it tells why


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _unreachable(path: Path, error: OSError) -> str:
    if not isinstance(error, FileNotFoundError):
        return _unreadable("file", error)
    return "the link leads to nothing" if path.is_symlink() else "there is no such file or folder: check the path"


def _unreadable(what: str, error: OSError) -> str:
    return f"the {what} cannot be read: {error.strerror or error}"
