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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from conftest import encoded
from fastapi.testclient import TestClient

from lib.core.files import ROOT
from lib.inference.drift import STATISTICS
from lib.inference.images import decode_image
from lib.inference.occlusion import Explanation
from lib.inference.predictor import Predictor
from lib.reporting.release import REFERENCE
from lib.serving.app import create_app
from lib.serving.settings import Settings

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
IMAGE = encoded(NOISE)
FORM = {"data": ("x", IMAGE)}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TestClient]]:
    """Return a function that starts a service in this process, with settings."""
    clients = []

    def start(**settings: object) -> TestClient:
        for name, value in settings.items():
            monkeypatch.setenv(f"CIFAKE_{name.upper()}", str(value))
        clients.append(TestClient(create_app(), raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def test_beyond_its_capacity_it_refuses_responds_to_others_and_recovers(service, monkeypatch) -> None:
    margins, go_on = Predictor.margins, threading.Event()

    def slow(predictor: Predictor, pixels: np.ndarray) -> list[float]:
        go_on.wait(20)
        return margins(predictor, pixels)

    monkeypatch.setattr(Predictor, "margins", slow)
    client = service(max_queue_size=2, max_batch_size=1, workers=1)
    with ThreadPoolExecutor(8) as users:
        replies = [users.submit(client.post, "/predict/", files=FORM) for _ in range(8)]
        deadline = time.time() + 10
        while sum(reply.done() for reply in replies) < 4 and time.time() < deadline:
            time.sleep(0.01)
        assert client.get("/health").status_code == 200, "it responds while the network is busy"
        assert "cifake_queue_depth 2.0" in client.get("/metrics").text
        go_on.set()
    codes = sorted(reply.result().status_code for reply in replies)
    assert codes == [200] * 4 + [503] * 4, "one is computed, one at hand, two wait"
    refused = next(reply.result() for reply in replies if reply.result().status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert refused.json() == {"detail": "too much to do: try again in a second"}
    assert 'cifake_predictions_total{outcome="overloaded"} 4.0' in client.get("/metrics").text
    assert client.post("/predict/", files=FORM).status_code == 200


@pytest.mark.slow
def test_it_responds_to_others_while_it_decodes_a_large_image_from_few_bytes(service) -> None:
    client = service()
    bits = encoded(np.zeros((7000, 7000), np.uint8), "PNG", "1")
    assert len(bits) < 16 * 2**10
    with ThreadPoolExecutor(1) as user:
        reply, others = user.submit(client.post, "/predict/", files={"data": ("x", bits)}), 0
        while not reply.done():
            assert client.get("/health").status_code == 200
            others += 1
    assert reply.result().json()["warning"].startswith("the image is 7000×7000")
    assert others > 5


def codes_of(client: TestClient, path: str, content: bytes, users: int, go_on: threading.Event) -> list[int]:
    """Post `content` at the same time as `users` users, and let go on when all have been queued or refused."""
    with ThreadPoolExecutor(users) as pool:
        replies = [pool.submit(client.post, path, files={"data": ("x", content)}) for _ in range(users)]
        deadline = time.time() + 10
        while sum(reply.done() for reply in replies) < 2 and time.time() < deadline:
            time.sleep(0.01)
        assert client.post("/predict/", files=FORM).status_code == 200, "others are not delayed"
        go_on.set()
    return sorted(reply.result().status_code for reply in replies)


def test_large_images_at_the_same_time_are_bounded(service, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("lib.serving.app.decode_image", lambda *args: (go_on.wait(20), decode_image(*args))[1])
    large = encoded(np.zeros((200, 200, 3), np.uint8))
    codes = codes_of(service(max_decode_queue=1), "/predict/", large, 7, go_on)
    assert codes == [200] * 5 + [503] * 2, "two are decoded, two at hand, one waits"


def test_explanations_at_the_same_time_are_bounded(service, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("lib.serving.app.explanation", lambda logits, pixels: (go_on.wait(20), Explanation("", []))[1])
    codes = codes_of(service(max_explain_queue=2), "/predict/?explain=true", IMAGE, 6, go_on)
    assert codes == [200] * 4 + [503] * 2, "one is computed, one at hand, two wait"


def test_where_no_explanation_has_room_nothing_is_predicted_and_who_asks_again_at_once_waits(
    service, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("lib.serving.app.explanation", lambda logits, pixels: (go_on.wait(20), Explanation("", []))[1])
    client = service(max_explain_queue=1)
    with ThreadPoolExecutor(3) as users:
        replies = [users.submit(client.post, "/predict/?explain=true", files=FORM) for _ in range(3)]
        deadline = time.time() + 10
        while client.app.state.service.explainer.depth < 1 and time.time() < deadline:
            time.sleep(0.01)
        start = time.perf_counter()
        assert client.post("/predict/?explain=true", files=FORM).status_code == 503
        assert time.perf_counter() - start >= 0.1
        assert "cifake_batch_size_sum 3.0" in client.get("/metrics").text
        go_on.set()
    assert [reply.result().status_code for reply in replies] == [200] * 3


def test_a_failure_inside_the_service_is_a_sentence_without_a_traceback(
    service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = service()
    with monkeypatch.context() as broken:
        broken.setattr(client.app.state.service.predictor, "predict", lambda pixels: 1 / 0)
        reply = client.post("/predict/", files=FORM)
    assert reply.status_code == 500
    assert reply.json() == {"detail": "the service failed at this request, not you: its log says why"}
    assert 'cifake_requests_total{code="500",path="/predict/"} 1.0' in client.get("/metrics").text
    assert client.post("/predict/", files=FORM).status_code == 200


def test_a_client_that_goes_away_is_no_failure_of_the_service(service) -> None:
    client = service()

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        pytest.fail("there is nobody to respond to")

    asyncio.run(client.app({"type": "http", "method": "POST", "path": "/predict/", "headers": []}, receive, send))
    assert 'cifake_requests_total{code="499",path="/predict/"} 1.0' in client.get("/metrics").text


def test_drift_of_the_last_images_is_for_the_operator_and_no_warning_of_the_next(service) -> None:
    client = service(drift_window=50, drift_interval=0.05)
    before = client.post("/predict/", files=FORM).json()
    many = [("data", ("x", IMAGE))] * 49
    client.post("/predict/batch", files=many)
    deadline = time.time() + 10
    while "cifake_drift_detected 1.0" not in client.get("/metrics").text and time.time() < deadline:
        time.sleep(0.02)
    text = client.get("/metrics").text
    assert "cifake_drift_detected 1.0" in text
    absent = "REAL" if before["prediction"] == "FAKE" else "FAKE"
    assert f'cifake_drift_window_images{{prediction="{before["prediction"]}"}} 50.0' in text
    assert f'cifake_drift_window_images{{prediction="{absent}"}} 0.0' in text
    assert float(re.search(rf'cifake_drift_p_value{{prediction="{before["prediction"]}"}} (\S+)', text)[1]) < 0.05
    assert f'cifake_drift_p_value{{prediction="{absent}"}} NaN' in text, "no image of the window is of it"
    assert client.post("/predict/", files=FORM).json() == before


def test_a_reference_of_an_earlier_version_is_refused_at_the_start(tmp_path: Path) -> None:
    for name in ("served.onnx", "served.json"):
        shutil.copy(REFERENCE / name, tmp_path)
    np.savez(tmp_path / "drift.npz", names=np.array(STATISTICS), statistics=np.ones((9, 8), np.float32))
    with pytest.raises(SystemExit, match=r"drift.npz is of an earlier version.*: take it from the same release"):
        create_app(Settings(model=tmp_path / "served.onnx"))


@pytest.fixture
def address() -> Iterator[tuple[str, int, subprocess.Popen]]:
    """Run the service as a process of its own; give its host, port and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["bash", "-c", f"ulimit -n 100; exec {sys.executable} -m lib serve --port {port}"]
    env = {**os.environ, "CIFAKE_BODY_TIMEOUT": "1.5"}
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


@pytest.mark.slow
def test_slow_clients_are_refused_without_harm_to_others_and_sigterm_completes_what_has_begun(address) -> None:
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
        assert b"the body did not arrive within 1.5 seconds: send it faster" in reply

    body = b'--cut\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\n' + IMAGE + b"\r\n--cut--\r\n"
    late = opened(host, port, len(body))
    late.sendall(body[:100])
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(OSError):
        socket.create_connection((host, port), timeout=2)
    late.sendall(body[100:])
    assert late.recv(65536).startswith(b"HTTP/1.1 200 "), "a request that was under way gets its response"
    assert process.wait(10) in (0, -signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit of open files there")
def test_more_half_heads_than_open_files_hold_it_up_only_for_their_deadline(address) -> None:
    host, port, _ = address
    start, clients = time.time(), []
    for _ in range(110):
        clients.append(socket.create_connection((host, port), timeout=2))
        clients[-1].sendall(b"POST /predict/ HTTP/1.1\r\nHost: x\r\n")
    while time.time() < start + 20:
        try:
            if httpx.post(f"http://{host}:{port}/predict/", files=FORM, timeout=2).status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    assert time.time() - start < 15
    for client in clients:
        client.close()


def test_rules_and_dashboard_name_metrics_that_exist(service) -> None:
    client = service()
    client.post("/predict/", files=FORM)
    exposed = set(re.findall(r"^# TYPE (\w+) ", client.get("/metrics").text, re.M))
    series = exposed | {f"{name}_{end}" for name in exposed for end in ("bucket", "count", "sum")}
    for name in ("prometheus-rules.yml", "grafana-dashboard.json"):
        named = set(re.findall(r"\b(?:cifake|process)_\w+", (ROOT / "docs" / name).read_text(encoding="utf-8")))
        assert named, name
        assert named <= series, f"{name} names {named - series}"
    groups = yaml.safe_load((ROOT / "docs/prometheus-rules.yml").read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
    (paging,) = re.findall(r'code=~"(\S+?)"', alerts["CifakeErrors"])
    assert [code for code in ("200", "408", "499", "500", "503") if re.fullmatch(paging, code)] == ["500", "503"]
    assert 'code!="503"' in alerts["CifakeErrors"]
    assert alerts.keys() >= {"CifakeDown", "CifakeErrors", "CifakeSlow", "CifakeQueueFull", "CifakeDrift"}
    if promtool := shutil.which("promtool"):
        check = subprocess.run([promtool, "check", "rules", ROOT / "docs/prometheus-rules.yml"], capture_output=True)
        assert check.returncode == 0, check.stderr
