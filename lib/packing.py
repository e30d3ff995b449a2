"""Pack a data set once: decoded, verified, split, and written as plain arrays that every run reads."""

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
from lib.decode import SIDE, decode
from lib.errors import InputError
from lib.files import whole_folder, write_json
from lib.index import build_index
from lib.pack import Pack, open_pack
from lib.source import SPLITS, Source

FULL_COUNTS = {"train": 100_000, "test": 20_000}
# SHA-256 of all pixels of a split, N×32×32×3 uint8 in canonical order, as Pillow decodes them.
FULL_CHECKSUMS = {
    "train": "28ad711e2de7ed464ea5031379c8343dabf970beb548add1de47219a6d68ce37",
    "test": "29c54e6a8124c7a8a01ba6c26a92e112c6634fef2fc0c1a49441d9425b52b9a7",
}
_CHUNK = 2_000  # images decoded at a time: 6 MB of pixels
_INLINE = 10_000  # fewer images than this are decoded faster than processes start


def build_pack(
    source: Source,
    folder: Path,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    workers: int = 2,
    progress: bool = True,
) -> Pack:
    """Decode and verify all of `source`, cut validation from train, and write the pack to `folder`.

    `folder` appears, or is replaced, when all is done, and stays untouched when anything fails. Memory stays at
    a few chunks of images, whatever the size of the data. Raises InputError for an image that cannot be used
    and for a disk that is full.
    """
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction is {val_fraction}: give a share between 0 and 1, such as 0.1")
    digests: list[bytes] = []
    converted: Counter[str] = Counter()
    checksums = {split: hashlib.sha256() for split in SPLITS}
    with whole_folder(folder) as partial:
        with (partial / "images.npy").open("wb") as file:
            # Written chunk by chunk, not through a memory map: a full disk must raise, not kill the process.
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(source.members), SIDE, SIDE, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            bar = tqdm(total=len(source.members), desc="pack", unit=" images", disable=not progress)
            decoded = Parallel(workers if len(source.members) > _INLINE else 1, return_as="generator")(
                delayed(decode)(chunk) for chunk in _contents(source)
            )
            for pixels, chunk_digests, modes in decoded:
                train = sum(member.split == "train" for member in source.members[len(digests) :][: len(pixels)])
                checksums["train"].update(pixels[:train].data)
                checksums["test"].update(pixels[train:].data)
                digests += chunk_digests
                converted += modes
                file.write(pixels.data)
                bar.update(len(pixels))
            bar.close()
        index = build_index(source.members, digests, val_fraction, split_seed)
        images = np.load(partial / "images.npy", mmap_mode="r")
        mean, std = channel_statistics(images, np.flatnonzero(index["split"] == "train"))
        del images  # an open map would keep Windows from renaming the folder
        facts = {
            **_identify(source, index, {split: h.hexdigest() for split, h in checksums.items()}),
            "converted": dict(converted),
            "ignored_files": source.ignored,
            "val_fraction": val_fraction,
            "split_seed": split_seed,
            "mean": mean,
            "std": std,
        }
        index.to_csv(partial / "index.csv", index=False)
        write_json(partial / "pack.json", facts)
    return open_pack(folder)


def channel_statistics(images: np.ndarray, rows: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation (0–255) of each channel over the images in `rows`.

    They come from histograms, whose counts are whole numbers: the result does not depend on the order of the work.
    """
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(rows), _CHUNK):
        pixels = images[rows[start : start + _CHUNK]]
        for channel in range(3):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    levels = np.arange(256)
    mean = (counts * levels).sum(1) / counts.sum(1)
    std = np.sqrt((counts * levels**2).sum(1) / counts.sum(1) - mean**2)
    return mean.round(4).tolist(), std.round(4).tolist()


def _contents(source: Source) -> Iterator[list[tuple[str, bytes]]]:
    for start in range(0, len(source.members), _CHUNK):
        yield [(member.file, source.read(member)) for member in source.members[start : start + _CHUNK]]


def _identify(source: Source, index: pd.DataFrame, checksums: dict[str, str]) -> dict[str, Any]:
    """Name the data set, which every result carries, and count its images and their duplicates."""
    folder = index["file"].str.rpartition("/")[0]
    first = index["twin"] == index.index
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
        data = f"partial CIFAKE ({len(index):,} of {sum(FULL_COUNTS.values()):,} images)"
    return {
        "data": data,
        "verified": verified,
        "source": source.kind,
        "location": source.location,
        "counts": counts,
        "distinct": {key: int(index.loc[folder == key, "twin"].nunique()) for key in counts},
        "twins_inside": {key: int((~first & (folder == key) & ~index["in_train"]).sum()) for key in counts},
        "test_in_train": int(index["in_train"].sum()),
        "in_both_classes": int(index.groupby("twin")["label"].nunique().gt(1).sum()),
        "checksums": checksums,
    }
