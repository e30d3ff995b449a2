"""Build the records of a packed dataset: find duplicates and leaks, and split validation from train."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib import CLASSES
from lib.core.errors import InputError
from lib.data.source import ImageRecord

# Different ones of each class, in train and in test: one of five is the fewest to hold out for validation.
MIN_IMAGES = 5
EXCLUDED = "excluded"  # the split of images that are in both classes: none


def build_records(
    records: Sequence[ImageRecord], digests: Sequence[bytes], val_fraction: float, seed: int, test_fraction: float = 0.2
) -> pd.DataFrame:
    """Return a table with one row an image, in the order of `records`; equal `digests` mean identical pixels.

    Columns: `file` (as `lib.core.file_set.escaped` writes it); `split` (train, val or test; EXCLUDED for images whose
    pixels are in both classes, which have no true label); `label` (0 FAKE, 1 REAL);
    `object_class`; `duplicate_of`, the index of the first image with the same pixels (the image's own if there is none
    before it); `leaked`, true for a test image that is pixel-identical to one in the source's train folders.

    Of records without a split, `test_fraction` becomes the test split, stratified like the validation split, and
    without an image that is pixel-identical to one of train. Raises InputError for fewer than MIN_IMAGES different
    images of a class in train, or in test without those in train, and if `val_fraction` leaves a class no image for
    validation or for training.
    """
    table = pd.DataFrame(records, columns=ImageRecord._fields)
    first: dict[bytes, int] = {}
    table["duplicate_of"] = [first.setdefault(digest, index) for index, digest in enumerate(digests)]
    table.loc[table.groupby("duplicate_of")["label"].transform("nunique") > 1, "split"] = EXCLUDED
    unsplit = table["split"] == ""
    if unsplit.any():
        _check_before_split(table[unsplit])
        held_out = _held_out(table[unsplit], test_fraction, np.random.default_rng((seed, 1)))
        table.loc[unsplit, "split"] = "train"
        table.loc[held_out, "split"] = "test"
    # Train comes first in the order of the records, so the first duplicate of a leaked image is there.
    is_train = (table["split"] == "train").to_numpy()
    table["leaked"] = (table["split"] == "test") & is_train[table["duplicate_of"]]
    _check_minimum(table, ", or raise test_fraction" if unsplit.any() else "")
    table.loc[_held_out(table[is_train], val_fraction, np.random.default_rng(seed)), "split"] = "val"
    for split in ("train", "val"):
        for label, title in enumerate(CLASSES):
            if not ((table["split"] == split) & (table["label"] == label)).any():
                raise InputError(f"val_fraction {val_fraction} leaves no image of {title} in {split}: give another")
    return table[["file", "split", "label", "object_class", "duplicate_of", "leaked"]]


def _check_before_split(table: pd.DataFrame) -> None:
    for label, title in enumerate(CLASSES):
        if (n := table.loc[table["label"] == label, "duplicate_of"].nunique()) < 2 * MIN_IMAGES:
            raise InputError(
                f"{title} has {n} different images that are not in both classes: at least {MIN_IMAGES} to train on and "
                f"{MIN_IMAGES} to test on are needed, add some"
            )


def _check_minimum(table: pd.DataFrame, remedy: str) -> None:
    for split, where in (("train", ""), ("test", " that are not in train too")):
        for label, title in enumerate(CLASSES):
            images = table[(table["split"] == split) & (table["label"] == label) & ~table["leaked"]]
            if (n := images["duplicate_of"].nunique()) < MIN_IMAGES:
                raise InputError(
                    f"{split}/{title} has {n} different images{where}: "
                    f"at least {MIN_IMAGES} are needed, add some{remedy}"
                )


def _held_out(table: pd.DataFrame, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the images to hold out, stratified by class and object class, in whole groups of duplicates."""
    groups = table.groupby("duplicate_of").agg(
        label=("label", "first"), object_class=("object_class", "first"), size=("label", "size")
    )
    strata = {key: part.iloc[rng.permutation(len(part))] for key, part in groups.groupby(["label", "object_class"])}
    chosen = []
    for label in range(len(CLASSES)):
        own = [part["size"] for (of_label, _), part in strata.items() if of_label == label]
        counts = _apportion(np.array([sizes.sum() for sizes in own]), fraction, rng)
        fitting = [sizes.index[sizes.cumsum() <= count] for sizes, count in zip(own, counts, strict=True)]
        if counts.any() and not any(map(len, fitting)):  # every group that was drawn is larger than its count
            fitting = [pd.concat(own).nsmallest(1).index]
        chosen += fitting
    return table.index[table["duplicate_of"].isin(np.concatenate(chosen))].to_numpy()


def _apportion(sizes: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Divide `fraction` of all images among strata of `sizes` by the largest remainder, at random among equal ones."""
    quotas = (fraction * sizes).round(9)
    counts = np.floor(quotas).astype(int)
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(-(quotas - counts)[shuffled], kind="stable")]
    counts[order[: math.floor(quotas.sum() + 0.5) - counts.sum()]] += 1
    return counts
