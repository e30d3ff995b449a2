"""Limits of parameters: refused in the first cell of a notebook, and in a sweep specification."""

import ast
from typing import Any

import papermill
import pytest

from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.core.parameters import CHOICES, LIMITS, check_values, declared, validate_parameters
from lib.core.wandb_mode import WANDB_MODES
from lib.sweep.specification import check_specification
from lib.training.settings import PRECISIONS

NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))


def defaults(name: str) -> dict[str, Any]:
    found = papermill.inspect_notebook(ROOT / "notebooks" / f"{name}.ipynb")
    return {key: ast.literal_eval(it["default"]) for key, it in found.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_a_notebook_has_limits_and_its_default_fits(name: str) -> None:
    check_values(name, defaults(name))
    numbers = {key for key, type_name in declared(name).items() if type_name in ("int", "float", "list")}
    assert numbers - {"external"} <= set(LIMITS), "external is a list of paths"


def test_limits_and_choices_name_parameters_that_exist() -> None:
    every = {parameter for name in NAMES for parameter in declared(name)}
    assert set(LIMITS) | set(CHOICES) <= every
    assert CHOICES["precision"] == tuple(PRECISIONS)
    assert CHOICES["wandb"] == WANDB_MODES


@pytest.mark.parametrize(
    ("notebook", "change", "message"),
    [
        ("01_data", {"workers": 0}, "workers is 0: give a value from 1 to 1024"),
        ("01_data", {"val_fraction": 2}, "val_fraction is 2: give a value from"),
        ("01_data", {"val_fraction": float("nan")}, "val_fraction is nan: give a value from"),
        ("01_data", {"split_seed": -1}, "split_seed is -1: give a value from 0 to"),
        ("02_train", {"batch_size": 0}, "batch_size is 0: give a value from 2 to"),
        ("02_train", {"epochs": 0}, "epochs is 0: give a value from 1 to"),
        ("02_train", {"threads": -1}, "threads is -1: give a value from 0 to"),
        ("02_train", {"precision": "float16"}, "precision is 'float16': choose one of float32, bfloat16"),
        ("02_train", {"wandb": "on"}, "wandb is 'on': choose one of auto"),
        ("03_sweep", {"jobs": -1}, "jobs is -1: give a value from 0 to"),
        ("03_sweep", {"engine": "optuna"}, "engine is 'optuna': choose one of local, wandb"),
        ("03_sweep", {"sweep": "parameters/none.yaml"}, "sweep is 'parameters/none.yaml', but there is no file"),
        ("04_evaluate", {"target_risk": 0.0}, "target_risk is 0.0: give a value from"),
        ("04_evaluate", {"external": ["no/such.zip"]}, "but there is nothing at no/such.zip: name folders or zips"),
        ("04_evaluate", {"external": [3]}, "but there is nothing at 3: name folders or zips"),
        ("05_compare_vgg", {"baselines": "kept"}, "baselines is 'kept': choose one of reference, train"),
        ("05_compare_vgg", {"baseline_batch_size": 1}, "baseline_batch_size is 1: give a value from 2 to"),
        ("06_export", {"rounds": 1}, "rounds is 1: give a value from 2 to"),
        (
            "06_export",
            {"student_target_risks": [0.05, 1.5]},
            r"student_target_risks is \[0.05, 1.5\]: give a value from",
        ),
        ("06_export", {"student_target_risks": ["low"]}, "student_target_risks is .*: give a value from"),
        ("06_export", {"rounds": True}, "'rounds' must be of type int"),
    ],
)
def test_value_out_of_limits_is_refused_in_the_first_cell(notebook: str, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=rf"^{notebook}: .*{message}"):
        validate_parameters(notebook, defaults(notebook) | change)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"epochs": {"values": [1, 0]}}, "epochs is 0: give a value from 1 to"),
        ({"dropout": {"min": 0.1, "max": 1.5}}, "dropout is 1.5: give a value from 0 to"),
        ({"precision": {"value": "half"}}, "precision is 'half': choose one of"),
    ],
)
def test_sweep_specification_keeps_the_limits_of_02_train(parameter: dict, message: str) -> None:
    content = {"method": "random", "run_cap": 2, "metric": {"name": "val/loss"}, "parameters": parameter}
    with pytest.raises(InputError, match=message):
        check_specification(content)
