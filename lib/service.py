"""Answer over HTTP: a picture in, a verdict out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException as StarletteHTTPException

from lib import page
from lib.batcher import Batcher, Busy, Pool
from lib.body import WholeBody
from lib.drift import read_reference
from lib.drift_watch import DriftWatch
from lib.errors import InputError
from lib.forms import files_of
from lib.model import Model
from lib.occlusion import explanation
from lib.pictures import Picture, decode_picture, open_picture, read_picture
from lib.service_metrics import Measured, Metrics
from lib.service_schema import ERRORS, FILE, Answer, Explain, Refusal, Unsure, form
from lib.service_settings import ServiceSettings, read_settings

UNSURE = "UNSURE"
SMALL_FILE, SMALL_PICTURE = 16 * 2**10, 256 * 256  # bytes, pixels: decoded sooner than handed to another thread

router = APIRouter()


def create_app(settings: ServiceSettings | None = None) -> FastAPI:
    """Return the service, with its network open; where settings or network are wrong, exit and say why."""
    about = "Tells camera images from images of Stable Diffusion 1.4, both of 32×32 pixels."
    # Given as routes, not included as a router, which FastAPI would search twice for each request.
    routes = [*router.routes, *page.router.routes]
    app = FastAPI(
        title="CIFAKE Lab", version=version("cifake-lab"), description=about, lifespan=_lifespan, routes=routes
    )
    try:
        settings = settings or read_settings()
        model = Model(settings.model, settings.threads)
        known = settings.model.with_name("drift.npz")  # of the same release
        app.state.drift = DriftWatch(read_reference(known) if known.is_file() else None, settings.drift_window)
    except InputError as error:
        raise SystemExit(str(error)) from None
    state, metrics = app.state, Metrics()
    state.settings, state.model, state.metrics = settings, model, metrics
    metrics.describe(settings.model, app.version, model.data)
    metrics.watch(lambda: state.batcher, state.drift)
    paths = frozenset(route.path for route in routes)
    app.add_middleware(WholeBody, most=settings.max_body, memory=settings.memory, seconds=settings.body_seconds)
    app.add_middleware(Measured, metrics=metrics, paths=paths)
    for kind, handler in ((InputError, _refuse), (RequestValidationError, _explain), (Busy, _busy),
                          (StarletteHTTPException, _say), (Exception, _fail)):  # fmt: skip
        app.add_exception_handler(kind, handler)
    return app


@router.post("/predict/", response_model=Answer, responses=ERRORS, openapi_extra=form(FILE))
async def predict(request: Request, unsure: Unsure = False, explain: Explain = False) -> Response:
    """Judge one picture.

    `prediction` is FAKE or REAL (or UNSURE, if asked for), `probs` what the network says, `calibrated` what that is
    worth on pictures like those it knows; `warning` says when this one, or the last ones, are not of that kind.
    """
    contents = await _files(request, most=8)
    if len(contents) > 1:
        raise HTTPException(400, "the form has several files: send one, or all to /predict/batch")
    state, picture = request.app.state, await _picture(request.app, contents[0])
    (answer,) = await _answers(request.app, [picture], unsure)
    if isinstance(picture, InputError):
        raise picture
    if explain:
        explain_it = partial(explanation, state.model.logits)
        answer["explanation"] = asdict(await state.explainers.run(explain_it, picture.pixels))
    return JSONResponse(answer)


@router.post(
    "/predict/batch",
    response_model=list[Answer | Refusal],
    responses=ERRORS,
    openapi_extra=form({"type": "array", "items": FILE, "minItems": 1}),
)
async def predict_batch(request: Request, unsure: Unsure = False) -> Response:
    """Judge many pictures: a list in the order of the files, each a verdict as /predict/ gives it, or an `error`.

    How many one request may hold is the setting `files`, 64 if nothing else is said.
    """
    contents = await _files(request, most=request.app.state.settings.files)
    pictures = [await _picture(request.app, content) for content in contents]
    return JSONResponse(await _answers(request.app, pictures, unsure))


@router.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Report that the service is up, the project version that it runs, and what its network was trained on."""
    return {"status": "ok", "version": request.app.version, "trained_on": request.app.state.model.data}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Report counters, latencies, queue and drift for Prometheus."""
    return Response(request.app.state.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


async def _files(request: Request, most: int) -> list[bytes]:
    return files_of(await request.body(), request.headers.get("content-type", ""), most)


async def _answers(app: FastAPI, pictures: list[Picture | InputError], unsure: bool) -> list[dict[str, Any]]:
    """Return for each picture its answer, or why it has none."""
    state = app.state
    verdicts = iter(await state.batcher.answer([p.pixels for p in pictures if isinstance(p, Picture)]))
    answers: list[dict[str, Any]] = []
    for picture in pictures:
        if isinstance(picture, InputError):
            answers.append({"error": str(picture)})
            state.metrics.answers.labels("refused").inc()
            continue
        state.drift.add(picture.pixels)
        verdict = next(verdicts)
        answer = vars(verdict) | {"warning": picture.warning or state.drift.warning}
        if unsure and verdict.unsure:
            answer["prediction"] = UNSURE
        answers.append(answer)
        state.metrics.answers.labels(answer["prediction"]).inc()
    return answers


async def _picture(app: FastAPI, content: bytes) -> Picture | InputError:
    """Decode a picture, a large one in another thread; return why that cannot be done."""
    decoders = app.state.decoders
    try:
        if len(content) > SMALL_FILE:
            return await decoders.run(read_picture, content)
        image = open_picture(content)
        if image.width * image.height > SMALL_PICTURE:
            return await decoders.run(decode_picture, image)
        return decode_picture(image)
    except InputError as error:
        return error


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start what decodes, judges and watches; at the end, answer what still waits."""
    state, settings = app.state, app.state.settings
    state.batcher = Batcher(lambda pictures: state.model.judge(np.stack(pictures)), settings.batch, settings.queue,
                            state.metrics.batches.observe)  # fmt: skip
    state.decoders, state.explainers = Pool(2, settings.large), Pool(1, settings.explanations)
    watching = asyncio.create_task(_watch(state.drift, settings.drift_seconds))
    yield
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    state.decoders.close()
    state.explainers.close()
    await state.batcher.close()


async def _watch(drift: DriftWatch, seconds: float) -> None:
    """Test for drift now and then, beside the requests."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(drift.update)


async def _refuse(request: Request, error: InputError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 400)


async def _explain(request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer with a sentence where FastAPI would list what it expected."""
    name = error.errors()[0]["loc"][-1]
    return JSONResponse({"detail": f"the query parameter {name!r} is of another type: see /docs"}, 422)


async def _say(request: Request, error: StarletteHTTPException) -> JSONResponse:
    said = {404: "there is nothing at this address: see /docs", 405: "this address has another method: see /docs"}
    return JSONResponse({"detail": said.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def _busy(request: Request, error: Busy) -> JSONResponse:
    request.app.state.metrics.answers.labels("overloaded").inc()
    return JSONResponse({"detail": "too much to do: try again in a second"}, 503, {"Retry-After": "1"})


async def _fail(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the service failed at this request, not you: its log says why"}, 500)
