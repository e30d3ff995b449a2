"""Run a sweep here, with no account: Optuna proposes, papermill runs, and a database remembers."""

import hashlib
import json
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import TqdmWarning, tqdm

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # Optuna looks for Jupyter's widgets, for a bar that we do not show
    import optuna
    from optuna.trial import TrialState

from lib import sweep_queue
from lib.errors import InputError
from lib.kernels import Kernels
from lib.resume import claim
from lib.sweep_parameters import NOTEBOOK
from lib.sweep_queue import SetAside, alone, anyone_runs, failed, finished, open_study, place_of, refill
from lib.sweep_spec import METRICS, Specification
from lib.sweep_table import table_of
from lib.sweep_wandb import run_agent
from lib.trial import TrialFailed, TrialStopped, defaults, run_trial

_STARTUP = 6  # random trials before a Gaussian process has something to learn from


def run_sweep(
    specification: Specification,
    fixed: dict[str, Any],
    identity: dict[str, Any],
    folder: Path,
    seed: int = 0,
    jobs: int = 1,
    storage: str = "",
    max_failed: float = 0.5,
    engine: str = "local",
    progress: bool = True,
) -> pd.DataFrame:
    """Run the trials that are still missing, and return the table of all of them.

    A trial executes 02_train with `fixed` and its own parameters into `folder/<trial>/`. The study lies in
    `folder/study.db`, or in `storage`, the URL of a database that workers on several machines share. A sweep of the
    same specification, `fixed`, `seed` and `identity` (of data and code) goes on where it was; another run_cap
    extends it. `jobs` trials run at once, each with its share of the threads and with a GPU of its own where there
    are several; 0 means as many as there are GPUs. A failing trial is recorded, and the sweep goes on, unless more
    than the share `max_failed` of all trials fail: that, and a storage out of reach, raises InputError. With the
    engine "wandb", W&B's server proposes instead.
    """
    if engine == "wandb":
        return run_agent(specification, fixed, folder)
    if engine != "local":
        raise InputError(f"engine is {engine!r}: choose local or wandb")
    proposals = specification.grid
    # Paths and logging differ between machines that work on the same sweep.
    same = {key: value for key, value in fixed.items() if key not in ("upstream", "wandb")}
    search = {key: specification.content.get(key) for key in ("method", "metric", "parameters", "early_terminate")}
    work = {"search": search, "fixed": same, "defaults": defaults(), "seed": seed, **identity}
    gpus = _gpus()
    jobs = jobs or max(1, len(gpus))
    threads = fixed.get("threads") or max(1, (os.cpu_count() or 1) // jobs)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with alone(folder), warnings.catch_warnings(), Kernels() as kernels:
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        claim(folder, work)
        name = f"{NOTEBOOK}-{hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:12]}"
        study = open_study(name, folder, storage, specification)
        if not storage:  # nobody else can be at work: what runs is dead
            for dead in study.get_trials(states=(TrialState.RUNNING,)):
                study.tell(dead.number, state=TrialState.FAIL)
        stop = threading.Event()
        turn = threading.Lock()  # SQLite would give two threads the same trial; other databases lock its row
        bar = tqdm(total=len(proposals), desc="sweep", unit=" trials", disable=not progress)

        def worker(number: int) -> None:
            # A study of its own, because the sampler is the trial's.
            mine = optuna.load_study(study_name=name, storage=study._storage, pruner=study.pruner)
            ask = mine.ask

            def one_asks(*arguments: Any, **options: Any) -> optuna.Trial:
                with turn:
                    return ask(*arguments, **options)

            mine.ask = one_asks
            gpu = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if jobs > 1 and gpus else {}

            def objective(trial: optuna.Trial) -> float:
                place = place_of(mine, trial)
                mine.sampler = _sampler(specification, seed * 100_003 + place)
                chosen = specification.propose(trial)
                trial.set_user_attr("parameters", chosen)
                watch = _Watch(trial, specification, chosen.get("epochs", fixed.get("epochs")), stop)
                parameters = {"threads": threads, **fixed, **chosen}
                try:
                    record = run_trial(parameters, folder / str(place), kernels, watch, gpu)
                except TrialFailed as error:
                    trial.set_user_attr("error", str(error))
                    raise
                except TrialStopped:
                    record = {}
                if watch.pruned:
                    raise optuna.TrialPruned
                if not record:
                    raise SetAside
                return float(record[METRICS[specification.metric]])

            while not (stop.is_set() or _reached(mine, specification)):
                if not mine.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                    break
                mine.optimize(objective, n_trials=1, catch=(TrialFailed, SetAside))
                _show(bar, mine)
                _check(mine, proposals, max_failed, folder)

        with bar:
            _show(bar, study)
            _check(study, proposals, max_failed, folder)
            while not _reached(study, specification) and refill(study, proposals):
                _all_of(worker, jobs, stop)
                while storage and anyone_runs(study):
                    time.sleep(sweep_queue.HEARTBEAT / 2)
                    optuna.storages.fail_stale_trials(study)
                    if refill(study, proposals):
                        break
                _show(bar, study)
    return table_of(study, specification)


class _Watch:
    """Report a trial's metric after each epoch, and say when it should end."""

    def __init__(self, trial: optuna.Trial, specification: Specification, epochs: int, stop: threading.Event) -> None:
        self.trial, self.metric, self.stop = trial, specification.metric, stop
        rules = specification.content.get("early_terminate")
        self.last = min(epochs, rules.get("max_iter", epochs)) if rules else 0
        self.reported, self.pruned = 0, False

    def __call__(self, history: pd.DataFrame) -> bool:
        for epoch, value in enumerate(history.get(self.metric, ()), 1):
            if epoch > self.reported and not self.pruned:
                self.trial.report(value, epoch)
                self.reported = epoch
                # After the last epoch there is nothing left to save.
                self.pruned = epoch < self.last and self.trial.should_prune()
        return self.pruned or self.stop.is_set()


def _reached(study: optuna.Study, specification: Specification) -> bool:
    return any(specification.reached(t.value) for t in study.get_trials(states=(TrialState.COMPLETE,)))


def _all_of(worker: Any, jobs: int, stop: threading.Event) -> None:
    """Run the workers until all have ended; an error or Ctrl-C makes the others put their trials back."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(worker, number) for number in range(jobs)]):
                future.result()
        except BaseException:
            stop.set()
            raise


def _check(study: optuna.Study, proposals: list[dict[str, Any]], max_failed: float, folder: Path) -> None:
    errors = [t for t in study.get_trials(deepcopy=False) if failed(t)]
    if len(errors) > max_failed * len(proposals):
        last = errors[-1].user_attrs
        raise InputError(
            f"{len(errors)} of {len(proposals)} trials failed, more than max_failed ({max_failed:g}) allows; "
            f"the last: {last['error']}; read the notebook in {folder / str(last['place'])}, "
            f"and after a remedy outside of the code and the specification delete {folder}"
        )


def _show(bar: tqdm, study: optuna.Study) -> None:
    trials = study.get_trials(deepcopy=False)
    bar.update(sum(map(finished, trials)) - bar.n)
    if any(t.state == TrialState.COMPLETE for t in trials):
        bar.set_postfix_str(f"best {study.best_value:.4f} (trial {study.best_trial.user_attrs['place']})")


def _sampler(specification: Specification, seed: int) -> optuna.samplers.BaseSampler:
    # Each trial has its own seed: whoever runs it, and in whichever order, a random search is the same.
    if specification.method == "bayes":
        # A Gaussian process, as W&B's own Bayesian search.
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed)


def _gpus() -> list[str]:
    import torch  # here, because a specification can be read without it

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [it for it in visible.split(",") if it] or [str(number) for number in range(torch.cuda.device_count())]
