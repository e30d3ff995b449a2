"""One command draws the curves of any run."""

from pathlib import Path

import pandas as pd
import pytest

from lib.curves import curves, main
from lib.errors import InputError

HISTORY = pd.DataFrame(
    {"epoch": [1, 2], "train/loss": [0.6, 0.5], "train/acc": [0.7, 0.8], "val/loss": [0.6, 0.5], "val/acc": [0.7, 0.75]}
)


def test_curves_of_a_local_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    HISTORY.to_csv(tmp_path / "history.csv", index=False)
    pd.testing.assert_frame_equal(curves(str(tmp_path)), HISTORY)
    assert main([str(tmp_path), "--output", str(tmp_path / "it.png")]) == 0
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == str(tmp_path / "it.png")


def test_what_is_no_run_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"there is no history.csv in {tmp_path}")
    HISTORY.drop(columns="val/acc").to_csv(tmp_path / "history.csv", index=False)
    with pytest.raises(InputError, match="has no val/acc"):
        curves(str(tmp_path / "history.csv"))


def test_curves_of_a_run_of_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read rows as Lightning logs them: epochs from 0, train and val apart. The server itself needs an account."""
    import wandb

    steps = HISTORY.assign(epoch=[0, 1])
    rows = [
        step[["epoch", *(name for name in HISTORY if name.startswith(stage))]].to_dict()
        for _, step in steps.iterrows()
        for stage in ("val", "train")
    ]
    asked = []

    class Api:
        def run(self, path: str) -> "Api":
            asked.append(path)
            return self

        def scan_history(self) -> list[dict]:
            return rows

    monkeypatch.setattr(wandb, "Api", Api)
    pd.testing.assert_frame_equal(curves("entity/cifake/run1"), HISTORY, check_like=True, check_dtype=False)
    assert asked == ["entity/cifake/run1"]
