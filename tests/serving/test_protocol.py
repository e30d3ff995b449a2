"""The service behind its HTTP server: offers to upgrade, heads that never end, clients that go away, failures."""

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import uvicorn
from conftest import encoded
from uvicorn.protocols.http.flow_control import FlowControl

from lib.inference.predictor import Predictor
from lib.serving.app import Service, create_app
from lib.serving.protocol import Protocol

pytestmark = pytest.mark.slow
IMAGE = encoded(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
BODY = b'--cut\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\n' + IMAGE + b"\r\n--cut--\r\n"
CLOSED = "Connection: close"
Open = Callable[[], socket.socket]


def head(*lines: str, length: int = len(BODY)) -> bytes:
    fixed = ("POST /predict/ HTTP/1.1", "Host: x", "Content-Type: multipart/form-data; boundary=cut")
    return "\r\n".join([*fixed, f"Content-Length: {length}", *lines, "", ""]).encode()


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def read(client: socket.socket) -> bytes:
    """Return all that arrives until the service closes the connection."""
    content = b""
    while chunk := client.recv(65536):
        content += chunk
    return content


def codes(responses: bytes) -> list[str]:
    return re.findall(r"HTTP/1\.1 (\d+)", responses.decode())


@pytest.fixture(scope="module")
def server() -> Iterator[uvicorn.Server]:
    """Run the service in this process, as `cifake serve` does, with a deadline of a second and a half."""
    config = uvicorn.Config(create_app(), port=0, http=Protocol, timeout_keep_alive=1.5, log_config=None)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.time() + 20
    while not server.started and time.time() < deadline:
        time.sleep(0.02)
    yield server
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def connect(server: uvicorn.Server) -> Iterator[Open]:
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        opened.append(socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=10))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Return what uvicorn logs, whatever other tests of this process have configured."""
    logger = logging.getLogger("uvicorn.error")
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "propagate", False)
    return caplog


def requests(connect: Open, code: int, path: str = "/predict/") -> float:
    client = connect()
    client.sendall(get("/metrics", CLOSED))
    found = re.search(rf'cifake_requests_total{{code="{code}",path="{path}"}} (\S+)', read(client).decode())
    return float(found[1]) if found else 0


OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    "WebSocket": ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="),
    "several": ("Upgrade: h2c", "Upgrade: TLS/1.0, foo", "Connection: keep-alive, Upgrade"),
}  # fmt: skip


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("size", [1, 200, 10**6])
def test_offers_to_upgrade_are_ignored(connect: Open, offer: tuple[str, ...], size: int) -> None:
    client = connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    content = head(*offer) + BODY + get("/health", *offer) + head(*offer) + BODY + get("/health", CLOSED)
    for start in range(0, len(content), size):
        client.sendall(content[start : start + size])
    responses = read(client)
    assert codes(responses) == ["200"] * 4
    assert [responses.count(it) for it in (b'"prediction"', b'"status":"ok"')] == [2, 2]


def test_an_offer_and_an_expectation_to_continue_go_together(connect: Open) -> None:
    client = connect()
    client.sendall(head(*OFFERS["h2c"], "Expect: 100-continue"))
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(BODY + get("/health", CLOSED))
    assert codes(read(client)) == ["200", "200"]


def test_chunked_bodies_survive_an_offer(connect: Open) -> None:
    client = connect()
    lines = head(*OFFERS["h2c"]).replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
    client.sendall(lines + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n" + get("/health", CLOSED))
    assert codes(read(client)) == ["200", "200"]


@pytest.mark.parametrize("lines", ["", "Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_a_request_to_a_proxy_is_refused(connect: Open, lines: str) -> None:
    client = connect()
    client.sendall(f"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{lines}\r\n".encode())
    assert codes(read(client)) == ["400"]


def test_connections_without_a_request_are_closed_whatever_trickles_in(connect: Open) -> None:
    refused = head(length=10**9) + b"-"  # which the service refuses at once, without the body
    begun = {
        "nothing": b"", "half a head": head()[:60], "half a head with an offer": head(*OFFERS["h2c"])[:-9],
        "empty lines": b"\r\n", "after a response": get("/health") + get("/health")[:20], "after a refusal": refused,
    }  # fmt: skip
    clients = {(name, trickles): connect() for name in begun for trickles in (False, True)}
    for (name, _), client in clients.items():
        client.sendall(begun[name])
    start, open_still = time.time(), dict(clients)
    while open_still and time.time() < start + 6:
        for (name, trickles), client in list(open_still.items()):
            client.settimeout(0.01)
            try:
                if trickles and name != "nothing":
                    client.send(b"\r\n" if name == "empty lines" else b"x")
                if not client.recv(4096):
                    del open_still[name, trickles]
            except TimeoutError:
                pass
            except ConnectionError:
                del open_still[name, trickles]
    assert not open_still
    assert time.time() - start > 1


def test_a_slow_request_keeps_its_connection(connect: Open) -> None:
    client = connect()
    client.sendall(head())
    time.sleep(2.5)  # a second more than the deadline of a head
    client.sendall(BODY + get("/health", CLOSED))
    assert codes(read(client)) == ["200", "200"]


def eventually(count: Callable[[], float], expected: float) -> None:
    deadline = time.time() + 10
    while count() != expected and time.time() < deadline:
        time.sleep(0.05)
    assert count() == expected


@pytest.mark.parametrize("sent", [head(), head() + BODY[:300], head("Expect: 100-continue"), head(*OFFERS["h2c"])])
def test_a_client_that_leaves_before_its_body_is_complete_has_a_status_of_its_own(connect: Open, sent: bytes) -> None:
    gone, failed = requests(connect, 499), requests(connect, 500)
    client = connect()
    client.sendall(sent)
    client.close()
    eventually(lambda: requests(connect, 499), gone + 1)
    assert requests(connect, 500) == failed


def test_a_client_that_leaves_while_its_image_waits_has_the_same_status(
    connect: Open, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    margins, begun, go_on = Predictor.margins, threading.Event(), threading.Event()

    def slow(predictor: Predictor, pixels: np.ndarray) -> list[float]:
        begun.set()
        go_on.wait(20)
        return margins(predictor, pixels)

    monkeypatch.setattr(Predictor, "margins", slow)
    gone, failed, answered = (requests(connect, code) for code in (499, 500, 200))
    clients = [connect() for _ in range(4)]
    for client in clients:
        client.sendall(head() + BODY)
    assert begun.wait(10)
    for client in clients[1:]:
        client.close()
    assert requests(connect, 499) == gone, "responded to while the others wait"
    go_on.set()
    assert clients[0].recv(4096).startswith(b"HTTP/1.1 200 ")
    eventually(lambda: requests(connect, 499), gone + 3)
    assert (requests(connect, 500), requests(connect, 200)) == (failed, answered + 1)
    assert "Traceback" not in log.text


def test_a_client_that_leaves_just_before_its_response_has_the_same_status(
    server: uvicorn.Server, connect: Open, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    answer, gone, failed = Service.answer, requests(connect, 499), requests(connect, 500)

    def late(*args: Any) -> dict[str, Any]:
        for protocol in server.server_state.connections:
            protocol.transport.abort()  # type: ignore[union-attr]  # connection_lost is called after this turn
        return answer(*args)

    with monkeypatch.context() as patched:
        patched.setattr(Service, "answer", late)
        client = connect()
        client.sendall(head() + BODY)
        with suppress(ConnectionError):
            assert read(client) == b""
    eventually(lambda: requests(connect, 499), gone + 1)
    assert requests(connect, 500) == failed
    assert "Traceback" not in log.text


def test_a_failure_is_logged_with_its_traceback(
    connect: Open, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    failed = requests(connect, 500)
    with monkeypatch.context() as broken:
        broken.setattr(Predictor, "margins", lambda self, pixels: {}["no such thing"])
        client = connect()
        client.sendall(head(CLOSED) + BODY)
        assert codes(read(client)) == ["500"]
    assert requests(connect, 500) == failed + 1
    eventually(lambda: "KeyError: 'no such thing'" in log.text, True)  # the answer is sent first
    assert "Traceback" in log.text


def test_the_rest_of_a_refused_body_is_read_with_pauses(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses, pause = [], FlowControl.pause_reading
    monkeypatch.setattr(FlowControl, "pause_reading", lambda self: (pauses.append(self), pause(self)))
    length = 21 * 2**20  # more than max_body
    with connect() as client:
        client.sendall(head(length=length) + bytes(length) + get("/health", CLOSED))
        assert codes(read(client)) == ["413", "200"]
    assert len(pauses) > 20, "or it takes the turns of other requests"
