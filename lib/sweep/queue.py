"""The queue of a sweep in its database, from which workers on this and other machines take trials.

The sweep's budget is one waiting trial for each slot, so no trial runs twice and none is superfluous. The trial of a
dead worker is queued again in the same slot, with the same parameters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from lib.core.errors import InputError
from lib.core.lock import lock_folder
from lib.sweep.specification import Specification, min_resource

HEARTBEAT, GRACE = 10, 60  # seconds between heartbeats in a shared storage, and without one until a trial is dead


class TrialRequeued(Exception):
    """Raised to drop a trial; its slot is queued again unless another trial has it."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the folder while the sweep runs; the operating system releases the lock when the process dies.

    Raises InputError when another process holds it.
    """
    lock = lock_folder(
        folder,
        f"another sweep runs in {folder}: wait for it, or give it more jobs; workers of one sweep need a shared "
        "storage, and outputs of their own",
    )
    try:
        yield
    finally:
        lock.release()


def open_study(name: str, folder: Path, storage: str, specification: Specification) -> optuna.Study:
    """Open or create the study `name` in `folder/study.db`, or in the shared database at the URL `storage`.

    Raises InputError when that database cannot be used.
    """
    rules = specification.content.get("early_terminate")
    # W&B's hyperband has its rungs at min_resource · etaᵏ, as asynchronous successive halving does.
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource(rules), rules.get("eta", 3)) if rules else None
    try:
        try:
            database = _database(folder, storage)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            database = _database(folder, storage)  # another worker created the same tables at the same time
        return optuna.create_study(
            storage=database, study_name=name, load_if_exists=True, pruner=pruner or optuna.pruners.NopPruner(),
            direction="maximize" if specification.maximise else "minimize",
        )  # fmt: skip
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise InputError(
            f"the storage of the sweep cannot be used ({str(error).splitlines()[0]}): check the parameter "
            "storage, a URL such as postgresql://user@host/database"
        ) from None


def _database(folder: Path, storage: str) -> optuna.storages.RDBStorage:
    if storage:
        shared = {"heartbeat_interval": HEARTBEAT, "grace_period": GRACE}
        return optuna.storages.RDBStorage(storage, engine_kwargs={"pool_pre_ping": True}, **shared)
    # Not an f-string: a `?` in the path would begin the URL's query.
    url = sqlalchemy.URL.create("sqlite", database=str(folder / "study.db")).render_as_string()
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})


def enqueue_missing(study: optuna.Study, proposals: list[dict[str, Any]]) -> bool:
    """Queue a trial for every slot without one, and return whether any trial waits."""
    trials = study.get_trials(deepcopy=False)
    taken = {t.user_attrs.get("slot") for t in trials if not t.state.is_finished() or finished(t)}
    started = {t.user_attrs.get("slot"): t.params for t in trials if t.params}
    for slot, proposal in enumerate(proposals):
        if slot not in taken:
            study.enqueue_trial({**proposal, **started.get(slot, {})}, user_attrs={"slot": slot})
    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def slot_of(study: optuna.Study, trial: optuna.Trial) -> int:
    """Return the slot of a trial; raise TrialRequeued where another trial has it."""
    slot = trial.user_attrs.get("slot")
    # Two workers that started at the same time have both filled the queue: of trials with one slot, the first counts.
    others = (t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("slot") == slot)
    if slot is None or any(t.number < trial.number and (not t.state.is_finished() or finished(t)) for t in others):
        raise TrialRequeued
    return int(slot)


def anyone_runs(study: optuna.Study) -> bool:
    """Return whether a trial runs, on this or another machine."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def failed(trial: FrozenTrial) -> bool:
    """Return whether 02_train failed in this trial; a trial that was requeued has no error."""
    return trial.state == TrialState.FAIL and "error" in trial.user_attrs


def finished(trial: FrozenTrial) -> bool:
    """Return whether the trial is complete, pruned or failed, and will not be queued again."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or failed(trial)
