"""Train one network: from a pack to weights, a history and a run.json. A killed run goes on where it was."""

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

from lib.artifacts import wandb_mode
from lib.detector import Detector
from lib.device import choose_device
from lib.distil import Teacher
from lib.errors import InputError
from lib.files import write_json
from lib.history import History
from lib.networks import Network, build_network, count_macs, count_parameters
from lib.pack import Pack
from lib.pack_data import PackData
from lib.provenance import lib_hash, run_record
from lib.resume import claim
from lib.settings import PRECISIONS, Settings
from lib.weights import load_weights, save_weights


def train(
    pack: Pack,
    settings: Settings,
    folder: Path,
    wandb: str = "disabled",
    progress: bool = True,
    start: dict[str, Tensor] | None = None,
    teacher: Teacher | None = None,
) -> Network:
    """Train on the pack and return the network of the epoch with the best validation accuracy.

    Writes to `folder`: `history.csv` (a row an epoch), `weights.safetensors`, `run.json`, and under
    `checkpoints/` what a killed run resumes from: the same settings, data and code go on, anything else starts
    afresh; what is finished is taken as it is, wherever it was trained. `wandb` is "auto" (online with a
    WANDB_API_KEY, offline without), "online", "offline" or "disabled". `start` holds weights to begin with, by their
    names in the network; the others begin at random. A `teacher` has a say in what is learnt of each image.
    Raises InputError when the loss is no longer finite or the device runs out of memory.
    """
    device = choose_device(settings.accelerator)
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.devices)
    torch.set_num_threads(threads)
    pl.seed_everything(settings.seed, verbose=False)
    code = lib_hash(module="training")
    objects = pack.objects()[1] if settings.object_weight else 0
    if objects == 1:
        raise InputError("object_weight asks for object classes to learn, but all images have the same: set it to 0")
    recipe = {
        "name": settings.network, "mean": pack.facts["mean"], "std": pack.facts["std"], "mirror": settings.mirror,
        "objects": objects,
    }  # fmt: skip
    network = build_network(**recipe, dropout=settings.dropout)
    parameters, macs = count_parameters(network), count_macs(network)
    detector = Detector(network.to(memory_format=torch.channels_last), settings)
    data = PackData(pack, settings, teacher)
    network.fit(data.some_images())
    work = {"settings": {**asdict(settings), "threads": threads}, "lib_hash": code, **pack.identity()}
    if start:
        if unknown := network.load_state_dict(start, strict=False).unexpected_keys:
            raise InputError(f"{settings.network} has no weights {unknown[0]!r}: start from those of the same network")
        work["start"] = hashlib.sha256(b"".join(start[key].numpy().tobytes() for key in sorted(start))).hexdigest()
    if teacher:
        work["teacher"] = teacher.identity()
    checkpoints = folder / "checkpoints"
    finished = folder / "run.json"  # written last
    if not claim(checkpoints, work):
        finished.unlink(missing_ok=True)
    elif finished.is_file():
        with suppress(InputError):  # lost or damaged weights are written again, from the checkpoints
            return load_weights(folder / "weights.safetensors")
    last = checkpoints / "last.ckpt"
    every_epoch = {"dirpath": checkpoints, "save_on_train_epoch_end": True, "enable_version_counter": False}
    callbacks = [
        History(folder / "history.csv", settings.epochs, progress),
        ModelCheckpoint(filename="best", monitor="val/acc", mode="max", **every_epoch),
        ModelCheckpoint(filename="last", **every_epoch),
        data.hard_examples,
        Setup(threads),
    ]
    # Processes of a notebook must be spawned: a fork hangs where OpenMP has worked before it.
    alone = settings.devices * settings.num_nodes == 1
    strategy = "ddp_spawn" if settings.strategy == "auto" and not alone else settings.strategy
    logger = _wandb_logger(wandb, settings, folder)
    try:
        with _quiet_lightning():
            trainer = pl.Trainer(
                accelerator=device.type, devices=settings.devices, num_nodes=settings.num_nodes, strategy=strategy,
                precision=PRECISIONS[settings.precision], max_epochs=settings.epochs,
                reload_dataloaders_every_n_epochs=1, num_sanity_val_steps=0, use_distributed_sampler=False,
                callbacks=callbacks, logger=logger, default_root_dir=folder, deterministic=True,
                enable_progress_bar=False, enable_model_summary=False,
            )  # fmt: skip
            trainer.fit(detector, data, ckpt_path=last if last.is_file() else None, weights_only=True)
    except torch.OutOfMemoryError:
        raise InputError(_OUT_OF_MEMORY.format(settings.batch_size)) from None
    except ProcessRaisedException as error:  # another process's exception, as text
        if "OutOfMemoryError" in str(error):
            raise InputError(_OUT_OF_MEMORY.format(settings.batch_size)) from None
        if InputError.__name__ in str(error):
            raise InputError(str(error).rpartition(f"{InputError.__name__}: ")[2].strip()) from None
        raise
    best_epoch = torch.load(checkpoints / "best.ckpt", weights_only=True, map_location="cpu")
    detector.load_state_dict(best_epoch["state_dict"])
    save_weights(folder / "weights.safetensors", network, recipe)
    history = pd.read_csv(folder / "history.csv")
    figures = history.iloc[best_epoch["epoch"]]
    record = run_record(
        asdict(settings), pack.facts, code,
        device=device.type, train_seconds=float(history["seconds"].sum()),
        network_parameters=parameters, macs=macs, best_epoch=int(best_epoch["epoch"]) + 1,
        val_acc=float(figures["val/acc"]), val_loss=float(figures["val/loss"]),
    )  # fmt: skip
    write_json(finished, record)
    return network.eval()


_OUT_OF_MEMORY = "the device ran out of memory: lower batch_size ({})"


class Setup(pl.Callback):
    """Set up each process that trains: a spawned one begins with as many threads as there are cores."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        torch.set_num_threads(self.threads)
        # Deterministic algorithms would overwrite all new memory first, a tenth of the time, for code that reads it.
        torch.utils.deterministic.fill_uninitialized_memory = False


def _wandb_logger(mode: str, settings: Settings, folder: Path) -> Any:
    """Return Lightning's W&B logger, or False where W&B is off."""
    if (mode := wandb_mode(mode)) == "disabled":
        return False
    import wandb  # here, because training must run without it
    from pytorch_lightning.loggers import WandbLogger

    class Finishing(WandbLogger):
        """End W&B's run with the training, in the process that began it."""

        def finalize(self, status: str) -> None:
            super().finalize(status)
            wandb.finish(exit_code=int(status != "success"))

    return Finishing(
        project="cifake", mode=mode, save_dir=folder, config=asdict(settings),
        settings={"silent": True, "console": "off"},
    )  # fmt: skip


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
