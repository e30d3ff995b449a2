"""The files of a folder, its links followed once, and their names in a form that every text file can hold."""

import os
import re
import stat
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from lib.core.errors import InputError

MAX_BYTES = 2**26  # of a file: a 32×32 image is far smaller
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class FileSet(NamedTuple):
    """Hold the visible files of a folder or an archive.

    `states` has for each file, by its name, what changes when the file does (its size and its time). `read` returns the
    content of a file, and raises InputError where that is impossible. `unusable` has what can be listed but not be
    read, such as a link without a target, and the reason and the remedy as the end of a sentence after the name.
    """

    states: dict[str, tuple[int, ...]]
    read: Callable[[str], bytes]
    unusable: dict[str, str]


def open_folder(folder: Path, preferred: Collection[str] = ()) -> FileSet:
    """List the visible files in a folder, with names relative to it.

    Links are followed, but no folder is listed twice: a loop of links ends, and of several ways to a folder the one
    without links counts, or else a link with one of the `preferred` names (in upper case). Raises InputError for a
    folder that cannot be listed.
    """
    states: dict[str, tuple[int, ...]] = {}
    unusable: dict[str, str] = {}
    listed: dict[tuple[int, int], str] = {}
    folders, links = [""], []
    while folders or links:
        links.sort(key=lambda link: link.rpartition("/")[2].upper() not in preferred)
        name = folders.pop() if folders else links.pop(0)
        try:
            status = (folder / name).stat()
            first = listed.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                unusable[name] = f"links to {escaped(first) or 'the whole folder'}, which is read once: copy its files"
                continue
            with os.scandir(folder / name) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"{escaped(str(folder / name))} cannot be listed ({error.strerror}): allow yourself to read it"
            ) from None
        for child in children:
            path = f"{name}/{child.name}" if name else child.name
            if is_hidden(path):
                continue
            try:
                status = child.stat()
            except OSError as error:
                unusable[path] = (
                    f"is a link that cannot be followed ({error.strerror}): restore its target or remove it"
                )
                continue
            if stat.S_ISDIR(status.st_mode):
                (links if child.is_symlink() else folders).append(path)
            elif stat.S_ISREG(status.st_mode):
                states[path] = status.st_size, status.st_mtime_ns
            else:
                unusable[path] = "is neither a file nor a folder: remove it"

    def read(name: str) -> bytes:
        check_size(name, states[name][0])
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise InputError(
                f"{escaped(str(folder / name))} cannot be read ({error.strerror}): replace or remove it"
            ) from None

    return FileSet(states, read, unusable)


def is_hidden(name: str) -> bool:
    """Return whether a file, or a folder around it, is one that a system hides or adds of its own."""
    parts = re.split(r"[/\\]", name)
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in parts)


def check_size(name: str, size: int) -> None:
    """Raise InputError for a file of more than MAX_BYTES, before it fills the memory."""
    if size > MAX_BYTES:
        raise InputError(f"{escaped(name)} has {size:,} bytes, too many for a 32×32 image: replace or remove it")


def escaped(name: str) -> str:
    r"""Return a file's name as valid, printable Unicode from which its bytes can be restored.

    A byte that is not UTF-8, or a control character, becomes `\xNN`, an unpaired surrogate (of Windows) `\uNNNN`, and a
    backslash `\\`. All other names stay as they are.
    """

    def escape(match: re.Match[str]) -> str:
        code = ord(match[0])
        # Python stands for a byte that is not UTF-8 by a surrogate (PEP 383).
        byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
        return f"\\x{byte:02x}" if byte < 0x100 else f"\\u{code:04x}"

    return _UNPRINTABLE.sub(escape, name.replace("\\", "\\\\"))
