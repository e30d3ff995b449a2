"""Middleware that serves each address in the forms in which clients write it."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send


class Addresses:
    """Serve each of `paths` with and without a slash at its end, where that is no path itself; answer HEAD as GET."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self.app = app
        twins = {path.removesuffix("/") if path.endswith("/") else f"{path}/": path for path in paths if path != "/"}
        self._paths = {twin: path for twin, path in twins.items() if twin not in paths}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            prefix = scope.get("root_path", "")
            if path := self._paths.get(scope["path"].removeprefix(prefix)):
                scope["path"] = prefix + path
            if scope["method"] == "HEAD":
                scope = scope | {"method": "GET"}  # the server, which keeps its own, sends no body
        await self.app(scope, receive, send)
