"""The command line: what each command passes on, exit statuses that scripts can rely on, and any current folder."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from conftest import encoded, untraced
from PIL import Image

from lib import CLASSES
from lib.__main__ import main
from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.inference import artifacts
from lib.inference.predictor import Predictor, default_model_path
from lib.plots import curves
from lib.reporting import release
from lib.serving.protocol import Protocol

CIFAKE = Path(sys.executable).with_name("cifake.exe" if os.name == "nt" else "cifake")
COMMANDS = ("predict", "evaluate", "serve", "fetch-model", "curves", "release")
RNG = np.random.default_rng(0)
# Noise of 0 to 30 % contrast: the network gives it all kinds of probabilities.
NOISE = (128 + (RNG.integers(0, 256, (300, 32, 32, 3)) - 128) * RNG.uniform(0, 0.3, (300, 1, 1, 1))).astype(np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Write a folder of 300 images, of which the third is damaged, and a text file; return it."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, pixels in enumerate(NOISE):
        (folder / f"{i:03}.png").write_bytes(encoded(pixels, "PNG") if i != 2 else b"no")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Write 40 blurs of nine colours, labelled as the network predicts but for each eighth; return the folder."""
    colours = np.random.default_rng(0).integers(0, 256, (40, 3, 3, 3), np.uint8)
    blurs = [np.asarray(Image.fromarray(it).resize((32, 32), Image.Resampling.BICUBIC)) for it in colours]
    for i, margin in enumerate(Predictor(default_model_path()).margins(np.stack(blurs))):
        file = tmp_path / "labelled" / CLASSES[(margin <= 0) ^ (i % 8 == 0)] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(blurs[i], "PNG"))
    return tmp_path / "labelled"


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start the installed script."""
    return subprocess.Popen(
        [CIFAKE, *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def recorded(monkeypatch: pytest.MonkeyPatch, module: object, name: str, returns: object = None) -> list[Any]:
    """Replace a function by one that appends its arguments to the list that this returns."""
    calls: list[Any] = []

    def call(*arguments: Any) -> object:
        calls.append(arguments)
        return returns

    monkeypatch.setattr(module, name, call)
    return calls


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_help_tells_the_exit_statuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith(" ".join(["usage: cifake", *arguments]))
    assert "0 done; 1 an image could not be read" in text
    assert text.isascii(), "a terminal without Unicode shows it too"
    assert arguments or all(f" {name} " in text for name in COMMANDS)


def test_calls_that_make_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ([], ["predict"], ["predict", "x", "--json", "--csv"], ["serve", "--port", "x"], ["train"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
        assert "usage: cifake" in capsys.readouterr().err


def test_predictions_are_those_of_the_network_in_order(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(images), "--json"]) == 1, "one is damaged"
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [Path(row["file"]).name for row in rows] == [f"{i:03}.png" for i in range(300)]
    assert "no image that can be read" in rows.pop(2)["error"]
    expected = [it.calibrated["FAKE"] for it in Predictor(default_model_path()).predict(np.delete(NOISE, 2, axis=0))]
    # Integers may round otherwise in other batches, by a step of one activation.
    np.testing.assert_allclose([row["p_fake"] for row in rows], expected, atol=0.02)
    assert np.std(expected) > 0.1, "probabilities that are all alike would fit any order"
    assert "300/300" in err


def test_model_that_the_environment_names_is_the_default(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ROOT / "outputs" / "reference" / "model.onnx"
    monkeypatch.setenv("CIFAKE_MODEL", str(named))
    assert main(["predict", str(images / "000.png"), "--json"]) == 0
    (expected,) = Predictor(named).predict(NOISE[:1])
    assert json.loads(capsys.readouterr().out)["p_fake"] == pytest.approx(expected.calibrated["FAKE"], abs=1e-6)
    monkeypatch.setenv("CIFAKE_MODEL", "no/such.onnx")
    assert main(["predict", str(images / "000.png")]) == 2


def test_predict_styles_and_statuses(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = str(images / "000.png"), str(images / "002.png")
    assert main(["predict", good, "--csv"]) == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (row["file"], row["prediction"] in ("FAKE", "REAL"), row["error"]) == (good, True, "")
    assert main(["predict", good, bad]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "P(FAKE)" in first
    assert "no image that can be read" in second
    assert main(["predict", good + "x", good]) == 1, "a path that is missing does not stop the others"
    first, second = capsys.readouterr().out.splitlines()
    assert "no such file" in first
    assert "P(FAKE)" in second
    for wrong in ([good + "x"], [good, "--model", good]):
        assert main(["predict", *wrong]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1


def test_evaluate_labelled_images(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(tmp_path / name) for name in ("sets.csv", "sets.png")]
    assert main(["evaluate", str(labelled), "--json", "--csv", files[0], "--figure", files[1]]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert (metrics["n"], metrics["unreadable"], metrics["input_rule"]) == (40, {}, 1)
    assert len(Path(files[0]).read_text(encoding="utf-8").splitlines()) == 3
    assert Image.open(files[1]).format == "PNG"
    predictor = Predictor(default_model_path())
    own = {name: sorted((labelled / name).iterdir()) for name in CLASSES}
    fake, real = (predictor.predict(np.stack([np.asarray(Image.open(file)) for file in own[name]])) for name in CLASSES)
    p_fake, p_real = (np.array([it.calibrated["FAKE"] for it in part]) for part in (fake, real))
    # Integers may round otherwise in other batches: one prediction near a threshold may change.
    expected = {
        "accuracy": ((p_fake > 0.5).sum() + (p_real <= 0.5).sum()) / 40,
        "balanced_accuracy": ((p_fake > 0.5).mean() + (p_real <= 0.5).mean()) / 2,
        "roc_auc": (p_fake[:, None] > p_real).mean(),
    }
    for name, value in expected.items():
        assert metrics["overall"][name]["value"] == pytest.approx(value, abs=0.03)
    for entry, predictions in zip(metrics["sets"], (fake, real), strict=True):
        assert entry["n"] == len(predictions)
        called = np.mean([it.prediction == "FAKE" for it in predictions])
        assert entry["called_fake"]["value"] == pytest.approx(called, abs=0.05)
        assert entry["withheld"]["value"] == pytest.approx(np.mean([it.unsure for it in predictions]), abs=0.05)
        assert 0 <= entry["drift_p_value"] <= 1
    assert 0.7 < expected["accuracy"] < 1


def test_evaluate_reports_what_it_cannot_read(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labelled / "REAL" / "0 damaged.jpg").write_bytes(b"no")
    (labelled / "FAKE" / "notes.txt").write_text("no image")
    (labelled / "FAKE" / "._0.png").write_bytes(b"no image")
    (labelled / "beside.png").write_bytes(encoded(NOISE[0], "PNG"))
    assert main(["evaluate", str(labelled)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("set ")
    assert "\n40 images; 95 % confidence intervals" in out
    assert "0 damaged.jpg: the file is no image that can be read" in err
    assert "in no class folder: 1 images (beside.png)" in err
    assert "skipped as no images: 1 (" in err
    (labelled / "FAKE").rename(labelled / "fakes")
    (labelled / "REAL").rename(labelled / "reals")
    assert main(["evaluate", str(labelled)]) == 2
    assert "has no folder of a class that holds an image" in capsys.readouterr().err


def test_serve_configures_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[uvicorn.Config] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server: started.append(server.config))
    monkeypatch.delenv("CIFAKE_WORKERS", raising=False)
    assert main(["serve"]) == 0
    assert "CIFAKE_WORKERS" not in os.environ
    monkeypatch.setenv("CIFAKE_WORKERS", "1")
    assert main(["serve", "--host", "0.0.0.0", "--port", "81", "--workers", "3", "--root-path", "/x"]) == 0
    assert os.environ["CIFAKE_WORKERS"] == "3"
    assert [(config.host, config.port) for config in started] == [("127.0.0.1", 8000), ("0.0.0.0", 81)]
    assert [config.root_path for config in started] == ["", "/x"]
    config = started[0]
    assert config.http is Protocol
    assert (config.app, config.factory, config.workers) == ("lib.serving.app:create_app", True, 1)
    assert not (config.access_log or config.proxy_headers or config.server_header)
    assert config.timeout_graceful_shutdown == 60


def test_serve_without_a_network_exits_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CIFAKE_MODEL", str(tmp_path / "none.onnx"))
    assert main(["serve", "--port", "0"]) == 2
    assert "none.onnx is missing" in capsys.readouterr().err


def test_fetch_model_prints_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = recorded(monkeypatch, artifacts, "fetch_model", [tmp_path / "new" / "a.onnx", tmp_path.parent / "b.onnx"])
    assert main(["fetch-model", "me/cifake/m:v1"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(Path("new", "a.onnx")), str(tmp_path.parent / "b.onnx")]
    assert main(["fetch-model", "me/cifake/m", "--to", "new"]) == 0
    assert calls == [("me/cifake/m:v1", None), ("me/cifake/m", Path("new"))]


def test_curves_and_release_pass_their_paths_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = recorded(monkeypatch, curves, "draw_curves")
    released = recorded(monkeypatch, release, "release")
    replaced = recorded(monkeypatch, release, "release_notebooks")
    assert main(["curves", "me/cifake/run"]) == main(["curves", "run", "--output", "here.png"]) == 0
    assert drawn == [("me/cifake/run", Path("curves.png")), ("run", Path("here.png"))]
    assert capsys.readouterr().out.splitlines() == ["curves.png", "here.png"]
    assert main(["release", "outputs/gpu"]) == main(["release", "o", "--external", "e.zip", "--against", "photo"]) == 0
    places = [(tmp_path / "outputs" / "gpu", None, None), (tmp_path / "o", tmp_path / "e.zip", "photo")]
    assert released == places, "relative to the current folder, not to the project"
    assert main(["release", "outputs/cpu", "--notebooks-only"]) == 0
    assert (replaced, released) == ([(tmp_path / "outputs" / "cpu",)], places)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("no such run"), 2, "no such run\n"),
        (InputError("\x1b[2J\udce4\n.jpg is missing"), 2, "\\x1b[2J\\udce4\\n.jpg is missing\n"),
        (OSError(errno.EACCES, "Permission denied", "a/b.png"), 2, "a/b.png: Permission denied\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (ModuleNotFoundError("…", name="pandas.io"), 2, "this command needs pandas.io: install cifake-lab[lab]\n"),
    ],
)
def test_errors_become_one_line_and_a_status(
    error: BaseException, status: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(curves, "draw_curves", fail)
    assert main(["curves", "run"]) == status
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("output", ["folder", "pipe"])
def test_curves_replace_nothing_but_a_file(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "output"
    (os.mkfifo if output == "pipe" and hasattr(os, "mkfifo") else os.mkdir)(path)
    drawn = recorded(monkeypatch, curves, "draw_curves")
    assert main(["curves", "run", "--output", str(path)]) == 2
    assert drawn == []
    assert capsys.readouterr().err == f"{path} is no file: name the PNG file to write\n"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize(("to", "unbuffered"), [(">/dev/full", ""), (">/dev/full", "1"), (">&-", "")])
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["predict", "images"], ["predict", "images", "--csv"],
     ["evaluate", "labelled"]],
    ids=" ".join,
)  # fmt: skip
def test_output_that_cannot_be_written_is_one_line(
    arguments: list[str], to: str, unbuffered: str, images: Path, labelled: Path, tmp_path: Path
) -> None:
    shell = ["sh", "-c", f'exec "$0" "$@" {to}', CIFAKE, *arguments]
    env = untraced() | {"PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, env=env)
    lines = [line for line in ended.stderr.splitlines() if line and "images/s" not in line]
    assert ended.returncode == 2
    assert lines[-1].startswith("standard output")
    assert len(lines) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("to", ["2>&-", "2>&- <&-", "</dev/null"])
def test_a_closed_standard_error_changes_no_status_and_no_output(to: str, images: Path) -> None:
    shell = ["sh", "-c", f'exec "$0" "$@" {to}', CIFAKE, "predict"]
    done = subprocess.run([*shell, "000.png", "missing", "--json"], cwd=images, capture_output=True, text=True)
    assert (done.returncode, len([json.loads(line) for line in done.stdout.splitlines()])) == (1, 2)
    refused = subprocess.run([*shell, "missing"], cwd=images, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "utf-8:strict"}])
def test_names_are_printed_in_any_locale(env: dict[str, str], images: Path) -> None:
    name = os.fsdecode(b"k\xe4se.png")
    (images / name).write_bytes(encoded(NOISE[0], "PNG"))
    (images / "中😀.png").write_bytes(encoded(NOISE[0], "PNG"))
    for style in ("--json", "--csv"):
        ended = subprocess.run(
            [CIFAKE, "predict", images, style], capture_output=True, text=True, encoding="utf-8", env=untraced() | env
        )
        assert (ended.returncode, len(ended.stdout.splitlines())) == (1, 302 + (style == "--csv"))
        rows = (
            [*csv.reader(ended.stdout.splitlines())] if style == "--csv" else map(json.loads, ended.stdout.splitlines())
        )
        names = [Path(row[0] if style == "--csv" else row["file"]).name for row in rows]
        assert r"k\udce4se.png" in names
    ended = subprocess.run([CIFAKE, "predict", name], capture_output=True, text=True, env=untraced() | env)
    assert (ended.returncode, ended.stderr.startswith("k\\udce4se.png: there is no")) == (2, True)


@pytest.mark.slow
def test_help_imports_no_third_party_package() -> None:
    code = """
import sys
before = {name.partition(".")[0] for name in sys.modules}
from lib import CLASSES
from lib.__main__ import main
try:
    main(["--help"])
except SystemExit:
    pass
loaded = {name.partition(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
sys.exit(str(loaded) if loaded != {"lib"} else 0)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=untraced())
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_predict_imports_no_torch_and_no_pandas(images: Path) -> None:
    code = f"""
import sys
from lib import CLASSES
from lib.__main__ import main
main(["predict", {str(images / "000.png")!r}])
sys.exit(str({{"torch", "pandas", "matplotlib", "sklearn"}} & set(sys.modules) or 0))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=untraced())
    assert ended.stderr == "0\n"


@pytest.mark.slow
def test_installed_script_works_beside_another_lib(images: Path, tmp_path: Path) -> None:
    assert CIFAKE.is_file(), f"{CIFAKE} is missing: install the project again"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").write_text("raise ImportError('another lib')")
    for arguments, status, out in (
        (["--version"], 0, "cifake "),
        (["predict", "images/000.png"], 0, "images/000.png  "),
        (["predict", "lib"], 2, ""),
    ):
        ended = subprocess.run([CIFAKE, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout.startswith(out)) == (status, True), ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_python_m_lib_is_the_same_command() -> None:
    ended = subprocess.run([sys.executable, "-m", "lib", "--version"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.split()[0]) == (0, "cifake")


@pytest.mark.slow
def test_ctrl_c_is_clean_while_images_are_classified(images: Path) -> None:
    # The rows of all do not fit into the pipe, so that it waits. Ctrl-C may come while coverage holds its lock, for
    # which its other threads would wait for ever.
    with start("predict", *[images / "000.png"] * 3000, "--json", env=untraced()) as command:
        assert json.loads(command.stdout.readline())["file"].endswith("000.png")
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
    assert command.returncode == 130
    assert len(out.splitlines()) < 3000
    assert "Traceback" not in err
    assert err.endswith("interrupted\n")


@pytest.mark.slow
def test_ctrl_c_is_clean_while_standard_input_is_read(images: Path) -> None:
    with start("predict", "-", images, stdin=subprocess.PIPE, env=untraced()) as command:
        command.stdin.write("0" * 2**18)  # more than a pipe holds: it returns once the command reads
        command.stdin.flush()
        time.sleep(0.5)  # now it waits for more
        command.send_signal(signal.SIGINT)
        command.wait(timeout=60)
        out, err = command.communicate()
    assert (command.returncode, out, err) == (130, "", "interrupted\n")


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_it_quietly(images: Path) -> None:
    with start("predict", images, "--json") as command:
        command.stdout.readline()
        command.stdout.close()
        err = command.stderr.read()
    assert command.returncode == 0
    assert "Error" not in err


@pytest.mark.slow
def test_a_service_ends_by_ctrl_c_and_refuses_a_port_in_use(tmp_path: Path) -> None:
    with start("serve", "--port", "0", "--workers", "1", cwd=tmp_path, env=untraced()) as service:
        try:
            line = next(line for line in service.stderr if "running on" in line)
            port = line.partition("127.0.0.1:")[2].split()[0]
            with start("serve", "--port", port, "--workers", "1", env=untraced()) as second:
                _, err = second.communicate(timeout=60)
            assert second.returncode == 2
            assert err.endswith("the service did not start\n")
            assert "Traceback" not in err
            service.send_signal(signal.SIGINT)
            _, err = service.communicate(timeout=60)
        finally:
            service.kill()
    assert service.returncode == 130
    assert "Traceback" not in err


@pytest.mark.slow
def test_fetch_model_without_an_account(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    with start("fetch-model", "me/cifake/m", "--to", tmp_path / "m", env={**env, "HOME": str(tmp_path)}) as command:
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (2, "")
    assert "set WANDB_API_KEY" in err.splitlines()[-1]
    assert "Traceback" not in err
