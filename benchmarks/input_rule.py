"""Compare rules from an image of any size to the network's 32×32 input, on photographs and on enlarged images.

    python benchmarks/input_rule.py PHOTOGRAPHS DATASET

PHOTOGRAPHS is a folder of photographs, all of them REAL: each counts as a whole and in CROPS random squares. Half of
the photographs are for choosing a rule, the other half for reporting it. DATASET is a folder of 01_data: of its
validation images IMAGES of each class are enlarged, which says only whether a rule keeps what the network looks for.
Intervals are 95 % bootstrap intervals over photographs, Wilson intervals over enlarged images.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lib import CLASSES
from lib.core.decode import open_image, rgb
from lib.core.input_rule import IMAGE_SIZE, InputRule, encoded_as_cifake
from lib.data.dataset import open_dataset
from lib.evaluation.metrics import percent, proportion
from lib.inference.predictor import Predictor, default_model_path

CROPS, SMALLEST, IMAGES, TILES, ENLARGED = 6, 64, 500, 3, 4
Rule = Callable[[Image.Image], np.ndarray]  # to N×32×32×3: their margins are averaged


def resized(filter_: Image.Resampling, reducing_gap: float | None = None) -> Rule:
    """Return the rule that resizes the whole image by a filter of Pillow, after `reduce` where there is a gap."""
    return lambda image: np.asarray(image.resize((IMAGE_SIZE,) * 2, filter_, reducing_gap=reducing_gap))[None]


def bilinear_without_antialias(image: Image.Image) -> np.ndarray:
    """Resize as many programs do: each pixel from the four nearest ones, whatever the scale."""
    size = (IMAGE_SIZE,) * 2
    scale = image.width / size[0], image.height / size[1]
    matrix = (scale[0], 0, 0, 0, scale[1], 0)
    return np.asarray(image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))[None]


def tiles(image: Image.Image) -> np.ndarray:
    """Cut TILES × TILES squares at native resolution, spread evenly."""
    lefts, tops = (np.linspace(0, side - IMAGE_SIZE, TILES).round().astype(int) for side in image.size)
    pixels = np.asarray(image)
    return np.stack([pixels[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE] for top in tops for left in lefts])


def square(rule: Rule) -> Rule:
    """Return a rule that first cuts the largest square from the middle."""

    def cut(image: Image.Image) -> np.ndarray:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return rule(image.crop((left, top, left + side, top + side)))

    return cut


def encoded(rule: Rule) -> Rule:
    """Return a rule that ends with a JPEG of quality 75 and 4:2:0, which all images of CIFAKE are."""
    return lambda image: np.stack([encoded_as_cifake(np.ascontiguousarray(pixels)) for pixels in rule(image)])


PLAIN: dict[str, Rule] = {
    "nearest": resized(Image.Resampling.NEAREST),
    "bilinear, no antialias": bilinear_without_antialias,
    "box": resized(Image.Resampling.BOX),
    "Hamming": resized(Image.Resampling.HAMMING),
    "bilinear": resized(Image.Resampling.BILINEAR),
    "bicubic": resized(Image.Resampling.BICUBIC),
    "Lanczos": resized(Image.Resampling.LANCZOS),
    "reduce, then bicubic": resized(Image.Resampling.BICUBIC, 2.0),
    "square, bilinear": square(resized(Image.Resampling.BILINEAR)),
    "square, bicubic": square(resized(Image.Resampling.BICUBIC)),
    f"{TILES**2} tiles": tiles,
}
RULES = PLAIN | {f"{name}, JPEG 75": encoded(rule) for name, rule in PLAIN.items()}
RULES["rule 1, in use"] = lambda image: InputRule().apply(image)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", type=Path, default=default_model_path())
    given = parser.parse_args()
    predictor = Predictor(given.model)
    files = sorted(path for path in given.photographs.iterdir() if path.is_file())
    half = np.random.default_rng(0).permutation(len(files)) < len(files) // 2
    called = {name: [] for name in RULES}  # photographs × (1 + CROPS)
    for number, file in enumerate(files):
        image = rgb(open_image(file.read_bytes()))
        parts = [image, *crops(image, np.random.default_rng(number))]
        for name, rule in RULES.items():
            called[name].append([called_fake(predictor, rule(part)) for part in parts])
    print(f"{given.model.name}, {len(files)} photographs; shares called FAKE with 95 % intervals\n")
    head = [f"{part}, {use}" for part in ("whole", "crops") for use in ("choose", "report")]
    head += [f"{name} enlarged" for name in CLASSES]
    print("| rule | " + " | ".join(head) + " |\n|---|" + "---|" * len(head))
    enlarged = enlarged_images(given.dataset)
    for name, rule in RULES.items():
        table = np.array(called[name])
        cells = [over_photographs(part[chosen]) for part in (table[:, :1], table[:, 1:]) for chosen in (half, ~half)]
        for images in enlarged:
            hits = sum(called_fake(predictor, rule(image)) for image in images)
            cells.append(percent(proportion(hits, len(images)), 1))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def crops(image: Image.Image, rng: np.random.Generator) -> list[Image.Image]:
    """Return CROPS random squares of a photograph, from SMALLEST pixels to its shorter side, uniform in the log."""
    sides = np.exp(rng.uniform(np.log(SMALLEST), np.log(min(image.size)), CROPS)).astype(int)
    corners = [(rng.integers(image.width - side + 1), rng.integers(image.height - side + 1)) for side in sides]
    return [image.crop((x, y, x + side, y + side)) for side, (x, y) in zip(sides, corners, strict=True)]


def called_fake(predictor: Predictor, inputs: np.ndarray) -> bool:
    return float(np.mean(predictor.margins(inputs))) > 0


def over_photographs(called: np.ndarray) -> str:
    """Format the share of True in photographs × images, with its interval over photographs, in percent."""
    rng = np.random.default_rng(0)
    shares = called.mean(1)
    resamples = shares[rng.integers(len(shares), size=(2000, len(shares)))].mean(1)
    low, high = np.quantile(resamples, [0.025, 0.975])
    return f"{100 * shares.mean():.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def enlarged_images(folder: Path) -> list[list[Image.Image]]:
    """Return IMAGES validation images of each class, ENLARGED times as wide and high (Lanczos)."""
    dataset = open_dataset(folder)
    val = dataset.indices("val")
    side = IMAGE_SIZE * ENLARGED
    labels = dataset.records["label"].to_numpy()[val]
    return [
        [Image.fromarray(dataset.images[i]).resize((side, side), Image.Resampling.LANCZOS)
         for i in val[labels == label][:IMAGES]]
        for label in range(len(CLASSES))
    ]  # fmt: skip


if __name__ == "__main__":
    main()
