"""Answer over HTTP: a picture in, a verdict out."""

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, File, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

from lib import page
from lib.errors import InputError
from lib.files import project_path
from lib.model import Model
from lib.occlusion import explanation
from lib.pictures import read_picture

MODEL = "CIFAKE_MODEL"  # environment: an ONNX file, with metrics.json beside it
MAX_BODY = 20 * 2**20  # bytes
UNSURE = "UNSURE"

ANSWERS = Counter("cifake_answers_total", "Requests for a verdict, by outcome", ["outcome"])
SECONDS = Histogram("cifake_answer_seconds", "Seconds from a request for a verdict to its answer",
                    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1))  # fmt: skip


router = APIRouter()


def create_app() -> FastAPI:
    """Return the service, with its network open; without one, exit and say why."""
    path = project_path(os.environ.get(MODEL) or "outputs/reference/model.onnx")
    about = "Tells camera images from images of Stable Diffusion 1.4, both of 32×32 pixels."
    app = FastAPI(title="CIFAKE Lab", version=version("cifake-lab"), description=about)
    try:
        app.state.model = Model(path)
    except InputError as error:
        raise SystemExit(f"{MODEL}: {error}") from None
    app.include_router(router)
    app.include_router(page.router)
    app.add_exception_handler(InputError, _refuse)
    app.add_exception_handler(RequestValidationError, _explain)
    app.middleware("http")(_limit)
    return app


@router.get("/health")
def health(request: Request) -> dict[str, str]:
    """Report that the service is up, the project version that it runs, and what its network was trained on."""
    return {"status": "ok", "version": request.app.version, "trained_on": request.app.state.model.data}


@router.get("/metrics", response_class=PlainTextResponse)
def metrics() -> Response:
    """Report counters and latencies for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.post("/predict/", responses={400: {"description": "The picture cannot be judged; `detail` says why."}})
def predict(
    request: Request,
    data: Annotated[UploadFile, File(description="The picture, as a file.")],
    unsure: Annotated[bool, Query(description="Answer UNSURE where the error could exceed the stated one.")] = False,
    explain: Annotated[bool, Query(description="Add `explanation`: what it saw, and where it looked.")] = False,
) -> dict[str, Any]:
    """Judge one picture.

    `prediction` is FAKE or REAL (or UNSURE, if asked for), `probs` what the network says, `calibrated` what that is
    worth on pictures like those it knows; `warning` says when this one is not of that kind. `explanation`, if asked
    for, holds `view`, the 32×32 pixels that the network saw, as a PNG in a data URI, and `evidence`, 32 rows of 32
    numbers, above 0 for FAKE and below 0 for REAL: by how many logits the verdict moves when that part is covered.
    """
    start = time.perf_counter()
    try:
        picture = read_picture(data.file.read())
    except InputError:
        ANSWERS.labels("refused").inc()
        raise
    verdict = request.app.state.model.judge(picture.pixels[None])[0]
    answer = {**asdict(verdict), "warning": picture.warning}
    if unsure and verdict.unsure:
        answer["prediction"] = UNSURE
    ANSWERS.labels(answer["prediction"]).inc()
    SECONDS.observe(time.perf_counter() - start)
    if explain:
        answer["explanation"] = explanation(request.app.state.model.logits, picture.pixels)
    return answer


async def _refuse(request: Request, error: InputError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 400)


async def _explain(request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer with a sentence where FastAPI would list what it expected."""
    place, name = error.errors()[0]["loc"][0], error.errors()[0]["loc"][-1]
    kind = "multipart field" if place == "body" else "query parameter"
    return JSONResponse({"detail": f"the {kind} {name!r} is missing or of another type: see /docs"}, 422)


async def _limit(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse a body that says it is too long before any of it is read."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY:
        return JSONResponse({"detail": f"the body is too large: send at most {MAX_BODY // 2**20} MiB"}, 413)
    if request.method == "POST" and "content-length" not in request.headers:
        return JSONResponse({"detail": "the length of the body is not stated: send Content-Length"}, 411)
    return await call_next(request)
