"""The form in the body of a request: the files that it holds, or a sentence on what is wrong with it."""

from collections.abc import Sequence
from io import BytesIO

from fastapi import HTTPException
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from lib.serving.schemas import FIELD
from lib.serving.turns import Turns

_MAX_HEADER = 16 * 2**10  # bytes of a header line of a part, whose options are parsed in Python
_REMEDY = f"send the image as `curl -F {FIELD}=@image.png` does"


async def form_files(content_type: str, chunks: Sequence[bytes], most: int, turns: Turns) -> list[bytes]:
    """Return the content of each part `data` of a form, in order, with or without a file name; ignore other parts.

    `chunks` are the body, in order, and take their `turns`. Raises HTTPException: 422 for a
    body that is no complete form or has no such file, 413 for more than `most` parts.
    """
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        detail = f"the content type is {kind[:100] or 'missing'}, not multipart/form-data: {_REMEDY}"
        raise HTTPException(422, detail)
    boundary = options.get("boundary", "").encode("latin-1")
    if not boundary:
        raise HTTPException(422, "the content type has no boundary: let the client write this header itself")
    # BytesIO gives away what it holds without a copy, which of 20 MB would keep others waiting.
    parts, content, files = 0, BytesIO(), list[tuple[str | None, BytesIO]]()
    # No byte is wrong in Latin-1. Names are not used, so that their encoding does not matter.
    parser = PushMultipartParser(boundary, max_header_size=_MAX_HEADER, header_charset="latin-1")
    try:
        for number, chunk in enumerate(chunks):
            if number:
                await turns.take(chunk)
            for event in parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    parts, content = parts + 1, BytesIO()
                    if parts > most:
                        raise HTTPException(413, f"the form has more than {most} parts: send fewer")
                    if event.name == FIELD:
                        files.append((event.filename, content))
                elif event:
                    content.write(event)
    except ParserLimitReached:
        raise HTTPException(422, f"the multipart form has too many or too long headers: {_REMEDY}") from None
    except MultipartError:
        raise HTTPException(422, "the multipart form is damaged: see /docs") from None
    try:
        parser.close()
    except MultipartError:
        raise HTTPException(422, f"the multipart form {_what_is_missing(chunks, b'--' + boundary)}") from None
    if not files:
        raise HTTPException(422, f"the multipart form has no field {FIELD!r}: {_REMEDY}")
    found = [(name, content.getvalue()) for name, content in files]
    if any(name is None and b"\0" not in content for name, content in found):  # every image has a zero byte
        raise HTTPException(422, f"the field {FIELD!r} holds text, not an image: {_REMEDY}")
    return [content for _, content in found]


def _what_is_missing(chunks: Sequence[bytes], delimiter: bytes) -> str:
    """Say what an incomplete form lacks."""
    start = b"".join(chunks[:2])
    if not start:
        return f"is empty: {_REMEDY}"
    if delimiter not in start:
        return "lacks the boundary that its content type names: let the client write this header itself"
    return "ends too early: send it whole"
