"""Count training images a second, ours against ImageFolder: `python benchmarks/data_path.py ARCHIVE [ROUNDS]`.

Both give the same training images as normalised float batches of 128, mirrored at random and moved by up to two
pixels: torchvision's ImageFolder and v2 transforms through a DataLoader with 0, 1, 2 and 4 workers, and the pack
through `Batches` and the normalisation inside the network. Each round measures all of them, one after the other.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from lib.augment import Augmentation
from lib.batches import Batches, tensors
from lib.networks import build_network
from lib.packing import build_pack
from lib.provenance import processor
from lib.source import open_source

BATCH = 128
FOLDER_IMAGES = 20_000  # of the training images: an epoch of all of them would take half a minute
WORKERS = (0, 1, 2, 4)


def main(archive: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        source = open_source(str(Path(archive).resolve()), scratch / "sample")
        pack = build_pack(source, scratch / "pack", progress=False)
        rows = pack.rows("train")
        few = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:FOLDER_IMAGES]
        for row in rows[few]:
            path = scratch / source.members[row].file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(source.members[row]))
        images, labels = tensors(pack, rows)
        mean, std = pack.facts["mean"], pack.facts["std"]
        normalise = build_network("plain_16_32", mean, std).normalise
        transform = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomCrop(32, padding=2, padding_mode="reflect"),
                v2.ToImage(),
                v2.ToDtype(torch.float32),
                v2.Normalize(mean, std),
            ]
        )
        folder = ImageFolder(str(scratch / "train"), transform)
        rates: dict[str, list[float]] = {}
        for _ in range(rounds):
            for workers in WORKERS:
                loader = DataLoader(folder, BATCH, shuffle=True, num_workers=workers)
                rates.setdefault(f"ImageFolder, {workers} workers", []).append(rate(batch for batch, _ in loader))
            batches = Batches(images, labels, BATCH, Augmentation(flip=True, shift=2), seed=0)
            rates.setdefault("pack", []).append(rate(normalise(batch) for batch, _ in batches))

    print(f"{processor()}, {torch.get_num_threads()} threads, {pack.facts['data']}, {rounds} rounds\n")
    for name, values in rates.items():
        print(f"{name:22}  {statistics.mean(values):9,.0f} ± {statistics.stdev(values):7,.0f} images/s")
    best = max((name for name in rates if name != "pack"), key=lambda name: statistics.mean(rates[name]))
    ratios = [ours / theirs for ours, theirs in zip(rates["pack"], rates[best], strict=True)]
    print(f"\npack / {best}: {statistics.mean(ratios):.1f} ± {statistics.stdev(ratios):.1f}")


def rate(batches: Iterable[torch.Tensor]) -> float:
    """Return the images a second of an epoch, the start of its workers included."""
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
