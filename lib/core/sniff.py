"""Whether a file is meant to be an image, by its name or its first bytes: texts often lie beside images."""

import re
from collections.abc import Callable
from pathlib import PurePath

HEAD = 16  # bytes that are looked at
_SUFFIXES = {
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".jxl", ".mpo", ".png", ".psd", ".svg", ".tif", ".tiff", ".webp",
}  # fmt: skip
_SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM.{4}\0{4}|RIFF.{4}WEBP|II[*+]\0|MM\0[*+]|.{4}ftyp(?:avi[fs]|hei|hev|mif1|msf1)",
    re.DOTALL,
)


def is_meant_as_image(name: str, head: Callable[[], bytes | None]) -> bool:
    """Return whether a file's name or its first HEAD bytes call it an image.

    `head` returns those bytes, or None for a file that cannot be read: that counts as an image, and reading it will
    tell why it is none.
    """
    if PurePath(name).suffix.lower() in _SUFFIXES:
        return True
    first = head()
    return first is None or _SIGNATURE.match(first) is not None
