"""Predictions: the network's logits for every image, the one table that all metrics are computed from."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.files import atomic_file, read_json, write_json
from lib.core.rows import ImageRows, equal_pixels
from lib.data.batches import Batches, load_tensors
from lib.data.dataset import PackedDataset
from lib.models.device import choose_device
from lib.models.networks import Network

LOGITS = [f"logit_{name}" for name in CLASSES]
TTA_LOGITS = {tta: [f"{tta}_{name}" for name in CLASSES] for tta in ("without_tta", "with_tta")}
_BATCH_SIZE = 200  # images of 32×32
IMAGE_COLUMNS = ["file", "split", "label", "object_class", "leaked"]


class Outputs(NamedTuple):
    """Outputs of a network for N images: float32 arrays, one row an image.

    `logits` are N×2. `features` (N×F) are the inputs of the last layer for the image without flip TTA; those of
    ensemble members are concatenated.
    """

    logits: np.ndarray
    features: np.ndarray


def run_network(
    network: Network, images: torch.Tensor | ImageRows, progress: bool = True, device: torch.device | str = "cpu"
) -> Outputs:
    """Run the network once over `images` (uint8 N×S×S×3), on the device on which they lie.

    Images that stay in their file (ImageRows) are read batch by batch, onto `device`.
    """
    device = device if isinstance(images, ImageRows) else images.device
    network = network.to(device, memory_format=torch.channels_last).eval()
    captured: list[torch.Tensor] = []

    def capture(head: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        captured.append(inputs[0].flatten(1))

    logits: list[torch.Tensor] = []
    features: list[torch.Tensor] = []
    hook = network.backbone[-1].register_forward_hook(capture)
    try:
        with torch.inference_mode():
            size = equal_pixels(_BATCH_SIZE, images[0].shape[0])
            batches = Batches(images, torch.zeros(len(images), device=device), batch_size=size)
            for batch, _ in tqdm(batches, "predict", unit=" batches", disable=not progress):
                captured.clear()
                logits.append(network(batch))
                features.append(captured[0])  # the second one, if any, is of the flipped images
    finally:
        hook.remove()
    return Outputs(*(torch.cat(parts).float().cpu().numpy() for parts in (logits, features)))


def predict(
    network: Network,
    dataset: PackedDataset,
    splits: tuple[str, ...],
    accelerator: str = "auto",
    progress: bool = True,
    tta: bool = False,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Run the network over the images of `splits`; return the table of predictions, and the images' features.

    Columns of the table: IMAGE_COLUMNS of the dataset's records, and LOGITS; with `tta` also TTA_LOGITS, the logits
    without and with flip TTA (LOGITS are those that the network is configured for). The features are float32 N×F, as
    in Outputs.
    """
    indices = np.concatenate([dataset.indices(split) for split in splits])
    device = choose_device(accelerator)
    images, _ = load_tensors(dataset, indices, device)
    outputs = run_network(network, images, progress, device)
    table = dataset.records.iloc[indices][IMAGE_COLUMNS].reset_index(drop=True)
    table[LOGITS] = outputs.logits
    if tta:
        other = run_network(network.with_hflip_tta(not network.hflip_tta), images, progress, device).logits
        both = (other, outputs.logits) if network.hflip_tta else (outputs.logits, other)
        for columns, logits in zip(TTA_LOGITS.values(), both, strict=True):
            table[columns] = logits
    return table, outputs.features


def probability_fake(predictions: pd.DataFrame) -> np.ndarray:
    """Return the softmax probability of FAKE, float64 N in [0, 1]."""
    margin = predictions[LOGITS[0]].to_numpy(np.float64) - predictions[LOGITS[1]].to_numpy(np.float64)
    return 1 / (1 + np.exp(-margin))


def predicted_labels(predictions: pd.DataFrame) -> np.ndarray:
    """Return the more probable class of each image (int N)."""
    return (probability_fake(predictions) <= 0.5).astype(int)


def is_correct(predictions: pd.DataFrame) -> np.ndarray:
    """Return for each image whether the more probable class is its label (bool N)."""
    return predicted_labels(predictions) == predictions["label"].to_numpy()


def save_predictions(path: Path, predictions: pd.DataFrame, dataset: PackedDataset, weights: Path) -> None:
    """Write the table as CSV, and beside it, as JSON, the fingerprint of its data and weights.

    Nine digits restore every float32 exactly.
    """
    label = path.with_suffix(".json")
    label.unlink(missing_ok=True)  # a table without its label is refused; one with a wrong label would not be
    with atomic_file(path) as partial:
        predictions.to_csv(partial, index=False, float_format="%.9g")
    write_json(label, _fingerprint(dataset, weights))


def load_predictions(path: Path, dataset: PackedDataset, weights: Path) -> pd.DataFrame:
    """Read a table of predictions and check that it belongs to this dataset and these weights.

    Raises InputError when the file is missing, lacks a column, holds a logit that is not finite, is of other data or
    weights, has no image of a split or a class, or has another number of images in a split than the dataset.
    """
    try:
        table = pd.read_csv(path, dtype={"object_class": "str"})
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run 04_evaluate first") from None
    if missing := [name for name in (*IMAGE_COLUMNS, *LOGITS) if name not in table]:
        raise InputError(f"{path} has no column {missing[0]!r}: run the notebook that writes it again")
    if not np.isfinite(table[LOGITS].to_numpy()).all():
        raise InputError(f"{path} holds logits that are not finite: the training diverged, lower lr and muon_lr")
    label = read_json(path.with_suffix(".json"))
    for key, value in _fingerprint(dataset, weights).items():
        if label.get(key) != value:
            what = f"the weights {weights}" if key == "weights" else f"this dataset (other {key})"
            raise InputError(f"{path} is not of {what}: run the notebook that writes it again")
    for split in ("val", "test"):
        part, expected = table[table["split"] == split], len(dataset.indices(split))
        if len(part) != expected or part["label"].nunique() != len(CLASSES):
            raise InputError(
                f"{path} has {len(part)} {split} images of {part['label'].nunique()} classes, "
                f"not the {expected} of {len(CLASSES)} in the dataset: run 04_evaluate again"
            )
    return table


def _fingerprint(dataset: PackedDataset, weights: Path) -> dict[str, Any]:
    return {**dataset.fingerprint(), "weights": hashlib.sha256(weights.read_bytes()).hexdigest()}
