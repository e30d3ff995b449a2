"""JupyterLab as `make lab` starts it: the real server on loopback, the committed config, a real kernel."""

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import nbformat
import pytest
import websocket
from conftest import untraced
from jupyter_server.serverapp import list_running_servers

ROOT = Path(__file__).parents[2]
START, CELL = 120, 600  # seconds that a server or a cell may take on a busy machine

pytestmark = pytest.mark.slow


@contextmanager
def lab(root: Path, config: Path, private: Path) -> Iterator[httpx.Client]:
    """Start JupyterLab in `root` on a free port, and yield a client that holds its token."""
    runtime = private / "runtime"
    folders = {"CONFIG": config, "DATA": private / "data", "RUNTIME": runtime}
    env = untraced() | {f"JUPYTER_{name}_DIR": str(folder) for name, folder in folders.items()}
    # The kernels import lib from `root`: what the notebooks write stays under it.
    env |= {"IPYTHONDIR": str(private / "ipython"), "PYTHONPATH": str(root)}
    env.pop("MPLBACKEND", None)
    private.mkdir(parents=True, exist_ok=True)
    log = private / "server.log"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START
        while not (running := list(list_running_servers(str(runtime)))):
            alive = server.poll() is None and time.monotonic() < deadline
            assert alive, f"JupyterLab did not start:\n{log.read_text()}"
            time.sleep(0.2)
        headers = {"Authorization": f"token {running[0]['token']}"}
        with httpx.Client(base_url=running[0]["url"], headers=headers, timeout=START) as client:
            yield client
            client.post("api/shutdown").raise_for_status()
        server.wait(START)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def execute(channel: websocket.WebSocket, code: str) -> dict:
    """Run one cell through the kernel's websocket, and return the content of its reply."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": "test", "username": ""}
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    request = {"channel": "shell", "header": header | {"version": "5.3"}, "content": content}
    channel.send(json.dumps(request | {"parent_header": {}, "metadata": {}}))
    deadline = time.monotonic() + CELL
    while time.monotonic() < deadline:
        message = json.loads(channel.recv())
        ours = message["parent_header"].get("msg_id") == header["msg_id"]
        if ours and message["msg_type"] == "execute_reply":
            return message["content"]
    raise TimeoutError(f"no reply within {CELL} s:\n{code}")


def run_in_lab(server: httpx.Client, path: str) -> None:
    """Open a notebook as JupyterLab does, and run its code cells in order; fail on the first error."""
    notebook = nbformat.from_dict(server.get(f"api/contents/{path}").raise_for_status().json()["content"])
    session = {"path": path, "name": path, "type": "notebook", "kernel": notebook.metadata.kernelspec}
    opened = server.post("api/sessions", json=session).raise_for_status().json()
    address = server.base_url.copy_with(scheme="ws").join(f"api/kernels/{opened['kernel']['id']}/channels")
    try:
        token = {"Authorization": server.headers["Authorization"]}
        with closing(websocket.create_connection(str(address), timeout=CELL, header=token)) as channel:
            for number, cell in enumerate(notebook.cells):
                if cell.cell_type == "code":
                    reply = execute(channel, cell.source)
                    assert reply["status"] == "ok", (
                        f"{path}, cell {number}: {reply.get('ename')}: {reply.get('evalue')}\n"
                        + "\n".join(reply.get("traceback", []))
                    )
    finally:
        server.delete(f"api/sessions/{opened['id']}").raise_for_status()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("lab")
    for name in ("lib", "notebooks", "parameters"):
        shutil.copytree(ROOT / name, root / name)
    with lab(root, ROOT / ".jupyter", tmp_path_factory.mktemp("jupyter")) as client:
        yield client


def test_lab_opens_on_the_notebooks_and_fetches_no_news(server):
    page = server.get("", follow_redirects=True)
    assert page.url.path == "/lab/tree/notebooks"
    assert '"treePath": "notebooks"' in page.text
    assert '"news": {"disabled": true}' in page.text


def test_lab_lists_and_opens_notebooks(server):
    folder = server.get("api/contents/notebooks").raise_for_status().json()
    assert "01_data.ipynb" in {entry["name"] for entry in folder["content"]}
    notebook = server.get("api/contents/notebooks/01_data.ipynb").raise_for_status().json()
    assert notebook["type"] == "notebook"


@pytest.mark.parametrize("name", ["01_data"])
def test_notebook_runs_cell_by_cell(server, name):
    run_in_lab(server, f"notebooks/{name}.ipynb")


def test_without_the_config_ploomber_breaks_the_listing(tmp_path):
    """The config is there for this; once it fails, half of the config can go."""
    with lab(tmp_path, tmp_path, tmp_path / "private") as client:
        assert client.get("api/contents/").status_code == 500


def test_a_failing_cell_is_reported(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in ("zero = 0", "1 / zero")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "bad.ipynb")
    with (
        lab(tmp_path, ROOT / ".jupyter", tmp_path / "private") as client,
        pytest.raises(AssertionError, match=r"bad\.ipynb, cell 1: ZeroDivisionError"),
    ):
        run_in_lab(client, "bad.ipynb")
