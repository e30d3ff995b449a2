"""Middleware that reads the body of a request before anything else happens, within limits of size, time and memory."""

import asyncio

from fastapi import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from lib.serving.errors import refusal
from lib.serving.turns import Turns


class BodyLimit:
    """Pass a request on with its whole body, as the chunks `scope["body"]`.

    Refuses with 413 a body of more than `max_body` bytes, announced or counted; with 408 one that takes more than
    `timeout` seconds, and closes its connection; with 503 one that brings the bodies in memory to more than `memory`
    bytes. There is no response where the client goes away before its body is complete.
    """

    def __init__(self, app: ASGIApp, turns: Turns, max_body: int, memory: int, timeout: float) -> None:
        self.app, self.turns, self.max_body, self.memory, self.timeout = app, turns, max_body, memory, timeout
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        chunks: list[bytes] = []
        try:
            await self._read(scope, receive, chunks)
        except HTTPException as error:
            await refusal(error.status_code, error.detail, error.headers)(scope, receive, send)
        except ClientDisconnect:
            pass
        else:
            scope["body"] = chunks
            await self.app(scope, receive, send)
        finally:
            self._held -= sum(map(len, chunks))

    async def _read(self, scope: Scope, receive: Receive, chunks: list[bytes]) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        size = 0 if length.isdigit() and int(length) <= self.max_body else self.max_body + 1
        more = True
        try:
            async with asyncio.timeout(self.timeout):
                while more and size <= self.max_body:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ClientDisconnect
                    if chunk := message.get("body"):
                        chunks.append(chunk)
                        size += len(chunk)
                        self._held += len(chunk)
                    if self._held > self.memory:
                        detail = "too many large bodies at once: try again in a second"
                        raise HTTPException(503, detail, {"Retry-After": "1"})
                    if more := message.get("more_body", False):
                        await self.turns.take(chunk or b"")
        except TimeoutError:
            detail = f"the body did not arrive within {self.timeout:g} seconds: send it faster"
            raise HTTPException(408, detail, {"Connection": "close"}) from None
        if size > self.max_body:
            raise HTTPException(413, f"the body is too large: send at most {self.max_body:,} bytes")
