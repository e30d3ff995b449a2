"""Checkpoints of the best and the last epoch: written whole or not at all, and checked before a run resumes."""

import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from lib.core.files import atomic_file

_BEST, _LAST = "best.ckpt", "last.ckpt"


class Checkpoints(Checkpoint):
    """Save each epoch to `last.ckpt` in `folder`, and that with the highest validation accuracy also to `best.ckpt`.

    Lightning's ModelCheckpoint identifies the best checkpoint by its path, and loses it when the folder has moved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best = {"acc": -1.0, "epoch": -1}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        acc = float(trainer.callback_metrics["val/acc"])
        if acc > self.best["acc"]:
            self.best = {"acc": acc, "epoch": trainer.current_epoch}
            trainer.save_checkpoint(self.folder / _BEST)
        trainer.save_checkpoint(self.folder / _LAST)

    def state_dict(self) -> dict[str, Any]:
        return self.best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = dict(state_dict)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the checkpoint and rename: Lightning copies from the temporary folder, half where a disk is full."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_file(Path(path)) as partial:
            torch.save(checkpoint, partial)


def load_checkpoints(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the checkpoints of the best and the last epoch in `folder`."""
    return _load(folder / _BEST), _load(folder / _LAST)


def checkpoint_to_resume(folder: Path) -> Path | None:
    """Return the checkpoint from which the run in `folder` resumes, or None if it starts anew.

    A checkpoint that cannot be read is dropped with a warning. The last epoch then takes the place of the best one, if
    it is the best so far, or the best epoch that of the last one; otherwise the run starts anew. It therefore ends with
    the same weights as an undisturbed run.
    """
    best, last = folder / _BEST, folder / _LAST
    damaged = []
    epochs: dict[Path, int] = {}
    best_so_far = -1
    for path in (best, last):
        try:
            checkpoint = _load(path)
            epochs[path], best_so_far = checkpoint["epoch"], checkpoint["callbacks"][Checkpoints.__name__]["epoch"]
        except FileNotFoundError:
            continue
        except Exception as error:  # a damaged file can fail in any way
            damaged.append(f"{path} ({type(error).__name__})")
    if last in epochs and epochs.get(best, -1) < best_so_far:  # the best one is lost
        if not damaged:
            damaged.append(f"{best} ({'of an earlier epoch' if best in epochs else 'missing'})")
        if epochs[last] == best_so_far:
            _copy(last, best)
        else:
            del epochs[last]
    if best in epochs and last not in epochs:
        _copy(best, last)
        epochs[last] = epochs[best]
    if damaged:
        start = f"epoch {epochs[last] + 2}" if last in epochs else "the start"
        warnings.warn(f"cannot read {', '.join(damaged)}: training goes on from {start}", stacklevel=3)
    return last if last in epochs else None


def _load(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU; raise any exception if it is damaged."""
    # PyTorch does not compare the checksums of the archive.
    with zipfile.ZipFile(path) as archive:
        if name := archive.testzip():
            raise zipfile.BadZipFile(name)
    return torch.load(path, map_location="cpu", weights_only=True)


def _copy(source: Path, target: Path) -> None:
    with atomic_file(target) as partial:
        shutil.copyfile(source, partial)
