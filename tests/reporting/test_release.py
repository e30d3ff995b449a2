"""The release: complete, small, without paths of the machine that made it, and only of all of CIFAKE."""

import json
import shutil
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.evaluation.metrics import percent
from lib.export.onnx_file import TOLERANCE
from lib.inference.limits import limits
from lib.inference.predictor import Predictor
from lib.models.weights import load_weights
from lib.reporting.release import REFERENCE, model_card, release, release_notebooks, without_paths
from lib.reporting.report import NOTEBOOKS

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8)
PLACES = [f"{ROOT.as_posix()}/", f"{Path.home().as_posix()}/", f"{Path(tempfile.gettempdir()).as_posix()}/"]


@pytest.fixture(scope="module")
def released(sample_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    reference = tmp_path_factory.mktemp("release") / "reference"
    data = json.loads((sample_build / "02_train" / "run.json").read_text())["data"]["data"]
    reference.mkdir()
    (reference / "old.png").write_text("")
    (reference / "baselines").mkdir()
    release(sample_build, reference=reference, data=data)
    return reference


@pytest.mark.slow
def test_release_has_all_files_and_equal_networks(released: Path) -> None:
    names = {path.name for path in released.iterdir()}
    assert names == {
        "README.md", "baselines", "comparison.json", "drift.npz", "export.json", "metrics.json", "model.onnx",
        "notebooks", "run.json", "served.json", "served.onnx", "training_hashes.npy",
        "weights.safetensors",
    }  # fmt: skip
    with torch.no_grad():
        expected = load_weights(released / "weights.safetensors")(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(
        Predictor(released / "model.onnx").logits(IMAGES.transpose(0, 2, 3, 1)), expected, atol=TOLERANCE
    )
    assert (
        Predictor(released / "served.onnx").calibration.temperature
        == json.loads((released / "served.json").read_text())["calibration"]["temperature"]
    )
    assert {path.stem for path in (released / "notebooks").glob("*.ipynb")} == set(NOTEBOOKS)
    assert "the executed notebooks of the run |" in (released / "README.md").read_text()


@pytest.mark.slow
def test_notebooks_of_another_run_replace_those_of_the_release(
    released: Path, sample_build: Path, tmp_path: Path
) -> None:
    reference = tmp_path / "reference"
    shutil.copytree(released, reference)
    record = json.loads((reference / "run.json").read_text())
    (reference / "run.json").write_text(json.dumps(record | {"train_seconds": 1.0}))
    (reference / "notebooks" / "old.ipynb").write_text("")
    release_notebooks(sample_build, reference, data=record["data"]["data"])
    assert {path.stem for path in (reference / "notebooks").glob("*.ipynb")} == set(NOTEBOOKS)
    accuracy = json.loads((reference / "metrics.json").read_text())["test"]["accuracy"]
    assert f"of another run: {record['parameters']['epochs']} epochs" in (reference / "README.md").read_text()
    assert f"{percent(accuracy)} of the test images |" in (reference / "README.md").read_text()
    with pytest.raises(InputError, match="only one on all of CIFAKE is released"):
        release_notebooks(sample_build, reference)


@pytest.mark.slow
def test_model_card_has_the_metrics_of_the_run(released: Path) -> None:
    metrics, card = json.loads((released / "metrics.json").read_text()), (released / "README.md").read_text()
    for split in ("test", "test_without_leaks"):
        assert f"{100 * metrics[split]['accuracy']['value']:.2f} %" in card
    assert f"{(released / 'model.onnx').stat().st_size:,} bytes" in card
    for tta in ("without_tta", "with_tta"):
        assert percent(metrics[tta]["accuracy"]) in card
    export = json.loads((released / "export.json").read_text())
    served = export["served"]
    assert f"{served}: the fastest" in card
    for entry in (export["test"][served], *export["variants"].values()):
        assert f"{100 * entry['change']['difference']:+.2f} [" in card


@pytest.mark.slow
def test_release_has_no_paths_of_a_machine(released: Path) -> None:
    assert_no_paths(released)


def test_committed_release_has_no_paths_of_a_machine() -> None:
    assert_no_paths(REFERENCE)


def assert_no_paths(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        for place in PLACES:
            assert place.encode() not in content, f"{path} contains {place}"
        if path.suffix in (".ipynb", ".json", ".md"):
            text = content.decode()
            assert without_paths(text) == text, f"{path} contains an absolute path"
        if path.suffix == ".ipynb":
            nbformat.validate(nbformat.read(path, as_version=4))


def test_paths_outside_the_project_are_cut_to_their_last_name() -> None:
    text = f'source = "/mnt/data.d/archive-1.zip"; x = "{ROOT.as_posix()}/outputs/cpu/run.json"; "https://a.b/c/d"</td>'
    assert without_paths(text) == 'source = "archive-1.zip"; x = "outputs/cpu/run.json"; "https://a.b/c/d"</td>'


def test_committed_release_is_small() -> None:
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) < 12e6


def test_committed_model_card_is_that_of_its_files() -> None:
    assert (REFERENCE / "README.md").read_text(encoding="utf-8") == model_card(REFERENCE)


@pytest.mark.slow
def test_run_on_other_data_is_not_released(sample_build: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only one on all of CIFAKE is released"):
        release(sample_build, reference=tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


@pytest.mark.slow
def test_export_of_other_weights_is_not_released(sample_build: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(
        sample_build, outputs, ignore=shutil.ignore_patterns("dataset", "variants", "robustness", "checkpoints")
    )
    export = json.loads((outputs / "06_export" / "export.json").read_text())
    (outputs / "06_export" / "export.json").write_text(json.dumps(export | {"weights": "0"}))
    with pytest.raises(InputError, match="is of other weights"):
        release(outputs, reference=tmp_path / "reference", data="sample")
    assert not (tmp_path / "reference").exists()


def test_readme_and_model_card_begin_with_what_the_network_does_not_know() -> None:
    for file in (ROOT / "README.md", REFERENCE / "README.md"):
        assert f"**{limits(REFERENCE / 'served.onnx')}**" in file.read_text(encoding="utf-8")[:2000], file


def test_page_of_images_from_elsewhere_has_the_shares_of_the_release() -> None:
    external = json.loads((REFERENCE / "external.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "external.md").read_text(encoding="utf-8")
    for name in ("FAKE", "REAL"):
        shown = " | ".join(percent(external[form]["pooled"][name], 1) for form in ("as_found", "jpeg_75"))
        assert shown.replace(" %", "") in page
