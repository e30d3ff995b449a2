"""Sweep specifications: checked on loading, with messages that name file, key and remedy."""

from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml

from lib.core.errors import InputError
from lib.core.files import project_path
from lib.sweep.specification import check_specification, load_specification, min_resource

SPEC: dict[str, Any] = {
    "method": "grid",
    "metric": {"name": "val/loss", "goal": "minimize"},
    "parameters": {"network": {"value": "plain_16_32"}, "lr": {"values": [0.001, 0.01]}},
}
RANGE = {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1}


def test_shipped_specifications_load_and_are_complete_for_an_agent() -> None:
    found = sorted(project_path("parameters").glob("sweep_*.yaml"))
    assert [path.stem for path in found] == ["sweep_bayes", "sweep_grid"]
    for path in found:
        content = load_specification(path).content
        assert content["project"] == "cifake", "the project to which 02_train logs"
        assert content["command"] == ["${interpreter}", "-m", "lib.sweep.wandb_agent", "${args_json_file}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "baies"}, "method is 'baies': did you mean 'bayes'?"),
        ({"metric": {"name": "val_loss"}}, "metric.name is 'val_loss': did you mean 'val/loss'?"),
        ({"metric": {"name": "val/loss", "goal": "minimise"}}, "metric.goal is 'minimise': did you mean 'minimize'?"),
        ({"runcap": 3}, "the specification has an unknown key 'runcap': did you mean 'run_cap'?"),
        ({"parameters": {"weight_dekay": {"value": 1}}}, "no parameter 'weight_dekay': did you mean 'weight_decay'?"),
        ({"parameters": {"product": {"value": {}}}}, "parameter 'product' is set by the sweep itself"),
        ({"parameters": {"translate": {"mim": 1}}}, "'translate' has an unknown key 'mim': did you mean 'min'?"),
        ({"parameters": {"translate": {"min": 1}}}, "needs max"),
        ({"parameters": {"translate": {"values": [1], "q": 2}}}, r"'translate' \(categorical\) has an unknown key 'q'"),
        ({"parameters": {"lr": {"min": 0.1, "max": 1.0}}}, "a grid needs values for 'lr'"),
        ({"parameters": {"lr": {"values": ["1e-3"]}}}, "write it as 0.001 or 1.0e-3"),
        ({"parameters": {"batch_size": {"min": 1.0, "max": 9.0}}}, "'batch_size' must be of type int, but uniform"),
        ({"parameters": {"translate": {"values": [1, 2], "probabilities": [0.5, 0.6]}}}, "that sum to 1"),
        ({"parameters": {"dropout": {"distribution": "normal"}}}, "distribution is 'normal': did you mean 'uniform'?"),
        ({"parameters": {"dropout": {**RANGE, "min": 0.0}}}, "min too on a log scale"),
        ({"method": "random"}, "random search does not end by itself: give run_cap"),
        ({"early_terminate": {"type": "hyperbend"}}, "early_terminate.type is 'hyperbend': did you mean 'hyperband'?"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate needs min_iter, or max_iter and s"),
    ],
)
def test_bad_specification_names_file_key_and_nearest(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **change}))
    with pytest.raises(InputError, match=rf"spec.yaml: .*{message}"):
        load_specification(path)


def test_missing_and_damaged_specifications(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no sweep specification"):
        load_specification(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("method: [")
    with pytest.raises(InputError, match=r"bad.yaml is not valid YAML"):
        load_specification(tmp_path / "bad.yaml")


def test_samples_follow_their_distributions() -> None:
    inner = {"parameters": {"translate": {"min": 0, "max": 3}}}
    parameters = {
        "seed": {"value": 3},
        "flip": {"values": [True, False], "probabilities": [0.9, 0.1]},
        "outer": {"parameters": {"dropout": {"min": 0.1, "max": 0.2}, "inner": inner}},
        "batch_size": {"distribution": "q_uniform", "min": 32, "max": 128, "q": 32},
        "lr": RANGE,
    }  # fmt: skip
    specification = check_specification({**SPEC, "method": "random", "run_cap": 4, "parameters": parameters})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    table = pd.DataFrame(specification.propose(study.ask()) for _ in range(400))
    assert set(table["seed"]) == {3}
    assert 0.84 < table["flip"].mean() < 0.96
    assert table["dropout"].between(0.1, 0.2).all()
    assert set(table["translate"]) == {0, 1, 2, 3}
    assert set(table["batch_size"]) == {32, 64, 96, 128}
    assert all(isinstance(value, int) for value in table["batch_size"].tolist())
    assert 0.4 < (table["lr"] < 0.01).mean() < 0.6, "half of them below the geometric mean"


def test_target_ends_a_sweep_on_the_better_side() -> None:
    down, up = (
        check_specification({**SPEC, "metric": {"name": name, "goal": goal, "target": 0.5}})
        for name, goal in (("val/loss", "minimize"), ("val/acc", "maximize"))
    )
    assert [down.reached(value) for value in (0.4, 0.6)] == [True, False]
    assert [up.reached(value) for value in (0.4, 0.6)] == [False, True]


def test_hyperband_has_the_rungs_of_wandb() -> None:
    assert min_resource({"min_iter": 3}) == 3
    assert min_resource({"max_iter": 27, "s": 2}) == 3  # 27/3 and 9/3
    assert min_resource({"max_iter": 27, "s": 9}) == 1
    assert min_resource({"max_iter": 8, "s": 2, "eta": 2}) == 2


@pytest.mark.parametrize("name", ["sweep_grid", "sweep_bayes"])
def test_a_sweep_is_named_after_its_file(name: str) -> None:
    assert load_specification(project_path(f"parameters/{name}.yaml")).name == name
