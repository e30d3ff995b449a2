"""The sentence on what a network does not know."""

import json
from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.inference.limits import limits


def shares(fake: float, real: float) -> dict:
    return {"pooled": {"FAKE": {"value": fake, "n": 1234}, "REAL": {"value": real, "n": 50}}}


def test_the_sentence_has_the_shares_of_both_forms(tmp_path: Path) -> None:
    assert limits(tmp_path / "model.onnx") is None, "nobody has measured it"
    content = {"as_found": shares(0.25, 0.5), "jpeg_75": shares(0.125, 0)}
    (tmp_path / "external.json").write_text(json.dumps(content))
    assert limits(tmp_path / "model.onnx") == (
        "Outside its training data it fails: it detects 25.0 % of 1,234 images by other generators "
        "(12.5 % as JPEG), and calls 50.0 % of 50 photographs from elsewhere FAKE (0.0 % as JPEG)."
    )


@pytest.mark.parametrize("content", [{}, [], {"as_found": shares(0.25, 0.5)}, {"as_found": None, "jpeg_75": None}])
def test_another_file_is_an_input_error(tmp_path: Path, content: object) -> None:
    (tmp_path / "external.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="lacks the shares of all sets"):
        limits(tmp_path / "model.onnx")
