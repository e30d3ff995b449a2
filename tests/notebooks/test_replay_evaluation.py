"""The same run gives the same outputs: the notebooks on the trained network."""

import shutil
from pathlib import Path

import pytest
from replay import assert_same_files, replay


@pytest.mark.slow
def test_evaluation_comparison_and_export_give_the_same_outputs(sample_build: Path, tmp_path: Path) -> None:
    """The trainings of 05_compare_vgg and 06_export, which run the same code as 02_train, are reused."""
    outputs = tmp_path / "outputs"
    for folder in ("05_compare_vgg/cnn_baseline", "05_compare_vgg/vgg", "06_export/student", "02_train"):
        shutil.copytree(sample_build / folder, outputs / folder)
    (outputs / "01_data").symlink_to(sample_build / "01_data")
    names = ("04_evaluate", "05_compare_vgg", "06_export")
    replay(names, sample_build, outputs, finished=(" train(dataset",))
    files = ("04_evaluate/predictions.csv", "04_evaluate/metrics.json", "05_compare_vgg/cnn_baseline/predictions.csv",
             "05_compare_vgg/vgg/predictions.csv", "06_export/model.onnx", "06_export/variants/int8.onnx")  # fmt: skip
    assert_same_files(files, sample_build, outputs)
