"""What the service says where it has no answer: one sentence, never a path or a traceback."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lib.batcher import Busy
from lib.errors import InputError


async def _refuse(request: Request, error: InputError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 400)


async def _explain(request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer with a sentence where FastAPI would list what it expected."""
    name = error.errors()[0]["loc"][-1]
    return JSONResponse({"detail": f"the query parameter {name!r} is of another type: see /docs"}, 422)


async def _say(request: Request, error: HTTPException) -> JSONResponse:
    said = {404: "there is nothing at this address: see /docs", 405: "this address has another method: see /docs"}
    return JSONResponse({"detail": said.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def _busy(request: Request, error: Busy) -> JSONResponse:
    request.app.state.metrics.answered("overloaded")
    return JSONResponse({"detail": "too much to do: try again in a second"}, 503, {"Retry-After": "1"})


async def _fail(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the service failed at this request, not you: its log says why"}, 500)


HANDLERS: Mapping[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
    InputError: _refuse,
    RequestValidationError: _explain,
    Busy: _busy,
    HTTPException: _say,
    Exception: _fail,
}
