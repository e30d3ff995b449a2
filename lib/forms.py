"""Take files out of a multipart form that lies in memory: no temporary files, no more parts than agreed."""

from fastapi import HTTPException
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

FIELD = "data"


def files_of(body: bytes, content_type: str, most: int) -> list[bytes]:
    """Return the content of each file of the form's field `data`, in order; other parts are left out.

    Raises HTTPException: 422 for a body that is no whole form or has no such file, 413 for more than `most` parts.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise _missing()
    parts = _Parts(most)
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise HTTPException(422, "the multipart form is damaged: see /docs") from None
    if not parts.whole:
        raise HTTPException(422, "the multipart form ends too early: send it whole")
    if not parts.files:
        raise _missing()
    return parts.files


def _missing() -> HTTPException:
    return HTTPException(422, f"the multipart field {FIELD!r} is missing or of another type: see /docs")


class _Parts:
    """Collect what the parser says."""

    def __init__(self, most: int) -> None:
        self.files: list[bytes] = []
        self.whole = False
        self._most, self._count = most, 0
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        self._content: list[bytes] = []

    def callbacks(self) -> dict:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": lambda data, start, end: self._content.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._count += 1
        if self._count > self._most:
            raise HTTPException(413, f"the form has more than {self._most} parts: send fewer")
        self._disposition, self._content = b"", []

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") == FIELD.encode() and b"filename" in options:
            self.files.append(b"".join(self._content))

    def _finish(self) -> None:
        self.whole = True
