"""Make the sample: a small stand-in for CIFAKE, generated offline in exactly its layout.

REAL images are crops of three photographs that scikit-learn and matplotlib bundle, downscaled to 32×32. FAKE images
are drawn from a mixture of local Gaussians fitted to those crops and decoded through an upsampler, which loses fine
detail: local texture separates the classes, colour does not. No result on the sample is a CIFAKE result.
"""

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib.core.errors import InputError
from lib.core.files import atomic_dir
from lib.core.input_rule import IMAGE_SIZE

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]

PER_OBJECT = {"train": 150, "test": 50}  # images of each class and object class

# Left, upper, right, lower. Train and test regions are at least 16 px apart, one block of the photographs' own JPEG
# compression, so that not even compression artefacts leak from one to the other.
REGIONS: dict[str, dict[str, Box]] = {
    "china.jpg": {"test": (0, 0, 208, 427), "train": (224, 0, 640, 427)},
    "flower.jpg": {"test": (0, 0, 256, 427), "train": (272, 0, 640, 427)},
    "grace_hopper.jpg": {"test": (336, 0, 512, 600), "train": (0, 0, 320, 600)},
}
# Stand-ins for CIFAR-10's ten classes, in the order of the suffixes: a photograph, and the minimum and maximum factor
# by which its crops are downscaled: at least 1.5, to remove the photograph's own JPEG artefacts.
OBJECTS: tuple[tuple[str, float, float], ...] = (
    ("china.jpg", 1.5, 2.0),
    ("china.jpg", 2.0, 3.0),
    ("china.jpg", 3.0, 4.0),
    ("china.jpg", 4.0, 5.0),
    ("flower.jpg", 2.0, 3.0),
    ("flower.jpg", 3.0, 4.0),
    ("flower.jpg", 4.0, 5.0),
    ("grace_hopper.jpg", 1.5, 2.5),
    ("grace_hopper.jpg", 2.5, 3.5),
    ("grace_hopper.jpg", 3.5, 5.0),
)
MIN_CONTRAST = 24.0  # standard deviation of the luminance: an empty patch of sky could be of either class

LATENT_SIZE = (16, 16)
NEIGHBOURS = 6  # nearest crops, whose deviations span a local Gaussian
SPREAD = 0.5  # standard deviation of a local Gaussian, relative to that of its neighbours
DETAIL = (0.0, 0.55)  # minimum and maximum share of the detail that decoding keeps

# Pixel-identical FAKE pairs, as in CIFAKE: for these object classes, the first (split, number) duplicates the second;
# numbers count the images of an object class in a split from 0.
DUPLICATES: tuple[tuple[range, tuple[str, int], tuple[str, int]], ...] = (
    (range(10), ("train", 149), ("train", 0)),
    (range(5), ("train", 148), ("train", 1)),
    (range(8), ("test", 49), ("train", 2)),
    (range(8, 10), ("test", 49), ("test", 0)),
)


def make_sample(folder: Path, seed: int = 0) -> Path:
    """Write the sample into `folder`, in exactly the Kaggle layout and naming.

    4,000 JPEG files of 32×32 RGB, quality 75, 4:2:0: 1,500 each in train/FAKE and train/REAL, 500 each in test/FAKE
    and test/REAL; a tenth of each for every object suffix. Train and test crops come from disjoint regions of the
    photographs, and the generator is fitted to each split separately. In FAKE, 15 pairs of train images are
    pixel-identical, 8 test images duplicate a train image, and 2 pairs are within test; see `DUPLICATES`. All other
    images are distinct.

    The bytes depend on `seed` and on the releases of Pillow (decoding, resampling and encoding) and numpy (random
    streams), but not on the number of threads or BLAS. `folder` appears, or is replaced, at the end. Raises InputError
    if it cannot be written.
    """
    images = _draw_images(np.random.default_rng(seed))
    with atomic_dir(folder) as partial:
        for name, content in images.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
    return folder


def _file_name(split: str, label: str, obj: int, number: int) -> str:
    stem = f"{number:04d}" if label == "REAL" else str(number + 1000 if split == "train" else number)
    suffix = f" ({obj + 1})" if obj else ""
    return f"{split}/{label}/{stem}{suffix}.jpg"


def _draw_images(rng: np.random.Generator) -> dict[str, bytes]:
    """Draw every image of the sample; return the JPEG files by name, duplicates included."""
    duplicates = {
        _file_name(copy[0], "FAKE", obj, copy[1]): _file_name(original[0], "FAKE", obj, original[1])
        for objects, copy, original in DUPLICATES
        for obj in objects
    }
    images: dict[str, bytes] = {}
    seen: set[bytes] = set()
    for split, count in PER_OBJECT.items():
        for obj, (photo_name, low, high) in enumerate(OBJECTS):
            # Cropped, not passed as a box: resampling a box would read pixels outside the region.
            region = open_photo(photo_name).crop(REGIONS[photo_name][split])
            crops: list[Pixels] = []
            while len(crops) < count:
                crop = _draw_crop(region, rng, low, high)
                contrast = np.asarray(Image.fromarray(crop).convert("L")).std()
                data = _encode_new(crop, seen) if contrast >= MIN_CONTRAST else None
                if data is not None:
                    images[_file_name(split, "REAL", obj, len(crops))] = data
                    crops.append(crop)
            generator = _Generator(np.stack(crops))
            for number in range(count):
                name = _file_name(split, "FAKE", obj, number)
                data = images[duplicates[name]] if name in duplicates else None
                while data is None:
                    data = _encode_new(generator.draw(rng), seen)
                images[name] = data
    return images


def open_photo(name: str) -> Image.Image:
    """Open one of the photographs of REGIONS as RGB; raise InputError where the package that bundles it is missing."""
    hopper = name == "grace_hopper.jpg"
    package, inside = ("matplotlib", "mpl-data/sample_data") if hopper else ("sklearn", "datasets/images")
    spec = find_spec(package)  # locates the folder without the seconds that importing scikit-learn takes
    if spec is None or spec.origin is None:
        raise InputError(f"{package}, which bundles {name}, is not installed: install requirements.txt")
    with Image.open(Path(spec.origin).parent / inside / name) as photo:
        return photo.convert("RGB")


def _draw_crop(region: Image.Image, rng: np.random.Generator, low: float, high: float) -> Pixels:
    """Draw a square of `region`, downscaled to 32×32 by a factor from `low` to `high`; flip half of them."""
    side = round(IMAGE_SIZE * rng.uniform(low, high))
    left = int(rng.integers(region.width - side + 1))
    upper = int(rng.integers(region.height - side + 1))
    crop = region.crop((left, upper, left + side, upper + side))
    pixels = np.asarray(crop.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS))
    return pixels[:, ::-1] if rng.integers(2) else pixels


def _encode_new(pixels: Pixels, seen: set[bytes]) -> bytes | None:
    """Return `pixels` as a JPEG file; None if it decodes to an image already in `seen`."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75, subsampling="4:2:0")
    with Image.open(file) as image:
        decoded = image.tobytes()
    new = decoded not in seen
    seen.add(decoded)
    return file.getvalue() if new else None


class _Generator:
    """Generate images from crops N×32×32×3: a mixture of local Gaussians, one around each crop and its neighbours.

    A crop is a 16×16 latent plus the detail that upsampling does not restore; generated images have too little detail.
    """

    def __init__(self, crops: Pixels) -> None:
        latents = [np.asarray(Image.fromarray(crop).resize(LATENT_SIZE, Image.Resampling.BOX)) for crop in crops]
        self.latents = np.stack(latents).astype(np.int64)
        self.details = crops.astype(np.int64) - np.stack([_upsample(latent) for latent in latents])
        # Integer distances, sorted stably: the order of neighbours is the same on every machine.
        flat = self.latents.reshape(len(crops), -1)
        order = [np.argsort(((flat - one) ** 2).sum(1), kind="stable") for one in flat]
        self.neighbours = np.stack(order)[:, 1 : NEIGHBOURS + 1]

    def draw(self, rng: np.random.Generator) -> Pixels:
        """Draw one image, 32×32×3."""
        centre = int(rng.integers(len(self.latents)))
        weights = rng.standard_normal((NEIGHBOURS, 1, 1, 1)) * SPREAD / NEIGHBOURS**0.5
        keep = rng.uniform(*DETAIL)
        neighbours = self.neighbours[centre]
        # Summed over the first axis, not by BLAS, which would not fix the order of additions.
        latent, detail = (
            x[centre] + (weights * (x[neighbours] - x[centre])).sum(0) for x in (self.latents, self.details)
        )
        return _to_pixels(_upsample(_to_pixels(latent)) + keep * detail)


def _upsample(latent: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(latent).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def _to_pixels(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
