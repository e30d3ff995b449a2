"""The sample: a small stand-in for CIFAKE, made offline and in exactly its layout.

REAL images are crops of three photographs that scikit-learn and matplotlib carry, reduced to 32×32. FAKE
images come from a mixture of local Gaussians fitted to those crops and decoded through an upsampler, which
loses fine detail: local texture separates the classes, colour does not. No figure measured on the sample
is a CIFAKE result.
"""

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib.decode import SIDE
from lib.errors import InputError
from lib.files import whole_folder

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]

PER_OBJECT = {"train": 150, "test": 50}  # images of one class and one object

# Left, upper, right, lower. Train and test lie at least 16 px apart, one block of the photographs' own
# JPEG compression, so that not even compression carries anything across.
REGIONS: dict[str, dict[str, Box]] = {
    "china.jpg": {"test": (0, 0, 208, 427), "train": (224, 0, 640, 427)},
    "flower.jpg": {"test": (0, 0, 256, 427), "train": (272, 0, 640, 427)},
    "grace_hopper.jpg": {"test": (336, 0, 512, 600), "train": (0, 0, 320, 600)},
}
# Stand-ins for CIFAR-10's ten classes, in the order of the suffixes: a photograph, and the least and the
# greatest factor by which its crops are reduced: over 1.5, to blur away the photograph's own JPEG blocks.
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
MIN_CONTRAST = 24.0  # luminance's standard deviation: an empty patch of sky could be of either class

LATENT_SIZE = (16, 16)
NEIGHBOURS = 6  # deviations that span one local Gaussian
SPREAD = 0.5  # of a local Gaussian, against that of the neighbours it is fitted to
DETAIL = (0.0, 0.55)  # least and greatest share of the detail that decoding keeps

# Pixel-identical FAKE pairs, as CIFAKE has them: for these objects, (split, place) repeats (split, place);
# a place counts the images of one object in one split from 0.
REPEATS: tuple[tuple[range, tuple[str, int], tuple[str, int]], ...] = (
    (range(10), ("train", 149), ("train", 0)),
    (range(5), ("train", 148), ("train", 1)),
    (range(8), ("test", 49), ("train", 2)),
    (range(8, 10), ("test", 49), ("test", 0)),
)


def make_sample(folder: Path, seed: int = 0) -> Path:
    """Write the sample data set into `folder`, in exactly the Kaggle layout and naming.

    4,000 JPEG files of 32×32 RGB, quality 75, 4:2:0: train/FAKE and train/REAL of 1,500, test/FAKE and
    test/REAL of 500; a tenth of each for every object suffix. Train and test crops come from regions of
    the photographs that do not overlap, and the generator is fitted to each split by itself. In FAKE, 15
    pairs of train images are pixel-identical, 8 test images repeat a train image, and 2 pairs lie inside
    test; see `REPEATS`. All other images are distinct.

    The bytes depend on `seed` and on the releases of Pillow (decoding, resampling and encoding) and of
    numpy (random streams), on neither the thread count nor BLAS. `folder` appears, or is replaced, when all
    is written. Raises InputError when it cannot be written.
    """
    images = _draw_images(np.random.default_rng(seed))
    with whole_folder(folder) as partial:
        for name, content in images.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
    return folder


def _file_name(split: str, label: str, obj: int, place: int) -> str:
    number = f"{place:04d}" if label == "REAL" else str(place + 1000 if split == "train" else place)
    suffix = f" ({obj + 1})" if obj else ""
    return f"{split}/{label}/{number}{suffix}.jpg"


def _draw_images(rng: np.random.Generator) -> dict[str, bytes]:
    """Draw every image of the sample; return the JPEG files by name, repeats included."""
    repeats = {
        _file_name(copy[0], "FAKE", obj, copy[1]): _file_name(kept[0], "FAKE", obj, kept[1])
        for objects, copy, kept in REPEATS
        for obj in objects
    }
    images: dict[str, bytes] = {}
    seen: set[bytes] = set()
    for split, count in PER_OBJECT.items():
        for obj, (photo_name, least, greatest) in enumerate(OBJECTS):
            # Cut, not boxed: resampling a box would read pixels from beyond the region's edge.
            region = _open_photo(photo_name).crop(REGIONS[photo_name][split])
            crops: list[Pixels] = []
            while len(crops) < count:
                crop = _draw_crop(region, rng, least, greatest)
                contrast = np.asarray(Image.fromarray(crop).convert("L")).std()
                data = _encode_new(crop, seen) if contrast >= MIN_CONTRAST else None
                if data is not None:
                    images[_file_name(split, "REAL", obj, len(crops))] = data
                    crops.append(crop)
            generator = _Generator(np.stack(crops))
            for place in range(count):
                name = _file_name(split, "FAKE", obj, place)
                data = images[repeats[name]] if name in repeats else None
                while data is None:
                    data = _encode_new(generator.draw(rng), seen)
                images[name] = data
    return images


def _open_photo(name: str) -> Image.Image:
    hopper = name == "grace_hopper.jpg"
    package, inside = ("matplotlib", "mpl-data/sample_data") if hopper else ("sklearn", "datasets/images")
    spec = find_spec(package)  # finds the folder without the seconds that importing scikit-learn takes
    if spec is None or spec.origin is None:
        raise InputError(f"{package}, which carries {name}, is not installed; install requirements.txt")
    with Image.open(Path(spec.origin).parent / inside / name) as photo:
        return photo.convert("RGB")


def _draw_crop(region: Image.Image, rng: np.random.Generator, least: float, greatest: float) -> Pixels:
    """Draw a square of `region`, reduced `least` to `greatest` times to 32×32, and flip every other one."""
    side = round(SIDE * rng.uniform(least, greatest))
    left = int(rng.integers(region.width - side + 1))
    upper = int(rng.integers(region.height - side + 1))
    crop = region.crop((left, upper, left + side, upper + side))
    pixels = np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
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
    """Mix crops N×32×32×3 into new images: one local Gaussian around each crop, spanned by its neighbours.

    A crop is a 16×16 latent plus the detail that upsampling does not restore; detail comes out too weak.
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
        near = self.neighbours[centre]
        # Products summed over the first axis, not by BLAS: the order of additions stays the same.
        both = (self.latents, self.details)
        latent, detail = (x[centre] + (weights * (x[near] - x[centre])).sum(0) for x in both)
        return _to_pixels(_upsample(_to_pixels(latent)) + keep * detail)


def _upsample(latent: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(latent).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _to_pixels(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
