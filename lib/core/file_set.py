"""The files of a folder by their names, in a form that every text file can hold."""

import re
import stat
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from lib.core.errors import InputError
from lib.core.sniff import HEAD
from lib.core.walk import walk

MAX_BYTES = 2**26  # of a file: an image is smaller
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class FileSet(NamedTuple):
    """Hold the visible files of a folder or an archive.

    `states` has for each file, by its name, what changes when the file does (its size and its time). `read` returns the
    content of a file, and raises InputError where that is impossible; `head` returns the first bytes, or None where it
    is. `unusable` has what can be listed but not be read, such as a link without a target, and the reason and the
    remedy as the end of a sentence after the name.
    """

    states: dict[str, tuple[int, ...]]
    read: Callable[[str], bytes]
    head: Callable[[str], bytes | None]
    unusable: dict[str, str]


def open_folder(folder: Path, preferred: Collection[str] = ()) -> FileSet:
    """List the visible files in a folder, with names relative to it.

    Links are followed, but no folder is listed twice: a loop of links ends, and of several ways to a folder the one
    without links counts, or else a link with one of the `preferred` names (in upper case). Raises InputError for a
    folder that cannot be listed.
    """
    states: dict[str, tuple[int, ...]] = {}
    unusable: dict[str, str] = {}
    for found in walk([folder], lambda name: name.rpartition("/")[2].upper() not in preferred):
        name, status, error = found.name, found.status, found.error
        if found.listed_as is not None:
            first = escaped(found.listed_as) or "the whole folder"
            unusable[name] = f"links to {first}, which is read once: copy its files"
        elif error and found.is_folder:
            raise InputError(
                f"{escaped(str(folder / name))} cannot be listed ({error.strerror}): allow yourself to read it"
            )
        elif error:
            unusable[name] = f"is a link that cannot be followed ({error.strerror}): restore its target or remove it"
        elif stat.S_ISREG(status.st_mode):
            states[name] = status.st_size, status.st_mtime_ns
        else:
            unusable[name] = "is neither a file nor a folder: remove it"

    def read(name: str) -> bytes:
        check_size(name, states[name][0])
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise InputError(
                f"{escaped(str(folder / name))} cannot be read ({error.strerror}): replace or remove it"
            ) from None

    def head(name: str) -> bytes | None:
        try:
            with (folder / name).open("rb") as file:
                return file.read(HEAD)
        except OSError:
            return None

    return FileSet(states, read, head, unusable)


def check_size(name: str, size: int) -> None:
    """Raise InputError for a file of more than MAX_BYTES, before it fills the memory."""
    if size > MAX_BYTES:
        raise InputError(f"{escaped(name)} has {size:,} bytes, more than an image should have: replace or remove it")


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
