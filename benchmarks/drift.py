"""Measure the drift test of the service: `python benchmarks/drift.py ARCHIVE [--elsewhere ZIP] [--batches N]`.

False positives on CIFAKE's test images at mixtures of FAKE and REAL, and detections of the images in ZIP, which holds
folders SET/FAKE and SET/REAL, as found and as JPEG of quality 75: by the released test, within predicted classes, and
by a test of all images together. Test images that are pixel-identical to training images are left out. The rates depend
on the reference, too: they are repeated with random halves of the test images as reference and as batches.
"""

import argparse
import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from lib import CLASSES
from lib.core.provenance import processor
from lib.data.packing import pack_dataset
from lib.data.source import open_source
from lib.evaluation.drift_rates import Rates, rates_by_share
from lib.evaluation.metrics import percent
from lib.inference.drift import DriftTest, image_statistics, read_reference
from lib.inference.predictor import Predictor, default_model_path

SIZES = (100, 1000)
HALVES = 20
DRIFTED = (1.0, 0.3)  # shares of a batch of 100 that are not of CIFAKE; half of the rest is FAKE
CHUNK = 250


@dataclass(frozen=True)
class Images:
    """Hold the image statistics of N images, and their predicted classes (int N)."""

    statistics: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, predictor: Predictor, pixels: np.ndarray) -> "Images":
        """Describe images (uint8 N×32×32×3)."""
        parts = [pixels[start : start + CHUNK] for start in range(0, len(pixels), CHUNK)]
        margins = np.concatenate([predictor.margins(part) for part in parts])
        return cls(np.concatenate([image_statistics(part) for part in parts]), (margins <= 0).astype(int))

    def rates(self, test: DriftTest, group: np.ndarray, batches: int, **options: tuple) -> list[dict[str, Rates]]:
        """Return the rates by share of a group by the test, and by one of all images together."""
        together = DriftTest(test.reference, 0 * test.predicted)
        pairs = (test, self.predicted), (together, 0 * self.predicted)
        return [rates_by_share(it, self.statistics, of, group, batches, **options) for it, of in pairs]


def main(archive: str, elsewhere: str | None, batches: int) -> None:
    model = default_model_path()
    predictor, test = Predictor(model), read_reference(model.with_name("drift.npz"))
    pixels, is_fake, name = test_images(archive)
    known = Images.of(predictor, pixels)
    print(f"{processor()}, {name}, {len(pixels):,} test images, {batches:,} batches of each size\n")
    row("false positives", *(f"{n:,} images, {how}" for n in SIZES for how in ("by class", "together")))
    row(*["---"] * 5)
    new, old = known.rates(test, is_fake, batches, sizes=SIZES)
    for share in new:
        row(f"{share} {CLASSES[0]}", *(percent(it[share][str(n)], 1) for n in SIZES for it in (new, old)))
    print_halves(known, is_fake, batches // 10)
    if elsewhere is None:
        return
    balanced = np.concatenate([np.flatnonzero(is_fake == label)[: min(np.bincount(is_fake))] for label in (1, 0)])
    print(f"\nDetections, {batches // 5:,} batches of {SIZES[0]} images, a share of the set, the rest of CIFAKE\n")
    row("set", "n", "predicted FAKE", *(f"{share:.0%}, {how}" for share in DRIFTED for how in ("by class", "together")))
    row(*["---"] * 7)
    for title, found in [*sets(elsewhere, ""), *sets(elsewhere, "JPEG")]:
        own = Images.of(predictor, found)
        both = Images(
            np.concatenate([own.statistics, known.statistics[balanced]]),
            np.concatenate([own.predicted, known.predicted[balanced]]),
        )
        is_own = np.arange(len(both.predicted)) < len(found)
        new, old = both.rates(test, is_own, batches // 5, sizes=SIZES[:1], shares=DRIFTED)
        detected = (percent(it[share][str(SIZES[0])], 1) for share in new for it in (new, old))
        row(title, len(found), f"{np.mean(own.predicted == 0):.1%}", *detected)


def print_halves(known: Images, is_fake: np.ndarray, batches: int) -> None:
    """Print mean and standard deviation of the false positive rates over random halves of the images."""
    print(f"\nFalse positives by class, {HALVES} random halves as reference, {batches:,} batches each, mean ± sd\n")
    row("", *(f"{n:,} images" for n in SIZES))
    row(*["---"] * (1 + len(SIZES)))
    rates = []
    for seed in range(HALVES):
        reference, rest = np.array_split(np.random.default_rng(seed).permutation(len(is_fake)), 2)
        test = DriftTest(known.statistics[reference], known.predicted[reference])
        rates.append(rates_by_share(test, known.statistics[rest], known.predicted[rest], is_fake[rest], batches, SIZES))
    for share in rates[0]:
        values = [[100 * of_half[share][str(n)]["value"] for of_half in rates] for n in SIZES]
        row(f"{share} {CLASSES[0]}", *(f"{np.mean(it):.1f} ± {np.std(it, ddof=1):.1f} %" for it in values))


def row(*cells: object) -> None:
    """Print a row of a table."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def test_images(archive: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the test images of CIFAKE without leaked ones, which of them are FAKE, and the name of the data."""
    with tempfile.TemporaryDirectory() as temporary:
        source = open_source(str(Path(archive).resolve()), Path(temporary) / "sample")
        dataset = pack_dataset(source, Path(temporary) / "dataset", progress=False)
        records = dataset.records.iloc[dataset.indices("test")]
        kept = records[~records["leaked"]]
        return np.array(dataset.images[kept.index]), (kept["label"] == 0).to_numpy(), dataset.metadata["data"]


def sets(archive: str, encoder: str) -> list[tuple[str, np.ndarray]]:
    """Return the name and the images (uint8 N×32×32×3) of each set of a zip, as found or encoded again."""
    found: dict[str, list[np.ndarray]] = {}
    with zipfile.ZipFile(archive) as content:
        for name in sorted(content.namelist()):
            path = PurePosixPath(name)
            if path.parent.name in CLASSES:
                image = Image.open(io.BytesIO(content.read(name))).convert("RGB")
                if encoder:
                    image.save(encoded := io.BytesIO(), encoder, quality=75)
                    image = Image.open(encoded)
                title = ", ".join((path.parent.parent.name, path.parent.name, encoder or "as found"))
                found.setdefault(title, []).append(np.asarray(image))
    return [(title, np.stack(images)) for title, images in found.items()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive")
    parser.add_argument("--elsewhere")
    parser.add_argument("--batches", type=int, default=2000)
    main(**vars(parser.parse_args()))
