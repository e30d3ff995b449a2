"""Train one network: from a packed dataset to weights, a history and a run.json. Interrupted runs resume."""

import hashlib
import json
import warnings
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.core.files import read_json, remove_file, write_json
from lib.core.input_rule import IMAGE_SIZE
from lib.core.provenance import lib_hash
from lib.core.run_dir import prepare_run_dir
from lib.data.dataset import PackedDataset
from lib.models.device import choose_device, set_threads
from lib.models.networks import Network, build_network, count_macs, count_parameters
from lib.models.weights import load_weights, save_weights
from lib.training.checkpoints import Checkpoints, checkpoint_to_resume, load_checkpoints
from lib.training.data_module import PackedDataModule
from lib.training.detector import Detector
from lib.training.distillation import Teacher
from lib.training.history import History, OnEpoch, write_history
from lib.training.run_record import run_record
from lib.training.settings import Settings
from lib.training.trainer import ProcessSetup, input_errors, make_trainer, own_processes, quiet_lightning
from lib.training.wandb_logger import wandb_logger

_RECORD, _WEIGHTS, _HISTORY = "run.json", "weights.safetensors", "history.csv"


def train(
    dataset: PackedDataset,
    settings: Settings,
    folder: Path,
    wandb: str = "disabled",
    progress: bool = True,
    init_state_dict: dict[str, Tensor] | None = None,
    teacher: Teacher | None = None,
    on_epoch: OnEpoch | None = None,
) -> Network:
    """Train on a packed dataset and return the network of the epoch with the best validation accuracy.

    Writes to `folder`: `history.csv` (a row an epoch), `weights.safetensors`, `run.json`, and `checkpoints/`, from
    which an interrupted run resumes. A run with the same settings, data and code is resumed, or reused if finished, on
    whichever machine it was trained; any other is removed, and trained from scratch. Damaged files are dropped with a
    warning, and do not change the result. `wandb` is as in lib.core.wandb_mode. `init_state_dict` holds initial weights
    by their names in the network; all others are initialised at random. A `teacher` distils its predictions into the
    network. `on_epoch` is called after each epoch with the history so far.
    Raises InputError if the loss is no longer finite or the device runs out of memory.
    """
    device = choose_device(settings.accelerator)
    threads = set_threads(settings.threads, settings.devices)
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
    if finished := _finished(folder, fingerprint):
        return finished

    logger = wandb_logger(wandb, settings, folder)
    checkpoints = folder / "checkpoints"
    if not prepare_run_dir(checkpoints, fingerprint):
        for name in (_RECORD, _WEIGHTS, _HISTORY):  # of another run
            remove_file(folder / name)
    callbacks = [
        History(folder / _HISTORY, settings.epochs, progress, on_epoch), Checkpoints(checkpoints),
        data.sampler, ProcessSetup(threads),
    ]  # fmt: skip
    resumed = checkpoint_to_resume(checkpoints)
    with input_errors(settings), quiet_lightning(), own_processes(settings):
        trainer = make_trainer(settings, device, callbacks, logger, folder)
        trainer.fit(detector, data, ckpt_path=resumed, weights_only=True)

    best, last = load_checkpoints(checkpoints)
    detector.load_state_dict(best["state_dict"])
    save_weights(folder / _WEIGHTS, network, model_config)
    history = write_history(folder / _HISTORY, last["callbacks"][History.__name__]["rows"])
    metrics = history.iloc[best["epoch"]]
    record = run_record(
        asdict(settings), dataset.metadata, code,
        device=device.type, train_seconds=float(history["seconds"].sum()), **size, best_epoch=int(best["epoch"]) + 1,
        val_acc=float(metrics["val/acc"]), val_loss=float(metrics["val/loss"]), fingerprint=_digest_json(fingerprint),
        files={name: _digest_file(folder / name) for name in (_WEIGHTS, _HISTORY)},
    )  # fmt: skip
    write_json(folder / _RECORD, record)  # last: it marks the run as finished
    return network.eval()


def _finished(folder: Path, fingerprint: dict[str, Any]) -> Network | None:
    """Return the network of a finished run with this fingerprint, or None.

    Damaged files of such a run give a warning: they are written again, from the checkpoints if these are whole.
    """
    if not (folder / _RECORD).is_file():
        return None
    damaged = [_RECORD]
    with suppress(InputError):
        record = read_json(folder / _RECORD)
        if not isinstance(record, dict) or record.get("fingerprint") != _digest_json(fingerprint):
            return None
        damaged = [name for name, digest in record["files"].items() if _digest_file(folder / name) != digest]
        if not damaged:
            return load_weights(folder / _WEIGHTS)
    warnings.warn(f"damaged or missing in {folder}: {', '.join(damaged)}; the run is completed again", stacklevel=3)
    return None


def _digest_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, or "" if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _model_config(dataset: PackedDataset, settings: Settings) -> dict[str, Any]:
    """Return the arguments of `build_network` that are saved with the weights."""
    num_object_classes = dataset.object_classes()[1] if settings.aux_loss_weight else 0
    if num_object_classes == 1:
        warnings.warn("aux_loss_weight has no effect: the images have no object classes", stacklevel=3)
        num_object_classes = 0
    # The files of networks for CIFAKE's size, the default, say nothing of it.
    size = {} if dataset.image_size == IMAGE_SIZE else {"image_size": dataset.image_size}
    return {
        "name": settings.network, "mean": dataset.metadata["mean"], "std": dataset.metadata["std"],
        "hflip_tta": settings.hflip_tta, "num_object_classes": num_object_classes, **size,
    }  # fmt: skip


def _load_initial(network: Network, state_dict: dict[str, Tensor], name: str) -> None:
    if unknown := network.load_state_dict(state_dict, strict=False).unexpected_keys:
        raise InputError(f"{name} has no weights {unknown[0]!r}: give an init_state_dict of the same network")


def _digest(state_dict: dict[str, Tensor]) -> str:
    return hashlib.sha256(b"".join(state_dict[key].numpy().tobytes() for key in sorted(state_dict))).hexdigest()
