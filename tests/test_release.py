"""The release: complete, small, free of this machine's paths, and only of all of CIFAKE."""

import io
import json
import shutil
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from lib.errors import InputError
from lib.export import TOLERANCE
from lib.figures import smaller
from lib.files import ROOT
from lib.metrics import percent
from lib.model import Model
from lib.release import REFERENCE, main, release, without_paths
from lib.report import NOTEBOOKS
from lib.weights import load_weights

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8)
PLACES = [f"{ROOT.as_posix()}/", f"{Path.home().as_posix()}/", f"{Path(tempfile.gettempdir()).as_posix()}/"]


@pytest.fixture(scope="module")
def released(sample_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    reference = tmp_path_factory.mktemp("release") / "reference"
    data = json.loads((sample_build / "02_train" / "run.json").read_text())["data"]["data"]
    reference.mkdir()
    (reference / "old.png").write_text("")
    release(sample_build, reference, data)
    return reference


def test_release_holds_what_the_contract_says(released: Path) -> None:
    names = {path.name for path in released.iterdir()}
    assert names == {
        "README.md", "comparison.json", "drift.npz", "export.json", "figures", "metrics.json", "model.onnx",
        "notebooks", "run.json", "served.json", "served.onnx", "weights.safetensors",
    }  # fmt: skip
    with torch.no_grad():
        expected = load_weights(released / "weights.safetensors")(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(
        Model(released / "model.onnx").logits(IMAGES.transpose(0, 2, 3, 1)), expected, atol=TOLERANCE
    )
    assert (
        Model(released / "served.onnx").temperature
        == json.loads((released / "served.json").read_text())["calibration"]["temperature"]
    )
    assert {path.stem for path in (released / "notebooks").iterdir()} == set(NOTEBOOKS)
    for path in (released / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG"), path


def test_card_gives_figures_of_the_run(released: Path) -> None:
    metrics, card = json.loads((released / "metrics.json").read_text()), (released / "README.md").read_text()
    for split in ("test", "test_not_in_train"):
        assert f"{100 * metrics[split]['accuracy']['value']:.2f} %" in card
    assert f"{(released / 'model.onnx').stat().st_size:,} bytes" in card
    for views in ("one_view", "two_views"):
        assert percent(metrics[views]["accuracy"]) in card
    export = json.loads((released / "export.json").read_text())
    served = export["served"]
    assert f"{served}: the fastest" in card
    for entry in (export["test"][served], *export["variants"].values()):
        assert f"{100 * entry['change']['difference']:+.2f} [" in card


def test_smaller_figures_show_the_same() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot(np.sin(np.arange(50.0)), label="sine")
    right.imshow(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8), interpolation="bicubic")
    file = io.BytesIO()
    figure.savefig(file)
    before, after = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16)
        for png in (file.getvalue(), smaller(file.getvalue()))
    )
    assert np.abs(before - after).mean() < 2
    assert np.quantile(np.abs(before - after), 0.99) < 32
    assert len(smaller(file.getvalue())) < 0.7 * len(file.getvalue())


@pytest.mark.parametrize("folder", ["released", "reference"])
def test_nothing_names_a_machine(folder: str, request: pytest.FixtureRequest) -> None:
    released = request.getfixturevalue("released") if folder == "released" else REFERENCE
    files = [path for path in released.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        for place in PLACES:
            assert place.encode() not in content, f"{path} names {place}"
        if path.suffix in (".ipynb", ".json", ".md"):
            text = content.decode()
            assert without_paths(text) == text, f"{path} names a place"
        if path.suffix == ".ipynb":
            nbformat.validate(nbformat.read(path, as_version=4))


def test_paths_outside_the_project_keep_their_last_name() -> None:
    text = f'source = "/mnt/data.d/archive-1.zip"; x = "{ROOT.as_posix()}/outputs/cpu/run.json"; "https://a.b/c/d"</td>'
    assert without_paths(text) == 'source = "archive-1.zip"; x = "outputs/cpu/run.json"; "https://a.b/c/d"</td>'


def test_committed_release_is_small() -> None:
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) < 10e6


def test_run_on_anything_else_is_not_released(sample_build: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only one on all of CIFAKE is released"):
        release(sample_build, tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


def test_export_of_another_network_is_not_released(sample_build: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(sample_build, outputs, ignore=shutil.ignore_patterns("pack", "variants", "battery", "checkpoints"))
    export = json.loads((outputs / "06_export" / "export.json").read_text())
    (outputs / "06_export" / "export.json").write_text(json.dumps(export | {"weights": "0"}))
    with pytest.raises(InputError, match="is of other weights"):
        release(outputs, tmp_path / "reference", "sample")
    assert not (tmp_path / "reference").exists()


def test_command_says_what_is_wrong(sample_build: Path) -> None:
    assert "only one on all of CIFAKE" in main([str(sample_build)])
    assert main([]).startswith("usage")
    assert "is missing" in main(["no/such/folder"])
