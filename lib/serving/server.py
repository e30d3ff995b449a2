"""The HTTP server: uvicorn's, which before its end also answers clients whose connections it has not accepted yet."""

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn


class Server(uvicorn.Server):
    """Accept all connections that wait when the shutdown begins: closing the listening socket would reset them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop, accepted = asyncio.get_running_loop(), list[socket.socket]()
        for server in self.servers:
            for listener in server.sockets:
                accepted += _waiting(listener.fileno())
            server.close()
        for connection in accepted:
            await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        shared: dict[str, Any] = {"server_state": self.server_state, "app_state": self.lifespan.state}
        return self.config.http_protocol_class(config=self.config, **shared)  # type: ignore[call-arg]


def _waiting(listener: int) -> Iterator[socket.socket]:
    # A socket of its own, because an event loop's has no `accept`.
    with socket.socket(fileno=os.dup(listener)) as duplicate:
        duplicate.setblocking(False)
        while True:
            try:
                yield duplicate.accept()[0]
            except OSError:
                return
