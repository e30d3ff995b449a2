"""Predictions: what the network says of every image, the one table that every figure is computed from."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lib import CLASSES
from lib.batches import Batches, tensors
from lib.device import choose_device
from lib.errors import InputError
from lib.files import read_json, whole_file, write_json
from lib.networks import Network
from lib.pack import Pack

LOGITS = [f"logit_{name}" for name in CLASSES]
VIEWS = {views: [f"{views}_{name}" for name in CLASSES] for views in ("one_view", "two_views")}
IMAGE = ["file", "split", "label", "object_class", "in_train"]


class Outputs(NamedTuple):
    """What a network says of N images: float32 arrays, one row an image.

    `logits` (N×2) are its answer, `features` (N×F) what its last layer reads, of the image as it is (one column's after
    the other's).
    """

    logits: np.ndarray
    features: np.ndarray


def run_network(network: Network, images: torch.Tensor, progress: bool = True) -> Outputs:
    """Run the network once over `images` (uint8 N×32×32×3), on the device on which they lie."""
    network = network.to(images.device, memory_format=torch.channels_last).eval()
    heard: list[torch.Tensor] = []

    def listen(head: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        heard.append(inputs[0].flatten(1))

    logits: list[torch.Tensor] = []
    features: list[torch.Tensor] = []
    hook = network.body[-1].register_forward_hook(listen)
    try:
        with torch.inference_mode():
            batches = Batches(images, torch.zeros(len(images)), batch_size=200)
            for batch, _ in tqdm(batches, "predict", unit=" batches", disable=not progress):
                heard.clear()
                logits.append(network(batch))
                features.append(heard[0])  # a second one is the mirrored view's
    finally:
        hook.remove()
    return Outputs(*(torch.cat(parts).float().cpu().numpy() for parts in (logits, features)))


def predict(
    network: Network,
    pack: Pack,
    splits: tuple[str, ...],
    accelerator: str = "auto",
    progress: bool = True,
    views: bool = False,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Run the network over the images of `splits`; return the table of predictions, and their features.

    Columns of the table: those of the pack's index that say what an image is (IMAGE), and the logits; with `views` also
    those of VIEWS, what it says of an image alone, and of it and its mirror image: one of them is its answer.
    The features are float32 N×F, as in Outputs.
    """
    rows = np.concatenate([pack.rows(split) for split in splits])
    images, _ = tensors(pack, rows, choose_device(accelerator))
    outputs = run_network(network, images, progress)
    table = pack.index.iloc[rows][IMAGE].reset_index(drop=True)
    table[LOGITS] = outputs.logits
    if views:
        other = run_network(network.with_mirror(not network.mirror), images, progress).logits
        both = (other, outputs.logits) if network.mirror else (outputs.logits, other)
        for columns, logits in zip(VIEWS.values(), both, strict=True):
            table[columns] = logits
    return table, outputs.features


def probability_fake(predictions: pd.DataFrame) -> np.ndarray:
    """Return the softmax probability of FAKE, float64 N in [0, 1]."""
    margin = predictions[LOGITS[0]].to_numpy(np.float64) - predictions[LOGITS[1]].to_numpy(np.float64)
    return 1 / (1 + np.exp(-margin))


def is_right(predictions: pd.DataFrame) -> np.ndarray:
    """Tell for each image whether the likelier class is its label (bool N)."""
    return (probability_fake(predictions) <= 0.5) == predictions["label"].to_numpy(bool)


def save_predictions(path: Path, predictions: pd.DataFrame, pack: Pack, weights: Path) -> None:
    """Write the table as CSV, and beside it, as JSON, of which data and weights it is.

    Nine digits give every float32 back exactly.
    """
    label = path.with_suffix(".json")
    label.unlink(missing_ok=True)  # a table without its label is refused; one with a wrong label would not be
    with whole_file(path) as partial:
        predictions.to_csv(partial, index=False, float_format="%.9g")
    write_json(label, _identity(pack, weights))


def load_predictions(path: Path, pack: Pack, weights: Path) -> pd.DataFrame:
    """Read a table of predictions and check that it is of this pack and these weights.

    Raises InputError when the file is missing, lacks a column, holds a logit that is not finite, is of other data or
    weights, has no image of a split or a class, or has another number of test images than the pack.
    """
    try:
        table = pd.read_csv(path, dtype={"object_class": "str"})
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run 04_evaluate first") from None
    if missing := [name for name in (*IMAGE, *LOGITS) if name not in table]:
        raise InputError(f"{path} has no column {missing[0]!r}: run the notebook that writes it again")
    if not np.isfinite(table[LOGITS].to_numpy()).all():
        raise InputError(f"{path} holds logits that are not finite: the training diverged, lower learning_rate")
    label = read_json(path.with_suffix(".json"))
    for key, value in _identity(pack, weights).items():
        if label.get(key) != value:
            what = f"the weights {weights}" if key == "weights" else f"this pack (its {key} differs)"
            raise InputError(f"{path} is not of {what}: run the notebook that writes it again")
    for split in ("val", "test"):
        part, expected = table[table["split"] == split], len(pack.rows(split))
        if len(part) != expected or part["label"].nunique() != len(CLASSES):
            raise InputError(
                f"{path} has {len(part)} {split} images of {part['label'].nunique()} classes, "
                f"not the {expected} of {len(CLASSES)} in the pack: run 04_evaluate again"
            )
    return table


def _identity(pack: Pack, weights: Path) -> dict[str, Any]:
    return {**pack.identity(), "weights": hashlib.sha256(weights.read_bytes()).hexdigest()}
