"""Take files out of a multipart form that lies in memory: no temporary files, no more parts than agreed."""

from fastapi import HTTPException
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

FIELD = "data"


def files_of(body: bytes, content_type: str, most: int) -> list[bytes]:
    """Return the content of each file of the form's field `data`, in order; other parts are left out.

    Raises HTTPException: 422 for a body that is no whole form or has no such file, 413 for more than `most` parts.
    """
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise _missing()
    parser = PushMultipartParser(options["boundary"])
    files: list[bytes] = []
    content: list[bytes] = []
    count, wanted = 0, False
    try:
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                count += 1
                if count > most:
                    raise HTTPException(413, f"the form has more than {most} parts: send fewer")
                wanted, content = event.name == FIELD and event.filename is not None, []
            elif event is not None:
                content.append(event)
            elif wanted:
                files.append(b"".join(content))
    except MultipartError:
        raise HTTPException(422, "the multipart form is damaged: see /docs") from None
    try:
        parser.close()
    except MultipartError:
        raise HTTPException(422, "the multipart form ends too early: send it whole") from None
    if not files:
        raise _missing()
    return files


def _missing() -> HTTPException:
    return HTTPException(422, f"the multipart field {FIELD!r} is missing or of another type: see /docs")
