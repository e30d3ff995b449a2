"""The same run gives the same outputs: the notebooks on the trained network."""

from pathlib import Path

import pytest
from replay import replay

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "reused", "same"),
    [
        ("04_evaluate", (), ("04_evaluate/predictions.csv", "04_evaluate/metrics.json")),
        (
            "05_compare_vgg",
            ("05_compare_vgg/cnn_baseline", "05_compare_vgg/vgg"),
            ("05_compare_vgg/cnn_baseline/predictions.csv", "05_compare_vgg/vgg/predictions.csv"),
        ),
        ("06_export", ("06_export/student",), ("06_export/model.onnx", "06_export/variants/int8.onnx")),
    ],
)
def test_outputs_are_the_same_again(
    sample_build: Path, tmp_path: Path, name: str, reused: tuple[str, ...], same: tuple[str, ...]
) -> None:
    (tmp_path / "outputs").mkdir()
    replay(name, sample_build, tmp_path / "outputs", reused, same)
