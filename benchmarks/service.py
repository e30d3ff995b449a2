"""Count requests a second, ours beside two others: `python benchmarks/service.py [SOURCE] [ROUNDS]`.

- `ours`: `cifake serve`, as `make serve` starts it.
- `cnn_baseline`: a student project's design: FastAPI, eager PyTorch, the 64-128 network (with random weights, which do
  not change its speed), one image a forward pass in an `async def`; under uvicorn with the same options as ours.
- `litserve`: LitServe with our ONNX file (benchmarks/litserve_service.py), where it is installed.

All get the same 512 images of SOURCE (the sample by default; the student network is less often confident of those than
of CIFAKE's) in turn from wrk (Debian's package `wrk`), which runs on the same cores. Each round measures all of them,
one after the other, at 1, 64 and 512 connections.
"""

import importlib.util
import io
import itertools
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, File, UploadFile
from PIL import Image

from lib.core.files import ROOT
from lib.core.provenance import processor
from lib.data.source import open_source

CONNECTIONS = (1, 64, 512)
SECONDS = 5
IMAGES = 512
_HERE = Path(__file__).parent
COMMANDS = {  # each gets the port as its last argument
    "cnn_baseline": [
        "-m", "uvicorn", "--factory", "service:cnn_baseline", "--app-dir", str(_HERE), "--no-access-log",
        "--no-proxy-headers", "--no-server-header", "--log-level", "warning", "--port",
    ],
    "litserve": [str(_HERE / "litserve_service.py")],
    "ours": ["-m", "lib", "serve", "--port"],
}  # fmt: skip
_SCRIPT = """
local requests, turn = {}, 0
function init()
  for i = 0, tonumber(os.getenv("IMAGES")) - 1 do
    local file = io.open(os.getenv("BODIES") .. "/" .. i, "rb")
    local headers = {["Content-Type"] = "multipart/form-data; boundary=cut"}
    requests[i] = wrk.format("POST", "/predict/", headers, file:read("*a"))
    file:close()
  end
end
function request()
  turn = turn + 1
  return requests[turn % #requests]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('{"responses": %d, "seconds": %f, "p50": %f, "p99": %f, "failures": %d}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def cnn_baseline() -> FastAPI:
    """Return the student project's design, rebuilt."""
    import torch
    from torchvision import transforms

    from lib.models.networks import build_network

    app = FastAPI()
    network = build_network("plain_64_128", (0, 0, 0), (1, 1, 1)).backbone.eval()
    transform = transforms.Compose(
        [transforms.Resize((32, 32)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    )

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict/")
    async def predict(data: UploadFile = File(...)) -> dict[str, Any]:  # noqa: B008
        image = Image.open(io.BytesIO(await data.read())).convert("RGB")
        with torch.no_grad():
            probs = torch.softmax(network(transform(image).unsqueeze(0)), 1)[0]
        return {
            "prediction": ["FAKE", "REAL"][int(probs.argmax())],
            "probs": dict(zip(("FAKE", "REAL"), probs.tolist(), strict=True)),
        }

    return app


def main(source: str, rounds: int) -> None:
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: apt-get install wrk")
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        data = write_bodies(source, scratch)
        names = [name for name in COMMANDS if name != "litserve" or importlib.util.find_spec("litserve")]
        for turn, connections in itertools.product(range(rounds), CONNECTIONS):
            for name in names[:: 1 if turn % 2 else -1]:
                with running(name) as address:
                    measure(address, scratch, connections, 1)
                    time.sleep(2)  # requests that wrk left without a response end meanwhile
                    found.setdefault((name, connections), []).append(measure(address, scratch, connections, SECONDS))
    print(f"{processor()}, {os.cpu_count()} cores with wrk on them, images of {data}, {rounds} rounds of {SECONDS} s\n")
    print("| connections | service | requests/s | p50, ms | p99, ms | failures |\n|---|---|---|---|---|---|")
    for connections, name in itertools.product(CONNECTIONS, names):
        runs = found[name, connections]
        cells = (spread([run[key] for run in runs]) for key in ("rate", "p50", "p99"))
        print(f"| {connections} | {name} | {' | '.join(cells)} | {sum(run['failures'] for run in runs):.0f} |")
    print()
    for connections, other in itertools.product(CONNECTIONS, names):
        if other != "ours":
            pairs = list(zip(found["ours", connections], found[other, connections], strict=True))
            faster = spread([ours["rate"] / theirs["rate"] for ours, theirs in pairs])
            sooner = spread([theirs["p99"] / ours["p99"] for ours, theirs in pairs])
            print(
                f"{connections} connections, {other}: ours {faster} times the requests/s, its p99 {sooner} times ours"
            )


def write_bodies(source: str, scratch: Path) -> str:
    """Write each image as the body of a request, and wrk's script; return the name of the data."""
    opened = open_source(source, scratch / "source")
    records = opened.records[:: max(1, len(opened.records) // IMAGES)][:IMAGES]
    for number, record in enumerate(records):
        head = b'--cut\r\nContent-Disposition: form-data; name="data"; filename="x.jpg"\r\n\r\n'
        (scratch / str(number)).write_bytes(head + opened.read(record) + b"\r\n--cut--\r\n")
    (scratch / "wrk.lua").write_text(_SCRIPT)
    return source if source == "sample" else "CIFAKE"


@contextmanager
def running(name: str) -> Iterator[str]:
    """Serve until the block ends, and give the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, *COMMANDS[name], str(port)], cwd=ROOT, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            if server.poll() is not None:
                sys.exit(f"the service {name!r} did not start")
            try:
                urllib.request.urlopen(f"{address}/health").close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # LitServe leaves its workers behind, and they keep the cores busy


def measure(address: str, scratch: Path, connections: int, seconds: int) -> dict[str, float]:
    """Load the running service; return requests/s (`rate`), `p50` and `p99` in ms, and `failures`."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(scratch / "wrk.lua")]
    env = {**os.environ, "BODIES": str(scratch), "IMAGES": str(IMAGES)}
    run = subprocess.run([*command, address], env=env, capture_output=True, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    return {**result, "rate": result["responses"] / result["seconds"]}


def spread(values: list[float]) -> str:
    """Return mean ± standard deviation."""
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):,.1f} ± {sd:,.1f}"


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sample", int(sys.argv[2]) if len(sys.argv) > 2 else 5)
