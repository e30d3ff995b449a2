"""Pack a dataset once: decode, verify and split it, and write it as plain arrays that every run reads."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from lib import CLASSES
from lib.core.decode import decode
from lib.core.errors import InputError
from lib.core.files import atomic_dir, write_json
from lib.core.input_rule import IMAGE_SIZE, InputRule, check_size, rule_of
from lib.core.labelled import SPLITS
from lib.core.rows import equal_pixels
from lib.data.dataset import PackedDataset, open_dataset
from lib.data.records import EXCLUDED, build_records
from lib.data.source import Source

FULL_COUNTS = {"train": 100_000, "test": 20_000}
# SHA-256 of all pixels of a split, N×32×32×3 uint8 in canonical order, as Pillow decodes them.
FULL_CHECKSUMS = {
    "train": "28ad711e2de7ed464ea5031379c8343dabf970beb548add1de47219a6d68ce37",
    "test": "29c54e6a8124c7a8a01ba6c26a92e112c6634fef2fc0c1a49441d9425b52b9a7",
}
_CHUNK = 2_000  # images of 32×32 decoded at a time: 6 MB of pixels
_CHUNK_BYTES = 2**25  # of the files decoded at a time, but for one larger file
_MARGIN = 8  # a random crop has the image's size / 8 to move in each direction
_INLINE = 10_000  # fewer images than this are decoded faster than worker processes start


def pack_dataset(
    source: Source,
    folder: Path,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    workers: int = 2,
    progress: bool = True,
    image_size: int = IMAGE_SIZE,
    resize: str = "resize",
    test_fraction: float = 0.2,
) -> PackedDataset:
    """Decode and verify all of `source`, split validation from train, and write the packed dataset to `folder`.

    Images of another size than `image_size` are made to fit by `resize`, one of RESIZE_MODES (lib.core.input_rule):
    with "random_crop" squares are packed that are an eighth of `image_size` wider on each side. A source without a
    split gets one, with `test_fraction` of the images in test. `folder` appears, or is replaced, at the end, and stays
    untouched on an error. Memory holds a few chunks of images, whatever the size of the data. Warns of images in both
    classes. Raises InputError for an image that cannot be used, too few images, an impossible parameter, and a full
    disk.
    """
    check_size(image_size, resize)
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 < fraction < 1:
            raise InputError(f"{name} is {fraction}: give a fraction between 0 and 1, such as 0.1")
    if workers < 1:
        raise InputError(f"workers is {workers}: give the number of processes that decode the images, 1 or more")
    margin = image_size // _MARGIN if resize == "random_crop" else 0
    rule = InputRule(image_size + 2 * margin, rule_of(resize))
    digests: list[bytes] = []
    converted: Counter[str] = Counter()
    other_sizes = 0
    with atomic_dir(folder) as partial:
        with (partial / "images.npy").open("wb") as file:
            # Written in chunks, not through a memory map: a full disk must raise an error, not kill the process.
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(source.records), rule.size, rule.size, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            bar = tqdm(total=len(source.records), desc="packing", unit=" images", disable=not progress)
            decoded = Parallel(workers if len(source.records) > _INLINE else 1, return_as="generator")(
                delayed(decode)(chunk, rule) for chunk in _contents(source, rule.size)
            )
            for chunk in decoded:
                digests += chunk.digests
                converted += chunk.converted
                other_sizes += chunk.other_sizes
                file.write(chunk.pixels.data)
                bar.update(len(chunk.pixels))
            bar.close()
        records = build_records(source.records, digests, val_fraction, split_seed, test_fraction)
        images = np.load(partial / "images.npy", mmap_mode="r")
        mean, std = channel_statistics(images, np.flatnonzero(records["split"] == "train"))
        source_split = records["split"].replace("val", "train")
        checksums = {split: _checksum(images, np.flatnonzero(source_split == split)) for split in SPLITS}
        del images  # Windows cannot rename a folder with an open memory map
        metadata = {
            **_identify(source, records, checksums),
            "image_size": image_size,
            "resize": resize,
            "other_sizes": other_sizes,
            "converted": dict(converted),
            "ignored_files": source.ignored,
            "val_fraction": val_fraction,
            "test_fraction": test_fraction if source.records[0].split == "" else None,
            "split_seed": split_seed,
            "mean": mean,
            "std": std,
        }
        records.to_csv(partial / "records.csv", index=False)
        write_json(partial / "metadata.json", metadata)
    if excluded := metadata["excluded"]:
        shown = ", ".join(excluded[:4]) + ", …" * (len(excluded) > 4)
        warnings.warn(
            f"{metadata['label_conflicts']:,} different images are in both classes, and left out of every split "
            f"({len(excluded):,} files: {shown}): decide which class they are of",
            stacklevel=2,
        )
    return open_dataset(folder)


def channel_statistics(images: np.ndarray, indices: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation (0–255) of each channel over the images at `indices`.

    Computed from histograms of integer counts, so that the result does not depend on the order of summation.
    """
    counts = np.zeros((3, 256), np.int64)
    for pixels in _chunks(images, indices):
        for channel in range(3):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    levels = np.arange(256)
    mean = (counts * levels).sum(1) / counts.sum(1)
    std = np.sqrt((counts * levels**2).sum(1) / counts.sum(1) - mean**2)
    return mean.round(4).tolist(), std.round(4).tolist()


def _checksum(images: np.ndarray, indices: np.ndarray) -> str:
    checksum = hashlib.sha256()
    for pixels in _chunks(images, indices):
        checksum.update(pixels.data)
    return checksum.hexdigest()


def _chunks(images: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
    step = equal_pixels(_CHUNK, images.shape[1])
    for start in range(0, len(indices), step):
        yield images[indices[start : start + step]]


def _contents(source: Source, size: int) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the names and the contents of a few images at a time, few pixels and few bytes."""
    chunk: list[tuple[str, bytes]] = []
    waiting = 0
    for record in source.records:
        chunk.append((record.file, source.read(record)))
        waiting += len(chunk[-1][1])
        if len(chunk) == equal_pixels(_CHUNK, size) or waiting > _CHUNK_BYTES:
            yield chunk
            chunk, waiting = [], 0
    if chunk:
        yield chunk


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
    elif not source.named_as_cifake:
        data = f"own images ({Path(source.location).stem}, {len(records):,} images)"
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
        "excluded": records.loc[records["split"] == EXCLUDED, "file"].tolist(),
        "checksums": checksums,
    }
