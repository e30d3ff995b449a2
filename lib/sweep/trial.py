"""A trial of a sweep: one papermill run of 02_train, monitored while it trains."""

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

from lib.core.files import ROOT, atomic_file, read_json
from lib.sweep.distributions import NOTEBOOK
from lib.sweep.kernels import Kernels

# What 02_train and its kernel import, for `Kernels`: these seconds are then spent once, not in each trial.
PRELOAD = (
    "ipykernel.kernelapp", "IPython.core.completerlib", "matplotlib_inline.backend_inline", "lib.training.train",
    "lib.plots.live", "lib.plots.training", "sklearn.utils.estimator_checks", "wandb", "pytorch_lightning.loggers",
)  # fmt: skip
_PATH = str(ROOT / "notebooks" / f"{NOTEBOOK}.ipynb")
_FILES = {"nb": f"{NOTEBOOK}.ipynb", "run": "run.json", "history": "history.csv", "weights": "weights.safetensors"}
_POLL = 0.1  # seconds between two checks of the history: an epoch takes longer

Callback = Callable[[pd.DataFrame], bool]


class TrialFailed(Exception):
    """Raised with one line on why 02_train failed."""


class TrialStopped(Exception):
    """Raised when the callback has stopped the trial."""


@cache
def defaults() -> dict[str, Any]:
    """Return the parameters of 02_train with their default values."""
    return {name: ast.literal_eval(it["default"]) for name, it in papermill.inspect_notebook(_PATH).items()}


def run_trial(
    parameters: dict[str, Any],
    folder: Path,
    kernels: Kernels,
    callback: Callback,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Execute 02_train with `parameters` into `folder`, and return its `run.json`.

    `callback` gets the history, one row an epoch, whenever it has grown, and an empty one at each poll in between; when
    it returns True, the training is interrupted. The folder keeps the executed notebook, also of a trial that did not
    finish, and `rerun.yaml`, with which `papermill -f` repeats the trial into `again/` beside it. A training that was
    killed in the same folder resumes after its last whole epoch. Raises TrialFailed and TrialStopped.
    """
    every = {**defaults(), **parameters, "lib_hash": ""}
    _write_yaml(folder / "rerun.yaml", {**every, "wandb": "disabled", "product": _product(folder / "again")})
    (folder / "run.json").unlink(missing_ok=True)
    manager = kernels.manager(environment or {})
    over, stopped = threading.Event(), threading.Event()
    arguments = (folder / "history.csv", callback, manager, over, stopped)
    monitor = threading.Thread(target=_monitor, args=arguments, daemon=True)
    monitor.start()
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
        monitor.join()
        # The kernel holds nothing that is still needed, so it is killed rather than shut down.
        asyncio.run(manager.shutdown_kernel(now=True))
    return read_json(folder / "run.json")


def _monitor(
    path: Path, callback: Callback, manager: AsyncKernelManager, over: threading.Event, stopped: threading.Event
) -> None:
    seen = path.stat().st_mtime_ns if path.is_file() else 0  # an earlier attempt's history counts once it grows
    while not over.wait(_POLL):
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        history = pd.read_csv(path) if changed != seen else pd.DataFrame()
        seen = changed
        if callback(history):
            stopped.set()
            break
    # A signal that arrives before the first cell runs has no effect, so it is repeated.
    while stopped.is_set() and not over.is_set():
        with contextlib.suppress(Exception):
            asyncio.run(manager.provisioner.send_signal(signal.SIGINT))
        over.wait(3)


def _product(folder: Path) -> dict[str, str]:
    return {key: str(folder / name) for key, name in _FILES.items()}


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    with atomic_file(path) as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
