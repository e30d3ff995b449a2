"""The same run gives the same outputs: the notebooks up to the training and the sweep."""

from pathlib import Path

import pytest
from replay import replay

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "reused", "same"),
    [
        ("01_data", (), ("01_data/dataset/images.npy", "01_data/dataset/records.csv")),
        ("02_train", (), ("02_train/weights.safetensors",)),
        ("03_sweep", ("sweep",), ("sweep/best.yaml",)),
    ],
)
def test_outputs_are_the_same_again(
    sample_build: Path, tmp_path: Path, name: str, reused: tuple[str, ...], same: tuple[str, ...]
) -> None:
    (tmp_path / "outputs").mkdir()
    replay(name, sample_build, tmp_path / "outputs", reused, same)
