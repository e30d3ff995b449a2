"""The service under load and in trouble: a full queue, drift, slow clients, failures; and as a real process."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from conftest import encoded
from fastapi.testclient import TestClient

from lib.batcher import Batcher, Busy
from lib.drift import image_statistics, read_reference
from lib.drift_watch import DriftWatch
from lib.errors import InputError
from lib.files import ROOT
from lib.judges import Judge
from lib.model import Model, released
from lib.occlusion import Explanation
from lib.one_write import Gathering
from lib.release import REFERENCE
from lib.service import create_app
from lib.service_settings import read_settings

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
PICTURE = encoded(NOISE)
FORM = {"data": ("x", PICTURE)}


Judging = Callable[[list[int]], Awaitable[list[int]]]


def taking(seconds: float, judge: Callable[[list[int]], list[int]] = lambda items: items) -> Judging:
    """Return a judge that takes its time."""

    async def answer(items: list[int]) -> list[int]:
        await asyncio.sleep(seconds)
        return judge(items)

    return answer


def test_what_waits_is_judged_together_and_results_find_their_items() -> None:
    sizes: list[int] = []

    async def use() -> list[list[int]]:
        batcher = Batcher([taking(0.01, lambda items: [10 * item for item in items])], 8, 100, sizes.append)
        answers = await asyncio.gather(*(batcher.answer([k]) for k in range(30)), batcher.answer([40, 41, 42]))
        await batcher.close()
        return answers

    assert asyncio.run(use()) == [[10 * k] for k in range(30)] + [[400, 410, 420]]
    assert sum(sizes) == 33
    assert sizes[0] <= 8
    assert max(sizes) == 8
    assert len(sizes) <= 6


def test_judges_work_side_by_side_each_on_one_batch_at_a_time() -> None:
    working, most = [0, 0], [0, 0]

    def judge(number: int) -> Judging:
        async def answer(items: list[int]) -> list[int]:
            working[number] += 1
            most[number] = max(most[number], working[number])
            together.append(sum(working))
            await asyncio.sleep(0.005)
            working[number] -= 1
            return items

        return answer

    together: list[int] = []

    async def use() -> list[int]:
        batcher = Batcher([judge(0), judge(1)], 4, 100, lambda size: None)
        answers = await batcher.answer(list(range(40)))
        await batcher.close()
        return answers

    assert asyncio.run(use()) == list(range(40))
    assert most == [1, 1]
    assert max(together) == 2


def test_a_full_queue_takes_nothing_a_failed_batch_fails_alone_and_closing_answers_what_waits() -> None:
    def judge(items: list[int]) -> list[int]:
        if 13 in items:
            raise ZeroDivisionError
        return items

    async def use() -> None:
        batcher = Batcher([taking(0.02, judge)], 1, 3, lambda size: None)
        first = asyncio.create_task(batcher.answer([1]))
        await asyncio.sleep(0.005)
        waiting = asyncio.create_task(batcher.answer([13, 2]))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await batcher.answer([3, 4])
        last = asyncio.create_task(batcher.answer([5]))
        await asyncio.sleep(0)
        await batcher.close()
        assert (await first, await last) == ([1], [5])
        with pytest.raises(ZeroDivisionError):
            await waiting

    asyncio.run(use())


def test_a_process_judges_in_turn_and_one_that_dies_is_replaced() -> None:
    first, second = NOISE, NOISE[::-1]
    margins = Model(released()).margins(np.stack([first, second]))

    async def use() -> None:
        process = Judge(released(), 1)
        await process.start()
        together = await asyncio.gather(process([first]), process([second]), process([first, second]))
        assert np.concatenate(together) == pytest.approx(margins * 2, abs=1e-4)
        with pytest.raises(RuntimeError, match="judging pictures failed"):
            await process([NOISE[:5]])
        assert await process([first]) == pytest.approx(margins[:1], abs=1e-4), "a failure ends nothing"
        process._process.kill()
        lost = await asyncio.gather(process([first]), process([first]), return_exceptions=True)
        assert [str(error) for error in lost] == ["the process that judges pictures ended with -9"] * 2
        again = await asyncio.gather(process([first]), process([second]))
        assert np.concatenate(again) == pytest.approx(margins, abs=1e-4)
        await process.close()
        assert process._process.returncode == 0

    asyncio.run(use())


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TestClient]]:
    """Return what starts a service in this process, with settings."""
    clients = []

    def start(**settings: object) -> TestClient:
        for name, value in settings.items():
            monkeypatch.setenv(f"CIFAKE_{name.upper()}", str(value))
        clients.append(TestClient(create_app(), raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def test_past_its_capacity_it_says_so_stays_alive_and_recovers(service, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, go_on = Judge.__call__, threading.Event()

    async def slow(process: Judge, items: list) -> list:
        await asyncio.to_thread(go_on.wait, 20)
        return await ask(process, items)

    monkeypatch.setattr(Judge, "__call__", slow)
    client = service(queue=2, batch=1, processes=1)
    with ThreadPoolExecutor(8) as users:
        replies = [users.submit(client.post, "/predict/", files=FORM) for _ in range(8)]
        deadline = time.time() + 10
        while sum(reply.done() for reply in replies) < 4 and time.time() < deadline:
            time.sleep(0.01)
        assert client.get("/health").status_code == 200, "it answers while the network is busy"
        assert "cifake_queue_pictures 2.0" in client.get("/metrics").text
        go_on.set()
    codes = sorted(reply.result().status_code for reply in replies)
    assert codes == [200] * 4 + [503] * 4, "one is judged, one at hand, two wait"
    refused = next(reply.result() for reply in replies if reply.result().status_code == 503)
    assert (refused.headers["retry-after"], refused.json()) == (
        "1",
        {"detail": "too much to do: try again in a second"},
    )
    assert client.post("/predict/", files=FORM).status_code == 200


def test_it_answers_others_while_it_decodes_a_large_picture_from_few_bytes(service) -> None:
    client = service()
    bits = encoded(np.zeros((7000, 7000), np.uint8), "PNG", "1")
    assert len(bits) < 16 * 2**10
    with ThreadPoolExecutor(1) as user:
        reply, others = user.submit(client.post, "/predict/", files={"data": ("x", bits)}), 0
        while not reply.done():
            assert client.get("/health").status_code == 200
            others += 1
    assert reply.result().json()["warning"].startswith("the picture is 7000×7000")
    assert others > 5


def test_large_pictures_together_are_bounded(service) -> None:
    client = service(large=1)
    bits = {"data": ("x", encoded(np.zeros((7000, 7000), np.uint8), "PNG", "1"))}
    with ThreadPoolExecutor(4) as users:
        codes = sorted(
            reply.status_code for reply in users.map(lambda _: client.post("/predict/", files=bits), range(4))
        )
    assert codes[0] == 200
    assert codes[-1] == 503


def test_explanations_together_are_bounded_and_hold_up_no_verdict(service, monkeypatch: pytest.MonkeyPatch) -> None:
    client, go_on = service(explanations=2), threading.Event()
    monkeypatch.setattr("lib.service.explanation", lambda logits, pixels: (go_on.wait(20), Explanation("", []))[1])
    with ThreadPoolExecutor(4) as users:
        replies = [users.submit(client.post, "/predict/?explain=true", files=FORM) for _ in range(4)]
        deadline = time.time() + 10
        while sum(reply.done() for reply in replies) < 2 and time.time() < deadline:
            time.sleep(0.01)
        assert client.post("/predict/", files=FORM).status_code == 200
        go_on.set()
    assert sorted(reply.result().status_code for reply in replies) == [200, 200, 503, 503]


def test_large_bodies_together_are_bounded(service) -> None:
    client = service(memory=100)
    assert client.post("/predict/", files=FORM).status_code == 503
    assert client.post("/predict/", content=b"x" * 50).status_code == 422, "what was refused is not counted any more"


def test_a_failure_of_its_own_is_a_sentence_without_a_traceback(service, monkeypatch: pytest.MonkeyPatch) -> None:
    client = service()
    with monkeypatch.context() as broken:
        broken.setattr(client.app.state.model, "verdict", lambda margin: 1 / 0)
        reply = client.post("/predict/", files=FORM)
    assert reply.status_code == 500
    assert reply.json() == {"detail": "the service failed at this request, not you: its log says why"}
    assert 'cifake_requests_total{code="500",path="/predict/"} 1.0' in client.get("/metrics").text
    assert client.post("/predict/", files=FORM).status_code == 200


def test_drift_is_seen_in_the_last_pictures_and_said(service) -> None:
    client = service(drift_window=50, drift_seconds=0.05)
    assert client.post("/predict/", files=FORM).json()["warning"] is None
    many = [("data", ("x", PICTURE))] * 49
    client.post("/predict/batch", files=many)
    deadline = time.time() + 10
    while "cifake_drift_alarm 1.0" not in client.get("/metrics").text and time.time() < deadline:
        time.sleep(0.02)
    assert "the last 50 pictures together are unlike" in client.post("/predict/", files=FORM).json()["warning"]


def test_drift_alarms_are_those_of_the_evaluation() -> None:
    test = read_reference(REFERENCE / "drift.npz")
    pictures = np.random.default_rng(1).integers(0, 256, (70, 32, 32, 3), np.uint8)
    watch = DriftWatch(test, 50)
    for count, picture in enumerate(pictures, 1):
        watch.add(picture)
        watch.update()
        assert np.isnan(watch.p_value) == (count < 50), "a part of a window is never tested"
    assert watch.p_value == test.p_value(image_statistics(pictures[-50:]))
    calm = DriftWatch(test, 50, p_value=0.06)
    assert (calm.alarm, calm.warning) == (False, None)


def test_settings_come_from_the_environment_then_a_file_and_wrong_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "service.yaml"
    monkeypatch.setenv("CIFAKE_SETTINGS", str(file))
    file.write_text("queue: 7\nmax_body: 1 MiB\nbatch: 3\n")
    monkeypatch.setenv("CIFAKE_BATCH", "5")
    settings = read_settings()
    assert (settings.queue, settings.max_body, settings.batch) == (7, 2**20, 5)
    for content, message in (
        ("queue: many", r"^CIFAKE_QUEUE is 'many': input should be a valid integer"),
        ("queue: 0", r"^CIFAKE_QUEUE is 0: input should be greater than or equal to 1"),
        ("quue: 1", r"service.yaml: 'quue' is no setting: choose among model, .*queue"),
        ("- 1", r"service.yaml holds no settings"),
        ("a: [", r"service.yaml is no YAML"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            read_settings()
        with pytest.raises(SystemExit, match=message):
            create_app()
    file.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        read_settings()


class Line:
    """A transport that notes what is done with it."""

    def __init__(self) -> None:
        self.done: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append(b"close")

    def is_closing(self) -> bool:
        return b"close" in self.done


def test_what_is_written_in_one_turn_leaves_in_one_piece_and_before_the_end() -> None:
    async def talk() -> None:
        line = Line()
        gathering = Gathering(line, asyncio.get_running_loop())
        gathering.write(b"head ")
        gathering.write(b"body")
        assert line.done == []
        await asyncio.sleep(0)
        assert line.done == [b"head body"]
        gathering.write(b"next")
        assert not gathering.is_closing()
        gathering.close()
        assert gathering.is_closing()
        await asyncio.sleep(0)
        assert line.done == [b"head body", b"next", b"close"]

    asyncio.run(talk())


@pytest.fixture
def address() -> Iterator[tuple[str, int, subprocess.Popen]]:
    """Run the service as a process of its own; give its host, port and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "lib.service:create_app", "--port", str(port)]
    command += ["--http", "lib.one_write:OneWrite"]
    env = {**os.environ, "CIFAKE_BODY_SECONDS": "1.5"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    deadline = time.time() + 30
    while time.time() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health")
            break
        except httpx.TransportError:
            time.sleep(0.05)
    yield "127.0.0.1", port, process
    process.kill()
    process.wait()


def opened(host: str, port: int, length: int) -> socket.socket:
    """Open a connection that announces a form of `length` bytes."""
    client = socket.create_connection((host, port), timeout=10)
    kind = "multipart/form-data; boundary=cut"
    head = f"POST /predict/ HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}"
    client.sendall(head.encode() + b"\r\n\r\n")
    return client


def test_slow_clients_are_sent_away_without_harm_to_others_and_sigterm_finishes_what_came(address) -> None:
    host, port, process = address
    slow = [opened(host, port, 1000) for _ in range(50)]
    for client in slow:
        client.sendall(b"-")
    assert httpx.post(f"http://{host}:{port}/predict/", files=FORM).status_code == 200
    for client in slow:
        reply = b""
        while chunk := client.recv(4096):
            reply += chunk
        assert reply.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nconnection: close\r\n" in reply.lower()
        assert b"the body did not come within 1.5 seconds: send it faster" in reply

    body = b'--cut\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\n' + PICTURE + b"\r\n--cut--\r\n"
    late = opened(host, port, len(body))
    late.sendall(body[:100])
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(OSError):
        socket.create_connection((host, port), timeout=2)
    late.sendall(body[100:])
    assert late.recv(65536).startswith(b"HTTP/1.1 200 "), "a request that was under way is answered"
    assert process.wait(10) in (0, -signal.SIGTERM)


def test_rules_and_dashboard_speak_of_metrics_that_there_are(service) -> None:
    client = service()
    client.post("/predict/", files=FORM)
    exposed = set(re.findall(r"^# TYPE (\w+) ", client.get("/metrics").text, re.M))
    series = exposed | {f"{name}_{end}" for name in exposed for end in ("bucket", "count", "sum")}
    for name in ("prometheus-rules.yml", "grafana-dashboard.json"):
        named = set(re.findall(r"\b(?:cifake|process)_\w+", (ROOT / "docs" / name).read_text(encoding="utf-8")))
        assert named, name
        assert named <= series, f"{name} names {named - series}"
    groups = yaml.safe_load((ROOT / "docs/prometheus-rules.yml").read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert alerts >= {"CifakeDown", "CifakeErrors", "CifakeSlow", "CifakeQueueFull", "CifakeDrift"}
    if promtool := shutil.which("promtool"):
        check = subprocess.run([promtool, "check", "rules", ROOT / "docs/prometheus-rules.yml"], capture_output=True)
        assert check.returncode == 0, check.stderr
