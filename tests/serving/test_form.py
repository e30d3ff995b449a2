"""The form of a request: file names play no part, and each mistake has a sentence of its own."""

import asyncio
from collections.abc import Sequence

import pytest
from fastapi import HTTPException

from lib.serving.form import form_files
from lib.serving.turns import Turns

MULTIPART = "multipart/form-data; boundary=cut"
IMAGE = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\r\n--cu\r\n"  # bytes of a kind that images have


def files_of(content_type: str, body: bytes, most: int, size: int = 2**20) -> Sequence[bytes]:
    """Return the files of a form that arrives in chunks of `size` bytes."""
    chunks = [body[k : k + size] for k in range(0, len(body), size)]
    return asyncio.run(form_files(content_type, chunks, most, Turns()))


def part(disposition: bytes, content: bytes = IMAGE) -> bytes:
    return b"--cut\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    "disposition",
    [
        b'name="data"; filename="x.jpg"',
        b'name="data"; filename="k\xe4se.jpg"',
        b'name="data"; filename="\x8a\xff\x80.jpg"',
        'name="data"; filename="käse 图.jpg"'.encode(),
        b"name=\"data\"; filename*=UTF-8''k%C3%A4se.jpg",
        b'name="data"; filename="k\xe4se.jpg"; filename*=iso-8859-1\'\'k%E4se.jpg',
        b'filename="x.jpg"; name="data"',
        b"name=data; filename=x.jpg",
        b'name="data"; filename=""',
        b'name="data"; filename="a\\"b; name=c.jpg"',
        b'name="data"; filename="' + 9000 * b"x" + b'.jpg"',
        b'name="data"',
    ],
    ids=lambda it: it[:40].decode("ascii", "backslashreplace"),
)
def test_an_image_is_read_whatever_its_name(disposition: bytes) -> None:
    assert files_of(MULTIPART, part(disposition) + b"--cut--\r\n", 1) == [IMAGE]


@pytest.mark.parametrize("size", [1, 2, 5, 50, 2**20])
def test_other_parts_are_ignored_and_order_is_kept(size: int) -> None:
    body = part(b'name="data"', IMAGE + b"1") + part(b'name="note"', b"text") + part(b'name="data"; filename="t"', b"2")
    assert files_of(MULTIPART, body + b"--cut--", 3, size) == [IMAGE + b"1", b"2"]


WHOLE = part(b'name="data"; filename="x.jpg"') + b"--cut--\r\n"
MISTAKES = {
    "no content type": ("", WHOLE, "the content type is missing, not multipart/form-data"),
    "JSON": ("application/json", b'{"data": ""}', "the content type is application/json, not multipart/form-data"),
    "urlencoded": ("application/x-www-form-urlencoded", b"data=x", "is application/x-www-form-urlencoded, not"),
    "raw image": ("image/jpeg", IMAGE, "the content type is image/jpeg, not multipart/form-data: send the image as"),
    "no boundary": ("multipart/form-data", WHOLE, "the content type has no boundary: let the client"),
    "empty boundary": ('multipart/form-data; boundary=""', WHOLE, "the content type has no boundary"),
    "other boundary": ("multipart/form-data; boundary=other", WHOLE, "lacks the boundary that its content type names"),
    "no body": (MULTIPART, b"", "the multipart form is empty"),
    "no end": (MULTIPART, WHOLE[:-20], "the multipart form ends too early: send it whole"),
    "damaged": (MULTIPART, WHOLE.replace(b"Content-Disposition: ", b""), "the multipart form is damaged"),
    "other field": (MULTIPART, part(b'name="file"; filename="x"') + b"--cut--", "has no field 'data': send the image"),
    "no field": (MULTIPART, b"--cut--\r\n", "has no field 'data'"),
    "path as text": (MULTIPART, part(b'name="data"', "käse.jpg".encode()) + b"--cut--", "holds text, not an image"),
    "base64": (MULTIPART, part(b'name="data"', b"data:image/png;base64,iVBO") + b"--cut--", "holds text, not an image"),
}


@pytest.mark.parametrize("size", [2**20, 7])
@pytest.mark.parametrize(("content_type", "body", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_has_a_sentence(content_type: str, body: bytes, sentence: str, size: int) -> None:
    with pytest.raises(HTTPException) as refused:
        files_of(content_type, body, 8, size)
    assert refused.value.status_code == 422
    assert sentence in refused.value.detail


def test_a_thousand_parts_are_refused_at_the_first_too_many() -> None:
    with pytest.raises(HTTPException) as refused:
        files_of(MULTIPART, 1000 * part(b'name="data"'), 8)
    assert (refused.value.status_code, refused.value.detail) == (413, "the form has more than 8 parts: send fewer")


def test_others_have_their_turn_while_a_large_form_is_read() -> None:
    turns = 0

    async def read() -> None:
        nonlocal turns
        body = part(b'name="data"', bytes(100_000)) + b"--cut--"
        chunks = [body[k : k + 1000] for k in range(0, len(body), 1000)]
        reading = asyncio.create_task(form_files(MULTIPART, chunks, 1, Turns()))
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        assert reading.result() == [bytes(100_000)]

    asyncio.run(read())
    assert turns >= 100
