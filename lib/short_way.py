"""A short way to the address that is asked most, past what a framework does for all addresses."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

_TYPE = (b"content-type", b"application/json")


class Json(JSONResponse):
    """Answer in the JSON of the short way."""

    def render(self, content: Any) -> bytes:
        return to_json(content)


class ShortWay:
    """Answer POST requests to `path` without a query with what `answer` returns, as JSON, and pass all others on.

    Routing, reading parameters that are not there, and a stack of contexts for each request take longer than all
    the rest. `handlers` make responses of exceptions, by their type, as those of the application do.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        answer: Callable[[Scope], Awaitable[Any]],
        handlers: Mapping[type[Exception], Callable[[Request, Any], Awaitable[Response]]],
    ) -> None:
        self.app, self.path, self.answer, self.handlers = app, path, answer, handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and (scope["method"], scope["path"], scope["query_string"])
        await (self._answer if asked == ("POST", self.path, b"") else self.app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = to_json(await self.answer(scope))
        except Exception as error:
            kind, handle = next(it for it in self.handlers.items() if isinstance(error, it[0]))
            response = await handle(Request(scope, receive), error)
            await response(scope, receive, send)
            if kind is Exception:
                raise  # for the log
            return
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length, _TYPE]})
        await send({"type": "http.response.body", "body": body})
