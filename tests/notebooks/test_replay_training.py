"""The same run gives the same outputs: the notebooks up to the training and the sweep."""

import shutil
from pathlib import Path

import pytest
from replay import assert_same_files, replay


@pytest.mark.slow
def test_data_training_and_sweep_give_the_same_outputs(sample_build: Path, tmp_path: Path) -> None:
    """02_train trains again; the trials of 03_sweep, which run the same code, are reused."""
    outputs = tmp_path / "outputs"
    shutil.copytree(sample_build / "sweep", outputs / "sweep")
    replay(("01_data", "02_train", "03_sweep"), sample_build, outputs, finished=("run_sweep(",))
    assert_same_files(("01_data/dataset/images.npy", "02_train/weights.safetensors"), sample_build, outputs)
