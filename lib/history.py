"""The course of a training: one row an epoch, on disk and on screen."""

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from tqdm import tqdm

from lib.errors import InputError
from lib.files import whole_file


class History(pl.Callback):
    """Keep one row an epoch, in the checkpoints and in `path` (CSV), and show a progress bar of epochs.

    `seconds` are those of training: validation is not counted.
    Raises InputError in an epoch whose figures are not finite.
    """

    def __init__(self, path: Path, epochs: int, progress: bool) -> None:
        self.path, self.epochs, self.progress = path, epochs, progress
        self.rows: list[dict[str, float]] = []
        self.bar: tqdm | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        shown = self.progress and trainer.is_global_zero
        self.bar = tqdm(total=self.epochs, desc="train", unit=" epochs", disable=not shown)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None  # a process that trained for another sends this callback back to it

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_fit_end(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.interrupted = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started += time.perf_counter() - self.interrupted

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self.started
        epoch = trainer.current_epoch + 1
        if not all(map(torch.isfinite, trainer.callback_metrics.values())):
            rates = {name: getattr(pl_module, name) for name in ("learning_rate", "muon_rate")}
            remedy = " or ".join(f"{name} (now {rate})" for name, rate in rates.items() if rate)
            raise InputError(f"training diverged in epoch {epoch}: lower {remedy}")
        figures = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append({"epoch": epoch, **figures, "seconds": round(seconds, 2)})
        if trainer.is_global_zero:
            with whole_file(self.path) as partial:
                pd.DataFrame(self.rows).to_csv(partial, index=False)
        if self.bar is not None:
            self.bar.update(epoch - self.bar.n)
            self.bar.set_postfix({name: f"{figures[name]:.4f}" for name in ("train/loss", "val/acc")})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
