"""Find the image files of a command line: files, folders, links and standard input, or why there is nothing to read."""

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.core.errors import InputError
from lib.core.sniff import HEAD, is_meant_as_image
from lib.core.terminal import encodable, printable
from lib.core.walk import Found, walk

STANDARD_INPUT = "-"
MAX_BYTES = 256 * 2**20  # of a file: all of MAX_PIXELS, with 5 bytes each
_TOO_LARGE = f"the file is larger than {MAX_BYTES // 2**20} MiB: make it smaller"
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
        folders: dict[int, Path] = {}
        for turn, path in enumerate(paths):
            if path == STANDARD_INPUT:
                self.files[turn].append(_standard_input())
            elif path == "":
                self._refuse(turn, Path(), "the path is empty: name a file or a folder", absent=True)
            else:
                self._given(turn, Path(path), folders)
        turns, roots = list(folders), list(folders.values())
        for found in walk(roots):
            self._found(turns[found.root], roots[found.root] / found.name, found)
            if found.listed_as is not None and not found.name:
                folders.pop(turns[found.root])
        for turn, folder in folders.items():
            if not self.files[turn]:
                self._refuse(turn, folder, "the folder holds no image: check the path", absent=True)

    def _given(self, turn: int, path: Path, folders: dict[int, Path]) -> None:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            self._refuse(turn, path, _unreachable(path, error), absent=True)
            return
        if stat.S_ISDIR(mode):
            folders[turn] = path
        elif stat.S_ISREG(mode):
            self.files[turn].append(ImageFile(path))
        else:
            self._refuse(turn, path, _no_file(mode))

    def _found(self, turn: int, path: Path, found: Found) -> None:
        if found.error:
            self._refuse(turn, path, _unreadable("folder", found.error) if found.is_folder else
                         _unreachable(path, found.error))  # fmt: skip
        elif found.status and not stat.S_ISREG(found.status.st_mode):
            self._refuse(turn, path, _no_file(found.status.st_mode))
        elif found.status and is_meant_as_image(path.name, lambda: _head(path)):
            self.files[turn].append(ImageFile(path))
        elif found.status:
            self.skipped.append(path)

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


def _head(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return None


def _no_file(mode: int) -> str:
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    return f"it is {kind}, not a file: give -, and send its content to standard input"


def _unreachable(path: Path, error: OSError) -> str:
    if not isinstance(error, FileNotFoundError):
        return _unreadable("file", error)
    return "the link leads to nothing" if path.is_symlink() else "there is no such file or folder: check the path"


def _unreadable(what: str, error: OSError) -> str:
    return f"the {what} cannot be read: {error.strerror or error}"
