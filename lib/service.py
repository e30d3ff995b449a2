"""Answer over HTTP: a picture in, a verdict out."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send

from lib import docs_page, page
from lib.batcher import Batcher, Pool
from lib.body import WholeBody
from lib.drift import read_reference
from lib.drift_watch import DriftWatch
from lib.errors import InputError
from lib.forms import files_of
from lib.judges import Judge
from lib.model import Model
from lib.occlusion import explanation
from lib.pictures import Picture, read_picture, read_small_picture
from lib.service_errors import HANDLERS
from lib.service_metrics import Measured, Metrics
from lib.service_schema import ERRORS, FILE, Answer, Explain, Refusal, Unsure, form
from lib.service_settings import ServiceSettings, read_settings
from lib.short_way import Json, ShortWay

UNSURE = "UNSURE"
Seen = tuple[Picture, float] | InputError  # a picture and the margin between its logits, or why there is none

router = APIRouter()


class Service(FastAPI):
    """A FastAPI application that measures every request, reads its body whole, and has a short way to /predict/."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)


def create_app(settings: ServiceSettings | None = None) -> Service:
    """Return the service, with its network open; where settings or network are wrong, exit and say why."""
    about = "Tells camera images from images of Stable Diffusion 1.4, both of 32×32 pixels."
    # Given as routes, not included as a router, which FastAPI would search twice for each request.
    routes = [*router.routes, *page.router.routes, *docs_page.router.routes]
    app = Service(
        title="CIFAKE Lab", version=version("cifake-lab"), description=about, lifespan=_lifespan, routes=routes,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
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
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    short = ShortWay(super(Service, app).__call__, app.url_path_for("predict"), partial(_plainly, app), HANDLERS)
    whole = WholeBody(short, settings.max_body, settings.memory, settings.body_seconds)
    app.front = Measured(whole, metrics, frozenset(route.path for route in routes))
    return app


@router.post("/predict/", response_model=Answer, responses=ERRORS, openapi_extra=form(FILE))
async def predict(request: Request, unsure: Unsure = False, explain: Explain = False) -> Response:
    """Judge one picture.

    `prediction` is FAKE or REAL (or UNSURE, if asked for), `probs` what the network says, `calibrated` what that is
    worth on pictures like those it knows; `warning` says when this one, or the last ones, are not of that kind.
    """
    state = request.app.state
    picture, answer = await _one(state, request.scope, unsure)
    if explain:
        # Of one network for all parts of the picture, or their difference would say nothing.
        explain_it = partial(explanation, partial(state.model.logits, thorough=True))
        answer["explanation"] = asdict(await state.explainers.run(explain_it, picture.pixels))
    return Json(answer)


async def _plainly(app: Service, scope: Scope) -> dict[str, Any]:
    """Answer as `predict` does where nothing is asked for."""
    scope["app"] = app
    return (await _one(app.state, scope, unsure=False))[1]


async def _one(state: State, scope: Scope, unsure: bool) -> tuple[Picture, dict[str, Any]]:
    contents = _files(scope, most=8)
    if len(contents) > 1:
        raise HTTPException(400, "the form has several files: send one, or all to /predict/batch")
    (seen,) = await _judged(state, contents)
    answer = _answer(state, seen, unsure)
    if isinstance(seen, InputError):
        raise seen
    return seen[0], answer


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
    state = request.app.state
    contents = _files(request.scope, most=state.settings.files)
    return Json([_answer(state, seen, unsure) for seen in await _judged(state, contents)])


@router.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Report that the service is up, the project version that it runs, and what its network was trained on."""
    return {"status": "ok", "version": request.app.version, "trained_on": request.app.state.model.data}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Report counters, latencies, queue and drift for Prometheus."""
    return Response(request.app.state.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _files(scope: Scope, most: int) -> list[bytes]:
    content_type = dict(scope["headers"]).get(b"content-type", b"")
    return files_of(scope["body"], content_type.decode("latin-1"), most)


async def _judged(state: State, contents: list[bytes]) -> list[Seen]:
    """Decode files and have them judged; return for each what came out, or why nothing did."""
    read = [await _read(state, content) for content in contents]
    pictures = [it for it in read if isinstance(it, Picture)]
    margins = iter(await state.batcher.answer([picture.pixels for picture in pictures]))
    return [(it, next(margins)) if isinstance(it, Picture) else it for it in read]


async def _read(state: State, content: bytes) -> Picture | InputError:
    """Decode a file, in a thread where that takes long."""
    try:
        return read_small_picture(content) or await state.decoders.run(read_picture, content)
    except InputError as error:
        return error


def _answer(state: State, seen: Seen, unsure: bool) -> dict[str, Any]:
    """Return the answer about a picture, or why there is none; count it, and remember the picture."""
    if isinstance(seen, InputError):
        state.metrics.answered("refused")
        return {"error": str(seen)}
    picture, margin = seen
    state.drift.add(picture.pixels)
    verdict = state.model.verdict(margin)
    answer = vars(verdict) | {"warning": picture.warning or state.drift.warning}
    if unsure and verdict.unsure:
        answer["prediction"] = UNSURE
    state.metrics.answered(answer["prediction"])
    return answer


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start what decodes, judges and watches; at the end, answer what still waits."""
    state, settings = app.state, app.state.settings
    processes = settings.processes or max(1, (os.cpu_count() or 1) - 1)  # this one keeps a core busy as well
    judges = [Judge(settings.model, settings.threads) for _ in range(processes)]
    await asyncio.gather(*(judge.start() for judge in judges))
    state.metrics.watch_processes(judges)
    # Twice each: a process has its next batch at hand when it is done with one.
    state.batcher = Batcher(judges * 2, settings.batch, settings.queue, state.metrics.batches.observe)
    state.decoders, state.explainers = Pool(2, settings.large), Pool(1, settings.explanations)
    watching = asyncio.create_task(_watch(state.drift, settings.drift_seconds))
    gc.freeze()  # what is there now stays: to search it for garbage again and again held up answers by 40 ms
    yield
    gc.unfreeze()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    state.decoders.close()
    state.explainers.close()
    await state.batcher.close()
    await asyncio.gather(*(judge.close() for judge in judges))


async def _watch(drift: DriftWatch, seconds: float) -> None:
    """Test for drift now and then, beside the requests."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(drift.update)
