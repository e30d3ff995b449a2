"""Train one network: from a pack to weights, a history and a run.json. A killed run goes on where it was."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from tqdm import tqdm

from lib.batches import Augmentation, PackData
from lib.detector import Detector
from lib.device import choose_device
from lib.errors import InputError
from lib.files import whole_file, write_json
from lib.networks import build_network, count_macs, count_parameters
from lib.pack import Pack
from lib.provenance import lib_hash, run_record
from lib.resume import claim
from lib.weights import save_weights

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
WANDB_MODES = ("auto", "online", "offline", "disabled")


@dataclass(frozen=True)
class Settings:
    """Hold what decides the outcome of a training. Raises InputError for a value that makes no sense.

    `train_images` 0 means all of them; `threads` 0 means as many as there are cores; `accelerator` and
    `precision` are "cpu", "gpu" or "auto", and "float32" or "bfloat16".
    """

    network: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float
    label_smoothing: float
    flip: bool
    shift: int
    train_images: int
    seed: int
    precision: str
    accelerator: str
    threads: int

    def __post_init__(self) -> None:
        limits = {
            "epochs": (1, 10_000), "batch_size": (2, 65_536), "learning_rate": (1e-8, 10), "weight_decay": (0, 10),
            "dropout": (0, 0.99), "label_smoothing": (0, 0.99), "shift": (0, 16), "train_images": (0, 10**9),
            "seed": (0, 10**9), "threads": (0, 4096),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} is {getattr(self, name)}: give a value from {low} to {high}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision is {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        choose_device(self.accelerator)


def train(pack: Pack, settings: Settings, folder: Path, wandb: str = "disabled", progress: bool = True) -> nn.Module:
    """Train on the pack and return the network of the epoch with the best validation accuracy.

    Writes to `folder`: `history.csv` (a row an epoch), `weights.safetensors`, `run.json`, and under
    `checkpoints/` what a killed run resumes from: the same settings, data and code go on, anything else starts
    afresh. `wandb` is "auto" (online with a WANDB_API_KEY, offline without), "online", "offline" or "disabled".
    Raises InputError when the loss is no longer finite or the device runs out of memory.
    """
    device = choose_device(settings.accelerator)
    threads = settings.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    pl.seed_everything(settings.seed, verbose=False)
    code = lib_hash(module="training")
    network = build_network(settings.network, pack.facts["mean"], pack.facts["std"], settings.dropout)
    parameters, macs = count_parameters(network), count_macs(network)
    detector = Detector(
        network.to(memory_format=torch.channels_last),
        settings.learning_rate, settings.weight_decay, settings.label_smoothing, settings.seed,
    )  # fmt: skip
    data = PackData(
        pack, settings.batch_size, Augmentation(settings.flip, settings.shift), settings.seed, settings.train_images
    )
    checkpoints = folder / "checkpoints"
    claim(checkpoints, {"settings": {**asdict(settings), "threads": threads}, "lib_hash": code, **pack.identity()})
    last = checkpoints / "last.ckpt"
    history = History(folder / "history.csv", settings.epochs, progress)
    every_epoch = {"dirpath": checkpoints, "save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(filename="best", monitor="val/acc", mode="max", **every_epoch)
    latest = ModelCheckpoint(filename="last", **every_epoch)
    logger = _wandb_logger(wandb, settings, folder)
    try:
        with _quiet_lightning():
            trainer = pl.Trainer(
                accelerator=device.type, devices=1, precision=PRECISIONS[settings.precision],
                max_epochs=settings.epochs, reload_dataloaders_every_n_epochs=1, num_sanity_val_steps=0,
                callbacks=[history, best, latest], logger=logger, default_root_dir=folder, deterministic=True,
                enable_progress_bar=False, enable_model_summary=False,
            )  # fmt: skip
            trainer.fit(detector, data, ckpt_path=last if last.is_file() else None, weights_only=True)
    except torch.OutOfMemoryError:
        raise InputError(f"the device ran out of memory: lower batch_size ({settings.batch_size})") from None
    finally:
        history.close()
        if logger:
            logger.experiment.finish()
    best_epoch = torch.load(checkpoints / "best.ckpt", weights_only=True, map_location="cpu")
    detector.load_state_dict(best_epoch["state_dict"])
    save_weights(folder / "weights.safetensors", network, settings.network, pack.facts["mean"], pack.facts["std"])
    figures = history.table().iloc[best_epoch["epoch"]]
    record = run_record(
        asdict(settings), pack.facts, code,
        device=device.type, train_seconds=float(history.table()["seconds"].sum()),
        network_parameters=parameters, macs=macs, best_epoch=int(best_epoch["epoch"]) + 1,
        val_acc=float(figures["val/acc"]), val_loss=float(figures["val/loss"]),
    )  # fmt: skip
    write_json(folder / "run.json", record)
    return network.eval()


class History(pl.Callback):
    """Keep one row an epoch, in memory, in the checkpoints and in `path`, and show a progress bar of epochs."""

    def __init__(self, path: Path, epochs: int, progress: bool) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.bar = tqdm(total=epochs, desc="train", unit=" epochs", disable=not progress)

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def close(self) -> None:
        self.bar.close()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds = time.perf_counter() - self.started
        epoch = trainer.current_epoch + 1
        if not all(map(torch.isfinite, trainer.callback_metrics.values())):
            rate = pl_module.learning_rate
            raise InputError(f"training diverged in epoch {epoch}: lower learning_rate (now {rate})")
        self.rows.append({"epoch": epoch, **dict(sorted(figures.items())), "seconds": round(seconds, 2)})
        with whole_file(self.path) as partial:
            self.table().to_csv(partial, index=False)
        self.bar.update(epoch - self.bar.n)
        self.bar.set_postfix({name: f"{figures[name]:.4f}" for name in ("train/loss", "val/acc")})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


def _wandb_logger(mode: str, settings: Settings, folder: Path) -> Any:
    """Return Lightning's W&B logger, or False where W&B is off."""
    if mode not in WANDB_MODES:
        raise InputError(f"wandb is {mode!r}: choose one of {', '.join(WANDB_MODES)}")
    if mode == "auto":
        mode = "online" if os.environ.get("WANDB_API_KEY") else "offline"
    if mode == "disabled":
        return False
    import wandb  # here, because training must run without it
    from pytorch_lightning.loggers import WandbLogger

    run = wandb.init(
        project="cifake", mode=mode, dir=folder, config=asdict(settings), settings={"silent": True, "console": "off"}
    )
    return WandbLogger(experiment=run)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's remarks on hardware and loaders, which do not hold for batches in memory."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        yield
    logger.setLevel(level)
