"""Decoding plain JPEGs without Pillow: the same pixels, and None for every file that needs Pillow."""

import io

import numpy as np
import pytest
from conftest import encoded
from PIL import Image

from lib.core.decode import IMAGE_SIZE, decode_plain

NOISE = np.random.default_rng(0).integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
SMOOTH = (np.indices((IMAGE_SIZE, IMAGE_SIZE)).sum(0)[..., None] * [1, 2, 4]).astype(np.uint8)


def jpeg(pixels: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("pixels", [NOISE, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize("quality", [1, 40, 75, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_equal_those_of_pillow(pixels: np.ndarray, quality: int, subsampling: str, progressive: bool) -> None:
    content = jpeg(pixels, quality=quality, subsampling=subsampling, progressive=progressive)
    decoded = decode_plain(content)
    assert decoded is not None
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(content))))


def test_files_that_need_pillow_give_none() -> None:
    plain, rotated = jpeg(NOISE), Image.Exif()
    rotated[0x0112] = 6
    others = {
        "empty": b"",
        "text": b"\xff\xd8\xff no image",
        "PNG": encoded(NOISE, "PNG"),
        "truncated": plain[: len(plain) // 2],
        "damaged": plain[:700] + bytes(50) + plain[750:],
        "another size": jpeg(np.tile(NOISE, (2, 1, 1))),
        "grey": jpeg(NOISE, "L"),
        "CMYK": jpeg(NOISE, "CMYK"),
        "EXIF": jpeg(NOISE, exif=rotated),
        "colour profile": jpeg(NOISE, icc_profile=b"profile"),
        "comment": jpeg(NOISE, comment=b"text"),
    }
    assert decode_plain(plain) is not None
    assert [name for name, content in others.items() if decode_plain(content) is not None] == []
