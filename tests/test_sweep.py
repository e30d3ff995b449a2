"""Sweeps: specifications are checked on load, trials are real, and a killed sweep goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lib.errors import InputError
from lib.files import ROOT, project_path, read_json
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


SCRIPT = """
import json, sys
from pathlib import Path
from lib.sweep import run_sweep
run_sweep(json.loads(sys.argv[1]), json.loads(sys.argv[2]), {}, Path(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_killed_sweep_goes_on_records_a_failure_and_writes_the_best(sample_pack: Pack, tmp_path: Path) -> None:
    pack = Path(sample_pack.images.filename).parent / "pack.json"
    fixed = {"epochs": 1, "train_images": 300, "wandb": "disabled", "upstream": {"01_data": {"pack": str(pack)}}}
    # The last value is refused by 02_train: that trial fails, and the sweep goes on.
    spec = {**SPEC, "parameters": {**SPEC["parameters"], "learning_rate": {"values": [0.01, 0.02, 100.0]}}}
    trials = tmp_path / "study" / "trials"
    command = [sys.executable, "-c", SCRIPT, json.dumps(spec), json.dumps(fixed), str(tmp_path / "study")]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 300
    while not (trials / "1").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = (trials / "0" / "run.json").stat().st_mtime_ns

    table = run_sweep(spec, fixed, {}, tmp_path / "study", progress=False)
    assert dict(zip(table["learning_rate"], table["state"], strict=True)) == {
        0.01: "complete", 0.02: "complete", 100.0: "fail"
    }  # fmt: skip
    assert (trials / "0" / "run.json").stat().st_mtime_ns == first, "a finished trial was run again"
    best = table[table["best"]].iloc[0]
    folder = trials / str(best["trial"])
    assert read_json(folder / "run.json")["val_loss"] == best["val/loss"] == table["val/loss"].min()
    assert {path.name for path in folder.iterdir()} >= {"02_train.ipynb", "history.csv", "weights.safetensors"}
    write_best(tmp_path / "best.yaml", table, spec)
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == {
        "network": "plain_16_32", "learning_rate": best["learning_rate"]
    }  # fmt: skip

    # Other data or code: the old trials say nothing about it.
    other = run_sweep(SPEC | {"run_cap": 1}, fixed, {"lib_hash": "other"}, tmp_path / "study", progress=False)
    assert len(other) == 1
