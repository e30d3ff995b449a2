"""Sweeps: specifications are checked on load, trials are real, and a killed sweep goes on."""

from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml

from lib.errors import InputError
from lib.files import project_path, read_json
from lib.pack import Pack
from lib.sweep import load_specification, run_sweep, write_best

SPEC = {
    "method": "grid",
    "metric": {"name": "val/loss", "goal": "minimize"},
    "parameters": {"network": {"value": "plain_16_32"}, "learning_rate": {"values": [0.001, 0.01]}},
}


def written(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump({**SPEC, **changes}))
    return path


def test_shipped_specifications_load() -> None:
    found = sorted(project_path("parameters").glob("sweep_*.yaml"))
    assert found
    assert all(load_specification(path)["parameters"] for path in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "guess"}, "method must be grid, random or bayes"),
        ({"metric": {"name": "test/acc"}}, "metric.name must be one of val/acc, val/loss"),
        ({"parameters": {"lerning_rate": {"value": 1}}}, "no parameter 'lerning_rate'"),
        ({"parameters": {"learning_rate": {"minimum": 1}}}, "unknown key 'minimum'"),
        ({"parameters": {"learning_rate": {"min": 0.1, "max": 1.0}}}, "a grid needs values for 'learning_rate'"),
    ],
)
def test_bad_specification_names_file_and_key(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=rf"spec.yaml: .*{message}"):
        load_specification(written(tmp_path / "spec.yaml", **change))


def test_missing_specification(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no sweep specification"):
        load_specification(tmp_path / "none.yaml")


@pytest.mark.slow
def test_sweep_runs_fails_resumes_and_writes_the_best(sample_pack: Pack, tmp_path: Path) -> None:
    pack = Path(sample_pack.images.filename).parent / "pack.json"
    fixed = {"epochs": 1, "train_images": 300, "wandb": "disabled", "upstream": {"01_data": {"pack": str(pack)}}}
    # The second value is refused by 02_train: that trial fails, and the sweep goes on.
    spec = {**SPEC, "parameters": {**SPEC["parameters"], "learning_rate": {"values": [0.01, 100.0]}}}
    table = run_sweep(spec, fixed, {}, tmp_path / "study", progress=False)
    assert sorted(table["state"]) == ["complete", "fail"]
    best = table[table["best"]].iloc[0]
    trial = tmp_path / "study" / "trials" / str(best["trial"])
    assert read_json(trial / "run.json")["val_loss"] == best["val/loss"]
    assert {path.name for path in trial.iterdir()} >= {"02_train.ipynb", "history.csv", "weights.safetensors"}

    write_best(tmp_path / "best.yaml", table, spec)
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == {"network": "plain_16_32", "learning_rate": 0.01}

    # A kill leaves a trial running: it is run again, the finished one is not.
    study = optuna.load_study(study_name="02_train", storage=f"sqlite:///{tmp_path / 'study' / 'study.db'}")
    study.enqueue_trial({"learning_rate": 0.01})
    study.ask({"learning_rate": optuna.distributions.CategoricalDistribution((0.01, 100.0))})
    again = run_sweep(spec, fixed, {}, tmp_path / "study", progress=False)
    assert (again["state"] == "complete").sum() == 2
    assert not (again["state"] == "running").any()
    pd.testing.assert_series_equal(again["val/loss"].dropna().drop_duplicates(), table["val/loss"].dropna())

    # Other data or code: the old trials say nothing about it.
    other = run_sweep(SPEC | {"run_cap": 1}, fixed, {"lib_hash": "other"}, tmp_path / "study", progress=False)
    assert len(other) == 1
