"""The service: an image in, a prediction out, over HTTP."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json
from starlette.middleware.cors import CORSMiddleware

from lib.core.errors import InputError
from lib.inference.drift import read_reference
from lib.inference.drift_monitor import DriftMonitor
from lib.inference.images import DecodedImage, decode_image, decode_small_image
from lib.inference.limits import limits
from lib.inference.occlusion import explanation
from lib.inference.predictor import Prediction, Predictor, warning
from lib.serving import page
from lib.serving.addresses import Addresses
from lib.serving.batcher import Batcher
from lib.serving.body_limit import BodyLimit
from lib.serving.errors import HANDLERS
from lib.serving.form import form_files
from lib.serving.lifespan import lifespan
from lib.serving.metrics import Metrics, MetricsMiddleware
from lib.serving.schemas import ERRORS, FILE, FILES, Answer, Explain, Refusal, Unsure, form
from lib.serving.settings import Settings, read_settings
from lib.serving.turns import Turns

_ABOUT = "Tells images like CIFAKE's photographs (REAL) from images like its images by Stable Diffusion 1.4 (FAKE)."
Outcome = tuple[DecodedImage, Prediction] | InputError  # or why there is none


class Service:
    """Hold what requests share: the network, the queue before it, a decoder, an explainer, metrics, a drift monitor.

    Raises InputError for a missing or foreign network.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics, self.turns = settings, Metrics(), Turns()
        self.predictor = Predictor(settings.model, settings.threads)
        reference = settings.model.with_name("drift.npz")  # of the same release
        test = read_reference(reference) if reference.is_file() else None
        self.drift = DriftMonitor(test, settings.drift_window)
        self.limits = limits(settings.model)
        sizes = settings.workers, settings.max_batch_size, settings.max_queue_size
        self.batcher = Batcher(self._predictions, *sizes, self.metrics.batch_size.observe)
        rule, two = self.predictor.input_rule, (2, 1, settings.max_decode_queue)
        self.decoder = Batcher(lambda files: [decode_image(*files, rule)], *two, nice=settings.nice)
        # With all networks of a cascade: the margins of one do not compare with those of another.
        explain = partial(explanation, partial(self.predictor.logits, full_cascade=True))
        one = 1, 1, settings.max_explain_queue
        self.explainer = Batcher(lambda images: [explain(*images)], *one, nice=settings.nice)
        digest = hashlib.sha256(settings.model.read_bytes()).hexdigest()
        about = {"sha256": digest, "version": version("cifake-lab"), "trained_on": self.predictor.data}
        self.metrics.watch(self.batcher, self.drift, about)

    async def predict(self, contents: list[bytes]) -> list[Outcome]:
        """Decode files and run the network; return the outcome of each."""
        decoded = []
        for content in contents:
            decoded.append(await self._decode(content))
            await asyncio.sleep(0)  # the turn of others, where the event loop itself has decoded
        predictions = iter(await self.batcher.run([it.pixels for it in decoded if isinstance(it, DecodedImage)]))
        return [(it, next(predictions)) if isinstance(it, DecodedImage) else it for it in decoded]

    def answer(self, outcome: Outcome, unsure: bool) -> dict[str, Any]:
        """Return the response for one image, or its error; count it, and add it to the drift window."""
        if isinstance(outcome, InputError):
            self.metrics.predictions("refused").inc()
            return {"error": str(outcome)}
        image, prediction = outcome
        self.drift.add(image.pixels, prediction.prediction)
        answer = vars(prediction) | {"warning": warning(image, prediction)}
        if unsure and prediction.unsure:
            answer["prediction"] = "UNSURE"
        self.metrics.predictions(answer["prediction"]).inc()
        return answer

    async def watch_drift(self) -> None:
        """Test for drift at intervals, in a thread."""
        while True:
            await asyncio.sleep(self.settings.drift_interval)
            await asyncio.to_thread(self.drift.update)

    def _predictions(self, images: list[np.ndarray]) -> list[Prediction]:
        # Joined as bytes: np.stack releases Python's lock for each image, and then waits for it.
        return self.predictor.predict(np.frombuffer(b"".join(images), np.uint8).reshape(-1, *images[0].shape))

    async def _decode(self, content: bytes) -> DecodedImage | InputError:
        """Decode a file, in a thread where that takes long."""
        try:
            return decode_small_image(content, self.predictor.input_rule) or (await self.decoder.run([content]))[0]
        except InputError as error:
            return error


class FormRoute(APIRoute):
    """Call the endpoint directly where there is no query, and nothing for FastAPI to validate."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        validated = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await (validated if request.scope["query_string"] else self.endpoint)(request)

        return handle


router = APIRouter()
forms = APIRouter(route_class=FormRoute)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the service, its network loaded; exit with the reason where settings or network are wrong."""
    try:
        service = Service(settings or read_settings())
    except InputError as error:
        raise SystemExit(str(error)) from None
    # Given as routes, not included as routers, which FastAPI would search twice for each request.
    routes = [*forms.routes, *router.routes, *page.router.routes]
    given, paths = service.settings, frozenset(route.path for route in routes)
    app = FastAPI(
        title="CIFAKE Lab", version=version("cifake-lab"), lifespan=lifespan, routes=routes, docs_url=None,
        redoc_url=None, redirect_slashes=False, exception_handlers=HANDLERS,
        telemetry=dict.fromkeys(("tracing", "metrics", "logs"), False),
        description=f"{_about(service.predictor.data)} {service.limits or ''}",
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(BodyLimit, service.turns, given.max_body, given.max_body_memory, given.body_timeout)
    app.add_middleware(MetricsMiddleware, service.metrics, paths)
    app.add_middleware(Addresses, paths)
    if given.cors_origins:
        methods, exposed = ("GET", "POST"), ("Retry-After",)
        app.add_middleware(CORSMiddleware, given.cors_origins, methods, ("*",), expose_headers=exposed)
    return app


def _about(data: str) -> str:
    return f"Tells FAKE from REAL as in its training data, {data}." if data.startswith("own images") else _ABOUT


@forms.post("/predict/", response_model=Answer, responses=ERRORS, openapi_extra=form(FILE))
async def predict(request: Request, unsure: Unsure = False, explain: Explain = False) -> Response:
    """Classify one image.

    `prediction` is FAKE or REAL (or UNSURE, if asked for), `probs` the probabilities of the network, `calibrated` the
    same, calibrated on validation images; `out_of_distribution` tells that the image is far from the training data,
    and `warning` has the reason where it is, or where its size differs from theirs.
    """
    service: Service = request.app.state.service
    contents = await _files(request, most=8)
    if len(contents) > 1:
        raise HTTPException(400, "the form has several files: send one, or all to /predict/batch")
    if explain:
        service.explainer.check_room()  # before the work that the prediction takes
    (outcome,) = await service.predict(contents)
    answer = service.answer(outcome, unsure)
    if isinstance(outcome, InputError):
        raise outcome
    if explain:
        (answer["explanation"],) = map(asdict, await service.explainer.run([outcome[0].pixels]))
    return Response(to_json(answer), media_type="application/json")


@forms.post("/predict/batch", response_model=list[Answer | Refusal], responses=ERRORS, openapi_extra=form(FILES))
async def predict_batch(request: Request, unsure: Unsure = False) -> Response:
    """Classify several images: a list in the order of the files, each a prediction as of /predict/, or an `error`.

    The setting `max_files` limits how many one request may hold, to 64 by default.
    """
    service: Service = request.app.state.service
    contents = await _files(request, service.settings.max_files)
    answers = [service.answer(outcome, unsure) for outcome in await service.predict(contents)]
    return Response(to_json(answers), media_type="application/json")


@router.get("/health")
async def health(request: Request) -> dict[str, str | int | None]:
    """Report that the service is up, and its version; of its network the training data, the limits outside them (null
    where they have not been measured), the version of the rule from an image to its input, and the input's side in
    pixels.
    """
    service: Service = request.app.state.service
    rule = service.predictor.input_rule
    about = {"trained_on": service.predictor.data, "limits": service.limits}
    about |= {"input_rule": rule.version, "image_size": rule.size}
    return {"status": "ok", "version": request.app.version, **about}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Report counters, latencies, queue and drift for Prometheus."""
    return Response(generate_latest(request.app.state.service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _files(request: Request, most: int) -> list[bytes]:
    service: Service = request.app.state.service
    return await form_files(request.headers.get("content-type", ""), request.scope["body"], most, service.turns)
