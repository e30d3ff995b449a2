"""A short way to the address that is asked most, past what a framework does for all addresses."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send


class ShortWay:
    """Pass POST requests to `path` without a query straight to `endpoint`, and all others on.

    Routing, reading parameters that are not there, and a stack of contexts for each request take as long as
    the endpoint itself. `handlers` make responses of its exceptions, by their type, as those of the application do.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        handlers: Mapping[type[Exception], Callable[[Request, Any], Awaitable[Response]]],
    ) -> None:
        self.app, self.path, self.endpoint, self.handlers = app, path, endpoint, handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and (scope["method"], scope["path"], scope["query_string"])
        await (self._answer if asked == ("POST", self.path, b"") else self.app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self.endpoint(request)
        except tuple(self.handlers) as error:
            handle = next(handle for kind, handle in self.handlers.items() if isinstance(error, kind))
            response = await handle(request, error)
        await response(scope, receive, send)
