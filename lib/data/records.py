"""Build the records of a packed dataset: find duplicates and leaks, and split validation from train."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.core.errors import InputError
from lib.data.source import ImageRecord


def build_records(
    records: Sequence[ImageRecord], digests: Sequence[bytes], val_fraction: float, seed: int
) -> pd.DataFrame:
    """Return a table with one row an image, in the order of `records`; equal `digests` mean identical pixels.

    Columns: `file`; `split` (train, val or test); `label` (0 FAKE, 1 REAL); `object_class`; `duplicate_of`, the index
    of the first image with the same pixels (the image's own if there is none before it); `leaked`, true for a test
    image that is pixel-identical to one in the source's train folders. Raises InputError if `val_fraction` leaves no
    validation image.
    """
    table = pd.DataFrame(records, columns=ImageRecord._fields)
    first: dict[bytes, int] = {}
    table["duplicate_of"] = [first.setdefault(digest, index) for index, digest in enumerate(digests)]
    # Train comes first in the order of the records, so the first duplicate of a leaked image is there.
    is_train = (table["split"] == "train").to_numpy()
    table["leaked"] = ~is_train & is_train[table["duplicate_of"]]
    val = _validation_indices(table[is_train], val_fraction, seed)
    if not len(val):
        raise InputError(f"val_fraction {val_fraction} leaves none of {is_train.sum()} images for validation: raise it")
    table.loc[val, "split"] = "val"
    return table[["file", "split", "label", "object_class", "duplicate_of", "leaked"]]


def _validation_indices(train: pd.DataFrame, fraction: float, seed: int) -> np.ndarray:
    """Draw images for validation, stratified by class and object class, in whole groups of duplicates."""
    groups = train.groupby("duplicate_of").agg(
        label=("label", "first"), object_class=("object_class", "first"), size=("label", "size")
    )
    rng = np.random.default_rng(seed)
    chosen = []
    for _, stratum in groups.groupby(["label", "object_class"]):
        shuffled = stratum.iloc[rng.permutation(len(stratum))]
        chosen.append(shuffled.index[shuffled["size"].cumsum() <= round(fraction * stratum["size"].sum())])
    return train.index[train["duplicate_of"].isin(np.concatenate(chosen))].to_numpy()
