"""The files of a zip, whatever system wrote it."""

import re
import stat
import zipfile
from pathlib import Path

from lib.core.errors import InputError
from lib.core.file_set import FileSet, check_size, escaped
from lib.core.sniff import HEAD
from lib.core.walk import is_hidden

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED, _UTF8 = 0x1, 0x800  # bits of a member's flags (APPNOTE 4.4.4)
_OUTSIDE = re.compile(r"(?:[/\\]|[A-Za-z]:[/\\]|(?:.*[/\\])?\.\.(?:[/\\]|$))", re.S)
_UNPACK = "unpack the archive and give the folder"


def open_archive(path: Path) -> FileSet:
    """List the visible files in a zip, which stays open.

    Of several members with one name the last counts, as when a zip is unpacked. Raises InputError for a file that is no
    complete zip, and for a zip with a member outside of itself.
    """
    archive = _open(path)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = _name(info)
        if _OUTSIDE.match(name):
            raise InputError(f"{path}: its member {name!r} points outside the archive: do not trust this file")
        if not _is_folder(info) and not is_hidden(name):
            members[name] = info
    problems = {name: problem for name, info in members.items() if (problem := _problem(info))}

    def read(name: str) -> bytes:
        check_size(name, members[name].file_size)
        try:
            return archive.read(members[name])
        except Exception as error:  # zipfile and the decompressors raise many types
            raise InputError(f"{path}: {escaped(name)} is damaged ({error}): download the zip again") from None

    def head(name: str) -> bytes | None:
        try:
            with archive.open(members[name]) as file:
                return file.read(HEAD)
        except Exception:  # as in `read`, which tells why
            return None

    usable = {name: (info.file_size, info.CRC) for name, info in members.items() if name not in problems}
    return FileSet(usable, read, head, problems)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK" or zipfile.is_zipfile(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): allow yourself to read it") from None
    if not is_zip:
        raise InputError(f"{path} is not a zip: if it is an archive of another kind, unpack it and give the folder")
    try:
        return zipfile.ZipFile(path)
    except UnicodeDecodeError:
        raise InputError(f"{path} has names that it says are UTF-8, but are not: {_UNPACK}") from None
    except Exception as error:  # zipfile raises several types for damaged directories
        raise InputError(f"{path} is not a complete zip ({error}): download it again") from None


def _name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member: code page 437, unless its bytes are UTF-8, which many systems use without a flag."""
    if info.flag_bits & _UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _is_folder(info: zipfile.ZipInfo) -> bool:
    is_empty_folder = not info.file_size and info.external_attr & 0x10  # MS-DOS's attribute
    return bool(info.filename.endswith(("/", "\\")) or is_empty_folder or stat.S_ISDIR(info.external_attr >> 16))


def _problem(info: zipfile.ZipInfo) -> str:
    """Return why a member cannot be read, as the end of a sentence, or an empty string."""
    if info.flag_bits & _ENCRYPTED:
        return f"is encrypted: {_UNPACK}"
    if info.compress_type not in _METHODS:
        method = zipfile.compressor_names.get(info.compress_type, f"method {info.compress_type}")
        return f"is compressed by {method}, which Python cannot read: {_UNPACK}, or make the zip again with Deflate"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is stored as a link: make the zip again with the files themselves"
    return ""
