"""Hashes of images' pixels, to find the same image again: those of a network's training images go with its release."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lib.core.errors import InputError
from lib.core.files import atomic_file


def pixel_hash(pixels: np.ndarray) -> int:
    """Return the first 64 bits of the BLAKE2b hash of an image (uint8 H×W×3)."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8).digest(), "little")


def save_hashes(path: Path, images: Iterable[np.ndarray]) -> None:
    """Write the distinct hashes of images (each uint8 H×W×3), sorted uint64, as a NumPy file."""
    hashes = np.array(sorted({pixel_hash(image) for image in images}), np.uint64)
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.save(file, hashes)


def read_hashes(path: Path) -> np.ndarray:
    """Return the hashes that `save_hashes` wrote; raise InputError for another file."""
    try:
        hashes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        hashes = None
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise InputError(f"{path} holds no hashes of images: take it from the same release as the network")
    return hashes
