"""What one client can cost the others: `python benchmarks/abuse.py [ROUNDS] [KIND …]`.

Four connections send an image of 32×32 to `cifake serve` every 40 ms each, alone and beside one client of each kind in
turn, which does its worst in a process of its own on the same cores. A latency counts from the moment at which the
request was due, so that waiting for an earlier response counts too. Prints a table of p50 and p99 over the rounds.
"""

import asyncio
import io
import multiprocessing
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import joblib
import numpy as np
from images import image
from PIL import Image
from service import running, spread

from lib.core.containers import MAX_SCANS
from lib.core.decode import MAX_TILES
from lib.core.provenance import processor

CONNECTIONS, EVERY, SECONDS = 4, 0.04, 6  # of the ordinary client; seconds
SIDE = 7000  # pixels: MAX_PIXELS, nearly
Address = tuple[str, int]
Attack = Callable[[Address], None]


def part(content: bytes, options: bytes = b'; name="data"; filename="x"') -> bytes:
    """Return a file as a part of a form."""
    return b"--cut\r\nContent-Disposition: form-data" + options + b"\r\n\r\n" + content + b"\r\n"


def post(body: bytes, path: str = "/predict/") -> bytes:
    """Return a whole request."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=cut\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % (len(body) + 7) + body + b"--cut--"


def large(form: str, **options: object) -> bytes:
    """Return an image of SIDE×SIDE pixels, of even blocks, so that each format keeps it within max_body."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(file, form, **options)
    return file.getvalue()


def many_scans() -> bytes:
    """Return a progressive JPEG with as many scans as are allowed: the last one is repeated."""
    content = large("JPEG", progressive=True, quality=10)
    starts = [k for k in range(len(content)) if content[k : k + 2] == b"\xff\xda"]
    return content[:-2] + content[starts[-1] : -2] * (MAX_SCANS - len(starts)) + b"\xff\xd9"


def many_strips(count: int) -> bytes:
    """Return a TIFF of one column, each row of which is a strip."""
    at = 8 + 2 + 12 * 9 + 4
    fields = {256: (1, 1), 257: (1, count), 258: (1, 8), 259: (1, 1), 262: (1, 1), 273: (count, at), 277: (1, 1),
              278: (1, 1), 279: (count, at)}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, values, value) for tag, (values, value) in fields.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + entries + bytes(4) + struct.pack("<I", 1) * count


def repeat(make: Callable[[], bytes], connections: int, address: Address) -> None:
    """Send a request again and again through each of `connections`, without a pause."""
    content = make()

    def send() -> None:
        while True:
            try:
                with socket.create_connection(address, timeout=60) as client:
                    while True:
                        client.sendall(content)
                        if not client.recv(2**20):
                            break
            except OSError:
                time.sleep(0.01)

    for _ in range(connections - 1):
        threading.Thread(target=send, daemon=True).start()
    send()


def trickle(start: bytes, more: bytes, connections: int, pause: float, address: Address) -> None:
    """Keep `connections` open, each of which sends `start`, and `more` every `pause` seconds."""
    clients: list[socket.socket] = []
    while True:
        while len(clients) < connections:
            clients.append(socket.create_connection(address, timeout=60))
            clients[-1].sendall(start)
        time.sleep(pause)
        for client in list(clients):
            try:
                client.sendall(more)
            except OSError:
                client.close()
                clients.remove(client)


def connect(address: Address) -> None:
    """Open and close connections, without a pause."""
    while True:
        socket.create_connection(address, timeout=60).close()


HEAD = b"POST /predict/ HTTP/1.1\r\nHost: x\r\n"
SLOW = HEAD + b"Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: 1000000\r\n\r\n--cut"
KINDS: dict[str, Attack] = {
    "JPEG of 64 scans": partial(repeat, lambda: post(part(many_scans())), 16),
    "PNG": partial(repeat, lambda: post(part(large("PNG", compress_level=1))), 16),
    "TIFF, LZW": partial(repeat, lambda: post(part(large("TIFF", compression="tiff_lzw"))), 16),
    "TIFF of 8,192 strips": partial(repeat, lambda: post(part(many_strips(MAX_TILES))), 16),
    "WebP": partial(repeat, lambda: post(part(large("WEBP", quality=30, method=0))), 16),
    "explanations": partial(repeat, lambda: post(part(image(0)), "/predict/?explain=true"), 32),
    "batches of 64 large files": partial(repeat, lambda: post(part(image(0, 3000)) * 64, "/predict/batch"), 8),
    "batches of TIFFs of strips": partial(repeat, lambda: post(part(many_strips(3900)) * 64, "/predict/batch"), 8),
    "bodies of 20 MB": partial(repeat, lambda: post(part(bytes(20_000_000))), 8),
    "refused bodies of 100 MB": partial(repeat, lambda: post(part(bytes(100_000_000))), 8),
    "long headers of parts": partial(repeat, lambda: post(part(image(0), b'; name="data"' + b";a=1" * 250_000)), 8),
    "endless heads": partial(trickle, HEAD + b"X: ", bytes(2**18).replace(b"\0", b"x"), 8, 0),
    "half heads": partial(trickle, HEAD, b"X: y\r\n", 500, 0.2),
    "slow bodies": partial(trickle, SLOW, b"x", 500, 0.2),
    "connections": connect,
}  # fmt: skip


async def ordinary(address: Address) -> tuple[list[float], int]:
    """Send ordinary requests for SECONDS; return the latencies in ms, and how many had no prediction."""
    latencies, failures, start = list[float](), 0, time.perf_counter() + 0.2

    async def client(number: int) -> None:
        nonlocal failures
        reader, writer = await asyncio.open_connection(*address)
        content = post(part(image(number)))
        for turn in range(int(SECONDS / EVERY)):
            due = start + (turn + number / CONNECTIONS) * EVERY
            await asyncio.sleep(due - time.perf_counter())
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            failures += not head.startswith(b"HTTP/1.1 200 ")
            latencies.append(1000 * (time.perf_counter() - due))
        writer.close()

    await asyncio.gather(*map(client, range(CONNECTIONS)))
    return latencies, failures


def beside(kind: str | None) -> tuple[float, float, int]:
    """Return p50 and p99 in ms, and failures, of ordinary requests to a new service beside a client of a kind."""
    with running("ours") as url:
        address = str(urlsplit(url).hostname), int(urlsplit(url).port or 0)
        asyncio.run(ordinary(address))  # warms up
        process = multiprocessing.Process(target=KINDS[kind], args=(address,), daemon=True) if kind else None
        if process:
            process.start()
            time.sleep(3)  # it makes its files
        latencies, failures = asyncio.run(ordinary(address))
        if process:
            process.kill()
            process.join()
    p50, p99 = np.percentile(latencies, [50, 99])
    return float(p50), float(p99), failures


def main(rounds: int, kinds: list[str]) -> None:
    if unknown := set(kinds) - set(KINDS):
        sys.exit(f"there is no {', '.join(sorted(unknown))}: choose among {', '.join(KINDS)}")
    found: dict[str | None, list[tuple[float, float, int]]] = {}
    for turn in range(rounds):
        order = [None, *(kinds or KINDS)]
        for kind in order[:: -1 if turn % 2 else 1]:
            found.setdefault(kind, []).append(beside(kind))
    each = int(SECONDS / EVERY) * CONNECTIONS
    print(f"{processor()}, {joblib.cpu_count()} cores with all clients on them, {rounds} rounds of {each} requests\n")
    print("| one client beside | p50, ms | p99, ms | worst p99, ms | without a prediction |\n|---|---|---|---|---|")
    for kind in [None, *(kinds or KINDS)]:
        p50, p99, failures = zip(*found[kind], strict=True)
        print(f"| {kind or 'none'} | {spread(list(p50))} | {spread(list(p99))} | {max(p99):,.0f} | {sum(failures)} |")


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")  # the clients' requests are made by functions without a name
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2:])
