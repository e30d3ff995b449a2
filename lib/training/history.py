"""The training history: one row an epoch, as CSV and as a progress bar."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from tqdm import tqdm

from lib.core.errors import InputError
from lib.core.files import atomic_file

OnEpoch = Callable[[pd.DataFrame], None]


class History(pl.Callback):
    """Record the metrics of each epoch in the checkpoints and in `path` (CSV), and show a progress bar of epochs.

    `seconds` is the time of training, without validation. `on_epoch` gets the history so far after each epoch.
    Raises InputError at the end of an epoch whose metrics are not finite.
    """

    def __init__(self, path: Path, epochs: int, progress: bool, on_epoch: OnEpoch | None = None) -> None:
        self.path, self.epochs, self.progress, self.on_epoch = path, epochs, progress, on_epoch
        self.rows: list[dict[str, float]] = []
        self.bar: tqdm | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        shown = self.progress and trainer.is_global_zero
        self.bar = tqdm(total=self.epochs, desc="train", unit=" epochs", disable=not shown)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None  # a spawned process pickles this callback to return it

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
            lrs = {name: getattr(pl_module, name) for name in ("lr", "muon_lr")}
            remedy = " or ".join(f"{name} (now {lr})" for name, lr in lrs.items() if lr)
            raise InputError(f"training diverged in epoch {epoch}: lower {remedy}")
        metrics = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append({"epoch": epoch, **metrics, "seconds": round(seconds, 2)})
        if trainer.is_global_zero:
            table = write_history(self.path, self.rows)
            if self.on_epoch:
                self.on_epoch(table)
        if self.bar is not None:
            self.bar.update(epoch - self.bar.n)
            self.bar.set_postfix({name: f"{metrics[name]:.4f}" for name in ("train/loss", "val/acc")})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


def write_history(path: Path, rows: list[dict[str, float]]) -> pd.DataFrame:
    """Write a row an epoch to `path` (CSV), and return the table."""
    table = pd.DataFrame(rows)
    with atomic_file(path) as partial:
        table.to_csv(partial, index=False)
    return table
