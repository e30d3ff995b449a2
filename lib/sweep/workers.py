"""Workers of a sweep: threads that take trials from the queue, and run them."""

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import optuna
import pandas as pd
from optuna.trial import TrialState
from tqdm import tqdm

from lib.core.errors import InputError
from lib.sweep.kernels import Kernels
from lib.sweep.queue import TrialRequeued, failed, finished, slot_of
from lib.sweep.specification import METRICS, Specification
from lib.sweep.trial import TrialFailed, TrialStopped, run_trial

_STARTUP = 6  # random trials before the first that a Gaussian process suggests


@dataclass
class Workers:
    """Run the waiting trials of a study, `jobs` at once, each job in a thread."""

    study: optuna.Study
    specification: Specification
    fixed: dict[str, Any]
    folder: Path
    seed: int
    jobs: int
    gpus: list[str]
    max_failure_rate: float
    kernels: Kernels
    bar: tqdm
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Run until no trial waits or the target is reached; an error or Ctrl-C makes all jobs requeue their trials."""
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for future in as_completed([pool.submit(self._work, number) for number in range(self.jobs)]):
                    future.result()
            except BaseException:
                self.stop.set()
                raise

    def _work(self, number: int) -> None:
        # A study of its own, because each trial sets the study's sampler.
        study = optuna.load_study(
            study_name=self.study.study_name, storage=self.study._storage, pruner=self.study.pruner
        )
        ask = study.ask

        def ask_alone(*arguments: Any, **options: Any) -> optuna.Trial:
            with self.lock:  # SQLite would give two threads the same trial; other databases lock its row
                return ask(*arguments, **options)

        study.ask = ask_alone
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]} if self.jobs > 1 and self.gpus else {}
        while not (self.stop.is_set() or self.reached(study)):
            if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                break
            study.optimize(lambda trial: self._objective(study, trial, gpu), 1, catch=(TrialFailed, TrialRequeued))
            self.report(study)

    def _objective(self, study: optuna.Study, trial: optuna.Trial, gpu: dict[str, str]) -> float:
        slot = slot_of(study, trial)
        study.sampler = _sampler(self.specification, self.seed * 100_003 + slot)
        suggested = self.specification.propose(trial)
        trial.set_user_attr("parameters", suggested)
        epochs = suggested.get("epochs", self.fixed.get("epochs"))
        pruning = PruningCallback(trial, self.specification, epochs, self.stop)
        threads = self.fixed.get("threads") or max(1, joblib.cpu_count() // self.jobs)
        parameters = {"threads": threads, **self.fixed, **suggested}
        try:
            record = run_trial(parameters, self.folder / str(slot), self.kernels, pruning, gpu)
        except TrialFailed as error:
            trial.set_user_attr("error", str(error))
            raise
        except TrialStopped:
            record = {}
        if pruning.pruned:
            raise optuna.TrialPruned
        if not record:
            raise TrialRequeued
        return float(record[METRICS[self.specification.metric]])

    def reached(self, study: optuna.Study) -> bool:
        """Return whether a trial has reached the metric's target."""
        return any(self.specification.reached(t.value) for t in study.get_trials(states=(TrialState.COMPLETE,)))

    def report(self, study: optuna.Study) -> None:
        """Update the progress bar; raise InputError when too many trials failed."""
        self.show(study)
        errors, budget = [t for t in study.get_trials(deepcopy=False) if failed(t)], len(self.specification.grid)
        if len(errors) > self.max_failure_rate * budget:
            last = errors[-1].user_attrs
            raise InputError(
                f"{len(errors)} of {budget} trials failed, more than max_failure_rate "
                f"({self.max_failure_rate:g}) allows; the last: {last['error']}; read the notebook in "
                f"{self.folder / str(last['slot'])}, and after a fix outside the code and the specification delete "
                f"{self.folder}"
            )

    def show(self, study: optuna.Study) -> None:
        """Update the progress bar."""
        trials = study.get_trials(deepcopy=False)
        self.bar.update(sum(map(finished, trials)) - self.bar.n)
        if any(t.state == TrialState.COMPLETE for t in trials):
            self.bar.set_postfix_str(f"best {study.best_value:.4f} (trial {study.best_trial.user_attrs['slot']})")


class PruningCallback:
    """Report a trial's metric after each epoch, and return whether the trial is to end."""

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


def _sampler(specification: Specification, seed: int) -> optuna.samplers.BaseSampler:
    # Each trial has its own seed, so that a random search is the same on any worker and in any order.
    if specification.method == "bayes":
        # A Gaussian process, as in W&B's own Bayesian search.
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed)
