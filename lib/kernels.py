"""Kernels that start at once: forked from one process that has imported what a training needs."""

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
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

# A fork of a process that has used macOS's frameworks may crash, and Windows has none.
FORKS = sys.platform == "linux"
# What 02_train and its kernel import: seconds once, instead of once a trial.
_IMPORTED = (
    "ipykernel.kernelapp", "IPython.core.completerlib", "matplotlib_inline.backend_inline", "lib.training", "lib.plots",
    "sklearn.utils.estimator_checks", "wandb", "pytorch_lightning.loggers",
)  # fmt: skip
_PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent has ended


class Kernels:
    """Give out managers of new kernels; as a context, end with it the process that they are forked from."""

    def __init__(self, warm: bool = True) -> None:
        self._warm = warm and FORKS
        self._server: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def __enter__(self) -> "Kernels":
        self._sockets = tempfile.TemporaryDirectory(prefix="kernels-")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._server and self._server.stdin and self._server.stdout:
            self._server.stdin.close()
            self._server.wait()
            self._server.stdout.close()
        self._sockets.cleanup()

    def manager(self, environment: dict[str, str]) -> AsyncKernelManager:
        """Return the manager of a kernel that is not started yet; `environment` is added to its own."""
        if not self._warm:
            return _Cold(environment)
        # Sockets are named after the connection file.
        file = Path(self._sockets.name) / f"{uuid.uuid4().hex[:12]}.json"
        manager = AsyncKernelManager(transport="ipc", kernel_name="python3", connection_file=str(file))
        manager.provisioner = _Forked(self, environment, parent=manager, kernel_spec=manager.kernel_spec)
        return manager

    def fork(self, connection_file: str, environment: dict[str, str]) -> "_Process":
        """Start a kernel that listens as `connection_file` says."""
        with self._turn:
            if self._server is None:
                # In a session of its own, so that Ctrl-C reaches only the process that decides what it means.
                self._server = subprocess.Popen(
                    [sys.executable, "-m", "lib.kernels"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                    start_new_session=True,
                )  # fmt: skip
            assert self._server.stdin and self._server.stdout
            print(json.dumps([connection_file, environment]), file=self._server.stdin, flush=True)
            return _Process(int(self._server.stdout.readline()))


class _Cold(AsyncKernelManager):
    """Start a kernel as Jupyter does, with additions to its environment."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(kernel_name="python3")
        self._environment = environment

    async def _async_start_kernel(self, **options: Any) -> None:
        await super()._async_start_kernel(**{**options, "env": {**os.environ, **self._environment}})

    start_kernel = _async_start_kernel


class _Forked(LocalProvisioner):
    """Let Jupyter manage a forked kernel as if it had started it."""

    def __init__(self, kernels: Kernels, environment: dict[str, str], **traits: Any) -> None:
        super().__init__(**traits)
        self._kernels, self._environment = kernels, environment

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        self.process = self._kernels.fork(self.parent.connection_file, self._environment)
        self.pid = self.pgid = self.process.pid  # it leads its own session
        return self.connection_info


class _Process:
    """Stand for a process that is not our child, as far as LocalProvisioner asks."""

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


def serve() -> None:
    """Import, then fork a kernel for each line of the standard input, and answer with its process id.

    Ends with the input, and so with the process that asked, and its kernels with it.
    """
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # before ipykernel is imported, which reads it then
    for name in filter(_is_here, _IMPORTED):
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nothing is left of a kernel that has ended
    for line in sys.stdin:
        connection_file, environment = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become_kernel(connection_file, environment)
        print(pid, flush=True)


def _is_here(name: str) -> bool:
    """Tell whether the package that a module belongs to is installed: trials need no wandb where it is disabled."""
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def _become_kernel(connection_file: str, environment: dict[str, str]) -> None:
    from ipykernel.kernelapp import IPKernelApp

    try:
        os.setsid()
        # At once, or what a killed sweep leaves would train on beside the one that continues it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):  # they belong to the conversation of the parent
            os.dup2(silence, stream)
        os.environ.update(environment)
        IPKernelApp.launch_instance(argv=["-f", connection_file])
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve()
