"""Lightning's Trainer, as this project sets it up."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from torch.multiprocessing import ProcessRaisedException

from lib.core.errors import InputError
from lib.training.checkpoints import AtomicCheckpointIO
from lib.training.settings import PRECISIONS, Settings

# Of torchrun, Slurm, LSF and MPI: they say which process of a job this is, and where the first one is.
_LAUNCHER_VARIABLES = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "WORLD_SIZE",
    "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip


def make_trainer(
    settings: Settings, device: torch.device, callbacks: list[pl.Callback], logger: Any, folder: Path
) -> pl.Trainer:
    """Return a Trainer for `settings`, which writes checkpoints whole or not at all."""
    # Processes of a notebook must be spawned: a fork hangs once OpenMP has been used.
    single = settings.devices * settings.num_nodes == 1
    strategy = "ddp_spawn" if settings.strategy == "auto" and not single else settings.strategy
    plugins: list[Any] = [AtomicCheckpointIO()]
    if _starts_its_processes(settings):
        environment = LightningEnvironment()
        environment.set_global_rank(0)  # Lightning took it from a launcher's variable when it was imported
        plugins.append(environment)
    return pl.Trainer(
        accelerator=device.type, devices=settings.devices, num_nodes=settings.num_nodes, strategy=strategy,
        precision=PRECISIONS[settings.precision], max_epochs=settings.epochs,
        reload_dataloaders_every_n_epochs=1, num_sanity_val_steps=0, use_distributed_sampler=False,
        callbacks=callbacks, logger=logger, plugins=plugins, default_root_dir=folder, deterministic=True,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


@contextmanager
def own_processes(settings: Settings) -> Iterator[None]:
    """Hide the variables of a launcher or job scheduler from a training that starts its processes itself.

    A notebook on one machine is a task of its own, however many tasks the job around it has.
    """
    before = dict(os.environ)
    if _starts_its_processes(settings):
        for name in _LAUNCHER_VARIABLES:
            os.environ.pop(name, None)
    try:
        yield
    finally:
        for name in _LAUNCHER_VARIABLES:  # Lightning sets some
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in _LAUNCHER_VARIABLES if name in before})


def _starts_its_processes(settings: Settings) -> bool:
    """Tell whether one process trains or spawns the others; "ddp" and its like are scripts that are started again."""
    return settings.num_nodes == 1 and (
        settings.devices == 1 or settings.strategy == "auto" or "spawn" in settings.strategy
    )


@contextmanager
def input_errors(settings: Settings) -> Iterator[None]:
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
def quiet_lightning() -> Iterator[None]:
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
