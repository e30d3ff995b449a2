"""Metrics for Prometheus, and the middleware that counts and times requests."""

import time
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib import CLASSES
from lib.inference.drift_monitor import DriftMonitor
from lib.serving.batcher import Batcher

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CLIENT_GONE = 499  # nginx's status where the client went away before there was a response


class Metrics:
    """Hold the metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, gauge, histogram = (partial(it, registry=self.registry) for it in (Counter, Gauge, Histogram))
        # Cached: looking a series up by its labels takes longer than counting.
        self.requests = cache(counter("cifake_requests_total", "Requests", ["path", "code"]).labels)
        duration = histogram("cifake_request_duration_seconds", "Time to the response", ["path"], buckets=_SECONDS)
        self.duration = cache(duration.labels)
        self.in_flight = gauge("cifake_requests_in_flight", "Requests without a response so far")
        outcomes = "Images, by prediction or refused; requests that were refused for lack of capacity"
        self.predictions = cache(counter("cifake_predictions_total", outcomes, ["outcome"]).labels)
        self.batch_size = histogram("cifake_batch_size", "Images in a pass of the network", buckets=_IMAGES)

    def watch(self, batcher: Batcher, drift: DriftMonitor, model: dict[str, str]) -> None:
        """Report queue and drift at each scrape, and which network is served."""
        for name, text, read in (
            ("cifake_queue_depth", "Images that wait for the network", lambda: batcher.depth),
            ("cifake_queue_capacity", "Images that may wait", lambda: batcher.capacity),
            ("cifake_drift_detected", "1 if the last test detected drift in any class", lambda: drift.is_drift),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)
        for name, text, of_class in (
            ("cifake_drift_window_images", "Images in the window of the drift test", drift.num_images),
            ("cifake_drift_p_value", "p-value of the last drift test; NaN before it, or of few images", drift.p_value),
        ):
            gauge = Gauge(name, text, ["prediction"], registry=self.registry)
            for prediction in CLASSES:
                gauge.labels(prediction).set_function(partial(of_class, prediction))
        Info("cifake_model", "The network, and the version of the project", registry=self.registry).info(model)


class MetricsMiddleware:
    """Count and time each request of an application, by path where it is one of `paths`, else as "other"."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, code = time.perf_counter(), _CLIENT_GONE

        async def noted(message: Message) -> None:
            nonlocal code
            await send(message)
            code = _CLIENT_GONE if "gone" in scope else message.get("status", code)

        try:
            with self.metrics.in_flight.track_inprogress():
                await self.app(scope, receive, noted)
        except Exception:
            code = 500
            raise
        finally:
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            path = path if path in self.paths else "other"
            self.metrics.requests(path, code).inc()
            self.metrics.duration(path).observe(time.perf_counter() - start)
            if code == 503:
                self.metrics.predictions("overloaded").inc()
