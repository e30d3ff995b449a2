"""Results of a sweep: the table of its trials, parameter importances, and the best parameters as a file."""

from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator

from lib.core.errors import InputError
from lib.core.files import atomic_file
from lib.sweep.queue import finished
from lib.sweep.specification import Specification


def results_table(study: optuna.Study, specification: Specification) -> pd.DataFrame:
    """Return one row a trial: number, state, varied parameters, epochs, metric, and whether it is the best.

    The metric of a pruned trial is that of its last epoch; only a complete one can be the best. If trials failed, there
    is a column `error`. Raises InputError when none is complete.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if finished(trial):
            values = trial.user_attrs.get("parameters", {})
            rows.append(
                {
                    "trial": trial.user_attrs["slot"],
                    "state": trial.state.name.lower(),
                    **{name: values.get(name) for name in specification.varied},
                    "epochs": len(trial.intermediate_values),
                    specification.metric: trial.value,
                    "error": trial.user_attrs.get("error"),
                }
            )
    return ranked(pd.DataFrame(rows), specification)


def ranked(table: pd.DataFrame, specification: Specification) -> pd.DataFrame:
    """Sort a table by trial, and mark the best complete one; raise InputError when none is complete."""
    if "state" not in table or not (table["state"] == "complete").any():
        raise InputError("no trial of the sweep is complete: read the notebooks in its trials folder")
    table = table.sort_values("trial", ignore_index=True)
    values = table[specification.metric].where(table["state"] == "complete")
    table["best"] = table.index == (values.idxmax() if specification.maximise else values.idxmin())
    return table if table["error"].notna().any() else table.drop(columns="error")


def importances(table: pd.DataFrame, specification: Specification) -> pd.Series:
    """Return the fraction of the metric's variance that each varied parameter explains, the greatest first.

    By functional ANOVA over a random forest (Hutter et al. 2014, Proc. ICML), from complete trials; empty when these do
    not differ.
    """
    complete = table[table["state"] == "complete"]
    varied = [name for name in specification.varied if complete[name].nunique() > 1]
    if not varied or complete[specification.metric].nunique() < 2:
        return pd.Series(dtype=float)
    distributions = {name: _distribution(complete[name], specification) for name in varied}
    study = optuna.create_study()
    for row in complete.to_dict("records"):
        params = {name: row[name] for name in varied}
        value = row[specification.metric]
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=value))
    try:
        fractions = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    except RuntimeError:  # too few trials for a split in any tree of the forest
        return pd.Series(dtype=float)
    return pd.Series(fractions, name="importance")


def _distribution(values: pd.Series, specification: Specification) -> BaseDistribution:
    parameter = specification.parameters[str(values.name)]
    if parameter.values:
        return CategoricalDistribution(parameter.values)
    log = parameter.distribution == "log_uniform_values"
    return FloatDistribution(float(values.min()), float(values.max()), log=log)


def write_best(path: Path, table: pd.DataFrame, specification: Specification, sweep: str) -> dict[str, Any]:
    """Write the parameters of the best trial as YAML that `papermill -f` and a profile accept, and return them.

    The first line, a comment, names the trial and its `sweep`.
    """
    row = table[table["best"]].iloc[0]
    best = {}
    for name, parameter in specification.parameters.items():
        value = row[name] if name in specification.varied else parameter.values[0]
        best[name] = value.item() if hasattr(value, "item") else value
    origin = f"# Trial {row['trial']} of {sweep}: {specification.metric} {row[specification.metric]:.6g}\n"
    with atomic_file(path) as partial:
        partial.write_text(origin + yaml.safe_dump(best, sort_keys=False), encoding="utf-8")
    return best
