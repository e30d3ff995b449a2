"""The specification of a sweep, in W&B's schema: read, checked against 02_train, and proposed to Optuna."""

import bisect
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml

from lib.errors import InputError
from lib.parameters import declared, fits, nearest, type_hint

NOTEBOOK = "02_train"
METRICS = {"val/acc": "val_acc", "val/loss": "val_loss"}  # W&B's name, and that in run.json
METHODS = ("grid", "random", "bayes")
# What an agent of W&B's is told besides, for W&B alone.
_FOR_WANDB = ("program", "command", "name", "description", "project", "entity")
_KEYS = ("method", "metric", "parameters", "early_terminate", "run_cap", *_FOR_WANDB)
# Of each distribution: the keys that it must have, and those that it may have.
_DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ()),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (("min", "max"), ()),
    "uniform": (("min", "max"), ()),
    "q_uniform": (("min", "max"), ("q",)),
    "log_uniform_values": (("min", "max"), ()),
}
_SET_BY_THE_SWEEP = ("upstream", "product", "lib_hash")


@dataclass(frozen=True)
class Parameter:
    """Hold one parameter of 02_train and the distribution that its values come from."""

    name: str
    distribution: str
    values: tuple[Any, ...] = ()  # one for a constant
    probabilities: tuple[float, ...] = ()
    low: float = 0
    high: float = 0
    step: float = 1

    def propose(self, trial: optuna.Trial) -> Any:
        """Return the value that the trial's sampler proposes."""
        if self.distribution == "constant":
            return self.values[0]
        if self.distribution == "categorical":
            return trial.suggest_categorical(self.name, self.values)
        if self.distribution == "categorical_w_probabilities":
            # Optuna's choices are equally probable. Along an axis of probability, as W&B's own search has it, they
            # take as much room as they should.
            edges = list(itertools.accumulate(self.probabilities))
            position = bisect.bisect_right(edges, trial.suggest_float(self.name, 0, 1) * edges[-1])
            return self.values[min(position, len(self.values) - 1)]
        if self.distribution == "int_uniform":
            return trial.suggest_int(self.name, int(self.low), int(self.high))
        if self.distribution == "q_uniform":
            value = trial.suggest_float(self.name, self.low, self.high, step=self.step)
            return int(value) if isinstance(self.step, int) else value
        return trial.suggest_float(self.name, self.low, self.high, log=self.distribution == "log_uniform_values")


@dataclass(frozen=True)
class Specification:
    """Hold a checked specification; `content` is the file's, which W&B's server understands as it is."""

    content: dict[str, Any]
    parameters: dict[str, Parameter]

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
        """Return the combinations of a grid in their order, or one empty proposal a trial of any other search."""
        cap = self.content.get("run_cap")
        if self.method != "grid":
            return [{}] * int(cap or 0)
        choices = [self.parameters[name].values for name in self.varied]
        return [dict(zip(self.varied, values, strict=True)) for values in itertools.product(*choices)][:cap]

    def propose(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return a value for every parameter."""
        return {name: parameter.propose(trial) for name, parameter in self.parameters.items()}

    def reached(self, value: float) -> bool:
        """Tell whether `value` is as good as the metric's `target`, where there is one."""
        target = self.content["metric"].get("target")
        return target is not None and (value >= target if self.maximise else value <= target)


def load_specification(path: Path) -> Specification:
    """Read a sweep specification in W&B's schema and check it.

    Known are the methods grid, random and bayes; `metric` with name, goal and target; `run_cap`; `early_terminate`
    by hyperband; and parameters of 02_train by value, values (with probabilities), or min and max with the
    distributions int_uniform, uniform, q_uniform and log_uniform_values. Groups of parameters may nest: their
    names are for the reader. Raises InputError, with file and key and the nearest valid name, for anything else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no sweep specification {path}: name one of parameters/sweep_*.yaml") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return check_specification(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def check_specification(content: Any) -> Specification:
    """Return the specification that `content`, W&B's dictionary, describes; raise InputError as the loader does."""
    _keys("the specification", content, _KEYS, required=("method", "metric", "parameters"))
    _one_of("method", content["method"], METHODS)
    metric = content["metric"]
    _keys("metric", metric, ("name", "goal", "target"), required=("name",))
    _one_of("metric.name", metric["name"], tuple(METRICS))
    _one_of("metric.goal", metric.get("goal", "minimize"), ("minimize", "maximize"))
    parameters = {name: _parameter(name, choice) for name, choice in flattened(content["parameters"]).items()}
    cap = content.get("run_cap")
    if cap is not None and not (fits(cap, "int") and cap > 0):
        raise InputError(f"run_cap is {cap!r}: give a whole number of trials")
    if content["method"] == "grid":
        for name, parameter in parameters.items():
            if not parameter.values:
                raise InputError(f"a grid needs values for {name!r}, not a range")
    elif cap is None:
        raise InputError(f"{content['method']} search has no end of its own: give run_cap, the number of trials")
    if "early_terminate" in content:
        _check_hyperband(content["early_terminate"])
    return Specification(content, parameters)


def flattened(parameters: Any, leaf: str = "parameters") -> dict[str, Any]:
    """Return nested groups of parameters as one dictionary; `leaf` is the key under which a group has its members."""
    if not isinstance(parameters, dict) or not parameters:
        raise InputError("parameters must name at least one parameter of 02_train, each with its values or range")
    flat: dict[str, Any] = {}
    for name, choice in parameters.items():
        group = isinstance(choice, dict) and set(choice) == {leaf} and name not in declared(NOTEBOOK)
        for inner, value in (flattened(choice[leaf]) if group else {name: choice}).items():
            if inner in flat:
                raise InputError(f"parameter {inner!r} is there twice: give it once")
            flat[inner] = value
    return flat


def first_judged(rules: dict[str, Any]) -> int:
    """Return the epoch at which hyperband first judges a trial, from `min_iter` or from `max_iter` and `s`."""
    if "min_iter" in rules:
        return int(rules["min_iter"])
    steps = min(int(rules["s"]), int(math.log(rules["max_iter"], rules.get("eta", 3)) + 1e-9))
    return max(1, int(rules["max_iter"] / rules.get("eta", 3) ** steps))


def _parameter(name: str, choice: Any) -> Parameter:
    known = declared(NOTEBOOK)
    if name in _SET_BY_THE_SWEEP:
        raise InputError(f"parameter {name!r} is set by the sweep itself: leave it out")
    if name not in known:
        raise InputError(f"{NOTEBOOK} has no parameter {name!r}: {nearest(name, known)}")
    where = f"parameter {name!r}"
    every = sorted({key for keys in _DISTRIBUTIONS.values() for key in itertools.chain(*keys)} | {"distribution"})
    _keys(where, choice, every)
    distribution = choice.get("distribution") or _implied(choice)
    _one_of(f"{where}: distribution", distribution, tuple(_DISTRIBUTIONS))
    required, optional = _DISTRIBUTIONS[distribution]
    _keys(f"{where} ({distribution})", choice, ("distribution", *required, *optional), required)
    if "min" not in required:
        values = tuple(choice["values"]) if "values" in choice else (choice["value"],)
        probabilities = tuple(choice.get("probabilities", ()))
        if not values or (probabilities and (len(probabilities) != len(values) or abs(sum(probabilities) - 1) > 1e-6)):
            raise InputError(f"{where} needs at least one value, and a probability for each that sum to 1")
        parameter = Parameter(name, distribution, values, probabilities)
    else:
        low, high, step = choice["min"], choice["max"], choice.get("q", 1)
        if not all(fits(number, "float") for number in (low, high, step)):
            raise InputError(f"{where}: min, max and q must be numbers{type_hint('float', str(low))}")
        if not low < high or step <= 0 or (distribution == "log_uniform_values" and low <= 0):
            raise InputError(f"{where}: min ({low}) must be below max ({high}), q above 0, and min too on a log scale")
        if distribution == "int_uniform" and not (fits(low, "int") and fits(high, "int")):
            raise InputError(f"{where}: int_uniform needs whole numbers for min and max")
        parameter = Parameter(name, distribution, low=low, high=high, step=step)
    whole = distribution == "int_uniform" or (distribution == "q_uniform" and fits(parameter.step, "int"))
    for value in parameter.values or (int(parameter.low) if whole else float(parameter.low),):
        if not fits(value, known[name]):
            raise InputError(
                f"{where} must be of type {known[name]}, and {distribution} would give it "
                f"{value!r}{type_hint(known[name], value)}"
            )
    return parameter


def _implied(choice: dict[str, Any]) -> str:
    """Return the distribution that W&B takes where none is named."""
    if "value" in choice:
        return "constant"
    if "values" in choice:
        return "categorical_w_probabilities" if "probabilities" in choice else "categorical"
    return "int_uniform" if fits(choice.get("min"), "int") and fits(choice.get("max"), "int") else "uniform"


def _check_hyperband(rules: Any) -> None:
    where = "early_terminate"
    _keys(where, rules, ("type", "min_iter", "max_iter", "s", "eta", "strict"), required=("type",))
    _one_of(f"{where}.type", rules["type"], ("hyperband",))
    if "min_iter" not in rules and not {"max_iter", "s"} <= set(rules):
        raise InputError(f"{where} needs min_iter, or max_iter and s: the epochs at which trials are judged")
    for key, least in (("min_iter", 1), ("max_iter", 1), ("s", 1), ("eta", 2)):
        if key in rules and not (fits(rules[key], "int") and rules[key] >= least):
            raise InputError(f"{where}.{key} is {rules[key]!r}: give a whole number from {least}")
    if rules.get("strict", True) is not True:
        raise InputError(f"{where}.strict must be true: both engines then let the best 1/eta of the trials go on")


def _keys(where: str, content: Any, known: Any, required: tuple[str, ...] = ()) -> None:
    if not isinstance(content, dict):
        raise InputError(f"{where} must be a mapping of keys to values, not {content!r}")
    for key in content:
        if key not in known:
            raise InputError(f"{where} has an unknown key {key!r}: {nearest(str(key), known)}")
    for key in required:
        if key not in content:
            raise InputError(f"{where} needs {key}")


def _one_of(where: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{where} is {value!r}: {nearest(str(value), known)}")
