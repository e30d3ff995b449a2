"""Nothing calls home, and nothing is left outside: of commands that start with an empty home folder.

Where strace may trace (Debian's package `strace`), each connection and each file opened for writing is looked at too.
"""

import os
import re
import signal
import site
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from conftest import empty_home, encoded, traced

from lib.core.files import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere HOME alone does not say where programs keep files"),
]
BIN = Path(sys.executable).parent
# make writes this file, which tells programs that start before our code to report nothing, and where to keep files.
made_by_make = pytest.mark.skipif(
    not any(Path(folder, "cifake_quiet.pth").is_file() for folder in site.getsitepackages()),
    reason="the environment was not made by make",
)
# Everybody's: devices, shared memory, what the kernel offers as files.
SYSTEM = ("/dev/", "/proc/", "/sys/")


def start(folder: Path, *command: object) -> subprocess.Popen[str]:
    """Start a command of the environment in `folder`, with an empty home folder and no variables of ours."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    env = empty_home(folder) | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [*traced(folder), str(BIN / str(command[0])), *map(str, command[1:])],
        cwd=work, env=env, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=600)[0]
    assert process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM), output[-3000:]
    return output


def calls(folder: Path) -> list[str]:
    return [line for log in (folder / "calls").iterdir() for line in log.read_text(errors="replace").splitlines()]


def contacts(lines: list[str]) -> list[str]:
    """Return the calls that reach another host, or ask anyone for a host's address."""
    called = [line for line in lines if re.match(r"(connect|send\w+)\(", line)]
    loopback = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "(::1|::ffff:127\.[\d.]+)"')
    return [
        line
        for line in called
        if ("sa_family=AF_INET" in line and not loopback.search(line))
        or re.search(r"port=htons\((53|853)\)|io\.systemd\.Resolve", line)
    ]


def written(lines: list[str]) -> set[str]:
    """Return the files that were opened for writing, and the folders that were made, by their whole paths."""
    opened = re.compile(r"(?:creat\(|open(?:at)?\(.*(?:O_WRONLY|O_RDWR|O_CREAT)).* = \d+<(/.*)>$")
    made = re.compile(r'mkdir(?:at\(\w+(?:<[^>]*>)?, |\()"(/[^"]*)".* = 0$')
    return {match[1] for line in lines if (match := opened.match(line) or made.match(line))}


def assert_inside(folder: Path, *others: Path) -> None:
    """Check that nothing is left in the home and the temporary folder, and what was traced, if anything was."""
    left = [path for name in ("home", "tmp") for path in (folder / name).rglob("*")]
    assert left == []
    if not (lines := calls(folder)):
        pytest.skip("no file is left; strace is missing, which would show connections")
    assert any("O_RDONLY" in line for line in lines), "strace has seen something"
    assert contacts(lines) == []
    allowed = (*SYSTEM, *(f"{path.resolve()}/" for path in (folder, ROOT, Path(sys.prefix), *others)))
    outside = {path for path in written(lines) if not f"{path}/".startswith(allowed)}
    # W&B's socket goes to /tmp where TMPDIR's name is too long for one, and is removed in the end.
    assert {path for path in outside if not path.startswith("/tmp/wandb-") or Path(path).exists()} == set()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), "PNG"))
    return path


def test_a_prediction(tmp_path: Path, image: Path) -> None:
    assert str(image) in finish(start(tmp_path, "cifake", "predict", image))
    assert_inside(tmp_path)


def test_the_service(tmp_path: Path, image: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process, deadline = start(tmp_path, "cifake", "serve", "--port", port), time.time() + 60
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        while True:
            try:
                client.get("/health")
                break
            except httpx.TransportError:
                assert process.poll() is None, process.communicate()[0]
                assert time.time() < deadline
                time.sleep(0.1)
        for path in ("/predict/", "/predict/?explain=true"):
            assert client.post(path, files={"data": image.read_bytes()}).status_code == 200
        for path in ("/", "/docs", "/openapi.json", "/metrics"):
            assert client.get(path).status_code == 200
    os.killpg(process.pid, signal.SIGTERM)  # strace passes it over
    finish(process)
    assert_inside(tmp_path)


@made_by_make
def test_notebooks_by_papermill(tmp_path: Path) -> None:
    outputs = tmp_path / "work"
    data = {"dataset": f"{outputs}/01_data/dataset/metadata.json"}
    train = {"network": "plain_16_32", "epochs": 1, "max_train_samples": 200, "upstream": {"01_data": data}}
    for name, given in (
        ("01_data", {"product": data | {"nb": f"{outputs}/01_data/01_data.ipynb"}}),
        (
            "02_train",
            train | {"product": {"run": f"{outputs}/02_train/run.json", "nb": f"{outputs}/02_train/nb.ipynb"}},
        ),
    ):
        (tmp_path / "given.yaml").write_text(yaml.safe_dump(given))
        notebook = ROOT / "notebooks" / f"{name}.ipynb"
        finish(start(tmp_path, "papermill", notebook, "out.ipynb", "-f", tmp_path / "given.yaml"))
    assert (outputs / "02_train" / "history.csv").is_file()
    assert_inside(tmp_path)


@made_by_make
def test_the_build_of_the_sample(sample_build: Path) -> None:
    assert_inside(sample_build.parent, sample_build)


LINES = {
    'connect(5<socket:[1]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("10.1.2.3")}, 16) = -1 E': True,
    'connect(5, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0': True,
    'connect(5, {sa_family=AF_INET6, sin6_port=htons(443), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28)': True,
    'sendto(5, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("8.8.8.8")}, 16) = 1': True,
    'connect(5, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0': True,
    'connect(5, {sa_family=AF_INET, sin_port=htons(8000), sin_addr=inet_addr("127.0.0.1")}, 16) = 0': False,
    'connect(5, {sa_family=AF_INET6, sin6_port=htons(80), inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0': False,
    'connect(5, {sa_family=AF_UNIX, sun_path="/tmp/wandb/socket"}, 110) = 0': False,
    'sendto(5, "inet_addr", 9, 0, NULL, 0) = 9': False,
}


@pytest.mark.parametrize("line", LINES)
def test_a_contact_is_recognised(line: str) -> None:
    assert bool(contacts([line])) == LINES[line]


def test_what_is_written_is_recognised() -> None:
    lines = [
        'openat(AT_FDCWD</home/a>, "x", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 3</home/a/x>',
        'openat(AT_FDCWD</home/a>, "y", O_RDONLY|O_CLOEXEC) = 3</home/a/y>',
        'openat(AT_FDCWD</home/a>, "z", O_RDWR) = -1 ENOENT (No such file or directory)',
        'creat("/home/a/c", 0666) = 3</home/a/c>',
        'mkdir("/home/a/d", 0777) = 0',
        'mkdirat(AT_FDCWD</home/a>, "/home/a/e", 0777) = 0',
        'mkdir("/home/a/f", 0777) = -1 EEXIST (File exists)',
    ]
    assert written(lines) == {f"/home/a/{name}" for name in "xcde"}
