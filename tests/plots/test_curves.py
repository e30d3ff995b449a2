"""Learning curves of local runs and of runs of W&B."""

from pathlib import Path

import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.plots.curves import curves, draw_curves

HISTORY = pd.DataFrame(
    {"epoch": [1, 2], "train/loss": [0.6, 0.5], "train/acc": [0.7, 0.8], "val/loss": [0.6, 0.5], "val/acc": [0.7, 0.75]}
)


def test_curves_of_a_local_run(tmp_path: Path) -> None:
    HISTORY.to_csv(tmp_path / "history.csv", index=False)
    pd.testing.assert_frame_equal(curves(str(tmp_path)), HISTORY)
    draw_curves(str(tmp_path), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_missing_or_incomplete_history_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^there is no history.csv in {tmp_path}"):
        draw_curves(str(tmp_path), tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
    HISTORY.drop(columns="val/acc").to_csv(tmp_path / "history.csv", index=False)
    with pytest.raises(InputError, match="has no val/acc"):
        curves(str(tmp_path / "history.csv"))


@pytest.mark.slow
def test_curves_of_a_run_of_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read rows as Lightning logs them: epochs from 0, train and val apart. The server itself needs an account."""
    import wandb

    steps = HISTORY.assign(epoch=[0, 1])
    rows = [
        step[["epoch", *(name for name in HISTORY if name.startswith(stage))]].to_dict()
        for _, step in steps.iterrows()
        for stage in ("val", "train")
    ]
    requested = []

    class Api:
        def run(self, path: str) -> "Api":
            requested.append(path)
            return self

        def scan_history(self) -> list[dict]:
            return rows

    monkeypatch.setattr(wandb, "Api", Api)
    pd.testing.assert_frame_equal(curves("entity/cifake/run1"), HISTORY, check_like=True, check_dtype=False)
    assert requested == ["entity/cifake/run1"]
