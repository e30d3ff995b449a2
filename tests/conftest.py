"""Shared fixtures and helpers: the packed sample, a build of the pipeline on it, small datasets and settings."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from lib import CLASSES
from lib.core.files import ROOT
from lib.data.dataset import PackedDataset, open_dataset
from lib.data.packing import pack_dataset
from lib.data.source import open_source

if TYPE_CHECKING:
    from lib.training.settings import Settings

os.environ["CIFAKE_NICE"] = "0"  # no thread of a service yields to other tests


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let tests run side by side, each on one thread; the process that only hands them out needs no PyTorch."""
    if hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None):
        import torch

        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the build of the sample, and end with what needs it: two processes then never wait for each other.

    pytest-xdist keeps this order with --no-loadscope-reorder.
    """

    def turn(item: pytest.Item) -> int:
        if item.path.name == "test_pipeline.py":
            return 0
        return 2 if "sample_build" in item.fixturenames else 1

    last: dict[Path, int] = {}
    for item in items:
        last[item.path] = max(turn(item), last.get(item.path, 0))
    items.sort(key=lambda item: 0 if turn(item) == 0 else last[item.path])


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return a temporary folder that all processes of a run of the tests share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def sample_dataset(shared: Path) -> PackedDataset:
    """Generate and pack the sample, once for all processes; return the packed dataset."""
    folder = shared / "sample"
    with FileLock(shared / "sample.lock"):
        if not (folder / "dataset").is_dir():
            pack_dataset(open_source("sample", folder / "source"), folder / "dataset", progress=False)
    return open_dataset(folder / "dataset")


@pytest.fixture(scope="session")
def sample_build(shared: Path) -> Path:
    """Build the pipeline on the sample, once for all processes; return the folder of its outputs."""
    outputs = shared / "build" / "outputs"
    with FileLock(shared / "build.lock"):
        if not (outputs / "report.html").is_file():
            # test_outside.py looks at what is left there; elsewhere such paths are too long for sockets.
            env = empty_home(shared / "build") if sys.platform == "linux" else {}
            ploomber("build", *sample_options(outputs), prefix=traced(shared / "build"), **env)
    return outputs


def sample_options(outputs: Path) -> tuple[str, ...]:
    """Return the options of a build of the sample into `outputs`, on one thread: tests run beside it."""
    return "--env--outputs", str(outputs), "--env--threads", "1"


def empty_home(folder: Path) -> dict[str, str]:
    """Make an empty home folder and one for temporary files in `folder`; return the variables that name them."""
    names = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    for name in names.values():
        Path(name).mkdir(parents=True, exist_ok=True)
    return names


def traced(folder: Path) -> list[str]:
    """Return what, before a command, records in `folder`/calls which hosts it calls and which files it opens.

    Nothing where strace is missing or may not trace. It makes a command slower by a few per cent.
    """
    log = folder / "calls"
    log.mkdir(parents=True, exist_ok=True)
    calls = "trace=connect,sendto,sendmsg,sendmmsg,openat,mkdirat,?open,?creat,?mkdir"
    command = ["strace", "-ff", "-y", "-qq", "--seccomp-bpf", "-e", calls, "-e", "signal=none", "-o", str(log / "of")]
    try:
        works = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except OSError:
        works = False
    return command if works else []


def untraced() -> dict[str, str]:
    """Return the environment without the variables that make coverage trace subprocesses: it slows training."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def ploomber(*arguments: str, cwd: Path = ROOT, prefix: Sequence[str] = (), **env: str) -> str:
    """Run Ploomber's command line, after `prefix`, and return its output; fail if it fails."""
    run = subprocess.run(
        [*prefix, str(shutil.which("ploomber", path=Path(sys.executable).parent)), *arguments],
        cwd=cwd, env={**untraced(), "PLOOMBER_STATS_ENABLED": "false", **env}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


def encoded(pixels: np.ndarray, form: str = "JPEG", mode: str = "RGB") -> bytes:
    """Return `pixels` (uint8 H×W×3) as an encoded image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Write a dataset of 20 random images a class folder in the Kaggle layout; return its folder."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "tiny"
    for split in ("train", "test"):
        for label in CLASSES:
            (folder / split / label).mkdir(parents=True)
            for k in range(20):
                suffix = f" ({k % 10 + 1})" if k % 10 else ""
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                (folder / split / label / f"{k // 10}{suffix}.jpg").write_bytes(encoded(pixels))
    return folder


def zipped(folder: Path, prefix: str = "") -> Path:
    """Zip a folder into an archive beside it; return the archive."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def settings(**changes: object) -> "Settings":
    """Return the settings of a training of one or two seconds, with `changes`."""
    from lib.training.settings import Settings

    small: dict[str, object] = {
        "network": "plain_16_32", "epochs": 3, "batch_size": 128, "muon_lr": 0.1, "lr": 0.01,
        "weight_decay": 0.01, "dropout": 0.2, "label_smoothing": 0.0, "flip": True, "translate": 2,
        "corruption_prob": 0.0, "hflip_tta": True, "max_train_samples": 600, "seed": 11, "sample_fraction": 0.7,
        "precision": "float32", "accelerator": "cpu", "threads": 1,
    }  # fmt: skip
    return Settings(**{**small, **changes})


def each_network() -> list[Any]:
    """Return the names of all networks, as values of a parameter; the largest takes seconds."""
    from lib.models.networks import NETWORKS

    return [pytest.param(name, marks=pytest.mark.slow) if name == "vgg16_bn" else name for name in NETWORKS]
