"""Small and unbalanced data: the notebooks work with all that there is, and say what holds for it."""

from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import settings

from lib.core.files import ROOT, read_json
from lib.data.dataset import open_dataset
from lib.training.train import train


def run(name: str, folder: Path, **parameters: object) -> str:
    """Run a notebook; return the text of its outputs."""
    out = folder / f"{name}.ipynb"
    papermill.execute_notebook(ROOT / "notebooks" / f"{name}.ipynb", out, parameters, cwd=folder, progress_bar=False)
    outputs = [output for cell in nbformat.read(out, 4).cells for output in cell.get("outputs", [])]
    return "\n".join(str(output.get("text") or output.get("data")) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_fake", "expected"),
    [
        (
            20,
            ("Both classes have the same number of test images", "not significantly above the majority class, 50.00 %"),
        ),
        (5, ("5 are FAKE and 20 REAL", "chance level, 50.00 %; accuracy")),
    ],
)
def test_random_pixels_in_small_folders(tiny: Path, tmp_path: Path, num_fake: int, expected: tuple[str, str]) -> None:
    for split in ("train", "test"):
        for file in sorted((tiny / split / "FAKE").iterdir())[num_fake:]:
            file.unlink()
    product = {"dataset": str(tmp_path / "data" / "metadata.json")}
    assert expected[0] in run("01_data", tmp_path, source=str(tiny), product=product)
    dataset = open_dataset(tmp_path / "data")
    with pytest.warns(UserWarning, match="max_train_samples"):
        train(dataset, settings(epochs=2, batch_size=16), tmp_path / "run", progress=False)
    files = {"predictions": "predictions.csv", "metrics": "metrics.json", "drift": "drift.npz",
             "training_hashes": "training_hashes.npy"}  # fmt: skip
    weights = {"weights": str(tmp_path / "run" / "weights.safetensors"), "run": str(tmp_path / "run" / "run.json")}
    text = run(
        "04_evaluate", tmp_path, robustness=False, upstream={"01_data": product, "02_train": weights},
        product={key: str(tmp_path / file) for key, file in files.items()},
    )  # fmt: skip
    assert expected[1] in text
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["test"]["majority_class_accuracy"]["value"] == 20 / (num_fake + 20)
