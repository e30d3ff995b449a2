"""Read the body of a request whole before anything else happens: so long, in so much time, and no further."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Refused(Exception):
    """Say with which status, and in which sentence, a body is refused."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.response = JSONResponse({"detail": detail}, status, headers)


class Gone(Exception):
    """Say that the client went away before its body was there."""


class WholeBody:
    """Pass on POST requests with their whole body, as one message.

    Refuses a body of more than `most` bytes with 413, announced or counted; one that takes more than `seconds` with
    408, closing its connection; and with 503 one that would make the bodies in memory more than `memory` bytes.
    """

    def __init__(self, app: ASGIApp, most: int, memory: int, seconds: float) -> None:
        self.app, self.most, self.memory, self.seconds = app, most, memory, seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        try:
            async with self._body(scope, receive) as body:
                messages = iter([{"type": "http.request", "body": body, "more_body": False}])

                async def replay() -> Message:
                    return next(messages, None) or await receive()

                await self.app(scope, replay, send)
        except Refused as refusal:
            await refusal.response(scope, receive, send)
        except Gone:
            return None

    @asynccontextmanager
    async def _body(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        length = Headers(scope=scope).get("content-length", "0")
        too_large = Refused(413, f"the body is too large: send at most {self.most:,} bytes")
        if not length.isdigit() or int(length) > self.most:
            raise too_large
        chunks, taken = [], 0
        try:
            async with asyncio.timeout(self.seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Gone
                    chunks.append(message.get("body", b""))
                    taken += len(chunks[-1])
                    self._held += len(chunks[-1])
                    if taken > self.most:
                        raise too_large
                    if self._held > self.memory:
                        raise Refused(503, "too many large bodies at once: try again in a second", {"Retry-After": "1"})
                    more = message.get("more_body", False)
            yield b"".join(chunks)
        except TimeoutError:
            detail = f"the body did not come within {self.seconds:g} seconds: send it faster"
            raise Refused(408, detail, {"Connection": "close"}) from None
        finally:
            self._held -= taken
