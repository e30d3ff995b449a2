"""Kernels that start in milliseconds: forked from one process that has imported what a trial needs."""

import ctypes
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

# A fork of a process that has used macOS's frameworks may crash, and Windows has none.
FORKS = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent has ended


class Kernels:
    """Provide managers of new kernels, forked from a server process that has imported the modules `preload`.

    A context, at whose end the server and its kernels end too. Without `preload`, and on systems where a fork is not
    safe, Jupyter starts the kernels as usual.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = preload if FORKS else ()
        self._server: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Kernels":
        self._sockets = tempfile.TemporaryDirectory(prefix="kernels-", dir=_short_folder())
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._server and self._server.stdin and self._server.stdout:
            self._server.stdin.close()
            self._server.wait()
            self._server.stdout.close()
        self._sockets.cleanup()

    def manager(self, environment: dict[str, str]) -> AsyncKernelManager:
        """Return the manager of a kernel that is not started yet; `environment` is added to its own."""
        if not self._preload:
            return _FreshKernelManager(environment)
        # Sockets are named after the connection file.
        file = Path(self._sockets.name) / f"{uuid.uuid4().hex[:12]}.json"
        manager = AsyncKernelManager(transport="ipc", kernel_name="python3", connection_file=str(file))
        manager.provisioner = _ForkProvisioner(self, environment, parent=manager, kernel_spec=manager.kernel_spec)
        return manager

    def fork(self, connection_file: str, environment: dict[str, str]) -> "_Process":
        """Start a kernel that listens as `connection_file` specifies."""
        with self._lock:
            if self._server is None:
                # In a session of its own, so that Ctrl-C reaches only this process, which ends the kernels in order.
                self._server = subprocess.Popen(
                    [sys.executable, "-m", "lib.sweep.kernels", *self._preload],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
                )  # fmt: skip
            assert self._server.stdin and self._server.stdout
            print(json.dumps([connection_file, environment]), file=self._server.stdin, flush=True)
            return _Process(int(self._server.stdout.readline()))


class _FreshKernelManager(AsyncKernelManager):
    """Start a kernel as Jupyter does, with additions to its environment."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(kernel_name="python3")
        self._environment = environment

    async def _async_start_kernel(self, **options: Any) -> None:
        await super()._async_start_kernel(**{**options, "env": {**os.environ, **self._environment}})

    start_kernel = _async_start_kernel


class _ForkProvisioner(LocalProvisioner):
    """Provision a forked kernel, which Jupyter then manages like one of its own."""

    def __init__(self, kernels: Kernels, environment: dict[str, str], **traits: Any) -> None:
        super().__init__(**traits)
        self._kernels, self._environment = kernels, environment

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        self.process = self._kernels.fork(self.parent.connection_file, self._environment)
        self.pid = self.pgid = self.process.pid  # it leads its own session
        return self.connection_info


class _Process:
    """Wrap a process that is not a child of this one, with as much of Popen as LocalProvisioner uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.01)
        return 0

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)


def _short_folder() -> str:
    """Return the folder for temporary files, or where its path leaves no room for the names of sockets, a shorter one.

    The path of a socket has at most 107 bytes, of which its name and its folder's take some 40.
    """
    folders = (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")
    return next((it for it in folders if len(os.fsencode(it)) <= 64 and os.access(it, os.W_OK)), folders[0])


def serve(preload: Sequence[str]) -> None:
    """Import `preload`, then fork a kernel for each line of the standard input, and print its process id.

    Ends with the input, and so with the process that writes it, and all kernels with it.
    """
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # ipykernel reads it when it is imported
    for name in filter(_is_installed, preload):
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # kernels that have ended leave no zombies
    for line in sys.stdin:
        connection_file, environment = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become_kernel(connection_file, environment)
        print(pid, flush=True)


def _is_installed(name: str) -> bool:
    """Return whether a module's package is installed: trials do not need wandb where it is disabled."""
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def _become_kernel(connection_file: str, environment: dict[str, str]) -> None:
    from ipykernel.kernelapp import IPKernelApp

    try:
        os.setsid()
        # First of all: a kernel that outlived a killed sweep would train beside the sweep that resumes it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):  # the pipes between the server and its parent
            os.dup2(silence, stream)
        os.environ.update(environment)
        IPKernelApp.launch_instance(argv=["-f", connection_file])
    finally:
        os._exit(0)


if __name__ == "__main__":
    modules, sys.argv[1:] = sys.argv[1:], []  # kernels inherit sys.argv
    serve(modules)
