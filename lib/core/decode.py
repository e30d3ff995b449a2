"""Decode image files to RGB pixels: one way for the training data and for the service."""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import ExifTags, Image

from lib.core.containers import essentials
from lib.core.depth import to_rgb
from lib.core.errors import InputError
from lib.core.input_rule import IMAGE_SIZE, InputRule

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # a larger image is refused before it is decoded
MAX_TILES = 8192  # strips or tiles that Pillow decodes one by one, taking Python's lock each time
_PLAIN_FILE = 16  # bytes a pixel; a longer JPEG has metadata, or scans by the thousand
_MAX_RUN_LENGTH = 2**22  # bytes and pixels of a run-length encoded BMP, which Pillow decodes in Python
_ROWS, _TILE_ROWS = 278, 323  # tags of a TIFF: the rows of a strip, and of a tile
_METADATA = re.compile(rb"\xff[\xe1-\xef\xfe]")  # JPEG markers of segments such as EXIF, a colour profile, a comment
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def decode_plain(content: bytes, size: int = IMAGE_SIZE) -> np.ndarray | None:
    """Return the pixels (uint8 size×size×3, RGB) of a plain JPEG, or None for any other file, which needs Pillow.

    Plain means a complete colour JPEG of that size without metadata that could rotate it or change its colours, as in
    CIFAKE. The pixels equal Pillow's, because both call libjpeg-turbo with the same options, in an eighth of the time.
    """
    if content[:3] != b"\xff\xd8\xff" or len(content) > _PLAIN_FILE * size**2 or _METADATA.search(content):
        return None
    try:
        if simplejpeg.decode_jpeg_header(content)[:3] != (size, size, "YCbCr"):
            return None
        return simplejpeg.decode_jpeg(content, fastdct=False, fastupsample=False)
    except ValueError:
        return None


def open_image(content: bytes) -> Image.Image:
    """Open the first image of a file by its header alone, so that no pixel of a refused one is decoded.

    Further pages of a TIFF and further pictures of a multi-picture JPEG are left out, as is metadata but for the
    orientation. Raises InputError for bytes that are no image of FORMATS, for an animation, and for what would keep a
    decoder busy: more than MAX_PIXELS or MAX_TILES, many scans, strips or tiles (`essentials`), a large run-length
    encoded BMP. What is left takes a core 5 seconds at most for a file of 20 MB, as measured on the worst that is known
    of each format.
    """
    if not content:
        raise InputError("the file is empty: send an image")
    with _as_input_error():
        content, metadata = essentials(content)
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if image.format == "WEBP" and getattr(image, "is_animated", False):
            raise InputError("the image is animated: send one of a single frame")
        if len(image.tile) > MAX_TILES:
            raise InputError(f"the image has more than {MAX_TILES:,} strips or tiles: save it again, with fewer")
        run_length = [tile.codec_name for tile in image.tile] == ["bmp_rle"]
        if run_length and max(image.width * image.height, len(content)) > _MAX_RUN_LENGTH:
            raise InputError("the image is a large BMP with run-length encoding: send a PNG")
        tags = getattr(image, "tag_v2", {})
        if image.info.get("compression") == "jpeg" and tags.get(_ROWS, tags.get(_TILE_ROWS, 8)) < min(8, image.height):
            raise InputError("the image has JPEG strips of fewer than 8 rows: save it again, in larger ones")
        image.info |= metadata
        return image


def rgb(image: Image.Image) -> Image.Image:
    """Decode an opened image: upright by its EXIF orientation, on white where transparent, scaled to 8-bit RGB.

    Raises InputError for damage, and for samples that `to_rgb` refuses.
    """
    with _as_input_error():
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        pixels = to_rgb(image)
        return pixels if turn is None else pixels.transpose(turn)


class Decoded(NamedTuple):
    """Hold decoded images: uint8 N×S×S×3 (RGB, 0–255), and the BLAKE2b digest of each image's pixels.

    `converted` counts by Pillow's mode name the images that had to be converted to RGB (greyscale, CMYK, alpha,
    palette), `other_sizes` those that were not S×S.
    """

    pixels: np.ndarray
    digests: list[bytes]
    converted: Counter[str]
    other_sizes: int


def decode(files: list[tuple[str, bytes]], rule: InputRule) -> Decoded:
    """Decode `(name, content)` pairs by `rule`, as the service decodes images.

    Raises InputError for a file that `open_image` or `rgb` refuses, such as a truncated one, and for one that is too
    small for the rule.
    """
    pixels = np.empty((len(files), rule.size, rule.size, 3), np.uint8)
    converted: Counter[str] = Counter()
    other_sizes = 0
    for i, (name, content) in enumerate(files):
        if (plain := decode_plain(content, rule.size)) is not None:
            pixels[i] = plain
            continue
        try:
            image = open_image(content)
            # Checked before decoding, so that no image that is refused is expanded.
            rule.check(*image.size)
            converted[image.mode] += image.mode != "RGB"
            other_sizes += image.size != (rule.size, rule.size)
            pixels[i] = rule.apply(rgb(image))
        except InputError as error:
            reason = str(error).partition(":")[0]
            raise InputError(f"{name} cannot be used as an image ({reason}): replace or remove it") from None
    digests = [hashlib.blake2b(image.data, digest_size=16).digest() for image in pixels]
    return Decoded(pixels, digests, +converted, other_sizes)


@contextmanager
def _as_input_error() -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"the image has too many pixels: send one of at most {MAX_PIXELS:,}") from None
    except Image.UnidentifiedImageError:
        raise InputError(f"the file is no image that can be read: send {', '.join(FORMATS)}") from None
    except Exception:  # Pillow raises many kinds for damaged files
        raise InputError("the image is damaged: send a whole one") from None


def _orientation(image: Image.Image) -> int:
    """Return the orientation by EXIF or XMP, 1 to 8; 1 where there is none that can be read."""
    if image.format == "TIFF":
        return 1  # Pillow has turned it
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises many kinds for damaged metadata
        return 1
