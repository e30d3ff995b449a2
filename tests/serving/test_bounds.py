"""What one client can make the service do: each bound, just inside and just outside, and what others notice of it."""

import asyncio
import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import uvicorn
from conftest import encoded
from fastapi.testclient import TestClient
from PIL import Image

from lib.core.containers import MAX_PARTS, MAX_SCANS
from lib.core.decode import MAX_PIXELS, MAX_TILES
from lib.core.input_rule import InputRule
from lib.inference.images import decode_small_image
from lib.serving.app import create_app
from lib.serving.protocol import Protocol
from lib.serving.settings import Settings

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
IMAGE = encoded(NOISE)
FORM = {"content-type": "multipart/form-data; boundary=cut"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(max_body=2**20, body_timeout=1))) as client:
        yield client


def part(content: bytes = IMAGE, options: bytes = b'; name="data"; filename="x"') -> bytes:
    return b"--cut\r\nContent-Disposition: form-data" + options + b"\r\n\r\n" + content + b"\r\n"


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def jpeg_of_parts(count: int) -> bytes:
    return IMAGE[:2] + b"\xff\xfe\0\2" * (count - 10) + IMAGE[2:]  # its own: JFIF, 2 DQT, SOF, 4 DHT, SOS, the end


def png_of_parts(count: int) -> bytes:
    plain = encoded(NOISE, "PNG")
    return plain[:33] + chunk(b"tEXt") * (count - 3) + plain[33:]  # its own: IHDR, IDAT, IEND


def gif_of_parts(count: int) -> bytes:
    plain = encoded(NOISE, "GIF")
    start = 13 + 3 * 256
    return plain[:start] + b"!\xfe\0" * (count - 2) + plain[start:]  # its own: the frame, the end


def jpeg_of_scans(count: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    starts = [k for k in range(len(content)) if content[k : k + 2] == b"\xff\xda"]
    return content[:-2] + content[starts[-1] : -2] * (count - len(starts)) + b"\xff\xd9"


def tiff_of_strips(count: int) -> bytes:
    """Return a TIFF of one column, each row of which is a strip that shares its place with all others."""
    at = 8 + 2 + 12 * 9 + 4
    fields = {256: (1, 1), 257: (1, count), 258: (1, 8), 259: (1, 1), 262: (1, 1), 273: (count, at), 277: (1, 1),
              278: (1, 1), 279: (count, at)}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, values, value) for tag, (values, value) in fields.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + entries + bytes(4) + struct.pack("<I", 1) * count


def png_of_pixels(count: int) -> bytes:
    return encoded(np.zeros((count // 5000, 5000), np.uint8), "PNG", "1")


def run_length_bmp(pixels: int) -> bytes:
    head = encoded(np.zeros((1, 2048, 3), np.uint8), "BMP", "P")[:1078]
    rows = pixels // 2048
    row = b"\xff\0" * 8 + b"\x08\0" + b"\0\0"
    return head[:22] + struct.pack("<IHHI", rows, 1, 8, 1) + head[34:] + row * rows + b"\0\1"


BOUNDS: dict[str, tuple[Callable[[int], bytes], int, int, str]] = {
    "parts of a JPEG": (jpeg_of_parts, MAX_PARTS, 1, "the file has more than 100,000 parts: save it again, with fewer"),
    "parts of a PNG": (png_of_parts, MAX_PARTS, 1, "the file has more than 100,000 parts: save it again, with fewer"),
    "parts of a GIF": (gif_of_parts, MAX_PARTS, 1, "the file has more than 100,000 parts: save it again, with fewer"),
    "scans": (jpeg_of_scans, MAX_SCANS, 1, "the image has more than 64 scans: save it again, with fewer"),
    "strips": (tiff_of_strips, MAX_TILES, 1, "the image has more than 8,192 strips or tiles: save it again, with "),
    "pixels": (png_of_pixels, MAX_PIXELS, 5000, "the image has too many pixels: send one of at most 50,000,000"),
    "run lengths": (run_length_bmp, 2**22, 2048, "the image is a large BMP with run-length encoding: send a PNG"),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damage that it tolerates
@pytest.mark.parametrize("kind", BOUNDS)
def test_a_file_at_its_bound_is_served_and_one_beyond_is_refused(kind: str) -> None:
    make, bound, step, sentence = BOUNDS[kind]
    with TestClient(create_app()) as client:
        inside, outside = (client.post("/predict/", files={"data": make(it)}) for it in (bound, bound + step))
    assert inside.status_code == 200, inside.text
    assert (outside.status_code, outside.json()["detail"][: len(sentence)]) == (400, sentence)


@pytest.mark.parametrize(("path", "most"), [("/predict/", 8), ("/predict/batch", 64)])
def test_parts_of_a_form(client: TestClient, path: str, most: int) -> None:
    note = part(b"text", b'; name="note"')
    inside, outside = (
        client.post(path, content=part() + note * (it - 1) + b"--cut--", headers=FORM) for it in (most, most + 1)
    )
    assert inside.status_code == 200
    assert (outside.status_code, outside.json()) == (
        413, {"detail": f"the form has more than {most} parts: send fewer"},
    )  # fmt: skip


def test_bytes_of_a_body(client: TestClient) -> None:
    end = b"\r\n--cut--"
    room = 2**20 - len(part(b"")) + 2 - len(end)
    bodies = [part(IMAGE + bytes(room + more - len(IMAGE)))[:-2] + end for more in (0, 1)]
    assert [len(body) for body in bodies] == [2**20, 2**20 + 1]
    inside, outside = (client.post("/predict/", content=body, headers=FORM) for body in bodies)
    assert inside.status_code == 200, inside.text
    assert (outside.status_code, outside.json()) == (
        413, {"detail": "the body is too large: send at most 1,048,576 bytes"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "options", [b'; name="data"; filename="' + b"x" * 16_000 + b'"', b'; name="data"' + b";a=1" * 4000], ids=len
)
def test_headers_of_a_part(client: TestClient, options: bytes) -> None:
    inside = client.post("/predict/", content=part(options=options) + b"--cut--", headers=FORM)
    start = time.process_time()
    outside = client.post("/predict/", content=part(options=options + b";b=2" * 100_000) + b"--cut--", headers=FORM)
    assert time.process_time() - start < 0.3, "the options of a header are parsed in Python"
    assert inside.status_code == 200, inside.text
    assert outside.status_code == 422
    assert outside.json()["detail"].startswith("the multipart form has too many or too long headers: send the image as")


def test_a_small_file_that_takes_long_is_not_decoded_between_requests() -> None:
    slow = tiff_of_strips(3900)
    assert len(slow) < 16 * 2**10
    assert decode_small_image(slow, InputRule()) is None
    assert decode_small_image(encoded(NOISE, "TIFF"), InputRule()) is not None


def test_others_have_their_turn_between_the_files_of_a_batch() -> None:
    service = create_app().state.service
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def use() -> int:
        other = asyncio.create_task(count())
        decoded = service.batcher.run

        async def run(items: list) -> list:
            other.cancel()
            return await decoded(items)

        service.batcher.run = run
        return len(await service.predict([IMAGE] * 64))

    assert asyncio.run(use()) == 64
    assert turns >= 63


@pytest.mark.parametrize("length", [50_000, 2**26])
def test_the_head_of_a_request_is_bounded(length: int) -> None:
    config = uvicorn.Config(create_app(), port=0, http=Protocol, log_config=None)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    with socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=20) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX: ")
        sent = 0
        try:
            while sent < length:
                sent += client.send(b"x" * min(10_000, length - sent))
                time.sleep(0.001)
            client.sendall(b"\r\nConnection: close\r\n\r\n")
        except ConnectionError:
            pass
        if length < 2**16:
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        else:
            assert sent < 2**23, "it is not read to its end"
    server.should_exit = True
    thread.join(10)
