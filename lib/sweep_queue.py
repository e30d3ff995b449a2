"""The queue of a sweep in its database, from which workers here and on other machines take.

One waiting trial for each place in the table is the sweep's budget, so none runs twice and none too many. What a dead
worker had begun is queued again under the same place, with the same parameters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from lib.errors import InputError
from lib.sweep_spec import Specification, first_judged

HEARTBEAT, GRACE = 10, 60  # seconds between signs of life in a shared storage, and without one until a trial is dead


class SetAside(Exception):
    """Take a trial out of the table; its place is queued again where nobody else has it."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder while the sweep runs; the system lets go of it when the process dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"another sweep is at work in {folder}: wait for it, or give it more jobs; workers of one sweep need a "
            "storage that they share, and outputs of their own"
        ) from None
    try:
        yield
    finally:
        lock.release()


def open_study(name: str, folder: Path, storage: str, specification: Specification) -> optuna.Study:
    """Open or create the study `name` in `folder/study.db`, or in a database that others share, by its URL.

    Raises InputError where that database is out of reach.
    """
    rules = specification.content.get("early_terminate")
    # W&B's hyperband judges at first_judged · etaᵏ, as asynchronous successive halving does.
    pruner = optuna.pruners.SuccessiveHalvingPruner(first_judged(rules), rules.get("eta", 3)) if rules else None
    try:
        if storage:
            shared = {"heartbeat_interval": HEARTBEAT, "grace_period": GRACE}
            database = optuna.storages.RDBStorage(storage, engine_kwargs={"pool_pre_ping": True}, **shared)
        else:
            database = optuna.storages.RDBStorage(
                f"sqlite:///{folder / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
        return optuna.create_study(
            storage=database, study_name=name, load_if_exists=True, pruner=pruner or optuna.pruners.NopPruner(),
            direction="maximize" if specification.maximise else "minimize",
        )  # fmt: skip
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise InputError(
            f"the storage of the sweep cannot be used ({str(error).splitlines()[0]}): check the parameter "
            "storage, a URL such as postgresql://user@host/database"
        ) from None


def refill(study: optuna.Study, proposals: list[dict[str, Any]]) -> bool:
    """Queue every place that no trial has, and tell whether any waits."""
    trials = study.get_trials(deepcopy=False)
    taken = {t.user_attrs.get("place") for t in trials if not t.state.is_finished() or finished(t)}
    begun = {t.user_attrs.get("place"): t.params for t in trials if t.params}
    for place, proposal in enumerate(proposals):
        if place not in taken:
            study.enqueue_trial({**proposal, **begun.get(place, {})}, user_attrs={"place": place})
    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def place_of(study: optuna.Study, trial: optuna.Trial) -> int:
    """Return the place of a trial; raise SetAside where it is one too many."""
    place = trial.user_attrs.get("place")
    # Two workers that began at once have both filled the queue: of trials with one place, the first counts.
    rivals = (t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("place") == place)
    if place is None or any(t.number < trial.number and (not t.state.is_finished() or finished(t)) for t in rivals):
        raise SetAside
    return int(place)


def anyone_runs(study: optuna.Study) -> bool:
    """Tell whether a trial is at work, here or elsewhere."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def failed(trial: FrozenTrial) -> bool:
    """Tell whether 02_train failed in this trial, rather than that the trial was put back."""
    return trial.state == TrialState.FAIL and "error" in trial.user_attrs


def finished(trial: FrozenTrial) -> bool:
    """Tell whether the trial counts: it was completed, pruned, or has failed for good."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or failed(trial)
