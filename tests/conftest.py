"""What several tests share: the sample, packed; and the pipeline, run on it once."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib import CLASSES
from lib.files import ROOT
from lib.pack import Pack
from lib.packing import build_pack
from lib.settings import Settings
from lib.source import open_source


@pytest.fixture(scope="session")
def sample_pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("sample")
    return build_pack(open_source("sample", folder / "source"), folder / "pack", progress=False)


@pytest.fixture(scope="session")
def sample_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole pipeline on the sample; return the folder of its outputs."""
    outputs = tmp_path_factory.mktemp("build") / "outputs"
    ploomber("build", "--env--outputs", str(outputs))
    return outputs


def untraced() -> dict[str, str]:
    """Return the environment without what makes coverage follow a child: tracing slows training."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def ploomber(*arguments: str, cwd: Path = ROOT, **env: str) -> str:
    """Run Ploomber as a user does, and return what it prints; fail when it fails."""
    run = subprocess.run(
        [str(shutil.which("ploomber", path=Path(sys.executable).parent)), *arguments],
        cwd=cwd, env={**os.environ, "PLOOMBER_STATS_ENABLED": "false", **env}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


def encoded(pixels: np.ndarray, form: str = "JPEG", mode: str = "RGB") -> bytes:
    """Return `pixels` (uint8 H×W×3) as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Write a data set of 20 images a class folder in the Kaggle layout; return its folder."""
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
    """Zip a folder beside itself; return the zip."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def settings(**changes: object) -> Settings:
    """Return settings of a training that takes a second or two, with changes."""
    small: dict[str, object] = {
        "network": "plain_16_32", "epochs": 3, "batch_size": 128, "muon_rate": 0.1, "learning_rate": 0.01,
        "weight_decay": 0.01, "dropout": 0.2, "label_smoothing": 0.0, "flip": True, "shift": 2, "degrade": 0.0,
        "mirror": True, "train_images": 600, "seed": 11,
        "epoch_share": 0.7, "precision": "float32", "accelerator": "cpu", "threads": 2,
    }  # fmt: skip
    return Settings(**{**small, **changes})
