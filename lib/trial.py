"""A trial of a sweep: one papermill run of 02_train, watched while it trains."""

import ast
import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import papermill
import yaml
from jupyter_client import AsyncKernelManager
from nbclient.exceptions import DeadKernelError

from lib.files import ROOT, read_json, whole_file
from lib.kernels import Kernels
from lib.sweep_parameters import NOTEBOOK

_PATH = str(ROOT / "notebooks" / f"{NOTEBOOK}.ipynb")
_FILES = {"nb": f"{NOTEBOOK}.ipynb", "run": "run.json", "history": "history.csv", "weights": "weights.safetensors"}
_POLL = 0.1  # seconds between two looks at the history: an epoch takes longer

Watch = Callable[[pd.DataFrame], bool]


class TrialFailed(Exception):
    """Say in one line why 02_train failed."""


class TrialStopped(Exception):
    """Say that the watch stopped the trial."""


@cache
def defaults() -> dict[str, Any]:
    """Return the parameters of 02_train with their default values."""
    return {name: ast.literal_eval(it["default"]) for name, it in papermill.inspect_notebook(_PATH).items()}


def run_trial(
    parameters: dict[str, Any], folder: Path, kernels: Kernels, watch: Watch, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Execute 02_train with `parameters` into `folder`, and return its `run.json`.

    `watch` sees the history, a row an epoch, whenever it has grown, and an empty one in between: when it answers
    True, the training is interrupted. The folder keeps the executed notebook, however far it came, and
    `rerun.yaml`, with which `papermill -f` repeats the trial into `again/` beside it. Training that a kill broke
    off in the same folder goes on after its last whole epoch. Raises TrialFailed and TrialStopped.
    """
    every = {**defaults(), **parameters, "lib_hash": ""}
    _write_yaml(folder / "rerun.yaml", {**every, "wandb": "disabled", "product": _product(folder / "again")})
    (folder / "run.json").unlink(missing_ok=True)
    manager = kernels.manager(environment or {})
    over, stopped = threading.Event(), threading.Event()
    arguments = (folder / "history.csv", watch, manager, over, stopped)
    watcher = threading.Thread(target=_watch, args=arguments, daemon=True)
    watcher.start()
    try:
        papermill.execute_notebook(
            _PATH, str(folder / _FILES["nb"]), {**every, "product": _product(folder)},
            progress_bar=False, km=manager,
        )  # fmt: skip
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        if stopped.is_set():
            raise TrialStopped from None
        reason = f"{error.ename}: {error.evalue}" if isinstance(error, papermill.PapermillExecutionError) else error
        raise TrialFailed(str(reason)) from error
    finally:
        over.set()
        watcher.join()
        # Nothing in the kernel is wanted any more: there is no need to ask it to end.
        asyncio.run(manager.shutdown_kernel(now=True))
    return read_json(folder / "run.json")


def _watch(
    path: Path, watch: Watch, manager: AsyncKernelManager, over: threading.Event, stopped: threading.Event
) -> None:
    seen = path.stat().st_mtime_ns if path.is_file() else 0  # what an earlier try left is history once it goes on
    while not over.wait(_POLL):
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        history = pd.read_csv(path) if changed != seen else pd.DataFrame()
        seen = changed
        if watch(history):
            stopped.set()
            break
    # A first signal may come before a cell runs, and be lost.
    while stopped.is_set() and not over.is_set():
        with contextlib.suppress(Exception):
            asyncio.run(manager.provisioner.send_signal(signal.SIGINT))
        over.wait(3)


def _product(folder: Path) -> dict[str, str]:
    return {key: str(folder / name) for key, name in _FILES.items()}


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
