"""One parameter of a sweep: its distribution in W&B's schema, checked, and sampled by Optuna."""

import bisect
import itertools
from dataclasses import dataclass
from typing import Any

import optuna

from lib.core.errors import InputError
from lib.core.parameters import declared, did_you_mean, fits, out_of_limits, type_hint

NOTEBOOK = "02_train"
# Required and optional keys of each distribution.
_DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ()),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (("min", "max"), ()),
    "uniform": (("min", "max"), ()),
    "q_uniform": (("min", "max"), ("q",)),
    "log_uniform_values": (("min", "max"), ()),
}
_RESERVED = ("upstream", "product", "lib_hash")


@dataclass(frozen=True)
class Parameter:
    """Hold one parameter of 02_train and the distribution of its values."""

    name: str
    distribution: str
    values: tuple[Any, ...] = ()  # one for a constant
    probabilities: tuple[float, ...] = ()
    low: float = 0
    high: float = 0
    step: float = 1

    def propose(self, trial: optuna.Trial) -> Any:
        """Return the value that the trial's sampler suggests."""
        if self.distribution == "constant":
            return self.values[0]
        if self.distribution == "categorical":
            return trial.suggest_categorical(self.name, self.values)
        if self.distribution == "categorical_w_probabilities":
            # Optuna's categories are equally probable. So, as in W&B's own search, a uniform value is mapped through
            # the cumulative probabilities.
            edges = list(itertools.accumulate(self.probabilities))
            position = bisect.bisect_right(edges, trial.suggest_float(self.name, 0, 1) * edges[-1])
            return self.values[min(position, len(self.values) - 1)]
        if self.distribution == "int_uniform":
            return trial.suggest_int(self.name, int(self.low), int(self.high))
        if self.distribution == "q_uniform":
            value = trial.suggest_float(self.name, self.low, self.high, step=self.step)
            return int(value) if isinstance(self.step, int) else value
        return trial.suggest_float(self.name, self.low, self.high, log=self.distribution == "log_uniform_values")


def flattened(parameters: Any, leaf: str = "parameters") -> dict[str, Any]:
    """Return nested groups of parameters as one dictionary; a group has its members under the key `leaf`."""
    if not isinstance(parameters, dict) or not parameters:
        raise InputError("parameters must name at least one parameter of 02_train, each with its values or range")
    flat: dict[str, Any] = {}
    for name, choice in parameters.items():
        group = isinstance(choice, dict) and set(choice) == {leaf} and name not in declared(NOTEBOOK)
        for inner, value in (flattened(choice[leaf]) if group else {name: choice}).items():
            if inner in flat:
                raise InputError(f"parameter {inner!r} is given twice: give it once")
            flat[inner] = value
    return flat


def check_parameter(name: str, choice: Any) -> Parameter:
    """Return the parameter that `choice`, in W&B's schema, describes; raise InputError where 02_train refuses it."""
    known = declared(NOTEBOOK)
    if name in _RESERVED:
        raise InputError(f"parameter {name!r} is set by the sweep itself: leave it out")
    if name not in known:
        raise InputError(f"{NOTEBOOK} has no parameter {name!r}: {did_you_mean(name, known)}")
    where = f"parameter {name!r}"
    keys = sorted({key for pair in _DISTRIBUTIONS.values() for key in itertools.chain(*pair)} | {"distribution"})
    check_keys(where, choice, keys)
    distribution = choice.get("distribution") or _implied(choice)
    check_one_of(f"{where}: distribution", distribution, tuple(_DISTRIBUTIONS))
    required, optional = _DISTRIBUTIONS[distribution]
    check_keys(f"{where} ({distribution})", choice, ("distribution", *required, *optional), required)
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
                f"{where} must be of type {known[name]}, but {distribution} gives {value!r}"
                f"{type_hint(known[name], value)}"
            )
    for value in parameter.values or (parameter.low, parameter.high):
        if mistake := out_of_limits(name, value):
            raise InputError(mistake)
    return parameter


def _implied(choice: dict[str, Any]) -> str:
    """Return W&B's default distribution for these keys."""
    if "value" in choice:
        return "constant"
    if "values" in choice:
        return "categorical_w_probabilities" if "probabilities" in choice else "categorical"
    return "int_uniform" if fits(choice.get("min"), "int") and fits(choice.get("max"), "int") else "uniform"


def check_keys(where: str, content: Any, known: Any, required: tuple[str, ...] = ()) -> None:
    """Raise InputError unless `content` is a mapping with known keys only, and with all required ones."""
    if not isinstance(content, dict):
        raise InputError(f"{where} must be a mapping of keys to values, not {content!r}")
    for key in content:
        if key not in known:
            raise InputError(f"{where} has an unknown key {key!r}: {did_you_mean(str(key), known)}")
    for key in required:
        if key not in content:
            raise InputError(f"{where} needs {key}")


def check_one_of(where: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise InputError unless `value` is in `known`."""
    if value not in known:
        raise InputError(f"{where} is {value!r}: {did_you_mean(str(value), known)}")
