"""Sweeps: trials are reproducible, and no finished trial is lost or repeated."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import papermill
import pytest
import yaml
from conftest import ploomber, untraced
from optuna.trial import TrialState

from lib.core.errors import InputError
from lib.core.files import ROOT, read_json, write_json
from lib.data.dataset import PackedDataset
from lib.sweep.engine import run_sweep
from lib.sweep.kernels import FORKS, Kernels
from lib.sweep.results import importances, write_best
from lib.sweep.specification import check_specification
from lib.sweep.trial import PRELOAD, run_trial
from lib.sweep.wandb_agent import for_server, main, table_of_folders

SPEC: dict[str, Any] = {
    "method": "grid",
    "metric": {"name": "val/loss", "goal": "minimize"},
    "parameters": {"network": {"value": "plain_16_32"}, "lr": {"values": [0.001, 0.01]}},
}
RANDOM = {**SPEC, "method": "random", "run_cap": 4}
RANGE = {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1}


def fixed(dataset: PackedDataset, **changes: object) -> dict[str, Any]:
    path = str(Path(dataset.images.filename).parent / "metadata.json")
    small = {"epochs": 1, "max_train_samples": 300, "wandb": "disabled", "threads": 1, "figures": False}
    return {**small, "upstream": {"01_data": {"dataset": path}}, **changes}


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    """Share the process that kernels are forked from: its imports take longer than a trial."""
    with Kernels(PRELOAD) as kernels:
        yield kernels


@pytest.fixture
def shared_kernels(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.sweep.engine.Kernels", lambda preload: contextlib.nullcontext(kernels))


# Trials


@pytest.mark.slow
def test_trial_is_reproduced_to_the_bit_by_one_papermill_line(
    kernels: Kernels, sample_dataset: PackedDataset, tmp_path: Path
) -> None:
    run = run_trial(fixed(sample_dataset, network="plain_16_32"), tmp_path / "0", kernels, lambda _: False)
    line = ["papermill", "notebooks/02_train.ipynb", str(tmp_path / "out.ipynb"), "-f", str(tmp_path / "0/rerun.yaml")]
    subprocess.run([sys.executable, "-m", *line], cwd=ROOT, env=untraced(), check=True, capture_output=True)
    again = read_json(tmp_path / "0" / "again" / "run.json")
    assert again["val_loss"] == run["val_loss"]
    assert again["parameters"] == run["parameters"] == read_json(tmp_path / "0" / "run.json")["parameters"]
    weights = [(tmp_path / "0" / folder / "weights.safetensors").read_bytes() for folder in ("", "again")]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.skipif(not FORKS, reason="kernels are forked on Linux only")
def test_trial_runs_where_paths_are_long_and_odd(
    sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "what? 100%25 #1 'x'" / ("deep" * 30)
    folder.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    spec = check_specification({**SPEC, "method": "random", "run_cap": 1})
    table = run_sweep(spec, fixed(sample_dataset), {}, folder / "sweeps", progress=False)
    assert table["state"].tolist() == ["complete"]
    assert (only(folder / "sweeps") / "study.db").stat().st_size > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.parent.name], "no file elsewhere"


@pytest.mark.slow
def test_kernels_need_no_wandb() -> None:
    code = "import sys; sys.modules['wandb'] = None; from lib.sweep.kernels import serve; serve(sys.argv[1:])"
    command = [sys.executable, "-c", code, *PRELOAD]
    run = subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("shared_kernels")
def test_hyperband_prunes_while_a_trial_trains(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    # The second trial is worse after its first epoch, and is pruned long before its thirtieth.
    parameters = {"network": {"value": "plain_16_32"}, "lr": {"values": [0.003, 1.0]}}
    parameters["epochs"] = {"value": 30}
    spec = check_specification(
        {**SPEC, "parameters": parameters, "early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 30}}
    )
    table = run_sweep(spec, fixed(sample_dataset, max_train_samples=64), {}, tmp_path / "sweeps", progress=False)
    assert table["state"].tolist() == ["complete", "pruned"]
    assert table["epochs"].tolist() == [30, 1]
    folder = only(tmp_path / "sweeps")
    history = pd.read_csv(folder / "1" / "history.csv")
    assert 1 <= len(history) < 30
    assert history["val/loss"].iloc[0] == table["val/loss"].iloc[1]
    assert (folder / "1" / "02_train.ipynb").is_file()


SCRIPT = """
import json, sys
from pathlib import Path
from lib.sweep import engine, queue
from lib.sweep.specification import check_specification
queue.HEARTBEAT, queue.GRACE = 1, 4
specification, fixed, options = (json.loads(sys.argv[it]) for it in (1, 2, 4))
engine.run_sweep(check_specification(specification), fixed, {}, Path(sys.argv[3]), **options)
"""


def worker(spec: dict, given: dict, folder: Path, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, json.dumps(spec), json.dumps(given), str(folder), json.dumps(options)]
    return subprocess.Popen(
        command, cwd=ROOT, env=untraced(), start_new_session=True, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], Any], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def stamps(sweeps: Path) -> dict[str, int]:
    """Return when each finished trial of all sweeps in a folder was written, by its number."""
    return {path.parent.name: path.stat().st_mtime_ns for path in sweeps.glob("*/*/run.json")}


def complete(sweeps: Path) -> set[str]:
    """Return the numbers of the trials that the study of the one sweep in a folder records as complete."""
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{only(sweeps) / 'study.db'}")
    return {str(trial.user_attrs["slot"]) for trial in study.get_trials(states=(TrialState.COMPLETE,))}


def only(sweeps: Path) -> Path:
    """Return the folder of the one sweep in the folder of sweeps."""
    (folder,) = (path for path in sweeps.iterdir() if path.is_dir())
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.usefixtures("shared_kernels")
def test_killed_or_interrupted_sweep_resumes_and_a_failure_is_recorded(
    sample_dataset: PackedDataset, tmp_path: Path
) -> None:
    # The last network is refused by 02_train: that trial fails, and the sweep continues.
    networks = ["plain_16_32", "plain_32_64", "plain_64_128", "unknown"]
    spec = {**SPEC, "parameters": {"network": {"values": networks}, "lr": {"value": 0.01}}}
    trials, given, done = tmp_path / "sweeps", fixed(sample_dataset, epochs=2), {}
    for slot, ending in enumerate((signal.SIGKILL, signal.SIGINT), 1):
        process = worker(spec, given, trials)
        wait_for(lambda slot=slot: list(trials.glob(f"*/{slot}/rerun.yaml")))
        os.killpg(process.pid, signal.SIGSTOP)  # or it may end before this process has tried
        with pytest.raises(InputError, match="another sweep runs in"):
            run_sweep(check_specification(spec), given, {}, trials, progress=False)
        os.killpg(process.pid, ending)
        os.killpg(process.pid, signal.SIGCONT)
        errors = process.communicate()[1]
        assert process.returncode != 0
        assert ending == signal.SIGKILL or errors.rstrip().endswith("KeyboardInterrupt")
        assert done.items() <= stamps(trials).items(), "a finished trial was run again"
        # A trial may have ended its training, but not its notebook.
        done = {number: stamp for number, stamp in stamps(trials).items() if number in complete(trials)}
        assert "0" in done

    table = run_sweep(check_specification(spec), given, {}, trials, progress=False)
    assert dict(zip(table["network"], table["state"], strict=True)) == {
        **dict.fromkeys(networks[:3], "complete"), "unknown": "fail"
    }  # fmt: skip
    assert table["trial"].tolist() == [0, 1, 2, 3]
    assert "unknown" in table["error"].iloc[3]
    assert done.items() <= stamps(trials).items(), "a finished trial was run again"
    best = table[table["best"]].iloc[0]
    run = read_json(only(trials) / str(best["trial"]) / "run.json")
    assert run["val_loss"] == best["val/loss"] == table["val/loss"].min()
    assert write_best(tmp_path / "best.yaml", table, check_specification(spec), only(trials).name) == {
        "network": best["network"], "lr": 0.01
    }  # fmt: skip
    with pytest.raises(InputError, match=r"1 of 4 trials failed, more than max_failure_rate \(0.2\).*unknown"):
        run_sweep(check_specification(spec), given, {}, trials, max_failure_rate=0.2, progress=False)
    assert stamps(trials), "finished trials stay"


@pytest.mark.slow
@pytest.mark.usefixtures("shared_kernels")
def test_two_jobs_run_the_same_random_search_as_one_and_no_sweep_removes_another(
    sample_dataset: PackedDataset, tmp_path: Path
) -> None:
    content = {**RANDOM, "parameters": {**SPEC["parameters"], "lr": RANGE}}
    spec, longer = (check_specification({**content, "run_cap": cap}) for cap in (2, 3))
    given = fixed(sample_dataset)
    one = run_sweep(spec, given, {}, tmp_path / "sweeps", seed=3, progress=False)
    before = stamps(tmp_path / "sweeps")
    more = run_sweep(longer, given, {}, tmp_path / "sweeps", seed=3, progress=False)
    assert before.items() <= stamps(tmp_path / "sweeps").items(), "a higher run_cap only adds trials"
    pd.testing.assert_frame_equal(more[:2], one.assign(best=more["best"][:2]))
    # With other data or code, the old trials are no results of this sweep, but they stay.
    old = only(tmp_path / "sweeps")
    before = stamps(tmp_path / "sweeps")
    two = run_sweep(longer, given, {"dataset": "other"}, tmp_path / "sweeps", seed=3, jobs=2, progress=False)
    pd.testing.assert_frame_equal(two, more)
    assert importances(two, longer).to_dict() == {"lr": 1.0}
    assert {name: (old / name / "run.json").stat().st_mtime_ns for name in before} == before
    # Back at the first data, nothing is run again.
    pd.testing.assert_frame_equal(run_sweep(longer, given, {}, tmp_path / "sweeps", seed=3, progress=False), more)
    assert {name: (old / name / "run.json").stat().st_mtime_ns for name in before} == before


# Several machines


@pytest.fixture
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server; return the URL of a database in it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # Debian does not put it on the path
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The server refuses to run as root, so it gets another user where the tests do.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    other = {"user": "postgres"} if hasattr(os, "getuid") and os.getuid() == 0 else {}
    if other:
        shutil.chown(folder, "postgres")
    quiet = {**other, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([initdb, "-D", folder / "data", "-U", "sweeper", "--auth", "trust", "-N"], check=True, **quiet)
    options = ["-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"]
    server = subprocess.Popen([Path(initdb).with_name("postgres"), *options], **quiet)
    try:
        ready = [Path(initdb).with_name("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        wait_for(lambda: subprocess.run(ready).returncode == 0, 60)
        yield f"postgresql://sweeper@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder)


@pytest.mark.slow
def test_workers_share_a_postgresql_storage(postgres: str, sample_dataset: PackedDataset, tmp_path: Path) -> None:
    rates = [0.001, 0.002, 0.004, 0.008, 0.016]
    spec = {**SPEC, "parameters": {**SPEC["parameters"], "lr": {"values": rates}}}
    given = fixed(sample_dataset)
    folders = [tmp_path / name for name in ("one", "two")]

    def begun(folder: Path) -> set[int]:
        return {int(path.parent.name) for path in folder.glob("*/*/rerun.yaml")}

    optuna.storages.RDBStorage(postgres)  # creates the tables: workers that do so at the same time collide
    workers = [worker(spec, given, folder, storage=postgres) for folder in folders]
    wait_for(lambda: all(map(begun, folders)))
    assert not begun(folders[0]) & begun(folders[1]), "one trial each"
    # The last trial has only just begun, so its worker is killed in the midst of it.
    dead = max((0, 1), key=lambda it: max(path.stat().st_mtime for path in folders[it].glob("*/*/rerun.yaml")))
    workers[dead].kill()
    workers[dead].communicate()
    errors = workers[1 - dead].communicate(timeout=300)[1]
    assert workers[1 - dead].returncode == 0, errors
    ran = [[int(name) for name in stamps(folder)] for folder in folders]
    assert sorted(itertools.chain(*ran)) == [0, 1, 2, 3, 4], f"each trial once, by either worker: {ran}"
    assert begun(folders[dead]) & set(ran[1 - dead]), "the trial of the dead worker is requeued"
    table = run_sweep(check_specification(spec), given, {}, folders[1 - dead], storage=postgres, progress=False)
    assert table["lr"].tolist() == rates
    assert set(table["state"]) == {"complete"}


def test_storage_out_of_reach_raises_one_sentence(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(InputError, match=r"the storage of the sweep cannot be used .*check the parameter storage"):
        run_sweep(
            check_specification(SPEC), fixed(sample_dataset), {}, tmp_path / "trials", storage=url, progress=False
        )


# W&B's engine


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the agent calls the interpreter python")
def test_agent_of_wandb_runs_a_trial_from_what_the_server_is_sent(
    sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run W&B's own agent with the message that its server would send."""
    from wandb.wandb_agent import Agent

    group = {"parameters": {"lr": RANGE}}
    specification = check_specification({**RANDOM, "parameters": {"network": {"value": "plain_16_32"}, "adam": group}})
    given = {name: value for name, value in fixed(sample_dataset).items() if name != "wandb"}
    sent = for_server(specification, {**given, "wandb": "auto"}, tmp_path / "trials")
    assert sent["parameters"]["adam"] == group, "W&B nests as the file does"
    assert sent["parameters"]["epochs"] == {"value": 1}
    assert "wandb" not in sent["parameters"]
    assert sent["project"] == "cifake", "the project to which 02_train logs"

    for name in list(os.environ):
        if name.startswith("COVERAGE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("WANDB_RUN_ID", "")  # the agent sets it: undone after the test
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "")
    agent = Agent(api=None, queue=None, sweep_id="sweep1")
    agent._sweep_command = sent["command"]
    values = {name: about for name, about in sent["parameters"].items() if "value" in about}
    values["adam"] = {"value": {"lr": 0.0123}}
    agent._command_run({"type": "run", "run_id": "run1", "program": sent["program"], "args": values})
    assert agent._run_processes["run1"].wait() == 0
    run = read_json(tmp_path / "trials" / "run1" / "run.json")["parameters"]
    assert (run["network"], run["lr"], run["epochs"]) == ("plain_16_32", 0.0123, 1)
    assert list((tmp_path / "trials" / "run1" / "wandb").glob("offline-run-*-run1")), "logged under the agent's id"
    table = table_of_folders(tmp_path / "trials", specification)
    assert table[["trial", "state", "lr"]].values.tolist() == [["run1", "complete", 0.0123]]


def test_agent_command_refuses_an_unknown_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "args.json", {})
    monkeypatch.setenv("PROFILE", "cpus")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main([str(tmp_path / "args.json")]) == 1
    assert capsys.readouterr().err.rstrip().endswith("set PROFILE to sample, cpu, long or gpu")


# The best, in a profile


@pytest.mark.slow
def test_best_parameters_are_valid_for_papermill_and_in_a_profile(tmp_path: Path) -> None:
    specification = check_specification(RANDOM)
    table = pd.DataFrame({"trial": [0], "state": ["complete"], "lr": [0.01], "val/loss": [0.5], "best": [True]})
    best = write_best(tmp_path / "best.yaml", table, specification, "sweep_grid-0123abcd")
    assert best == {"network": "plain_16_32", "lr": 0.01}
    lines = (tmp_path / "best.yaml").read_text().splitlines()
    assert lines[0] == "# Trial 0 of sweep_grid-0123abcd: val/loss 0.5"
    names = set(papermill.inspect_notebook(ROOT / "notebooks" / "02_train.ipynb"))
    assert set(yaml.safe_load((tmp_path / "best.yaml").read_text())) <= names
    for name in ("lib", "notebooks", "parameters"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    profile = "meta: {import_from: parameters/cpu.yaml}\n" + (tmp_path / "best.yaml").read_text()
    (tmp_path / "env.best.yaml").write_text(profile)
    shown = ploomber("build", "--help", cwd=tmp_path, PLOOMBER_ENV_FILENAME="env.best.yaml", PYTHONPATH=str(tmp_path),
                     COLUMNS="300")  # fmt: skip
    assert "ENV__LR Default: 0.01" in " ".join(shown.split())
    assert "ENV__NETWORK Default: plain_16_32" in " ".join(shown.split())
    epochs = yaml.safe_load((ROOT / "parameters" / "cpu.yaml").read_text())["epochs"]
    assert f"ENV__EPOCHS Default: {epochs}" in " ".join(shown.split())
