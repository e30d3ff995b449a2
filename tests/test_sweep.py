"""Sweeps: specifications are checked on load, trials are real, and nothing that is finished is lost or repeated."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import papermill
import pytest
import yaml
from conftest import ploomber, untraced

from lib.errors import InputError
from lib.files import ROOT, project_path, read_json, write_json
from lib.kernels import Kernels
from lib.pack import Pack
from lib.sweep import run_sweep
from lib.sweep_spec import check_specification, first_judged, load_specification
from lib.sweep_table import importances, write_best
from lib.sweep_wandb import for_server, table_of_folders
from lib.trial import run_trial

SPEC: dict[str, Any] = {
    "method": "grid",
    "metric": {"name": "val/loss", "goal": "minimize"},
    "parameters": {"network": {"value": "plain_16_32"}, "learning_rate": {"values": [0.001, 0.01]}},
}
RANDOM = {**SPEC, "method": "random", "run_cap": 4}
SHIFT = {"min": 0, "max": 3}
RANGE = {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1}


def fixed(pack: Pack, **changes: object) -> dict[str, Any]:
    path = str(Path(pack.images.filename).parent / "pack.json")
    small = {"epochs": 1, "train_images": 300, "wandb": "disabled", "threads": 1}
    return {**small, "upstream": {"01_data": {"pack": path}}, **changes}


# The specification


def test_shipped_specifications_load_and_are_complete_for_an_agent() -> None:
    found = sorted(project_path("parameters").glob("sweep_*.yaml"))
    assert [path.stem for path in found] == ["sweep_bayes", "sweep_grid"]
    for path in found:
        content = load_specification(path).content
        assert content["project"] == "cifake", "where 02_train logs"
        assert content["command"] == ["${interpreter}", "-m", "lib.sweep_wandb", "${args_json_file}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "baies"}, "method is 'baies': did you mean 'bayes'?"),
        ({"metric": {"name": "val_loss"}}, "metric.name is 'val_loss': did you mean 'val/loss'?"),
        ({"metric": {"name": "val/loss", "goal": "minimise"}}, "metric.goal is 'minimise': did you mean 'minimize'?"),
        ({"runcap": 3}, "the specification has an unknown key 'runcap': did you mean 'run_cap'?"),
        ({"parameters": {"lerning_rate": {"value": 1}}}, "no parameter 'lerning_rate': did you mean 'learning_rate'?"),
        ({"parameters": {"product": {"value": {}}}}, "parameter 'product' is set by the sweep itself"),
        ({"parameters": {"shift": {"mim": 1}}}, "parameter 'shift' has an unknown key 'mim': did you mean 'min'?"),
        ({"parameters": {"shift": {"min": 1}}}, "needs max"),
        ({"parameters": {"shift": {"values": [1], "q": 2}}}, r"'shift' \(categorical\) has an unknown key 'q'"),
        ({"parameters": {"learning_rate": {"min": 0.1, "max": 1.0}}}, "a grid needs values for 'learning_rate'"),
        ({"parameters": {"learning_rate": {"values": ["1e-3"]}}}, "write it as 0.001 or 1.0e-3"),
        ({"parameters": {"batch_size": {"min": 1.0, "max": 9.0}}}, "'batch_size' must be of type int, and uniform"),
        ({"parameters": {"shift": {"values": [1, 2], "probabilities": [0.5, 0.6]}}}, "that sum to 1"),
        ({"parameters": {"dropout": {"distribution": "normal"}}}, "distribution is 'normal': did you mean 'uniform'?"),
        ({"parameters": {"dropout": {**RANGE, "min": 0.0}}}, "min too on a log scale"),
        ({"method": "random"}, "random search has no end of its own: give run_cap"),
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


def test_every_distribution_gives_what_it_says() -> None:
    parameters = {
        "seed": {"value": 3},
        "flip": {"values": [True, False], "probabilities": [0.9, 0.1]},
        "outer": {"parameters": {"dropout": {"min": 0.1, "max": 0.2}, "inner": {"parameters": {"shift": SHIFT}}}},
        "batch_size": {"distribution": "q_uniform", "min": 32, "max": 128, "q": 32},
        "learning_rate": RANGE,
    }  # fmt: skip
    specification = check_specification({**RANDOM, "parameters": parameters})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    table = pd.DataFrame(specification.propose(study.ask()) for _ in range(400))
    assert set(table["seed"]) == {3}
    assert 0.84 < table["flip"].mean() < 0.96
    assert table["dropout"].between(0.1, 0.2).all()
    assert set(table["shift"]) == {0, 1, 2, 3}
    assert set(table["batch_size"]) == {32, 64, 96, 128}
    assert all(isinstance(value, int) for value in table["batch_size"].tolist())
    assert 0.4 < (table["learning_rate"] < 0.01).mean() < 0.6, "half of them below the geometric mean"


def test_target_ends_a_sweep_on_the_better_side() -> None:
    down, up = (
        check_specification({**SPEC, "metric": {"name": name, "goal": goal, "target": 0.5}})
        for name, goal in (("val/loss", "minimize"), ("val/acc", "maximize"))
    )
    assert [down.reached(value) for value in (0.4, 0.6)] == [True, False]
    assert [up.reached(value) for value in (0.4, 0.6)] == [False, True]


def test_hyperband_judges_at_wandbs_epochs() -> None:
    assert first_judged({"min_iter": 3}) == 3
    assert first_judged({"max_iter": 27, "s": 2}) == 3  # 27/3 and 9/3
    assert first_judged({"max_iter": 27, "s": 9}) == 1
    assert first_judged({"max_iter": 8, "s": 2, "eta": 2}) == 2


# Trials


@pytest.mark.slow
def test_trial_is_repeated_to_the_bit_by_one_papermill_line(sample_pack: Pack, tmp_path: Path) -> None:
    with Kernels() as kernels:
        run = run_trial(fixed(sample_pack, network="plain_16_32"), tmp_path / "0", kernels, lambda _: False)
    line = ["papermill", "notebooks/02_train.ipynb", str(tmp_path / "out.ipynb"), "-f", str(tmp_path / "0/rerun.yaml")]
    subprocess.run([sys.executable, "-m", *line], cwd=ROOT, env=untraced(), check=True, capture_output=True)
    again = read_json(tmp_path / "0" / "again" / "run.json")
    assert again["val_loss"] == run["val_loss"]
    assert again["parameters"] == run["parameters"] == read_json(tmp_path / "0" / "run.json")["parameters"]
    weights = [(tmp_path / "0" / folder / "weights.safetensors").read_bytes() for folder in ("", "again")]
    assert weights[0] == weights[1]


def test_kernels_need_no_wandb() -> None:
    code = "import sys; sys.modules['wandb'] = None; from lib.kernels import serve; serve()"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input="", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_hyperband_prunes_while_a_trial_trains(sample_pack: Pack, tmp_path: Path) -> None:
    # The second trial is worse after its first epoch, and must not live to see its thirtieth.
    parameters = {"network": {"value": "plain_16_32"}, "learning_rate": {"values": [0.003, 1.0]}}
    parameters["epochs"] = {"value": 30}
    spec = check_specification(
        {**SPEC, "parameters": parameters, "early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 30}}
    )
    table = run_sweep(spec, fixed(sample_pack, train_images=64), {}, tmp_path / "trials", progress=False)
    assert table["state"].tolist() == ["complete", "pruned"]
    assert table["epochs"].tolist() == [30, 1]
    history = pd.read_csv(tmp_path / "trials" / "1" / "history.csv")
    assert 1 <= len(history) < 30
    assert history["val/loss"].iloc[0] == table["val/loss"].iloc[1]
    assert (tmp_path / "trials" / "1" / "02_train.ipynb").is_file()


SCRIPT = """
import json, sys
from pathlib import Path
from lib import sweep, sweep_queue
from lib.sweep_spec import check_specification
sweep_queue.HEARTBEAT, sweep_queue.GRACE = 1, 4
options = json.loads(sys.argv[4])
sweep.run_sweep(check_specification(json.loads(sys.argv[1])), json.loads(sys.argv[2]), {}, Path(sys.argv[3]), **options)
"""


def worker(spec: dict, given: dict, folder: Path, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, json.dumps(spec), json.dumps(given), str(folder), json.dumps(options)]
    return subprocess.Popen(
        command, cwd=ROOT, env=untraced(), start_new_session=True, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Any, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def stamps(trials: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in trials.glob("*/run.json")}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("ending", ["kill", "interrupt"])
def test_broken_sweep_goes_on_and_a_failure_is_recorded(ending: str, sample_pack: Pack, tmp_path: Path) -> None:
    # The third value is refused by 02_train: that trial fails, and the sweep goes on.
    spec = {**SPEC, "parameters": {**SPEC["parameters"], "learning_rate": {"values": [0.01, 0.02, 100.0]}}}
    trials, given = tmp_path / "trials", fixed(sample_pack, epochs=2)
    process = worker(spec, given, trials)
    wait_for((trials / "1" / "rerun.yaml").exists)
    os.killpg(process.pid, signal.SIGSTOP)  # or it may be done before this process has tried
    with pytest.raises(InputError, match="another sweep is at work in"):
        run_sweep(check_specification(spec), given, {}, trials, progress=False)
    os.killpg(process.pid, signal.SIGKILL if ending == "kill" else signal.SIGINT)
    os.killpg(process.pid, signal.SIGCONT)
    errors = process.communicate()[1]
    assert process.returncode != 0
    assert ending == "kill" or errors.rstrip().endswith("KeyboardInterrupt")
    before = stamps(trials)
    assert "0" in before

    table = run_sweep(check_specification(spec), given, {}, trials, progress=False)
    assert dict(zip(table["learning_rate"], table["state"], strict=True)) == {
        0.01: "complete", 0.02: "complete", 100.0: "fail"
    }  # fmt: skip
    assert table["trial"].tolist() == [0, 1, 2]
    assert "learning_rate is 100.0: give a value from" in table["error"].iloc[2]
    assert before.items() <= stamps(trials).items(), "a finished trial was run again"
    best = table[table["best"]].iloc[0]
    run = read_json(trials / str(best["trial"]) / "run.json")
    assert run["val_loss"] == best["val/loss"] == table["val/loss"].min()
    assert write_best(tmp_path / "best.yaml", table, check_specification(spec)) == {
        "network": "plain_16_32", "learning_rate": best["learning_rate"]
    }  # fmt: skip
    if ending == "kill":
        with pytest.raises(InputError, match=r"1 of 3 trials failed, more than max_failed \(0.2\).*rate is 100"):
            run_sweep(check_specification(spec), given, {}, trials, max_failed=0.2, progress=False)
        assert stamps(trials), "what is finished stays"


@pytest.mark.slow
def test_two_jobs_run_the_same_random_search_as_one_and_other_data_start_afresh(
    sample_pack: Pack, tmp_path: Path
) -> None:
    content = {**RANDOM, "parameters": {**SPEC["parameters"], "learning_rate": RANGE}}
    spec, longer = (check_specification({**content, "run_cap": cap}) for cap in (2, 3))
    given = fixed(sample_pack)
    one = run_sweep(spec, given, {}, tmp_path / "trials", seed=3, progress=False)
    before = stamps(tmp_path / "trials")
    more = run_sweep(longer, given, {}, tmp_path / "trials", seed=3, progress=False)
    assert before.items() <= stamps(tmp_path / "trials").items(), "a higher run_cap only adds trials"
    pd.testing.assert_frame_equal(more[:2], one.assign(best=more["best"][:2]))
    # Other data or code: the old trials say nothing about it.
    two = run_sweep(longer, given, {"pack": "other"}, tmp_path / "trials", seed=3, jobs=2, progress=False)
    assert not before.items() & stamps(tmp_path / "trials").items()
    pd.testing.assert_frame_equal(two, more)
    assert importances(two, longer).to_dict() == {"learning_rate": 1.0}


# Several machines


@pytest.fixture
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server of our own; return the URL of a database in it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # Debian keeps servers off the path
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
def test_workers_share_a_postgresql_storage(postgres: str, sample_pack: Pack, tmp_path: Path) -> None:
    rates = [0.001, 0.002, 0.004, 0.008, 0.016]
    spec = {**SPEC, "parameters": {**SPEC["parameters"], "learning_rate": {"values": rates}}}
    given = fixed(sample_pack)
    folders = [tmp_path / name / "trials" for name in ("one", "two", "three")]
    doomed = worker(spec, given, folders[0], storage=postgres)
    wait_for((folders[0] / "0" / "rerun.yaml").exists)
    doomed.kill()
    doomed.communicate()
    workers = [worker(spec, given, folder, storage=postgres) for folder in folders[1:]]
    for process in workers:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    ran = [[int(name) for name in stamps(folder)] for folder in folders]
    assert sorted(itertools.chain(*ran)) == [0, 1, 2, 3, 4], f"one trial each, by whoever it was: {ran}"
    assert all(ran[1:]), "both had their share"
    table = run_sweep(check_specification(spec), given, {}, folders[1], storage=postgres, progress=False)
    assert table["learning_rate"].tolist() == rates
    assert set(table["state"]) == {"complete"}


def test_storage_out_of_reach_is_said_in_one_sentence(sample_pack: Pack, tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(InputError, match=r"the storage of the sweep cannot be used .*check the parameter storage"):
        run_sweep(check_specification(SPEC), fixed(sample_pack), {}, tmp_path / "trials", storage=url, progress=False)


# W&B's engine


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the agent calls the interpreter python")
def test_agent_of_wandb_runs_a_trial_from_what_the_server_is_sent(
    sample_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let W&B's own agent expand and start the command, with the message that its server would send."""
    from wandb.wandb_agent import Agent

    group = {"parameters": {"learning_rate": RANGE}}
    specification = check_specification({**RANDOM, "parameters": {"network": {"value": "plain_16_32"}, "adam": group}})
    given = {name: value for name, value in fixed(sample_pack).items() if name != "wandb"}
    sent = for_server(specification, {**given, "wandb": "auto"}, tmp_path / "trials")
    assert sent["parameters"]["adam"] == group, "W&B nests as the file does"
    assert sent["parameters"]["epochs"] == {"value": 1}
    assert "wandb" not in sent["parameters"]
    assert sent["project"] == "cifake", "where 02_train logs"

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
    values["adam"] = {"value": {"learning_rate": 0.0123}}
    agent._command_run({"type": "run", "run_id": "run1", "program": sent["program"], "args": values})
    assert agent._run_processes["run1"].wait() == 0
    run = read_json(tmp_path / "trials" / "run1" / "run.json")["parameters"]
    assert (run["network"], run["learning_rate"], run["epochs"]) == ("plain_16_32", 0.0123, 1)
    assert list((tmp_path / "trials" / "run1" / "wandb").glob("offline-run-*-run1")), "logged under the agent's id"
    table = table_of_folders(tmp_path / "trials", specification)
    assert table[["trial", "state", "learning_rate"]].values.tolist() == [["run1", "complete", 0.0123]]


def test_agent_command_says_what_is_wrong_with_a_profile(tmp_path: Path) -> None:
    write_json(tmp_path / "args.json", {})
    run = subprocess.run([sys.executable, "-m", "lib.sweep_wandb", str(tmp_path / "args.json")], cwd=ROOT, text=True,
                         env={**untraced(), "PROFILE": "cpus"}, capture_output=True)  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.startswith("PROFILE is 'cpus', but there is no ")


# The best, in a profile


def test_best_is_accepted_by_papermill_and_by_a_profile_as_it_is(tmp_path: Path) -> None:
    specification = check_specification(RANDOM)
    table = pd.DataFrame(
        {"trial": [0], "state": ["complete"], "learning_rate": [0.01], "val/loss": [0.5], "best": [True]}
    )
    best = write_best(tmp_path / "best.yaml", table, specification)
    assert best == {"network": "plain_16_32", "learning_rate": 0.01}
    names = set(papermill.inspect_notebook(ROOT / "notebooks" / "02_train.ipynb"))
    assert set(yaml.safe_load((tmp_path / "best.yaml").read_text())) <= names
    for name in ("lib", "notebooks", "parameters"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    profile = "meta: {import_from: parameters/cpu.yaml}\n" + (tmp_path / "best.yaml").read_text()
    (tmp_path / "env.best.yaml").write_text(profile)
    shown = ploomber("build", "--help", cwd=tmp_path, PLOOMBER_ENV_FILENAME="env.best.yaml", PYTHONPATH=str(tmp_path),
                     COLUMNS="300")  # fmt: skip
    assert "ENV__LEARNING_RATE Default: 0.01" in " ".join(shown.split())
    assert "ENV__NETWORK Default: plain_16_32" in " ".join(shown.split())
    epochs = yaml.safe_load((ROOT / "parameters" / "cpu.yaml").read_text())["epochs"]
    assert f"ENV__EPOCHS Default: {epochs}" in " ".join(shown.split())
