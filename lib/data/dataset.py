"""Open a packed dataset: plain arrays and a table, which every run reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.core.errors import InputError
from lib.core.files import read_json


@dataclass(frozen=True)
class PackedDataset:
    """Hold a packed dataset.

    `images` is uint8, N×32×32×3 (RGB, 0–255), memory-mapped; row i of `records` describes image i (see
    `lib.data.records`). `metadata` describes the dataset as a whole: `data` (its name, which every result carries),
    `counts`, `checksums`, `mean` and `std` of the training images (0–255, three channels), and more.
    """

    images: np.ndarray
    records: pd.DataFrame
    metadata: dict[str, Any]

    def indices(self, split: str) -> np.ndarray:
        """Return the indices (int64, ascending) of the images of a split: "train", "val" or "test"."""
        return np.flatnonzero(self.records["split"] == split)

    def object_classes(self) -> tuple[np.ndarray, int]:
        """Return the object class of each image (int64, numbered in alphabetical order) and the number of classes."""
        categories = self.records["object_class"].astype("category").cat
        return categories.codes.to_numpy(np.int64), len(categories.categories)

    def fingerprint(self) -> dict[str, Any]:
        """Return the metadata that determine which images are in train and which are held out."""
        return {key: self.metadata[key] for key in ("checksums", "val_fraction", "split_seed")}


def open_dataset(folder: Path) -> PackedDataset:
    """Open the packed dataset in `folder`, without reading its pixels; raise InputError if it is missing or damaged."""
    metadata = read_json(folder / "metadata.json")
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        records = pd.read_csv(folder / "records.csv", dtype={"object_class": "str"})
    except (OSError, ValueError) as error:
        raise InputError(f"the packed dataset in {folder} is damaged ({error}): run 01_data again") from None
    if len(images) != len(records):
        raise InputError(
            f"the packed dataset in {folder} has {len(images)} images but {len(records)} records: run 01_data again"
        )
    return PackedDataset(images, records, metadata)
