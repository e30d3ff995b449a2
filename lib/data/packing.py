"""Pack a dataset once: decode, verify and split it, and write it as plain arrays that every run reads."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from lib import CLASSES
from lib.core.decode import IMAGE_SIZE, decode
from lib.core.errors import InputError
from lib.core.files import atomic_dir, write_json
from lib.data.dataset import PackedDataset, open_dataset
from lib.data.records import build_records
from lib.data.source import SPLITS, Source

FULL_COUNTS = {"train": 100_000, "test": 20_000}
# SHA-256 of all pixels of a split, N×32×32×3 uint8 in canonical order, as Pillow decodes them.
FULL_CHECKSUMS = {
    "train": "28ad711e2de7ed464ea5031379c8343dabf970beb548add1de47219a6d68ce37",
    "test": "29c54e6a8124c7a8a01ba6c26a92e112c6634fef2fc0c1a49441d9425b52b9a7",
}
_CHUNK = 2_000  # images decoded at a time: 6 MB of pixels
_INLINE = 10_000  # fewer images than this are decoded faster than worker processes start


def pack_dataset(
    source: Source,
    folder: Path,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    workers: int = 2,
    progress: bool = True,
) -> PackedDataset:
    """Decode and verify all of `source`, split validation from train, and write the packed dataset to `folder`.

    `folder` appears, or is replaced, at the end, and stays untouched on an error. Memory holds a few chunks of images,
    whatever the size of the data. Raises InputError for an image that cannot be used, too few images, an impossible
    `val_fraction` or `workers`, and a full disk.
    """
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction is {val_fraction}: give a fraction between 0 and 1, such as 0.1")
    if workers < 1:
        raise InputError(f"workers is {workers}: give the number of processes that decode the images, 1 or more")
    digests: list[bytes] = []
    converted: Counter[str] = Counter()
    checksums = {split: hashlib.sha256() for split in SPLITS}
    with atomic_dir(folder) as partial:
        with (partial / "images.npy").open("wb") as file:
            # Written in chunks, not through a memory map: a full disk must raise an error, not kill the process.
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(source.records), IMAGE_SIZE, IMAGE_SIZE, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            bar = tqdm(total=len(source.records), desc="packing", unit=" images", disable=not progress)
            decoded = Parallel(workers if len(source.records) > _INLINE else 1, return_as="generator")(
                delayed(decode)(chunk) for chunk in _contents(source)
            )
            for pixels, chunk_digests, modes in decoded:
                train = sum(record.split == "train" for record in source.records[len(digests) :][: len(pixels)])
                checksums["train"].update(pixels[:train].data)
                checksums["test"].update(pixels[train:].data)
                digests += chunk_digests
                converted += modes
                file.write(pixels.data)
                bar.update(len(pixels))
            bar.close()
        records = build_records(source.records, digests, val_fraction, split_seed)
        images = np.load(partial / "images.npy", mmap_mode="r")
        mean, std = channel_statistics(images, np.flatnonzero(records["split"] == "train"))
        del images  # Windows cannot rename a folder with an open memory map
        metadata = {
            **_identify(source, records, {split: h.hexdigest() for split, h in checksums.items()}),
            "converted": dict(converted),
            "ignored_files": source.ignored,
            "val_fraction": val_fraction,
            "split_seed": split_seed,
            "mean": mean,
            "std": std,
        }
        records.to_csv(partial / "records.csv", index=False)
        write_json(partial / "metadata.json", metadata)
    return open_dataset(folder)


def channel_statistics(images: np.ndarray, indices: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation (0–255) of each channel over the images at `indices`.

    Computed from histograms of integer counts, so that the result does not depend on the order of summation.
    """
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(indices), _CHUNK):
        pixels = images[indices[start : start + _CHUNK]]
        for channel in range(3):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    levels = np.arange(256)
    mean = (counts * levels).sum(1) / counts.sum(1)
    std = np.sqrt((counts * levels**2).sum(1) / counts.sum(1) - mean**2)
    return mean.round(4).tolist(), std.round(4).tolist()


def _contents(source: Source) -> Iterator[list[tuple[str, bytes]]]:
    for start in range(0, len(source.records), _CHUNK):
        yield [(record.file, source.read(record)) for record in source.records[start : start + _CHUNK]]


def _identify(source: Source, records: pd.DataFrame, checksums: dict[str, str]) -> dict[str, Any]:
    """Name the dataset (the name that every result carries), and count its images and their duplicates."""
    source_split = records["split"].replace("val", "train")
    folder = source_split + "/" + records["label"].map(dict(enumerate(CLASSES)))  # whatever the case of its own name
    first = records["duplicate_of"] == records.index
    counts = {f"{split}/{title}": int((folder == f"{split}/{title}").sum()) for split in SPLITS for title in CLASSES}
    full = all(sum(counts[f"{split}/{title}"] for title in CLASSES) == n for split, n in FULL_COUNTS.items())
    verified = checksums == FULL_CHECKSUMS
    if source.kind == "sample":
        data = "sample"
    elif verified:
        data = "CIFAKE"
    elif full:
        data = "CIFAKE (unverified: pixels differ from the published files)"
    else:
        data = f"partial CIFAKE ({len(records):,} of {sum(FULL_COUNTS.values()):,} images)"
    return {
        "data": data,
        "verified": verified,
        "source": source.kind,
        "location": source.location,
        "counts": counts,
        "distinct": {key: int(records.loc[folder == key, "duplicate_of"].nunique()) for key in counts},
        "duplicates_within": {key: int((~first & (folder == key) & ~records["leaked"]).sum()) for key in counts},
        "test_leaked": int(records["leaked"].sum()),
        "label_conflicts": int(records.groupby("duplicate_of")["label"].nunique().gt(1).sum()),
        "checksums": checksums,
    }
