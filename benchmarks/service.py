"""Count answers a second, ours against the earlier design: `python benchmarks/service.py [SOURCE] [ROUNDS]`.

Both run under uvicorn with uvloop, httptools, one worker and the options of `make serve`, and get the same 512 pictures
of SOURCE (the sample, if nothing else is said; our small network is less often sure of those than of CIFAKE's) in turn
from wrk, which runs on the same cores (Debian's package `wrk`). The earlier design is a student project's: FastAPI,
eager PyTorch, the 64-128 network (with random weights: they do not change its speed), one picture a forward pass in
an `async def`.
Each round measures both, one after the other, at 1, 64 and 512 connections.
"""

import io
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, File, UploadFile
from PIL import Image

from lib.files import ROOT
from lib.provenance import processor
from lib.source import open_source

CONNECTIONS = (1, 64, 512)
SECONDS = 5
PICTURES = 512
SERVICES = {"earlier": ["--app-dir", str(Path(__file__).parent), "service:earlier"], "ours": ["lib.service:create_app"]}
_AS_SERVED = (  # as `make serve` does
    "--http", "lib.one_write:OneWrite", "--no-access-log", "--no-proxy-headers", "--no-server-header",
)  # fmt: skip
_SCRIPT = """
local requests, turn = {}, 0
function init()
  for i = 0, tonumber(os.getenv("PICTURES")) - 1 do
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
  io.write(string.format('{"answers": %d, "seconds": %f, "p50": %f, "p99": %f, "failures": %d}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def earlier() -> FastAPI:
    """Return the earlier design, rebuilt."""
    import torch
    from torchvision import transforms

    from lib.networks import build_network

    app = FastAPI()
    network = build_network("plain_64_128", (0, 0, 0), (1, 1, 1)).body.eval()
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
        for turn, connections in itertools.product(range(rounds), CONNECTIONS):
            for name in list(SERVICES)[:: 1 if turn % 2 else -1]:
                with running(name) as address:
                    measure(address, scratch, connections, 1)
                    time.sleep(2)  # what wrk left unanswered is judged meanwhile
                    found.setdefault((name, connections), []).append(measure(address, scratch, connections, SECONDS))
    print(
        f"{processor()}, {os.cpu_count()} cores with wrk on them, pictures of {data}, {rounds} rounds of {SECONDS} s\n"
    )
    print("| connections | service | requests/s | p50, ms | p99, ms | failures |\n|---|---|---|---|---|---|")
    for connections, name in itertools.product(CONNECTIONS, SERVICES):
        runs = found[name, connections]
        cells = (spread([run[key] for run in runs]) for key in ("rate", "p50", "p99"))
        print(f"| {connections} | {name} | {' | '.join(cells)} | {sum(run['failures'] for run in runs):.0f} |")
    print()
    for connections in CONNECTIONS:
        pairs = list(zip(found["ours", connections], found["earlier", connections], strict=True))
        faster = spread([ours["rate"] / theirs["rate"] for ours, theirs in pairs])
        sooner = spread([theirs["p99"] / ours["p99"] for ours, theirs in pairs])
        print(f"{connections} connections: {faster} times the requests/s, p99 shorter by {sooner}")


def write_bodies(source: str, scratch: Path) -> str:
    """Write each picture as the body of a request, and wrk's script; return what data they are of."""
    opened = open_source(source, scratch / "source")
    members = opened.members[:: max(1, len(opened.members) // PICTURES)][:PICTURES]
    for place, member in enumerate(members):
        head = b'--cut\r\nContent-Disposition: form-data; name="data"; filename="x.jpg"\r\n\r\n'
        (scratch / str(place)).write_bytes(head + opened.read(member) + b"\r\n--cut--\r\n")
    (scratch / "wrk.lua").write_text(_SCRIPT)
    return source if source == "sample" else "CIFAKE"


@contextmanager
def running(name: str) -> Iterator[str]:
    """Serve until the block ends, and give the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--factory", "--port", str(port), "--log-level", "warning", *_AS_SERVED]
    server = subprocess.Popen([sys.executable, "-m", "uvicorn", *options, *SERVICES[name]], cwd=ROOT)
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


def measure(address: str, scratch: Path, connections: int, seconds: int) -> dict[str, float]:
    """Load the running service; return requests/s (`rate`), `p50` and `p99` in ms, and `failures`."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(scratch / "wrk.lua")]
    env = {**os.environ, "BODIES": str(scratch), "PICTURES": str(PICTURES)}
    run = subprocess.run([*command, address], env=env, capture_output=True, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    return {**result, "rate": result["answers"] / result["seconds"]}


def spread(values: list[float]) -> str:
    """Return mean ± standard deviation."""
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):,.1f} ± {sd:,.1f}"


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sample", int(sys.argv[2]) if len(sys.argv) > 2 else 5)
