"""What the service tells Prometheus."""

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib.batcher import Batcher
from lib.drift_watch import DriftWatch
from lib.judges import Judge

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """Count requests and pictures of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        on = {"registry": self.registry}
        self.requests = Counter("cifake_requests_total", "Requests, by address and HTTP status", ["path", "code"], **on)
        self.answers = Counter("cifake_answers_total", "Pictures, by verdict, refused, or sent away", ["outcome"], **on)
        self.seconds = Histogram("cifake_answer_seconds", "Seconds from a request's arrival to its answer", ["path"],
                                 buckets=_SECONDS, **on)  # fmt: skip
        self.in_flight = 0
        waiting = Gauge("cifake_requests_in_flight", "Requests that wait for their answer", **on)
        waiting.set_function(lambda: self.in_flight)
        self.batches = Histogram("cifake_batch_pictures", "Pictures judged at a time",
                                 buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), **on)  # fmt: skip

        # Looking up a series by its labels takes longer than counting.
        self._requests, self._answers, self._seconds = (
            cache(metric.labels) for metric in (self.requests, self.answers, self.seconds)
        )

    def answered(self, outcome: str) -> None:
        """Count a picture."""
        self._answers(outcome).inc()

    def requested(self, path: str, code: int, seconds: float) -> None:
        """Count a request, and how long its answer took."""
        self._requests(path, code).inc()
        self._seconds(path).observe(seconds)

    def describe(self, model: Path, version: str, trained_on: str) -> None:
        """Say which network answers."""
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        info = Info("cifake_model", "The network, and the version of the project", registry=self.registry)
        info.info({"sha256": digest, "version": version, "trained_on": trained_on})

    def watch(self, batcher: Callable[[], Batcher], drift: DriftWatch) -> None:
        """Read queue and drift whenever Prometheus asks."""
        for name, about, read in (
            ("cifake_queue_pictures", "Pictures that wait to be judged", lambda: batcher().depth),
            ("cifake_queue_limit_pictures", "Pictures that may wait", lambda: batcher().limit),
            ("cifake_drift_window_pictures", "Pictures that the next drift test sees", lambda: drift.pictures),
            ("cifake_drift_p_value", "p-value of the last drift test; NaN before the first", lambda: drift.p_value),
            ("cifake_drift_alarm", "1 if the last drift test raised an alarm", lambda: drift.alarm),
        ):
            Gauge(name, about, registry=self.registry).set_function(read)

    def watch_processes(self, judges: Sequence[Judge]) -> None:
        """Report memory, processor time and files of each process that judges, as of the service's own (on Linux)."""
        for number, judge in enumerate(judges):
            ProcessCollector(f"judge{number}", lambda judge=judge: judge.pid, registry=self.registry)

    def exposition(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """Count and time each request of an application; `paths` are told apart, all others are "other"."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, code = time.perf_counter(), 500  # what an exception becomes

        async def noted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        self.metrics.in_flight += 1
        try:
            await self.app(scope, receive, noted)
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.in_flight -= 1
            self.metrics.requested(path, code, time.perf_counter() - start)
