"""The local engine of a sweep, with no account: Optuna suggests, papermill runs, and a database holds the trials."""

import hashlib
import json
import os
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
from lib.core.run_dir import prepare_run_dir
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

    A trial executes 02_train with `fixed` and its own parameters into `folder/<trial>/`. The study is in
    `folder/study.db`, or in `storage`, the URL of a database that workers on several machines share. A sweep of the
    same specification, `fixed`, `seed` and `fingerprint` (of data and code) resumes where it was; another run_cap
    extends it. `jobs` trials run at once, each with its share of the threads and with a GPU of its own where there
    are several; 0 means one per GPU. A failed trial is recorded, and the sweep continues, unless more than the share
    `max_failure_rate` of all trials fail: that, and a storage that cannot be used, raises InputError. With the engine
    "wandb", W&B's server suggests instead.
    """
    if engine == "wandb":
        return run_agent(specification, fixed, folder)
    if engine != "local":
        raise InputError(f"engine is {engine!r}: choose local or wandb")
    # Paths and logging differ between machines that work on the same sweep.
    same = {key: value for key, value in fixed.items() if key not in ("upstream", "wandb")}
    search = {key: specification.content.get(key) for key in ("method", "metric", "parameters", "early_terminate")}
    fingerprint = {"search": search, "fixed": same, "defaults": defaults(), "seed": seed, **fingerprint}
    gpus = _gpus()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with alone(folder), warnings.catch_warnings(), Kernels(PRELOAD) as kernels:
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        prepare_run_dir(folder, fingerprint)
        name = f"{NOTEBOOK}-{hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:12]}"
        study = open_study(name, folder, storage, specification)
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


def _gpus() -> list[str]:
    import torch  # here, because specifications are read without it

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [it for it in visible.split(",") if it] or [str(number) for number in range(torch.cuda.device_count())]
