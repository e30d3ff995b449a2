"""HTTP as uvicorn speaks it, but for half a head, the offer of another protocol, and what arrives at a shutdown."""

import asyncio
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_MAX_HEAD = 64 * 2**10  # bytes of the head of a request
_LONG_HEAD = b'{"detail":"the head of the request is too long: send shorter headers, and files in the body"}'
_REST_EVERY = 0.005  # seconds between two readings of what is left of a body after its answer
_LAST_CALL = 1.0  # seconds that an idle connection stays open at a shutdown


class Protocol(HttpToolsProtocol):
    """Close a connection without a request in progress after `timeout_keep_alive` seconds, whatever arrives meanwhile.

    At a shutdown a request that is on its way through an idle connection is still answered, as its last one.
    What is left of a body that was refused is dropped, with pauses, so that it takes no turns from other requests.
    Offers to upgrade (h2c, WebSocket) are ignored. A head that goes on for 64 KiB is refused with 431. The scope of a
    request whose client has gone away gets a key `gone`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self._deadline: asyncio.TimerHandle | None = None
        self._head: int | None = None  # bytes of a head that is not complete
        self._begun = False  # in the data at hand
        self._shutdown = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        self._begun = False
        super().data_received(data)
        if self._head is not None and not self._begun:  # of the data that it began in, the most may be a body
            self._head += len(data)
            if self._head > _MAX_HEAD:
                self._refuse_head()
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._set_deadline()

    def on_message_begin(self) -> None:
        self._head, self._begun = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head = None
        self._unset_deadline()
        super().on_headers_complete()
        if self._shutdown and self.cycle:
            self.cycle.keep_alive = False
        if self.cycle:
            self.cycle.__class__ = _Cycle  # which uvicorn has no setting for

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete and not self.flow.read_paused:
            self.flow.pause_reading()
            self.loop.call_later(_REST_EVERY, self._read_on)

    def shutdown(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            # Closing it now would reset it if a request has arrived that is not read yet.
            self._shutdown = True
            self.loop.call_later(_LAST_CALL, super().shutdown)
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_deadline()
        super().connection_lost(exc)

    def _refuse_head(self) -> None:
        self._head = None
        lines = b"HTTP/1.1 431 Request Header Fields Too Large", b"connection: close", b"content-type: application/json"
        self.transport.write(b"\r\n".join((*lines, b"content-length: %d" % len(_LONG_HEAD), b"", _LONG_HEAD)))
        self.transport.close()

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _unset_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _should_upgrade(self) -> bool:
        return True  # so that no request begins with a head whose body the parser skips: _Parser repeats such a head


class _Cycle(RequestResponseCycle):
    """Begin no response to a client that has gone away, also in the turns before `connection_lost` is called."""

    async def send(self, message: ASGISendEvent) -> None:
        if self.transport.is_closing() and not self.response_started:
            self.disconnected = True
            self.scope["gone"] = True  # type: ignore[typeddict-unknown-key]
        await super().send(message)


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
