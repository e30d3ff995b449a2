"""From the bytes of any picture to the 32×32 pixels that the network reads, or to a sentence that says why not."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from lib.decode import SIDE, decode_plain
from lib.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # a larger picture is refused before it is decoded
_SMALL_FILE, _SMALL_PICTURE = 16 * 2**10, 128 * 128  # bytes and pixels
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@dataclass(frozen=True)
class Picture:
    """Hold what the network sees of a picture (`pixels`, uint8 32×32×3, RGB), and its size before."""

    pixels: np.ndarray
    width: int
    height: int

    @property
    def warning(self) -> str | None:
        """Say why the verdict may be worth little, or None for a picture of the size that the network knows."""
        if (self.width, self.height) == (SIDE, SIDE):
            return None
        return f"the picture is {self.width}×{self.height} and was resized: the network knows pictures of 32×32 alone"


def read_picture(content: bytes) -> Picture:
    """Decode a picture: turned as its EXIF data say, transparency on white, one of many bits cut to eight, resized.

    Raises InputError for bytes that are no picture of FORMATS, are damaged, move, or have more than MAX_PIXELS.
    """
    return _plain(content) or _decoded(_opened(content))


def read_small_picture(content: bytes) -> Picture | None:
    """Decode a picture as `read_picture` does, or return None where that could take longer than a millisecond."""
    if picture := _plain(content):
        return picture
    if len(content) > _SMALL_FILE:
        return None
    image = _opened(content)
    return _decoded(image) if image.width * image.height <= _SMALL_PICTURE else None


def _plain(content: bytes) -> Picture | None:
    pixels = decode_plain(content)
    return None if pixels is None else Picture(pixels, SIDE, SIDE)


def _opened(content: bytes) -> Image.Image:
    """Read a picture's header alone, and refuse what it shows already."""
    if not content:
        raise InputError("the file is empty: send a picture")
    with _in_one_sentence():
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if getattr(image, "is_animated", False):
            raise InputError("the picture moves, or has several pages: send one of a single frame")
        return image


def _decoded(image: Image.Image) -> Picture:
    with _in_one_sentence():
        width, height = image.size
        ImageOps.exif_transpose(image, in_place=True)
        return Picture(np.frombuffer(_flat(image).tobytes(), np.uint8).reshape(SIDE, SIDE, 3), width, height)


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"the picture has too many pixels: send one of at most {MAX_PIXELS:,}") from None
    except Image.UnidentifiedImageError:
        raise InputError(f"the file is no picture that can be read: send {', '.join(FORMATS)}") from None
    except Exception:  # Pillow raises many kinds for damaged files
        raise InputError("the picture is damaged: send a whole one") from None


def _flat(image: Image.Image) -> Image.Image:
    """Return the picture as 32×32 RGB."""
    if image.mode in _SIXTEEN_BITS:
        image = Image.fromarray(((np.asarray(image).clip(0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return image if image.size == (SIDE, SIDE) else image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
