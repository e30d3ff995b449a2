"""The local engine of a sweep, with no account: Optuna suggests, papermill runs, and a database holds the trials."""

import hashlib
import json
import os
import re
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import TqdmWarning, tqdm

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # Optuna asks for Jupyter's widgets, for a bar that is not shown
    import optuna
    from optuna.trial import TrialState

from lib.core.errors import InputError
from lib.core.files import write_json
from lib.sweep import queue as sweep_queue
from lib.sweep.distributions import NOTEBOOK
from lib.sweep.kernels import Kernels
from lib.sweep.queue import alone, anyone_runs, enqueue_missing, open_study
from lib.sweep.results import results_table
from lib.sweep.specification import Specification
from lib.sweep.trial import PRELOAD, defaults
from lib.sweep.wandb_agent import run_agent
from lib.sweep.workers import Workers


def run_sweep(
    specification: Specification,
    fixed: dict[str, Any],
    fingerprint: dict[str, Any],
    folder: Path,
    seed: int = 0,
    jobs: int = 1,
    storage: str = "",
    max_failure_rate: float = 0.5,
    engine: str = "local",
    progress: bool = True,
) -> pd.DataFrame:
    """Run the trials that are still missing, and return the table of all of them.

    A trial executes 02_train with `fixed` and its own parameters into `<trial>/` of the sweep's own folder, which
    `sweep_folder` names. The study is in `study.db` there, or in `storage`, the URL of a database that workers on
    several machines share. The same sweep resumes where it was; another run_cap extends it. `jobs` trials run at once,
    each with its share of the threads and with a GPU of its own where there are several; 0 means one per GPU. A failed
    trial is recorded, and the sweep continues, unless more than the share `max_failure_rate` of all trials fail: that,
    and a storage that cannot be used, raises InputError. With the engine "wandb", W&B's server suggests instead.
    """
    identity = _identity(specification, fixed, fingerprint, seed)
    folder = sweep_folder(folder, specification, fixed, fingerprint, seed)
    if engine == "wandb":
        return run_agent(specification, fixed, folder)
    if engine != "local":
        raise InputError(f"engine is {engine!r}: choose local or wandb")
    gpus = _gpus()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with alone(folder), warnings.catch_warnings(), Kernels(PRELOAD) as kernels:
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        write_json(folder / "sweep.json", identity)
        study = open_study(f"{NOTEBOOK}-{_digest(identity)[:12]}", folder, storage, specification)
        if not storage:  # no other worker can run: what is marked as running is dead
            for dead in study.get_trials(states=(TrialState.RUNNING,)):
                study.tell(dead.number, state=TrialState.FAIL)
        proposals = specification.grid
        with tqdm(total=len(proposals), desc="sweep", unit=" trials", disable=not progress) as bar:
            jobs = jobs or max(1, len(gpus))
            workers = Workers(study, specification, fixed, folder, seed, jobs, gpus, max_failure_rate, kernels, bar)
            workers.report(study)
            while not workers.reached(study) and enqueue_missing(study, proposals):
                workers.run()
                while storage and anyone_runs(study):
                    time.sleep(sweep_queue.HEARTBEAT / 2)
                    optuna.storages.fail_stale_trials(study)
                    if enqueue_missing(study, proposals):
                        break
                workers.show(study)
    return results_table(study, specification)


def sweep_folder(
    folder: Path, specification: Specification, fixed: dict[str, Any], fingerprint: dict[str, Any], seed: int
) -> Path:
    """Return the folder of a sweep inside `folder`, the folder of all sweeps, such as `sweep_grid-0123abcd`.

    It is named after the file of the specification and a digest of all that determines the trials: the search (without
    its run_cap), `fixed`, the defaults of 02_train, `seed`, and the `fingerprint` of data and code. No other sweep
    writes there, so no sweep removes what another has finished.
    """
    name = re.sub(r"[^\w.-]+", "_", specification.name)[:40]
    return folder / f"{name}-{_digest(_identity(specification, fixed, fingerprint, seed))[:8]}"


def _identity(
    specification: Specification, fixed: dict[str, Any], fingerprint: dict[str, Any], seed: int
) -> dict[str, Any]:
    # Paths and logging differ between machines that work on the same sweep.
    same = {key: value for key, value in fixed.items() if key not in ("upstream", "wandb")}
    search = {key: specification.content.get(key) for key in ("method", "metric", "parameters", "early_terminate")}
    return {"search": search, "fixed": same, "defaults": defaults(), "seed": seed, **fingerprint}


def _digest(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _gpus() -> list[str]:
    import torch  # here, because specifications are read without it

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [it for it in visible.split(",") if it] or [str(number) for number in range(torch.cuda.device_count())]
