"""HTTP as uvicorn speaks it, but for what clients leave open: half a head, and the offer of another protocol."""

import asyncio
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    """Close a connection without a request in progress after `timeout_keep_alive` seconds, whatever arrives meanwhile.

    Offers to upgrade (h2c, WebSocket) are ignored. The scope of a request whose client has gone away gets a key `gone`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._set_deadline()

    def on_headers_complete(self) -> None:
        self._unset_deadline()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_deadline()
        if self.cycle and not self.cycle.response_complete:
            self.cycle.scope["gone"] = True  # type: ignore[typeddict-unknown-key]
        super().connection_lost(exc)

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _unset_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _should_upgrade(self) -> bool:
        return True  # so that no request begins with a head whose body the parser skips: _Parser repeats such a head


class _Parser(HttpRequestParser):
    """Repeat a head that offers to upgrade without the offer, which makes the parser skip the body."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._protocol = protocol

    def feed_data(self, data: bytes | memoryview) -> None:
        while True:
            try:
                return super().feed_data(data)
            except HttpParserUpgrade as offer:
                method, given = self.get_method(), self._protocol
                if method == b"CONNECT":  # no offer, and nothing to fall back to
                    raise HttpParserError("this is no proxy") from None
                head = [b"%b %b HTTP/%b" % (method, given.url, self.get_http_version().encode())]
                head += [b"%b: %b" % header for header in given.headers if header[0] != b"upgrade"]
                super().feed_data(b"\r\n".join([*head, b"", b""]))
                data = memoryview(data)[offer.args[0] :]
