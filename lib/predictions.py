"""Predictions: the table that every figure is computed from, made by one pass of the network."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from lib import CLASSES
from lib.batches import Batches, tensors
from lib.device import choose_device
from lib.errors import InputError
from lib.files import whole_file
from lib.pack import Pack

LOGITS = [f"logit_{name}" for name in CLASSES]
COLUMNS = ["file", "split", "label", "object_class", "in_train", *LOGITS]


def predict(
    network: nn.Module, pack: Pack, splits: tuple[str, ...], accelerator: str = "auto", progress: bool = True
) -> pd.DataFrame:
    """Run the network once over the images of `splits` and return the table of predictions.

    Columns: those of the pack's index that say what an image is, and one float32 logit a class.
    """
    device = choose_device(accelerator)
    rows = np.concatenate([pack.rows(split) for split in splits])
    batches = Batches(*tensors(pack, rows, device), batch_size=500)
    network = network.to(device, memory_format=torch.channels_last).eval()
    with torch.inference_mode():
        logits = [network(images) for images, _ in tqdm(batches, "predict", unit=" batches", disable=not progress)]
    table = pack.index.iloc[rows].reset_index(drop=True)
    table[LOGITS] = torch.cat(logits).float().cpu().numpy()
    return table[COLUMNS]


def probability_fake(predictions: pd.DataFrame) -> np.ndarray:
    """Return the softmax probability of FAKE, float64 N in [0, 1]."""
    margin = predictions[LOGITS[0]].to_numpy(np.float64) - predictions[LOGITS[1]].to_numpy(np.float64)
    return 1 / (1 + np.exp(-margin))


def save_predictions(path: Path, predictions: pd.DataFrame) -> None:
    """Write the table as CSV; nine digits give every float32 back exactly."""
    with whole_file(path) as partial:
        predictions.to_csv(partial, index=False, float_format="%.9g")


def load_predictions(path: Path, facts: dict[str, Any]) -> pd.DataFrame:
    """Read a table of predictions and check that it can be of the pack with these `facts`.

    Raises InputError when the file is missing, lacks a column, holds a logit that is not finite, has no image of
    a class, or has another number of test images than the pack.
    """
    try:
        table = pd.read_csv(path, dtype={"object_class": "str"})
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run 04_evaluate first") from None
    if missing := [name for name in COLUMNS if name not in table]:
        raise InputError(f"{path} has no column {missing[0]!r}: run the notebook that writes it again")
    if not np.isfinite(table[LOGITS].to_numpy()).all():
        raise InputError(f"{path} holds logits that are not finite: the training diverged, lower learning_rate")
    test = table[table["split"] == "test"]
    expected = facts["counts"]["test/FAKE"] + facts["counts"]["test/REAL"]
    if len(test) != expected or test["label"].nunique() != len(CLASSES):
        raise InputError(f"{path} has {len(test)} test images, not the {expected} of the pack: run 04_evaluate again")
    return table
