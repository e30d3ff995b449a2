"""Compare scores by which a single image is found to be far from the training data.

    python benchmarks/out_of_distribution.py PHOTOGRAPHS DATASET

PHOTOGRAPHS is a folder of photographs, as for benchmarks/input_rule.py: the half that is for choosing is used. DATASET
is a folder of 01_data. Each score has the threshold beyond which at most 1 % of either class of the validation images
are; the table has the share of images beyond it, in percent, for each kind of image.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from input_rule import crops
from scipy import ndimage, special

from lib import CLASSES
from lib.core.decode import open_image, rgb
from lib.core.files import ROOT
from lib.core.input_rule import IMAGE_SIZE, InputRule
from lib.data.dataset import open_dataset
from lib.evaluation.predictions import Outputs, run_network
from lib.inference.drift import image_statistics
from lib.inference.out_of_distribution import FALSE_ALARMS, pixel_statistics
from lib.models.weights import load_weights

TRAIN, VAL, BLANK, NEIGHBOURS = 4000, 4000, 400, 10
Sets = dict[str, np.ndarray]


def main(photographs: Path, dataset: Path) -> None:
    sets = {**known(dataset), **from_photographs(photographs), **blank()}
    sets |= corrupted(sets["FAKE"][:500], sets["REAL"][:500])
    network = load_weights(ROOT / "outputs" / "reference" / "weights.safetensors")
    outputs = {name: run_network(network, torch.from_numpy(images), False) for name, images in sets.items()}
    names = [name for name in sets if name != "train"]
    print("| score | " + " | ".join(f"{name}, n = {len(sets[name]):,}" for name in names) + " |")
    print("|---|" + "---|" * len(names))
    for title, values in scores(sets, outputs).items():
        threshold = max(np.quantile(values[name], 1 - FALSE_ALARMS, method="higher") for name in CLASSES)
        print(f"| {title} | " + " | ".join(f"{100 * (values[name] > threshold).mean():.1f}" for name in names) + " |")


def scores(sets: Sets, outputs: dict[str, Outputs]) -> dict[str, Sets]:
    """Return each score, larger for images farther away, for all sets."""
    logits = {name: out.logits.astype(float) for name, out in outputs.items()}
    features = {name: out.features.astype(float) for name, out in outputs.items()}
    return {
        "confidence": {name: -np.abs(it[:, 0] - it[:, 1]) for name, it in logits.items()},
        "largest logit": {name: -it.max(1) for name, it in logits.items()},
        "energy": {name: -special.logsumexp(it, axis=1) for name, it in logits.items()},
        "features, Mahalanobis": distances(features),
        f"features, {NEIGHBOURS} nearest neighbours": neighbours(features),
        "spread of green": {name: -pixel_statistics(images)[:, 1] for name, images in sets.items()},
        "drift statistics, Mahalanobis": distances({name: image_statistics(images) for name, images in sets.items()}),
        "pixel statistics, Mahalanobis": distances({name: pixel_statistics(images) for name, images in sets.items()}),
    }


def distances(values: Sets) -> Sets:
    """Return squared Mahalanobis distances from the training images."""
    mean = values["train"].mean(0)
    precision = np.linalg.pinv(np.cov(values["train"].astype(float), rowvar=False))
    return {name: np.einsum("nd,de,ne->n", it - mean, precision, it - mean) for name, it in values.items()}


def neighbours(features: Sets) -> Sets:
    """Return distances to the nearest training images, of features of length 1 (Sun et al. 2022, arXiv 2204.06507)."""
    unit = {name: it / np.linalg.norm(it, axis=1, keepdims=True) for name, it in features.items()}
    return {name: np.sort(2 - 2 * it @ unit["train"].T, axis=1)[:, NEIGHBOURS] for name, it in unit.items()}


def known(folder: Path) -> Sets:
    """Return random training images, and random validation images of each class."""
    dataset, rng = open_dataset(folder), np.random.default_rng(0)
    labels = dataset.records["label"].to_numpy()
    train, val = (np.sort(rng.choice(dataset.indices(split), count, replace=False))
                  for split, count in (("train", TRAIN), ("val", VAL)))  # fmt: skip
    by_class = {name: dataset.images[val[labels[val] == label]] for label, name in enumerate(CLASSES)}
    return {**by_class, "train": dataset.images[train]}


def from_photographs(folder: Path) -> Sets:
    """Return the inputs that photographs and their crops become, and squares of their pixels."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    chosen = np.random.default_rng(0).permutation(len(files)) < len(files) // 2
    inputs, squares = [], []
    for number, file in enumerate(files):
        if chosen[number]:
            image, rng = rgb(open_image(file.read_bytes())), np.random.default_rng(number)
            inputs += [InputRule().apply(part) for part in (image, *crops(image, rng))]
            pixels = np.asarray(image)
            for _ in range(7):
                top, left = (rng.integers(side - IMAGE_SIZE + 1) for side in pixels.shape[:2])
                squares.append(pixels[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE])
    return {"photographs": np.stack(inputs), "32×32 pixels of photographs": np.stack(squares)}


def blank() -> Sets:
    """Return images of one colour, the same with noise, and gradients between two colours."""
    rng = np.random.default_rng(0)
    colours, others = rng.integers(0, 256, (2, BLANK, 1, 1, 3))
    shape, ramp = (BLANK, IMAGE_SIZE, IMAGE_SIZE, 3), np.linspace(0, 1, IMAGE_SIZE)[:, None, None]
    return {
        "one colour": to_pixels(colours * np.ones(shape)),
        "one colour, noise σ 1": to_pixels(colours + rng.normal(0, 1, shape)),
        "one colour, noise σ 4": to_pixels(colours + rng.normal(0, 4, shape)),
        "gradient": to_pixels((colours + (others - colours) * ramp) * np.ones(shape)),
        "noise alone": rng.integers(0, 256, shape, np.uint8),
    }


def corrupted(*images: np.ndarray) -> Sets:
    """Return validation images of both classes under corruptions."""
    both, rng = np.concatenate(images).astype(float), np.random.default_rng(0)
    return {
        "noise σ .10": to_pixels(both + rng.normal(0, 25.5, both.shape)),
        "blur σ .6": to_pixels(ndimage.gaussian_filter(both, (0, 0.6, 0.6, 0))),
        "blur σ 1.0": to_pixels(ndimage.gaussian_filter(both, (0, 1, 1, 0))),
        "contrast × .2": to_pixels(128 + 0.2 * (both - 128)),
        "contrast × .05": to_pixels(128 + 0.05 * (both - 128)),
    }


def to_pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(values.round(), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
