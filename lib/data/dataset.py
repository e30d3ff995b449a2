"""Open a packed dataset: plain arrays and a table, which every run reads."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.files import read_json
from lib.core.input_rule import rule_of
from lib.core.rows import ImageRows

BALANCED = 0.55  # share of the larger class up to which accuracy is a fair summary


@dataclass(frozen=True)
class PackedDataset:
    """Hold a packed dataset.

    `packed` is uint8, N×P×P×3 (RGB, 0–255), memory-mapped, with P the size S of the images, or more where training
    crops them at random; row i of `records` describes image i (see `lib.data.records`). `metadata` describes the
    dataset as a whole: `data` (its name, which every result carries), `counts`, `checksums`, `mean` and `std` of the
    training images (0–255, three channels), and more.
    """

    packed: np.ndarray
    records: pd.DataFrame
    metadata: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map would be pickled with all of its pixels, for each process of a training on several devices.
        if not isinstance(self.packed, np.memmap) or isinstance(self.packed.base, np.memmap):
            return PackedDataset, (self.packed, self.records, self.metadata)
        return _with_pixels_of, (self.packed.filename, self.records, self.metadata)

    @property
    def image_size(self) -> int:
        """Return the size S of the network's input."""
        return self.metadata["image_size"]

    @property
    def margin(self) -> int:
        """Return by how many pixels a random crop may move in each direction."""
        return (self.packed.shape[1] - self.image_size) // 2

    @property
    def images(self) -> np.ndarray:
        """Return the images as every step but training takes them, N×S×S×3: a view of the centres."""
        inner = slice(self.margin, self.margin + self.image_size)
        return self.packed[:, inner, inner]

    @property
    def input_rule(self) -> int:
        """Return the version of the rule from an image to the network's input (lib.core.input_rule)."""
        return rule_of(self.metadata["resize"])

    def rows(self, split: str, channels_first: bool = False) -> ImageRows:
        """Return the images of a split, which are read as they are needed."""
        return ImageRows(self.images, self.indices(split), channels_first)

    def is_balanced(self, indices: np.ndarray) -> bool:
        """Return whether both classes have about as many of the images at `indices`."""
        real = self.records["label"].to_numpy()[indices].mean()
        return max(real, 1 - real) <= BALANCED

    def indices(self, split: str) -> np.ndarray:
        """Return the indices (int64, ascending) of the images of a split: "train", "val" or "test"."""
        return np.flatnonzero(self.records["split"] == split)

    def balance(self) -> str:
        """Describe how the images are divided among the classes, and the accuracy of the majority class."""
        is_test, is_train = self.records["split"] == "test", self.records["split"].isin(("train", "val"))
        test, train = (self.records.loc[rows, "label"].value_counts() for rows in (is_test, is_train))
        if test[0] == test[1]:
            strata = self.records[is_test].groupby(["label", "object_class"]).size()
            inner = ", and so have the object classes within them" if strata.nunique() == 1 else ""
            text = f"Both classes have the same number of test images{inner}: accuracy is a fair summary, and chance "
            text += "level is 50 %."
        else:
            text = f"Of the test images {test[0]:,} are {CLASSES[0]} and {test[1]:,} {CLASSES[1]}. To predict always "
            text += f"{CLASSES[test.idxmax()]}, the majority class, has an accuracy of "
            text += f"{100 * test.max() / test.sum():.2f} %, which is the baseline. "
            text += "Balanced accuracy, the mean of both recalls, has a baseline of 50 %."
        if train[0] != train[1]:
            text += f" Of those for training and validation {train[0]:,} are {CLASSES[0]}, {train[1]:,} {CLASSES[1]}."
        return text

    def object_classes(self) -> tuple[np.ndarray, int]:
        """Return the object class of each image (int64, numbered in alphabetical order) and the number of classes."""
        categories = self.records["object_class"].astype("category").cat
        return categories.codes.to_numpy(np.int64), len(categories.categories)

    def fingerprint(self) -> dict[str, Any]:
        """Return the metadata that determine which images are in train and which are held out."""
        return {key: self.metadata[key] for key in ("checksums", "val_fraction", "split_seed")}


def _with_pixels_of(file: Path, records: pd.DataFrame, metadata: dict[str, Any]) -> PackedDataset:
    return PackedDataset(np.load(file, mmap_mode="r"), records, metadata)


def sample_size(parameter: str, wanted: int, available: int) -> int:
    """Return how many of `available` images to take: the value `wanted` of a parameter, or all of them (for 0).

    Where the parameter asks for more images than there are, takes all of them, and warns.
    """
    if wanted > available:
        warnings.warn(f"{parameter} is {wanted:,}, but there are {available:,} images: all are used", stacklevel=2)
    return min(wanted or available, available)


def open_dataset(folder: Path) -> PackedDataset:
    """Open the packed dataset in `folder`, without reading its pixels; raise InputError if it is missing or damaged."""
    metadata = read_json(folder / "metadata.json")
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        records = pd.read_csv(folder / "records.csv", dtype={"object_class": "str"})
    except (OSError, ValueError) as error:
        raise InputError(f"the packed dataset in {folder} is damaged ({error}): run 01_data again") from None
    if "image_size" not in metadata:
        raise InputError(f"the packed dataset in {folder} is of an older version: run 01_data again")
    if len(images) != len(records):
        raise InputError(
            f"the packed dataset in {folder} has {len(images)} images but {len(records)} records: run 01_data again"
        )
    return PackedDataset(images, records, metadata)
