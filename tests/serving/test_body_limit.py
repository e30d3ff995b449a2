"""The limits of a request's body, on the middleware alone."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from lib.serving.body_limit import BodyLimit
from lib.serving.turns import Turns


async def length(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the number of bytes of the body."""
    await PlainTextResponse(str(len(b"".join(scope["body"]))))(scope, receive, send)


async def post(limit: BodyLimit, chunks: AsyncIterator[bytes], *headers: tuple[bytes, bytes]) -> list[Message]:
    """Send a body in chunks, the last of which ends with $, then close the connection; return the response."""
    sent: list[Message] = []

    async def receive() -> Message:
        try:
            chunk = await anext(chunks)
        except StopAsyncIteration:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk.removesuffix(b"$"), "more_body": not chunk.endswith(b"$")}

    async def send(message: Message) -> None:
        sent.append(message)

    await limit({"type": "http", "method": "POST", "headers": headers}, receive, send)
    return sent


async def body(*chunks: bytes, pause: float = 0) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(pause)


def status(sent: list[Message]) -> int:
    return sent[0]["status"]


def test_a_body_in_chunks_arrives_whole() -> None:
    sent = asyncio.run(post(BodyLimit(length, Turns(), 10, 10, 1), body(b"abc", b"de", b"fghij$")))
    assert (status(sent), sent[1]["body"]) == (200, b"10")


def test_bodies_that_are_too_large_or_too_slow_are_refused() -> None:
    limit = BodyLimit(length, Turns(), 10, 100, 0.05)
    assert status(asyncio.run(post(limit, body(b"abcdef", b"ghijkl$")))) == 413
    for announced in (b"11", b"-1", b"many"):
        assert status(asyncio.run(post(limit, body(b"a$"), (b"content-length", announced)))) == 413
    sent = asyncio.run(post(limit, body(b"a", b"b", b"c$", pause=0.03)))
    assert status(sent) == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_bodies_at_the_same_time_share_the_memory() -> None:
    limit = BodyLimit(length, Turns(), 10, 15, 1)

    async def use() -> list[int]:
        slow = asyncio.create_task(post(limit, body(b"abcdefgh", b"$", pause=0.03)))
        await asyncio.sleep(0.01)
        refused = await post(limit, body(b"abcdefgh$"))
        assert (b"retry-after", b"1") in refused[0]["headers"]
        return [status(refused), status(await slow), status(await post(limit, body(b"abcdefgh$")))]

    assert asyncio.run(use()) == [503, 200, 200], "what was refused or completed takes no memory any more"


def test_a_client_that_goes_away_gets_no_response_and_leaves_no_memory() -> None:
    limit = BodyLimit(length, Turns(), 10, 10, 1)
    assert asyncio.run(post(limit, body(b"abc"))) == []
    assert status(asyncio.run(post(limit, body(b"abcdefghij$")))) == 200
