"""Read the body of a request whole before anything else happens: so long, in so much time, and no further."""

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Refused(Exception):
    """Say with which status, and in which sentence, a body is refused."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.response = JSONResponse({"detail": detail}, status, headers)


class Gone(Exception):
    """Say that the client went away before its body was there."""


class WholeBody:
    """Pass on POST requests once their body is there, whole, as `scope["body"]`.

    Refuses a body of more than `most` bytes with 413, announced or counted; one that takes more than `seconds` with
    408, closing its connection; and with 503 one that would make the bodies in memory more than `memory` bytes.
    """

    def __init__(self, app: ASGIApp, most: int, memory: int, seconds: float) -> None:
        self.app, self.most, self.memory, self.seconds = app, most, memory, seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        chunks: list[bytes] = []
        try:
            await self._read(scope, receive, chunks)
            scope["body"] = b"".join(chunks)
            await self.app(scope, receive, send)
        except Refused as refusal:
            await refusal.response(scope, receive, send)
        except Gone:
            return None
        finally:
            self._held -= sum(map(len, chunks))

    async def _read(self, scope: Scope, receive: Receive, chunks: list[bytes]) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = f"the body is too large: send at most {self.most:,} bytes"
        if not length.isdigit() or int(length) > self.most:
            raise Refused(413, too_large)
        taken, more = 0, True
        try:
            async with asyncio.timeout(self.seconds):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Gone
                    chunks.append(message.get("body", b""))
                    taken += len(chunks[-1])
                    self._held += len(chunks[-1])
                    if taken > self.most:
                        raise Refused(413, too_large)
                    if self._held > self.memory:
                        raise Refused(503, "too many large bodies at once: try again in a second", {"Retry-After": "1"})
                    more = message.get("more_body", False)
        except TimeoutError:
            detail = f"the body did not come within {self.seconds:g} seconds: send it faster"
            raise Refused(408, detail, {"Connection": "close"}) from None
