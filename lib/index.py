"""The table of a pack: one row an image, its twins found, validation cut from train."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.errors import InputError
from lib.source import Member


def build_index(members: Sequence[Member], digests: Sequence[bytes], val_fraction: float, seed: int) -> pd.DataFrame:
    """Return the index of a pack, one row an image in the order of `members`.

    Columns: `file`; `split` (train, val or test); `label` (0 FAKE, 1 REAL); `object_class`; `twin`, the row of
    the first image with the same pixels (its own row when there is none before it); `in_train`, true for a test
    image that is pixel-identical to one in the source's train folders. `digests` identify the pixels.
    """
    index = pd.DataFrame(members, columns=Member._fields)
    rows: dict[bytes, int] = {}
    index["twin"] = [rows.setdefault(digest, row) for row, digest in enumerate(digests)]
    # Train comes first in the order of members, so an image seen in train has its first twin there.
    is_train = (index["split"] == "train").to_numpy()
    index["in_train"] = ~is_train & is_train[index["twin"]]
    val = _validation_rows(index[is_train], val_fraction, seed)
    if not len(val):
        raise InputError(f"val_fraction {val_fraction} leaves no validation image of {is_train.sum()}: raise it")
    index.loc[val, "split"] = "val"
    return index[["file", "split", "label", "object_class", "twin", "in_train"]]


def _validation_rows(train: pd.DataFrame, fraction: float, seed: int) -> np.ndarray:
    """Draw rows for validation: whole groups of twins, the same share of each class and object class."""
    groups = train.groupby("twin").agg(
        label=("label", "first"), object_class=("object_class", "first"), size=("label", "size")
    )
    rng = np.random.default_rng(seed)
    chosen = []
    for _, stratum in groups.groupby(["label", "object_class"]):
        shuffled = stratum.iloc[rng.permutation(len(stratum))]
        chosen.append(shuffled.index[shuffled["size"].cumsum() <= round(fraction * stratum["size"].sum())])
    return train.index[train["twin"].isin(np.concatenate(chosen))].to_numpy()
