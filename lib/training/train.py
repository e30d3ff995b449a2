"""Train one network: from a packed dataset to weights, a history and a run.json. Interrupted runs resume."""

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.multiprocessing import ProcessRaisedException

from lib.core.errors import InputError
from lib.core.files import write_json
from lib.core.provenance import lib_hash
from lib.core.run_dir import prepare_run_dir
from lib.data.dataset import PackedDataset
from lib.models.device import choose_device
from lib.models.networks import Network, build_network, count_macs, count_parameters
from lib.models.weights import load_weights, save_weights
from lib.training.data_module import PackedDataModule
from lib.training.detector import Detector
from lib.training.distillation import Teacher
from lib.training.history import History
from lib.training.run_record import run_record
from lib.training.settings import PRECISIONS, Settings
from lib.training.wandb_logger import wandb_logger

_RECORD = "run.json"


def train(
    dataset: PackedDataset,
    settings: Settings,
    folder: Path,
    wandb: str = "disabled",
    progress: bool = True,
    init_state_dict: dict[str, Tensor] | None = None,
    teacher: Teacher | None = None,
) -> Network:
    """Train on a packed dataset and return the network of the epoch with the best validation accuracy.

    Writes to `folder`: `history.csv` (a row an epoch), `weights.safetensors`, `run.json`, and `checkpoints/`, from
    which an interrupted run resumes. A run with the same settings, data and code is resumed, or reused if finished, on
    whichever machine it was trained; any other is trained from scratch. `wandb` is "auto" (online with a WANDB_API_KEY,
    offline without), "online", "offline" or "disabled". `init_state_dict` holds initial weights by their names in the
    network; all others are initialised at random. A `teacher` distils its predictions into the network.
    Raises InputError if the loss is no longer finite or the device runs out of memory.
    """
    device = choose_device(settings.accelerator)
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.devices)
    torch.set_num_threads(threads)
    pl.seed_everything(settings.seed, verbose=False)
    model_config = _model_config(dataset, settings)
    network = build_network(**model_config, dropout=settings.dropout)
    size = {"network_parameters": count_parameters(network), "macs": count_macs(network)}
    detector = Detector(network.to(memory_format=torch.channels_last), settings)
    data = PackedDataModule(dataset, settings, teacher)
    network.init_whitening(data.first_images())
    if init_state_dict:
        _load_initial(network, init_state_dict, settings.network)

    code = lib_hash(module="training.train")
    fingerprint = {"settings": {**asdict(settings), "threads": threads}, "lib_hash": code, **dataset.fingerprint()}
    if init_state_dict:
        fingerprint["init_state_dict"] = _digest(init_state_dict)
    if teacher:
        fingerprint["teacher"] = teacher.fingerprint()
    if finished := _reuse(folder, fingerprint):
        return finished

    checkpoints = folder / "checkpoints"
    callbacks = [
        History(folder / "history.csv", settings.epochs, progress),
        *_checkpoints(checkpoints),
        data.sampler,
        ProcessSetup(threads),
    ]
    logger = wandb_logger(wandb, settings, folder)
    last = checkpoints / "last.ckpt"
    with _input_errors(settings), _quiet_lightning():
        trainer = _trainer(settings, device, callbacks, logger, folder)
        trainer.fit(detector, data, ckpt_path=last if last.is_file() else None, weights_only=True)

    best = torch.load(checkpoints / "best.ckpt", weights_only=True, map_location="cpu")
    detector.load_state_dict(best["state_dict"])
    save_weights(folder / "weights.safetensors", network, model_config)
    history = pd.read_csv(folder / "history.csv")
    metrics = history.iloc[best["epoch"]]
    record = run_record(
        asdict(settings), dataset.metadata, code,
        device=device.type, train_seconds=float(history["seconds"].sum()), **size, best_epoch=int(best["epoch"]) + 1,
        val_acc=float(metrics["val/acc"]), val_loss=float(metrics["val/loss"]),
    )  # fmt: skip
    write_json(folder / _RECORD, record)  # last: it marks the run as finished
    return network.eval()


def _model_config(dataset: PackedDataset, settings: Settings) -> dict[str, Any]:
    """Return the arguments of `build_network` that are saved with the weights."""
    num_object_classes = dataset.object_classes()[1] if settings.aux_loss_weight else 0
    if num_object_classes == 1:
        raise InputError(
            "aux_loss_weight needs several object classes, but all images of the dataset have the same: set it to 0"
        )
    return {
        "name": settings.network, "mean": dataset.metadata["mean"], "std": dataset.metadata["std"],
        "hflip_tta": settings.hflip_tta, "num_object_classes": num_object_classes,
    }  # fmt: skip


def _load_initial(network: Network, state_dict: dict[str, Tensor], name: str) -> None:
    if unknown := network.load_state_dict(state_dict, strict=False).unexpected_keys:
        raise InputError(f"{name} has no weights {unknown[0]!r}: give an init_state_dict of the same network")


def _digest(state_dict: dict[str, Tensor]) -> str:
    return hashlib.sha256(b"".join(state_dict[key].numpy().tobytes() for key in sorted(state_dict))).hexdigest()


def _reuse(folder: Path, fingerprint: dict[str, Any]) -> Network | None:
    """Return the network of a finished run with this fingerprint, or None after preparing `folder` for training."""
    record = folder / _RECORD
    if not prepare_run_dir(folder / "checkpoints", fingerprint):
        record.unlink(missing_ok=True)
    elif record.is_file():
        with suppress(InputError):  # missing or damaged weights are written again, from the checkpoints
            return load_weights(folder / "weights.safetensors")
    return None


def _checkpoints(folder: Path) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """Return callbacks that save the best epoch, and the last one to resume from."""
    every_epoch = {"dirpath": folder, "save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(filename="best", monitor="val/acc", mode="max", **every_epoch)
    return best, ModelCheckpoint(filename="last", **every_epoch)


def _trainer(
    settings: Settings, device: torch.device, callbacks: list[pl.Callback], logger: Any, folder: Path
) -> pl.Trainer:
    # Processes of a notebook must be spawned: a fork hangs once OpenMP has been used.
    single = settings.devices * settings.num_nodes == 1
    strategy = "ddp_spawn" if settings.strategy == "auto" and not single else settings.strategy
    return pl.Trainer(
        accelerator=device.type, devices=settings.devices, num_nodes=settings.num_nodes, strategy=strategy,
        precision=PRECISIONS[settings.precision], max_epochs=settings.epochs,
        reload_dataloaders_every_n_epochs=1, num_sanity_val_steps=0, use_distributed_sampler=False,
        callbacks=callbacks, logger=logger, default_root_dir=folder, deterministic=True,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


@contextmanager
def _input_errors(settings: Settings) -> Iterator[None]:
    """Raise InputError for a lack of memory, and for an InputError of a spawned process."""
    out_of_memory = InputError(f"the device ran out of memory: lower batch_size ({settings.batch_size})")
    try:
        yield
    except torch.OutOfMemoryError:
        raise out_of_memory from None
    except ProcessRaisedException as error:  # holds the other process's exception as text
        if "OutOfMemoryError" in str(error):
            raise out_of_memory from None
        if InputError.__name__ in str(error):
            raise InputError(str(error).rpartition(f"{InputError.__name__}: ")[2].strip()) from None
        raise


class ProcessSetup(pl.Callback):
    """Set up each training process: a spawned one starts with as many threads as there are cores."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        torch.set_num_threads(self.threads)
        # Deterministic mode fills all new memory to expose reads of uninitialised values: a tenth of the time.
        torch.utils.deterministic.fill_uninitialized_memory = False


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's messages on hardware and data loaders, which do not apply to batches in memory."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        logger.setLevel(level)
