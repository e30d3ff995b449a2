"""From an image of any size to the square of pixels that a network takes, by one rule, or to a sentence of refusal.

The rule is the same for the training images, the command line, the service and the evaluation. Its version is in
`metrics.json`, `served.json` and `GET /health`: predictions compare only where it is the same. An image of the
network's size is taken as it is. Of any other, rule 1 ("resize") resizes the whole, whatever its proportions (reduced
by a whole number to no less than twice the size, then bicubic), and encodes it as all images of CIFAKE are; rule 2
("crop") takes the central square, pixel by pixel. docs/external.md has the measurements behind the first.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.core.errors import InputError

IMAGE_SIZE = 32  # of CIFAKE
INPUT_RULES = {1: "resize", 2: "crop"}
RESIZE_MODES = ("resize", "crop", "random_crop")  # of a data set: a random crop in training, the central one elsewhere
SIZE_STEP, MAX_SIZE = 16, 256  # blocks of a JPEG with halved chroma have 16 pixels

_FILTER, _REDUCING_GAP = Image.Resampling.BICUBIC, 2.0
_QUALITY = 75  # of all images of CIFAKE


@dataclass(frozen=True)
class InputRule:
    """Make inputs of `size` pixels a side by the rule of that version, a key of INPUT_RULES."""

    size: int = IMAGE_SIZE
    version: int = 1

    def check(self, width: int, height: int) -> None:
        """Raise InputError for an image that is too small to be cropped."""
        if INPUT_RULES[self.version] == "crop" and min(width, height) < self.size:
            raise InputError(
                f"the image is {width}×{height}, too small to crop {self.size}×{self.size} from it: give a larger one"
            )

    def apply(self, image: Image.Image) -> np.ndarray:
        """Return the input (uint8 size×size×3) for an RGB image; raise InputError as `check` does."""
        self.check(*image.size)
        if image.size == (self.size, self.size):
            return np.asarray(image)
        if INPUT_RULES[self.version] == "crop":
            left, top = ((side - self.size) // 2 for side in image.size)
            return np.asarray(image.crop((left, top, left + self.size, top + self.size)))
        resized = image.resize((self.size, self.size), _FILTER, reducing_gap=_REDUCING_GAP)
        return encoded_as_cifake(np.asarray(resized))


def rule_of(resize: str) -> int:
    """Return the version of the rule for a data set that was packed with `resize`, one of RESIZE_MODES."""
    return next(version for version, name in INPUT_RULES.items() if resize.endswith(name))


def check_size(image_size: int, resize: str) -> None:
    """Raise InputError for a size that networks do not take, and for an unknown way to it."""
    if mistake := size_mistake(image_size):
        raise InputError(mistake)
    if resize not in RESIZE_MODES:
        raise InputError(f"resize is {resize!r}: choose one of {', '.join(RESIZE_MODES)}")


def size_mistake(image_size: int) -> str:
    """Return what is wrong with the value of the parameter `image_size`, or an empty string."""
    if image_size % SIZE_STEP or not SIZE_STEP <= image_size <= MAX_SIZE:
        return f"image_size is {image_size}: give a multiple of {SIZE_STEP} from {SIZE_STEP} to {MAX_SIZE}"
    return ""


def encoded_as_cifake(pixels: np.ndarray) -> np.ndarray:
    """Return an image (uint8 H×W×3) as it is after a JPEG of the quality of CIFAKE's images, 4:2:0."""
    return np.asarray(Image.open(io.BytesIO(as_jpeg(Image.fromarray(pixels), _QUALITY))))


def as_jpeg(image: Image.Image, quality: int) -> bytes:
    """Return an RGB image as a JPEG file of that quality, 4:2:0."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()
