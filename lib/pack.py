"""A packed data set: plain arrays and a table, which every run reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.errors import InputError
from lib.files import read_json


@dataclass(frozen=True)
class Pack:
    """Hold a packed data set.

    `images` is uint8, N×32×32×3 (RGB, 0–255), read from disk as it is used; row i of `index` describes image
    i (see `lib.index`). `facts` is what is known of the whole: `data` (the label that every result carries),
    `counts`, `checksums`, `mean` and `std` of the training images (0–255, three channels), and more.
    """

    images: np.ndarray
    index: pd.DataFrame
    facts: dict[str, Any]

    def rows(self, split: str) -> np.ndarray:
        """Return the row numbers of "train", "val" or "test", ascending."""
        return np.flatnonzero(self.index["split"] == split)

    def objects(self) -> tuple[np.ndarray, int]:
        """Return the object class of each image as a number (int64, from 0, by name), and how many there are."""
        categories = self.index["object_class"].astype("category").cat
        return categories.codes.to_numpy(np.int64), len(categories.categories)

    def identity(self) -> dict[str, Any]:
        """Return what decides which images are trained on and which are held out."""
        return {key: self.facts[key] for key in ("checksums", "val_fraction", "split_seed")}


def open_pack(folder: Path) -> Pack:
    """Open the pack in `folder` without reading its pixels; raise InputError when it is missing or damaged."""
    facts = read_json(folder / "pack.json")
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        index = pd.read_csv(folder / "index.csv", dtype={"object_class": "str"})
    except (OSError, ValueError) as error:
        raise InputError(f"the pack in {folder} is damaged ({error}): run 01_data again") from None
    if len(images) != len(index):
        raise InputError(f"the pack in {folder} has {len(images)} images and {len(index)} rows: run 01_data again")
    return Pack(images, index, facts)
