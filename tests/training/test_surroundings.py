"""Training in odd surroundings: job schedulers, few usable cores, users without a name, W&B's variables."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import settings, untraced

from lib.core.errors import InputError
from lib.core.files import ROOT, read_json
from lib.data.dataset import PackedDataset
from lib.models.device import set_threads
from lib.training.train import train

SMALL = {"epochs": 1, "max_train_samples": 300}
SCRIPT = """
import sys
from pathlib import Path
from lib.data.dataset import open_dataset
from lib.training.train import train
sys.path.insert(0, sys.argv[3])
from conftest import settings
changes = dict(pair.split("=") for pair in sys.argv[4:])
changes = {name: int(value) for name, value in changes.items()}
train(open_dataset(Path(sys.argv[1])), settings(epochs=1, max_train_samples=300, **changes), Path(sys.argv[2]))
"""


def train_in_a_process(
    dataset: PackedDataset, folder: Path, environment: dict[str, str], *changes: str, prelude: str = ""
) -> None:
    data = str(Path(dataset.images.filename).parent)
    command = [sys.executable, "-c", prelude + SCRIPT, data, str(folder), str(ROOT / "tests"), *changes]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]


JOBS = {
    "Slurm, a script with several tasks": {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7"},
    "Slurm, the third task": {
        "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7", "SLURM_PROCID": "2", "SLURM_LOCALID": "2",
        "SLURM_NODEID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NODELIST": "n1,n2",
    },
    "torchrun": {
        "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x",
    },
    "LSF": {"LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "/none", "JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_SIZE": "4",
            "JSM_NAMESPACE_RANK": "1"},
    "MPI": {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "PMI_RANK": "2"},
    "cluster": {"NODE_RANK": "1", "MASTER_ADDR": "192.0.2.1", "WORLD_SIZE": "2"},
}  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
def test_training_is_a_task_of_its_own(
    sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    for name, value in JOBS[job].items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    train(sample_dataset, settings(**SMALL), tmp_path, progress=False)
    assert (tmp_path / "run.json").is_file()
    changed = {name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)}
    assert not changed & set(JOBS[job])


@pytest.mark.slow
@pytest.mark.parametrize(("job", "devices"), [("Slurm, the third task", 1), ("torchrun", 2)])
def test_import_and_processes_in_a_job(sample_dataset: PackedDataset, tmp_path: Path, job: str, devices: int) -> None:
    train_in_a_process(sample_dataset, tmp_path, {**untraced(), **JOBS[job]}, f"devices={devices}")
    assert (tmp_path / "weights.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_threads_are_the_usable_cores(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    train_in_a_process(sample_dataset, tmp_path, untraced(), "threads=0", prelude=one)
    run = read_json(tmp_path / "run.json")
    assert (run["cores"], run["threads"]) == (1, 1)


@pytest.mark.parametrize(("threads", "processes", "expected"), [(3, 1, 3), (0, 1, 8), (0, 3, 2), (0, 100, 1)])
def test_number_of_threads(monkeypatch: pytest.MonkeyPatch, threads: int, processes: int, expected: int) -> None:
    used = []
    monkeypatch.setattr("torch.set_num_threads", used.append)
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    assert set_threads(threads, processes) == expected
    assert used == [expected]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="user databases are POSIX")
@pytest.mark.parametrize("home", ["", "/"])
def test_user_without_a_name(sample_dataset: PackedDataset, tmp_path: Path, home: str) -> None:
    nameless = """
import pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""
    names = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
    environment = {name: value for name, value in untraced().items() if name not in names}
    after = "import lib, getpass, pathlib\ngetpass.getuser(), pathlib.Path.home()\n"
    train_in_a_process(
        sample_dataset, tmp_path, environment | ({"HOME": home} if home else {}), prelude=nameless + after
    )
    assert (tmp_path / "weights.safetensors").is_file()


def test_unknown_mode_of_wandb_leaves_an_earlier_run(
    sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(sample_dataset, settings(**SMALL), tmp_path, progress=False)
    before = (tmp_path / "run.json").read_bytes()
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(InputError, match="WANDB_MODE is 'ofline'"):
        train(sample_dataset, settings(**SMALL, seed=3), tmp_path, wandb="auto", progress=False)
    assert (tmp_path / "run.json").read_bytes() == before


def test_disabled_wandb_writes_nothing(
    sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    train(sample_dataset, settings(**SMALL), tmp_path, wandb="auto", progress=False)
    assert not (tmp_path / "wandb").exists()
