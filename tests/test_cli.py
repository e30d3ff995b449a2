"""The command line: rows as they are judged, statuses that scripts can rely on, artifacts that are checked."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import encoded, untraced

from lib import artifacts
from lib.__main__ import main
from lib.artifacts import fetch_model
from lib.errors import InputError
from lib.files import ROOT
from lib.model import Model, released

REFERENCE = ROOT / "outputs" / "reference"
RNG = np.random.default_rng(0)
# Noise of 0 to 30 % contrast: the network gives it all kinds of probabilities.
NOISE = (128 + (RNG.integers(0, 256, (300, 32, 32, 3)) - 128) * RNG.uniform(0, 0.3, (300, 1, 1, 1))).astype(np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Write a folder of 300 pictures, the third of which is none, and a text that is not asked for."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, pixels in enumerate(NOISE):
        (folder / f"{i:03}.png").write_bytes(encoded(pixels, "PNG") if i != 2 else b"no")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def run(*arguments: object, **options: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "lib", *map(str, arguments)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def test_many_pictures_get_the_networks_verdicts_in_order(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(pictures), "--json"]) == 1, "one is damaged"
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [Path(row["file"]).name for row in rows] == [f"{i:03}.png" for i in range(300)]
    assert "no picture that can be read" in rows.pop(2)["error"]
    expected = [v.calibrated["FAKE"] for v in Model(released()).judge(np.delete(NOISE, 2, axis=0))]
    # Integers may round otherwise in other batches, by a step of one activation.
    np.testing.assert_allclose([row["p_fake"] for row in rows], expected, atol=0.02)
    assert np.std(expected) > 0.1, "probabilities that are all alike would fit any order"
    assert "300/300" in err


def test_forms_and_statuses(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = str(pictures / "000.png"), str(pictures / "002.png")
    assert main(["predict", good, "--csv"]) == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (row["file"], row["prediction"] in ("FAKE", "REAL"), row["error"]) == (good, True, "")
    assert main(["predict", good, bad]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "P(FAKE)" in first
    assert "no picture that can be read" in second
    for wrong in ([good + "x"], [good, "--model", good]):
        assert main(["predict", *wrong]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
    with pytest.raises(SystemExit, match="2"):
        main(["predict"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
def test_rows_come_before_the_last_picture_is_read_and_ctrl_c_is_clean(pictures: Path) -> None:
    pipe = pictures / "zzz.png"
    os.mkfifo(pipe)  # opening it waits for one who writes
    # Ctrl-C may come while coverage holds its lock, for which its other threads would wait for ever.
    with run("predict", pictures, "--json", env=untraced()) as command:
        assert json.loads(command.stdout.readline())["file"].endswith("000.png")
        command.send_signal(signal.SIGINT)
        last = time.monotonic() + 30
        while command.poll() is None and time.monotonic() < last:
            with suppress(OSError):  # nobody waits yet
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            time.sleep(0.01)
        command.kill()  # where it still waits
        _, err = command.communicate()
    assert command.returncode == 130
    assert "Traceback" not in err
    assert err.endswith("interrupted\n")


def test_a_reader_that_has_enough_ends_it_quietly(pictures: Path) -> None:
    with run("predict", pictures, "--json") as command:
        command.stdout.readline()
        command.stdout.close()
        err = command.stderr.read()
    assert command.returncode == 0
    assert "Error" not in err


class Registry:
    """Stand where W&B's server would: give a folder's files as an artifact, as wandb.Api does."""

    def __init__(self, folder: Path, intact: bool = True) -> None:
        self.folder, self.intact, self.asked = folder, intact, ""

    def artifact(self, name: str) -> SimpleNamespace:
        self.asked = name
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


def test_artifact_comes_into_place_and_answers(
    logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(logged)
    monkeypatch.setattr(artifacts, "_api", lambda: registry)
    assert main(["fetch-model", "me/cifake/cifake-model", "--to", str(tmp_path / "models" / "new")]) == 0
    assert registry.asked == "me/cifake/cifake-model:latest"
    path = Path(capsys.readouterr().out.strip())
    assert Model(path).judge(NOISE[:1]) == Model(REFERENCE / "model.onnx").judge(NOISE[:1])
    with pytest.raises(InputError, match="is already there"):
        fetch_model("me/cifake/cifake-model:v3", path.parent)


def test_artifact_that_is_wrong_leaves_nothing(logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    for place in (REFERENCE, REFERENCE / "more"):
        with pytest.raises(InputError, match="belongs to the released network"):
            fetch_model("me/cifake/m:v0", place)
    with pytest.raises(InputError, match="names no artifact"):
        fetch_model("cifake-model", to)
    assert not list((tmp_path / "models").iterdir())


def test_without_an_account_it_says_so(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    with run("fetch-model", "me/cifake/m", "--to", tmp_path / "m", env={**env, "HOME": str(tmp_path)}) as command:
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (2, "")
    assert "set WANDB_API_KEY" in err.splitlines()[-1]
    assert "Traceback" not in err
