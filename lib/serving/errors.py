"""The responses to requests without a prediction: one sentence, never a path or a traceback."""

import asyncio
from collections.abc import Mapping

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lib.core.errors import InputError
from lib.serving.batcher import QueueFull

_PAUSE = 0.1  # seconds before a client learns that there is no room: it may ask again at once, while others wait
_ROUTING = {404: "there is nothing at this address: see /docs", 405: "this address has another method: see /docs"}


def refusal(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response to a request that is refused, with the sentence `detail`."""
    return JSONResponse({"detail": detail}, status, headers)


async def _respond(_: Request, error: Exception) -> Response:
    match error:
        case HTTPException():
            return refusal(error.status_code, _ROUTING.get(error.status_code, error.detail), error.headers)
        case InputError():
            return refusal(400, str(error))
        case RequestValidationError():
            return refusal(422, f"the query parameter {error.errors()[0]['loc'][-1]!r} is of another type: see /docs")
        case QueueFull():
            await asyncio.sleep(_PAUSE)
            return refusal(503, "too much to do: try again in a second", {"Retry-After": "1"})
    return refusal(500, "the service failed at this request, not you: its log says why")


HANDLERS = dict.fromkeys((HTTPException, InputError, RequestValidationError, QueueFull, Exception), _respond)
