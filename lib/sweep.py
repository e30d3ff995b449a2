"""Sweep: many papermill runs of one notebook, their parameters proposed by Optuna from a W&B specification."""

import itertools
import math
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import papermill
import yaml
from optuna.trial import TrialState
from tqdm import tqdm

from lib.errors import InputError
from lib.files import ROOT, read_json, whole_file
from lib.parameters import declared
from lib.resume import claim

NOTEBOOK = "02_train"
METRICS = {"val/acc": "val_acc", "val/loss": "val_loss"}  # W&B's name and that in run.json
_PATH = str(ROOT / "notebooks" / f"{NOTEBOOK}.ipynb")
_DISTRIBUTIONS = ("values", "value", "min", "max", "distribution")


def load_specification(path: Path) -> dict[str, Any]:
    """Read a sweep specification in W&B's schema and check it.

    Known are `method` (grid, random, bayes), `metric` (name, goal), `run_cap`, and parameters of 02_train by
    `value`, `values`, or `min` and `max` with `distribution` uniform or log_uniform_values. Raises InputError
    for anything else.
    """
    try:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no sweep specification {path}") from None
    if not isinstance(spec, dict) or spec.get("method") not in ("grid", "random", "bayes"):
        raise InputError(f"{path}: method must be grid, random or bayes")
    if spec.get("metric", {}).get("name") not in METRICS:
        raise InputError(f"{path}: metric.name must be one of {', '.join(METRICS)}")
    known = declared(NOTEBOOK)
    for name, choice in spec.get("parameters", {}).items():
        if name not in known:
            raise InputError(f"{path}: {NOTEBOOK} has no parameter {name!r}: it has {', '.join(known)}")
        if unknown := set(choice) - set(_DISTRIBUTIONS):
            raise InputError(f"{path}: parameter {name!r} has an unknown key {unknown.pop()!r}")
        if spec["method"] == "grid" and "min" in choice:
            raise InputError(f"{path}: a grid needs values for {name!r}, not a range")
    return spec


def run_sweep(
    spec: dict[str, Any],
    fixed: dict[str, Any],
    identity: dict[str, Any],
    folder: Path,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Run the trials that are still missing and return the table of all of them.

    A trial executes 02_train with `fixed` and its own parameters into `folder/trials/<number>/`. The study lies
    in `folder/study.db`: a killed sweep of the same specification and `identity` (of data and code) goes on, and
    a finished trial is never run again. A trial that fails is recorded as failed, and the sweep goes on. Raises
    InputError when no trial succeeds.
    """
    defaults = {name: about["default"] for name, about in papermill.inspect_notebook(_PATH).items()}
    claim(folder, {"specification": spec, "fixed": fixed, "defaults": defaults, **identity})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}", study_name=NOTEBOOK, load_if_exists=True,
        direction=spec["metric"].get("goal", "minimize"), sampler=_sampler(spec, seed),
    )  # fmt: skip
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        # A killed run left it: put aside what it was, and its parameters at the end of the queue.
        study.tell(trial.number, state=TrialState.PRUNED)
        study.enqueue_trial(trial.params)
    if spec["method"] == "grid":
        for combination in itertools.product(*_grid(spec).values()):
            study.enqueue_trial(dict(zip(_grid(spec), combination, strict=True)), skip_if_exists=True)
    budget = spec.get("run_cap") or math.prod(len(values) for values in _grid(spec).values())
    done = len(study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL)))

    def objective(trial: optuna.Trial) -> float:
        chosen = {name: _suggest(trial, name, choice) for name, choice in spec["parameters"].items()}
        return _run_trial({**fixed, **chosen}, folder / "trials" / str(trial.number), spec["metric"]["name"])

    with tqdm(total=budget, initial=done, desc="sweep", unit=" trials", disable=not progress) as bar:
        if done < budget:
            failures = (papermill.PapermillExecutionError,)
            study.optimize(objective, budget - done, catch=failures, callbacks=[lambda *_: bar.update()])
    return _table(study, spec["metric"]["name"])


def write_best(path: Path, table: pd.DataFrame, spec: dict[str, Any]) -> dict[str, Any]:
    """Write the parameters of the best trial as YAML that `papermill -f` accepts, and return them."""
    row = table[table["best"]].iloc[0]
    fixed = {name: choice["value"] for name, choice in spec["parameters"].items() if "value" in choice}
    chosen = {name: row[name] for name in spec["parameters"] if name not in fixed}
    best = fixed | {name: value.item() if hasattr(value, "item") else value for name, value in chosen.items()}
    with whole_file(path) as partial:
        partial.write_text(yaml.safe_dump(best, sort_keys=False), encoding="utf-8")
    return best


def _run_trial(parameters: dict[str, Any], folder: Path, metric: str) -> float:
    folder.mkdir(parents=True, exist_ok=True)
    files = {"nb": f"{NOTEBOOK}.ipynb", "run": "run.json", "history": "history.csv", "weights": "weights.safetensors"}
    product = {key: str(folder / name) for key, name in files.items()}
    papermill.execute_notebook(
        _PATH, product["nb"], {**parameters, "product": product},
        progress_bar=False, cwd=ROOT,
    )  # fmt: skip
    return read_json(folder / "run.json")[METRICS[metric]]


def _table(study: optuna.Study, metric: str) -> pd.DataFrame:
    """Return one row a trial: number, state, parameters, metric, and whether it is the best."""
    table = pd.DataFrame(
        {"trial": t.number, "state": t.state.name.lower(), **t.params, metric: t.value}
        for t in study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    )
    values = table[metric].where(table["state"] == "complete")
    if values.isna().all():
        raise InputError("every trial of the sweep failed: read the notebooks in its trials folder")
    maximise = study.direction == optuna.study.StudyDirection.MAXIMIZE
    table["best"] = table.index == (values.idxmax() if maximise else values.idxmin())
    return table


def _grid(spec: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: choice["values"] for name, choice in spec["parameters"].items() if "values" in choice}


def _sampler(spec: dict[str, Any], seed: int) -> optuna.samplers.BaseSampler:
    # A grid needs none: all its trials are in the queue from the start.
    return optuna.samplers.TPESampler(seed=seed) if spec["method"] == "bayes" else optuna.samplers.RandomSampler(seed)


def _suggest(trial: optuna.Trial, name: str, choice: dict[str, Any]) -> Any:
    if "value" in choice:
        return choice["value"]
    if "values" in choice:
        return trial.suggest_categorical(name, choice["values"])
    low, high = choice["min"], choice["max"]
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=choice.get("distribution") == "log_uniform_values")
