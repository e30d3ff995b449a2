"""Validate the parameters of a notebook before it does any work."""

import ast
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from lib.core.errors import InputError
from lib.core.files import ROOT, project_path
from lib.core.input_rule import MAX_SIZE, RESIZE_MODES, SIZE_STEP, size_mistake
from lib.core.wandb_mode import WANDB_MODES

_TYPES: dict[str, type | tuple[type, ...]] = {
    "bool": bool, "int": int, "float": (int, float), "str": str, "list": list, "dict": dict,
}  # fmt: skip
_DECLARATION = re.compile(r"^(?P<name>\w+) = .+?  # type: (?P<type>\w+)\b")
_INJECTED = "# Parameters"  # the first line of the cell that papermill and Ploomber insert

# The smallest and the largest value of each number, also of those in a list. A name means the same in all notebooks.
LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("epochs", "sweep_epochs", "cnn_baseline_epochs", "vgg_epochs", "student_epochs"), (1, 10_000)),
    **dict.fromkeys(("batch_size", "baseline_batch_size"), (2, 65_536)),
    **dict.fromkeys(("lr", "cnn_baseline_lr", "vgg_lr", "vgg_finetune_lr"), (1e-8, 10)),
    **dict.fromkeys(("muon_lr", "weight_decay"), (0, 10)),
    **dict.fromkeys(("dropout", "label_smoothing", "prune_ratio"), (0, 0.99)),
    **dict.fromkeys(("corruption_prob", "cutmix_prob", "max_failure_rate", "distillation_alpha"), (0, 1)),
    **dict.fromkeys(("target_risk", "student_target_risks", "exit_target_risk"), (1e-6, 0.99)),
    **dict.fromkeys(("seed", "split_seed", "sweep_seed"), (0, 10**9)),
    **dict.fromkeys(("max_train_samples", "max_sweep_samples", "max_robustness_samples"), (0, 10**9)),
    **dict.fromkeys(("devices", "num_nodes"), (1, 4096)),
    "max_baseline_samples": (0, 10**9), "max_calibration_samples": (0, 10**9), "sample_fraction": (0.01, 1),
    "val_fraction": (0.001, 0.9), "test_fraction": (0.001, 0.9), "image_size": (SIZE_STEP, MAX_SIZE),
    "translate": (0, 16), "cutout_size": (0, 255), "aux_loss_weight": (0, 100),
    "max_accuracy_drop": (0, 100), "rounds": (2, 10_000), "workers": (1, 1024), "jobs": (0, 1024), "threads": (0, 4096),
}  # fmt: skip
CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("adamw", "sgd"), "schedule": ("one_cycle", "constant"),
    "precision": ("float32", "bfloat16"), "accelerator": ("auto", "cpu", "gpu"), "engine": ("local", "wandb"),
    "wandb": WANDB_MODES, "resize": RESIZE_MODES, "baselines": ("reference", "train"),
}  # fmt: skip
_FILES = {"sweep": "name a sweep specification, such as parameters/sweep_grid.yaml"}


def declared(notebook: str) -> dict[str, str]:
    """Return the parameters of a notebook (by name, such as "02_train"), each with the name of its type."""
    text = (ROOT / "notebooks" / f"{notebook}.py").read_text(encoding="utf-8")
    cell = re.split(r"^# %%", text.partition('tags=["parameters"]')[2], maxsplit=1, flags=re.M)[0]
    matches = (_DECLARATION.match(line) for line in cell.splitlines())
    return {match["name"]: match["type"] for match in matches if match}


def load_profile(name: str) -> dict[str, Any]:
    """Return all parameters of a file of parameters/ (by name, such as "cpu"), those that it imports or leaves out too.

    Raises InputError for an unknown name.
    """
    path = project_path(f"parameters/{name}.yaml")
    if not path.is_file():
        raise InputError(f"there is no profile {name!r} ({path} is missing): set PROFILE to sample, cpu, long or gpu")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    imported = content.pop("meta", {}).get("import_from", "sample.yaml")
    return content if name == "sample" else {**load_profile(imported.removesuffix(".yaml")), **content}


def validate_parameters(notebook: str, namespace: dict[str, Any]) -> None:
    """Raise InputError as `check_values` does, for the parameters that were injected and all others of the notebook.

    `namespace` is the notebook's `globals()`. papermill only warns about an unknown name, and parses `-p x true` and
    YAML's `1e-3` as text: unchecked, both would give a result that nobody asked for.
    """
    check_values(notebook, {name: namespace[name] for name in [*_injected_names(namespace), *declared(notebook)]})


def check_values(notebook: str, values: Mapping[str, Any]) -> None:
    """Raise InputError for a parameter that the notebook does not have, or a value of a wrong type or out of limits."""
    parameters = declared(notebook)
    for name, value in values.items():
        if name not in parameters:
            raise InputError(f"{notebook} has no parameter {name!r}: {did_you_mean(name, parameters)}")
        type_name = parameters[name]
        if not fits(value, type_name):
            raise InputError(
                f"{notebook}: parameter {name!r} must be of type {type_name}, not {type(value).__name__} "
                f"({value!r}){type_hint(type_name, value)}"
            )
        if mistake := out_of_limits(name, value):
            raise InputError(f"{notebook}: {mistake}")


def out_of_limits(name: str, value: Any) -> str:
    """Return what is wrong with the value of a parameter, of its declared type, or an empty string."""
    if name == "image_size":
        return size_mistake(value)
    if name in LIMITS:
        low, high = LIMITS[name]
        for number in value if isinstance(value, list) else [value]:
            if not (fits(number, "float") and low <= number <= high):
                return f"{name} is {value!r}: give a value from {low} to {high}"
    if name in CHOICES and value not in CHOICES[name]:
        return f"{name} is {value!r}: choose one of {', '.join(CHOICES[name])}"
    if name in _FILES and not project_path(value).is_file():
        return f"{name} is {value!r}, but there is no file {project_path(value)}: {_FILES[name]}"
    for source in value if name == "external" else ():
        if not (isinstance(source, str) and project_path(source).exists()):
            return f"external is {value!r}, but there is nothing at {source}: name folders or zips"
    return ""


def fits(value: Any, type_name: str) -> bool:
    """Return whether `value` is valid for a parameter of the declared type."""
    # bool is a subclass of int in Python, but True is no valid number for a user.
    return isinstance(value, _TYPES[type_name]) and (type_name == "bool" or not isinstance(value, bool))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt name: the closest known name, or all of them where none is close."""
    matches = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {matches[0]!r}?" if matches else f"it may be {', '.join(known)}"


def type_hint(type_name: str, value: Any) -> str:
    """Return a hint on how to write a value that YAML or papermill parsed as text, or an empty string."""
    if not isinstance(value, str):
        return ""
    return {"bool": ": write True or False", "float": ": write it as 0.001 or 1.0e-3"}.get(type_name, "")


def _injected_names(namespace: dict[str, Any]) -> list[str]:
    names = []
    for cell in namespace.get("In", []):
        if cell.startswith(_INJECTED):
            for node in ast.parse(cell).body:
                if isinstance(node, ast.Assign):
                    names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names
