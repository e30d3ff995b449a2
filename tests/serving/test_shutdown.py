"""The end of the HTTP server: every request that has reached the machine is answered."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn

from lib.serving.protocol import Protocol
from lib.serving.server import Server

pytestmark = pytest.mark.slow
REQUEST = b"POST /predict/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
Start = Callable[[], tuple[Server, Callable[[], socket.socket]]]


async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(params=["asyncio", "auto"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Start a server as `cifake serve` does, on either event loop."""
    threads: list[tuple[Server, threading.Thread]] = []
    clients: list[socket.socket] = []

    def start() -> tuple[Server, Callable[[], socket.socket]]:
        config = uvicorn.Config(app, port=0, http=Protocol, loop=request.param, lifespan="off", log_config=None)
        server = Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        threads.append((server, thread))
        thread.start()
        deadline = time.time() + 10
        while not server.started and time.time() < deadline:
            time.sleep(0.01)
        address = server.servers[0].sockets[0].getsockname()

        def connect() -> socket.socket:
            clients.append(socket.create_connection(address, timeout=10))
            return clients[-1]

        return server, connect

    yield start
    for client in clients:
        client.close()
    for server, thread in threads:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server ends"


def read(client: socket.socket) -> bytes:
    """Return all that arrives until the server closes the connection."""
    content = b""
    while chunk := client.recv(65536):
        content += chunk
    return content


@pytest.mark.parametrize("before", [b"", REQUEST[:20], REQUEST[:-2]], ids=["idle", "half a head", "half a body"])
@pytest.mark.parametrize("used", [False, True])
def test_a_request_on_an_open_connection_is_answered(start: Start, before: bytes, used: bool) -> None:
    server, connect = start()
    client = connect()
    if used:
        client.sendall(REQUEST)
        answer = b""
        while not answer.endswith(b"body"):
            answer += client.recv(65536)
    client.sendall(before)
    time.sleep(0.2)
    server.should_exit = True
    time.sleep(0.4)  # the shutdown has begun
    client.sendall(REQUEST.removeprefix(before))
    answer = read(client)
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"body")
    assert b"connection: close" in answer, "the client is told to send no other request"


@pytest.mark.parametrize("count", [1, 50])
def test_connections_that_wait_to_be_accepted_are_answered(start: Start, count: int) -> None:
    server, connect = start()
    server.servers[0].get_loop().call_soon_threadsafe(time.sleep, 0.5)  # busy, as many requests at once make it
    time.sleep(0.1)
    server.should_exit = True
    clients = [connect() for _ in range(count)]
    for client in clients:
        client.sendall(REQUEST)
    assert [read(client)[:12] for client in clients] == [b"HTTP/1.1 200"] * count


def test_idle_connections_do_not_hold_up_the_shutdown(start: Start) -> None:
    server, connect = start()
    client = connect()
    time.sleep(0.1)
    begun = time.time()
    server.should_exit = True
    assert read(client) == b""
    assert time.time() - begun < 3
    with pytest.raises(ConnectionRefusedError):
        connect()
