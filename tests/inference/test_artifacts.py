"""Networks from W&B: checked before they are in place, and refused without leaving anything."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.inference import artifacts
from lib.inference.artifacts import fetch_model
from lib.inference.predictor import Predictor

REFERENCE = ROOT / "outputs" / "reference"
NOISE = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)


class Registry:
    """Stand in for W&B's server: return a folder's files as an artifact, as wandb.Api does."""

    def __init__(self, folder: Path, intact: bool = True) -> None:
        self.folder, self.intact, self.requested = folder, intact, ""

    def artifact(self, name: str) -> SimpleNamespace:
        self.requested = name
        return SimpleNamespace(download=self.download, verify=self.verify)

    def download(self, root: str) -> None:
        shutil.copytree(self.folder, root, dirs_exist_ok=True)

    def verify(self, root: str) -> None:
        if not self.intact:
            raise ValueError("Digest mismatch for file: model.onnx")


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    folder = tmp_path / "logged"
    folder.mkdir()
    for name in ("model.onnx", "metrics.json"):
        shutil.copy(REFERENCE / name, folder)
    return folder


def test_artifact_is_downloaded_and_predicts(logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(logged)
    monkeypatch.setattr(artifacts, "_api", lambda: registry)
    (path,) = fetch_model("me/cifake/cifake-model", tmp_path / "models" / "new")
    assert registry.requested == "me/cifake/cifake-model:latest"
    assert Predictor(path).predict(NOISE) == Predictor(REFERENCE / "model.onnx").predict(NOISE)
    with pytest.raises(InputError, match="is already there"):
        fetch_model("me/cifake/cifake-model:v3", path.parent)


def test_relative_folder_starts_at_the_current_one(
    logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_api", lambda: Registry(logged))
    monkeypatch.chdir(tmp_path)
    assert fetch_model("me/cifake/m:v0", Path("new")) == [tmp_path / "new" / "model.onnx"]


def test_wrong_artifact_leaves_nothing(logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = tmp_path / "models" / "new"
    monkeypatch.setattr(artifacts, "_api", lambda: Registry(logged, intact=False))
    with pytest.raises(InputError, match="Digest mismatch"):
        fetch_model("me/cifake/m:v0", to)
    monkeypatch.setattr(artifacts, "_api", lambda: Registry(logged))
    (logged / "metrics.json").write_text('{"data": "x"}')
    with pytest.raises(InputError, match=r"me/cifake/m:v0: metrics.json lacks 'calibration'"):
        fetch_model("me/cifake/m:v0", to)
    (logged / "model.onnx").write_bytes(b"no")
    with pytest.raises(InputError, match=r"me/cifake/m:v0: model.onnx is not an ONNX file"):
        fetch_model("me/cifake/m:v0", to)
    (logged / "model.onnx").unlink()
    with pytest.raises(InputError, match="holds no ONNX file"):
        fetch_model("me/cifake/m:v0", to)
    for folder in (REFERENCE, REFERENCE / "more"):
        with pytest.raises(InputError, match="belongs to the released network"):
            fetch_model("me/cifake/m:v0", folder)
    with pytest.raises(InputError, match="names no artifact"):
        fetch_model("cifake-model", to)
    assert not list((tmp_path / "models").iterdir())
