"""Measure the throughput of data loading against ImageFolder: `python benchmarks/data_path.py ARCHIVE [ROUNDS]`.

Both give the training images as normalised float batches of 128, flipped at random and translated by up to two pixels:
torchvision's ImageFolder and v2 transforms through a DataLoader with 0, 1, 2 and 4 workers, and the packed dataset
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

from lib.core.provenance import processor
from lib.data.augment import Augmentation
from lib.data.batches import Batches, load_tensors
from lib.data.packing import pack_dataset
from lib.data.source import open_source
from lib.models.networks import build_network

BATCH = 128
FOLDER_IMAGES = 20_000  # of the training images: with all of them an epoch would take half a minute
WORKERS = (0, 1, 2, 4)
PACKED = "packed dataset"


def main(archive: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        source = open_source(str(Path(archive).resolve()), scratch / "sample")
        dataset = pack_dataset(source, scratch / "dataset", progress=False)
        train = dataset.indices("train")
        subset = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:FOLDER_IMAGES]
        for index in train[subset]:
            path = scratch / source.records[index].file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(source.records[index]))
        images, labels = load_tensors(dataset, train)
        mean, std = dataset.metadata["mean"], dataset.metadata["std"]
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
        throughput: dict[str, list[float]] = {}
        for _ in range(rounds):
            for workers in WORKERS:
                loader = DataLoader(folder, BATCH, shuffle=True, num_workers=workers)
                images_per_second = epoch_throughput(batch for batch, _ in loader)
                throughput.setdefault(f"ImageFolder, {workers} workers", []).append(images_per_second)
            batches = Batches(images, labels, BATCH, Augmentation(flip=True, translate=2), seed=0)
            throughput.setdefault(PACKED, []).append(epoch_throughput(normalise(batch) for batch, _ in batches))

    print(f"{processor()}, {torch.get_num_threads()} threads, {dataset.metadata['data']}, {rounds} rounds\n")
    for name, values in throughput.items():
        print(f"{name:22}  {statistics.mean(values):9,.0f} ± {statistics.stdev(values):7,.0f} images/s")
    best = max((name for name in throughput if name != PACKED), key=lambda name: statistics.mean(throughput[name]))
    ratios = [ours / theirs for ours, theirs in zip(throughput[PACKED], throughput[best], strict=True)]
    print(f"\n{PACKED} / {best}: {statistics.mean(ratios):.1f} ± {statistics.stdev(ratios):.1f}")


def epoch_throughput(batches: Iterable[torch.Tensor]) -> float:
    """Return the images a second of an epoch, including the start of its workers."""
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
