"""The specification of a sweep, in W&B's schema: read, and checked against 02_train."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml

from lib.core.errors import InputError
from lib.core.parameters import fits
from lib.sweep.distributions import Parameter, check_keys, check_one_of, check_parameter, flattened

METRICS = {"val/acc": "val_acc", "val/loss": "val_loss"}  # name in W&B and the history: key in run.json
METHODS = ("grid", "random", "bayes")
# Keys for W&B's server and its agents alone.
_WANDB_KEYS = ("program", "command", "name", "description", "project", "entity")
_KEYS = ("method", "metric", "parameters", "early_terminate", "run_cap", *_WANDB_KEYS)


@dataclass(frozen=True)
class Specification:
    """Hold a checked specification; `content` is that of the file, which W&B's server accepts as it is."""

    content: dict[str, Any]
    parameters: dict[str, Parameter]
    name: str = "sweep"  # of its file

    @property
    def method(self) -> str:
        return str(self.content["method"])

    @property
    def metric(self) -> str:
        return str(self.content["metric"]["name"])

    @property
    def maximise(self) -> bool:
        return bool(self.content["metric"].get("goal") == "maximize")

    @property
    def varied(self) -> list[str]:
        """Return the names of the parameters that differ between trials."""
        return [name for name, parameter in self.parameters.items() if parameter.distribution != "constant"]

    @property
    def grid(self) -> list[dict[str, Any]]:
        """Return the combinations of a grid in order, or for random and Bayesian search an empty proposal per trial."""
        cap = self.content.get("run_cap")
        if self.method != "grid":
            return [{}] * int(cap or 0)
        choices = [self.parameters[name].values for name in self.varied]
        return [dict(zip(self.varied, values, strict=True)) for values in itertools.product(*choices)][:cap]

    def propose(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return a value for every parameter, suggested by the trial's sampler."""
        return {name: parameter.propose(trial) for name, parameter in self.parameters.items()}

    def reached(self, value: float) -> bool:
        """Return whether `value` is as good as the metric's `target`; False without a target."""
        target = self.content["metric"].get("target")
        return target is not None and (value >= target if self.maximise else value <= target)


def load_specification(path: Path) -> Specification:
    """Read a sweep specification in W&B's schema and check it.

    Supported are the methods grid, random and bayes; `metric` with name, goal and target; `run_cap`; `early_terminate`
    by hyperband; and parameters of 02_train by value, values (with probabilities), or min and max with the
    distributions int_uniform, uniform, q_uniform and log_uniform_values. Groups of parameters may nest; their names
    have no meaning. Raises InputError, with file, key and the nearest valid name, for anything else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no sweep specification {path}: name one of parameters/sweep_*.yaml") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return check_specification(content, path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def check_specification(content: Any, name: str = "sweep") -> Specification:
    """Return the specification in `content`, a dictionary; raise InputError as `load_specification` does."""
    # A JSON Schema of these rules, with the code that turns its errors into such messages, is longer than this code.
    check_keys("the specification", content, _KEYS, required=("method", "metric", "parameters"))
    check_one_of("method", content["method"], METHODS)
    metric = content["metric"]
    check_keys("metric", metric, ("name", "goal", "target"), required=("name",))
    check_one_of("metric.name", metric["name"], tuple(METRICS))
    check_one_of("metric.goal", metric.get("goal", "minimize"), ("minimize", "maximize"))
    parameters = {name: check_parameter(name, choice) for name, choice in flattened(content["parameters"]).items()}
    cap = content.get("run_cap")
    if cap is not None and not (fits(cap, "int") and cap > 0):
        raise InputError(f"run_cap is {cap!r}: give a whole number of trials")
    if content["method"] == "grid":
        for key, parameter in parameters.items():
            if not parameter.values:
                raise InputError(f"a grid needs values for {key!r}, not a range")
    elif cap is None:
        raise InputError(f"{content['method']} search does not end by itself: give run_cap, the number of trials")
    if "early_terminate" in content:
        _check_hyperband(content["early_terminate"])
    return Specification(content, parameters, name)


def min_resource(rules: dict[str, Any]) -> int:
    """Return the epoch of hyperband's first rung, from `min_iter` or from `max_iter` and `s`."""
    if "min_iter" in rules:
        return int(rules["min_iter"])
    steps = min(int(rules["s"]), int(math.log(rules["max_iter"], rules.get("eta", 3)) + 1e-9))
    return max(1, int(rules["max_iter"] / rules.get("eta", 3) ** steps))


def _check_hyperband(rules: Any) -> None:
    where = "early_terminate"
    check_keys(where, rules, ("type", "min_iter", "max_iter", "s", "eta", "strict"), required=("type",))
    check_one_of(f"{where}.type", rules["type"], ("hyperband",))
    if "min_iter" not in rules and not {"max_iter", "s"} <= set(rules):
        raise InputError(f"{where} needs min_iter, or max_iter and s: the epochs at which trials are compared")
    for key, least in (("min_iter", 1), ("max_iter", 1), ("s", 1), ("eta", 2)):
        if key in rules and not (fits(rules[key], "int") and rules[key] >= least):
            raise InputError(f"{where}.{key} is {rules[key]!r}: give a whole number from {least}")
    if rules.get("strict", True) is not True:
        raise InputError(f"{where}.strict must be true: with both engines the best 1/eta of the trials then continue")
