"""Text that every terminal, file and parser takes: what is no text, or would steer a terminal, is escaped."""

import re
import sys
from contextlib import suppress

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # also separators of lines, and directions


def encodable(text: str) -> str:
    r"""Return `text` with each lone surrogate, Python's form of a byte that is no UTF-8, as an escape: `\udce4`."""
    return text.encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    r"""Return `text` in one line: `encodable`, and control characters as escapes too, such as `\n` and `\x1b`."""
    return _STEERING.sub(lambda character: character[0].encode("unicode_escape").decode(), encodable(text))


def tell(message: object) -> None:
    """Print a message to standard error in one line; where that is full or closed, nothing can be told."""
    with suppress(OSError):
        print(printable(str(message)), file=sys.stderr)
