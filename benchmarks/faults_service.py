"""The service's part of faults.py: load it, stop it by a signal, start it again, and account for every request."""

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from images import image

from lib.core.files import ROOT, write_json
from lib.core.provenance import lib_hash

CLIENTS = 32  # half of them keep their connection, the others open one for each request
IMAGES = 64
TOLERANCE = 1e-4  # of a probability: batches of other sizes round differently
AFTER = 1.5  # seconds of load after the service is back


@dataclass
class Load:
    """Count what becomes of each request. One is sent by each client at a time; a refused connection is tried again."""

    address: str
    answers: list[dict[str, Any]]
    images: list[bytes] = field(default_factory=lambda: list(map(image, range(IMAGES))))
    counts: Counter[str] = field(default_factory=Counter)
    in_flight: set[int] = field(default_factory=set)
    doomed: set[int] = field(default_factory=set)  # in flight when the signal was sent
    over: bool = False

    async def client(self, turns: "itertools.count[int]", keep: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=int(keep))
        async with httpx.AsyncClient(base_url=self.address, timeout=60, limits=limits) as http:
            while not self.over:
                await self._request(http, next(turns))

    async def _request(self, http: httpx.AsyncClient, turn: int) -> None:
        number = turn % IMAGES
        self.counts["requests"] += 1
        while True:
            self.in_flight.add(turn)
            try:
                response = await http.post("/predict/", files={"data": ("x.jpg", self.images[number])})
            except httpx.ConnectError:  # nobody has seen the request
                self.in_flight.discard(turn)
                self.counts["refused"] += 1
                if self.over:
                    self.counts["requests"] -= 1
                    return
                await asyncio.sleep(0.1)
                continue
            except httpx.TransportError:
                self.counts["lost_in_flight" if turn in self.doomed else "lost_later"] += 1
            else:
                right = response.status_code == 200 and same(response.json(), self.answers[number])
                self.counts["right" if right else "busy" if response.status_code == 503 else "wrong"] += 1
            self.in_flight.discard(turn)
            return


async def disturb(answers: list[dict[str, Any]], sign: signal.Signals, moment: float) -> dict[str, Any]:
    """Send the signal `moment` seconds into the load, start the service again, and return the counts."""
    port = free_port()
    load = Load(f"http://127.0.0.1:{port}", answers)
    service = start(port)
    try:
        await healthy(load.address, service)
        turns = itertools.count()
        clients = [asyncio.create_task(load.client(turns, turn % 2 == 0)) for turn in range(CLIENTS)]
        await asyncio.sleep(moment)
        service.send_signal(sign)
        if sign == signal.SIGKILL:
            service.wait()  # nothing else runs here meanwhile: what is in flight now was so when the service died
        signalled, load.doomed = time.perf_counter(), set(load.in_flight)
        while service.poll() is None:
            await asyncio.sleep(0.01)
        ended, code = time.perf_counter(), service.returncode
        service = start(port)
        await healthy(load.address, service)
        back = time.perf_counter()
        await asyncio.sleep(AFTER)
        load.over = True
        await asyncio.gather(*clients)
    finally:
        service.terminate()
        service.wait()
    names = ("requests", "right", "wrong", "busy", "lost_in_flight", "lost_later", "refused")
    orphans = [
        it.info for it in psutil.process_iter(["cmdline"]) if f"--port {port}" in " ".join(it.info["cmdline"] or ())
    ]
    return {
        "moment": round(moment, 2), **{name: load.counts[name] for name in names}, "in_flight": len(load.doomed),
        "exit": code, "stopping": round(ended - signalled, 2), "down": round(back - signalled, 2), "orphans": orphans,
    }  # fmt: skip


def answers_of(folder: Path) -> list[dict[str, Any]]:
    """Return the answers of an undisturbed service to all images, one request at a time."""
    path, code = folder / "answers.json", lib_hash(module="serving.app")
    if path.is_file() and (known := json.loads(path.read_text()))["code"] == code:
        return known["answers"]
    port = free_port()
    service = start(port)
    try:
        address = f"http://127.0.0.1:{port}"
        asyncio.run(healthy(address, service))
        files = [{"data": ("x.jpg", image(number))} for number in range(IMAGES)]
        answers = [httpx.post(f"{address}/predict/", files=it).raise_for_status().json() for it in files]
    finally:
        service.terminate()
        service.wait()
    write_json(path, {"code": code, "answers": answers})
    return answers


def same(answer: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Compare two answers: equal but for the rounding of probabilities."""
    close = all(abs(answer["probs"][name] - probability) < TOLERANCE for name, probability in wanted["probs"].items())
    return close and answer.keys() == wanted.keys() and answer["prediction"] == wanted["prediction"]


def start(port: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "lib", "serve", "--port", str(port)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ}, stderr=subprocess.DEVNULL, start_new_session=True)


async def healthy(address: str, service: subprocess.Popen) -> None:
    async with httpx.AsyncClient(base_url=address) as http:
        while service.poll() is None:
            try:
                (await http.get("/health")).raise_for_status()
                return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    sys.exit("the service did not start")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
