"""The hooks of the pipeline, on a pipeline of three short functions: refusals, locks, changed products."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ploomber
from test_pipeline import ran

from lib.core.files import ROOT

pytestmark = pytest.mark.slow

STEPS = """
import time
from pathlib import Path

def data(product, workers, val_fraction):
    Path(product["nb"]).write_text("executed")
    Path(product["dataset"]).write_text(f"{val_fraction}")

def train(product, upstream, epochs):
    Path(product).with_name("begun").touch()
    time.sleep(60 if epochs == 60 else 0)
    Path(product).write_text(f"{epochs} epochs on " + Path(upstream["01_data"]["dataset"]).read_text())

def report(product, upstream):
    Path(product).write_text("report of " + Path(str(upstream["02_train"])).read_text())
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Write the pipeline, with the hooks of the real one; return its folder."""
    (tmp_path / "steps.py").write_text(STEPS)
    real = yaml.safe_load((ROOT / "pipeline.yaml").read_text(encoding="utf-8"))
    finish = {task.get("on_finish") for task in real["tasks"]}
    assert len(finish) == 1, "every task records its products"
    products = {"01_data": {"nb": "out/01_data/nb", "dataset": "out/01_data/dataset"}, "02_train": "out/02_train/run",
                "report": "out/report"}  # fmt: skip
    params = {"01_data": ("workers", "val_fraction"), "02_train": ("epochs",), "report": ()}
    tasks = [
        {"source": f"steps.{source}", "name": name, "product": products[name], "upstream": upstream,
         "params": {key: f"{{{{{key}}}}}" for key in params[name]}, "on_finish": next(iter(finish))}
        for source, name, upstream in (
            ("data", "01_data", []), ("train", "02_train", ["01_data"]), ("report", "report", ["01_data", "02_train"])
        )
    ]  # fmt: skip
    meta = real["meta"]
    spec = {"meta": meta, "on_render": real["on_render"], "tasks": tasks}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(spec))
    (tmp_path / "env.yaml").write_text(yaml.safe_dump({"workers": 2, "val_fraction": 0.1, "epochs": 3}))
    return tmp_path


def start(project: Path, *arguments: str) -> subprocess.Popen:
    program = str(shutil.which("ploomber", path=Path(sys.executable).parent))
    return subprocess.Popen(
        [program, *arguments], cwd=project, env={**os.environ, "PLOOMBER_STATS_ENABLED": "false"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def refusal(project: Path, *arguments: str) -> str:
    """Run a build that is refused; return the one line that it says about it."""
    process = start(project, "build", *arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


def test_products_that_changed_since_are_built_again(project: Path) -> None:
    names = ("01_data", "02_train", "report")
    assert ran(ploomber("build", cwd=project)) == dict.fromkeys(names, True)
    assert ran(ploomber("build", cwd=project)) == dict.fromkeys(names, False)
    run, report = project / "out" / "02_train" / "run", project / "out" / "report"
    run.write_text("9 epochs by hand")  # a run by hand, which leaves no metadata of Ploomber
    assert ran(ploomber("build", cwd=project)) == {"01_data": False, "02_train": True, "report": True}
    assert report.read_text() == "report of 3 epochs on 0.1"
    assert ran(ploomber("build", cwd=project)) == dict.fromkeys(names, False)

    # The same bytes are no change, whatever the file's time; a product of an old time stamp may be one.
    os.utime(run)
    assert ran(ploomber("build", cwd=project)) == dict.fromkeys(names, False)
    dataset = project / "out" / "01_data" / "dataset"
    before = dataset.stat()
    dataset.write_text("0.5")
    os.utime(dataset, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "Has not been run" in ploomber("status", cwd=project, COLUMNS="300")
    assert ran(ploomber("build", cwd=project)) == dict.fromkeys(names, True)
    # What is built of purpose, whatever its state, is built.
    run.write_text("9 epochs by hand")
    assert ran(ploomber("build", "--force", cwd=project)) == dict.fromkeys(names, True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--env--workers", "0"), "01_data: workers is 0: give a value from 1 to"),
        (("--env--epochs", "0"), "02_train: epochs is 0: give a value from 1 to"),
        (("--env--epochs", "many"), "02_train: parameter 'epochs' must be of type int"),
    ],
)
def test_parameter_out_of_range_is_refused_before_any_work(project: Path, flags: tuple, message: str) -> None:
    assert message in refusal(project, *flags)
    assert not (project / "out" / "01_data" / "nb").exists()


def test_one_build_at_a_time_and_a_killed_one_leaves_no_lock(project: Path) -> None:
    first = start(project, "build", "--env--epochs", "60")
    try:
        deadline = time.monotonic() + 60
        while not (project / "out" / "02_train" / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "another build runs in" in refusal(project)
        assert "another build runs in" in refusal(project, "--partially", "01_data")
        assert "02_train" in ploomber("status", cwd=project), "to look is no build"
        assert first.poll() is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
    assert ran(ploomber("build", cwd=project))["report"]
