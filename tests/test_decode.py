"""Plain JPEGs are decoded past Pillow: to its pixels, and never where it would do more."""

import io

import numpy as np
import pytest
from conftest import encoded
from PIL import Image

from lib.decode import SIDE, decode_plain

NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
SMOOTH = (np.indices((SIDE, SIDE)).sum(0)[..., None] * [1, 2, 4]).astype(np.uint8)


def jpeg(pixels: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("pixels", [NOISE, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize("quality", [1, 40, 75, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_its_pixels_are_those_of_pillow(pixels: np.ndarray, quality: int, subsampling: str, progressive: bool) -> None:
    content = jpeg(pixels, quality=quality, subsampling=subsampling, progressive=progressive)
    decoded = decode_plain(content)
    assert decoded is not None
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(content))))


def test_what_is_not_plain_is_left_to_pillow() -> None:
    whole, turned = jpeg(NOISE), Image.Exif()
    turned[0x0112] = 6
    others = {
        "empty": b"",
        "text": b"\xff\xd8\xff no picture",
        "PNG": encoded(NOISE, "PNG"),
        "truncated": whole[: len(whole) // 2],
        "damaged": whole[:700] + bytes(50) + whole[750:],
        "another size": jpeg(np.tile(NOISE, (2, 1, 1))),
        "grey": jpeg(NOISE, "L"),
        "CMYK": jpeg(NOISE, "CMYK"),
        "EXIF": jpeg(NOISE, exif=turned),
        "a profile": jpeg(NOISE, icc_profile=b"profile"),
        "a text": jpeg(NOISE, comment=b"text"),
    }
    assert decode_plain(whole) is not None
    assert [name for name, content in others.items() if decode_plain(content) is not None] == []
