"""Decoding any image: several in one file, odd metadata, every depth, and what would keep a decoder busy."""

import io
import struct
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from conftest import encoded
from PIL import Image

from lib.core.decode import decode, decode_plain, rgb
from lib.core.errors import InputError
from lib.core.input_rule import INPUT_RULES, InputRule
from lib.inference import images
from lib.inference.images import as_jpeg, decode_image, decode_small_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damage that it tolerates
NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
PNG = b"\x89PNG\r\n\x1a\n"
BOMB = zlib.compress(bytes(2**25), 9)


def saved(pixels: np.ndarray | Image.Image, form: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def other() -> Image.Image:
    """Return a new image, because Pillow leaves in an image how it was saved."""
    return Image.fromarray(255 - NOISE)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(raw: np.ndarray, depth: int, colour: int, *chunks: bytes) -> bytes:
    """Return a PNG of the rows `raw` (uint8 H×bytes, as stored), 32 pixels wide."""
    header = struct.pack(">IIBBBBB", 32, len(raw), depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in raw)
    return b"".join((PNG, chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")))


def tiff(samples: np.ndarray, order: str = "<", **tags: int) -> bytes:
    """Return a TIFF of one channel, its samples (32×32) stored as they are."""
    fields = {
        256: 32, 257: 32, 258: samples.itemsize * 8, 259: 1, 262: tags.get("photometric", 1), 273: 8, 277: 1, 278: 32,
        279: samples.nbytes, 339: {"u": 1, "i": 2, "f": 3}[samples.dtype.kind],
    }  # fmt: skip
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in fields.items())
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8 + samples.nbytes)
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    return head + data + struct.pack(order + "H", len(fields)) + entries + bytes(4)


def in_jpeg(*segments: tuple[int, bytes]) -> bytes:
    plain = saved(NOISE, "JPEG")
    return plain[:2] + b"".join(struct.pack(">BBH", 0xFF, m, len(data) + 2) + data for m, data in segments) + plain[2:]


def in_png(*chunks: bytes) -> bytes:
    plain = saved(NOISE, "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def orientation(*further: tuple[int, int, int, int]) -> bytes:
    """Return EXIF of orientation 6, and of further entries (tag, type, count, value)."""
    entries = [(0x0112, 3, 1, 6 << 16), *further]
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHII", *e) for e in entries)


BROKEN = orientation((0x011A, 5, 1, 0xFFFFFFF0), (0x8769, 4, 1, 0xFFFFFFF0), (0x9286, 99, 7, 3), (0x0132, 2, 2**31, 1))
XMP = b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>'

FIRST = {
    "MPO": lambda: saved(NOISE, "MPO", save_all=True, append_images=[other().resize((16, 16))]),
    "MPO, first alone whole": lambda: saved(NOISE, "MPO", save_all=True, append_images=[other()])[:-400],
    "MPO, odd index": lambda: in_jpeg((0xE2, b"MPF\0II*\0\x08\0\0\0\1\0\x00\xb0\x07\0\x04\0\0\x000100")),
    "JPEG and a movie": lambda: saved(NOISE, "JPEG") + bytes(5000) + saved(other(), "JPEG"),
    "pages of a TIFF": lambda: saved(NOISE, "TIFF", save_all=True, append_images=[other(), other()]),
    "TIFF, no next page": lambda: saved(NOISE, "TIFF", save_all=True, append_images=[other()])[:3300],
    "GIF and rubbish": lambda: saved(NOISE, "GIF") + b",!\xf9",
    "APNG of one frame": lambda: in_png(chunk(b"acTL", struct.pack(">II", 1, 0))),
    "WebP of one frame": lambda: saved(NOISE, "WEBP", save_all=True, lossless=True),
}


@pytest.mark.parametrize("kind", FIRST)
def test_the_first_image_of_several_is_classified(kind: str) -> None:
    content = FIRST[kind]()
    image = decode_image(content, InputRule())
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert (image.width, image.height) == (32, 32)
    np.testing.assert_array_equal(image.pixels, expected)
    np.testing.assert_array_equal(decode([("x", content)], InputRule())[0][0], expected)


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_an_animation_is_refused(form: str, options: dict[str, object]) -> None:
    content = saved(NOISE, form, save_all=True, append_images=[other()], duration=100, comment=b"text", **options)
    with pytest.raises(InputError, match="the image is animated: send one of a single frame"):
        decode_image(content, InputRule())


def text(name: bytes, value: bytes) -> bytes:
    return in_png(chunk(name, value))


ODD_PNG = {
    "large text": lambda: text(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * (2**20 + 1))),
    "bomb": lambda: in_png(*[chunk(b"zTXt", b"a\0\0" + BOMB)] * 100),
    "bomb in XMP": lambda: text(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "bomb in EXIF": lambda: in_png(*[chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB)] * 100),
    "bomb in a profile": lambda: text(b"iCCP", b"icc\0\0" + BOMB),
    "large plain text": lambda: text(b"tEXt", b"parameters\0" + b"x" * 2**22),
    "much text": lambda: in_png(*[chunk(b"tEXt", b"k%d\0" % k + b"x" * 2**20) for k in range(70)]),
    "unknown packing": lambda: text(b"zTXt", b"a\0\7abc"),
    "no text": lambda: text(b"iTXt", b"") + b"",
    "damaged profile": lambda: text(b"iCCP", b"icc"),
    "unknown packing of a profile": lambda: text(b"iCCP", b"icc\0\5abc"),
    "short chunks": lambda: in_png(*[chunk(name, b"") for name in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"eXIf")]),
    "short acTL": lambda: in_png(chunk(b"acTL", b"")),
    "wrong checksum": lambda: in_png(chunk(b"tEXt", b"a\0b")[:-1] + b"?"),
    "text after the image": lambda: saved(NOISE, "PNG")[:-12] + chunk(b"zTXt", b"a\0\0" + BOMB) + chunk(b"IEND", b""),
    "EXIF that is none": lambda: text(b"eXIf", b"no EXIF"),
    "EXIF in no hexadecimal": lambda: text(b"tEXt", b"Raw profile type exif\0\nexif\n 5\nzzzzz"),
    "XMP that is no text": lambda: text(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0\xff\xfe\xfd"),
}  # fmt: skip
ODD_JPEG = {
    "short JFIF": lambda: in_jpeg((0xE0, b"JFIF\0")),
    "short Adobe": lambda: in_jpeg((0xEE, b"Adobe")),
    "short profile": lambda: in_jpeg((0xE2, b"ICC_PROFILE\0")),
    "profile in parts out of order": lambda: in_jpeg((0xE2, b"ICC_PROFILE\0\7\2abc"), (0xE2, b"ICC_PROFILE\0\7\7abc")),
    "EXIF that is none": lambda: in_jpeg((0xE1, b"Exif\0\0no EXIF")),
    "empty EXIF": lambda: in_jpeg((0xE1, b"Exif\0\0")),
    "cut EXIF": lambda: in_jpeg((0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x09")),
    "Photoshop": lambda: in_jpeg((0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\1a")),
    "large comments": lambda: in_jpeg(*[(0xFE, bytes(65000))] * 50),
    "XMP": lambda: in_jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff\xfe")),
    "multi-picture": lambda: in_jpeg((0xE2, b"MPF\0")),
}
ODD = {f"PNG, {key}": (make, saved(NOISE, "PNG")) for key, make in ODD_PNG.items()} | {
    f"JPEG, {key}": (make, saved(NOISE, "JPEG")) for key, make in ODD_JPEG.items()
}


@pytest.mark.parametrize("kind", ODD)
def test_metadata_is_no_reason_to_refuse_an_image(kind: str) -> None:
    make, plain = ODD[kind]
    content = make()
    start = time.process_time()
    pixels = decode_image(content, InputRule()).pixels
    assert time.process_time() - start < 0.5, "nothing is expanded"
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(plain)).convert("RGB")))


def profile(data: bytes) -> bytes:
    return f"\nexif\n{len(data):8}\n{data.hex()}\n".encode()


TURNING: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: in_jpeg((0xE1, b"Exif\0\0" + orientation())),
    "JPEG, broken": lambda: in_jpeg((0xE1, b"Exif\0\0" + BROKEN)),
    "JPEG, in two parts": lambda: in_jpeg((0xE1, b"Exif\0\0" + BROKEN[:20]), (0xE1, b"Exif\0\0" + BROKEN[20:])),
    "JPEG, XMP": lambda: in_jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    "MPO": lambda: saved(NOISE, "MPO", save_all=True, append_images=[other()], exif=b"Exif\0\0" + BROKEN),
    "PNG": lambda: text(b"eXIf", BROKEN),
    "PNG, at the end": lambda: saved(NOISE, "PNG")[:-12] + chunk(b"eXIf", BROKEN) + chunk(b"IEND", b""),
    "PNG, text": lambda: text(b"tEXt", b"Raw profile type exif\0" + profile(BROKEN)),
    "PNG, packed text": lambda: text(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile(orientation()))),
    "PNG, XMP": lambda: text(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "WebP": lambda: saved(NOISE, "WEBP", lossless=True, exif=BROKEN),
    "TIFF": lambda: saved(NOISE, "TIFF", tiffinfo={0x0112: 6, 0x8769: 2**32 - 1, 700: b"<x/>", 34675: b"icc"}),
    "TIFF, odd resolution": lambda: saved(NOISE, "TIFF", tiffinfo={0x0112: 6, 282: 0.0, 296: 9}),
}  # fmt: skip


@pytest.mark.parametrize("kind", TURNING)
def test_images_are_turned_by_their_orientation_whatever_else_is_broken(kind: str) -> None:
    content, straight = TURNING[kind](), saved(NOISE, "JPEG") if kind[0] in "JM" else saved(NOISE, "PNG")
    expected = np.rot90(np.asarray(Image.open(io.BytesIO(straight))), -1)
    np.testing.assert_array_equal(decode_image(content, InputRule()).pixels, expected)
    np.testing.assert_array_equal(decode([("x", content)], InputRule())[0][0], expected)


RAMP = np.tile(np.arange(256, dtype=np.uint8).reshape(8, 32), (4, 1))  # 0 to 255, 32×32
WORDS = (RAMP.astype(np.uint16) * 257).astype(">u2").view(np.uint8)
CLEAR, OPAQUE = np.where(RAMP == 7, 255, RAMP), np.where(RAMP == 7, 0, 255).astype(np.uint8)  # 7 is transparent


def lab() -> bytes:
    samples = np.zeros((32, 32, 3), np.uint8)
    samples[..., 0] = RAMP
    return saved(Image.frombytes("LAB", (32, 32), samples.tobytes()), "TIFF")


DEPTHS: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "grey of 16 bits": (lambda: png(WORDS, 16, 0), RAMP),
    "grey of 16 bits, tRNS": (lambda: png(WORDS, 16, 0, chunk(b"tRNS", b"\7\7")), CLEAR),
    "grey of 16 bits, tRNS of another value": (lambda: png(WORDS, 16, 0, chunk(b"tRNS", b"\7\6")), RAMP),
    "grey of 8 bits, tRNS": (lambda: png(RAMP, 8, 0, chunk(b"tRNS", b"\0\7")), CLEAR),
    "grey of 4 bits, tRNS": (
        lambda: png(np.full((32, 16), 0x3C, np.uint8), 4, 0, chunk(b"tRNS", b"\0\3")),
        np.tile([255, 204], (32, 16)),
    ),
    "grey of 2 bits, tRNS": (
        lambda: png(np.full((32, 8), 0b00011011, np.uint8), 2, 0, chunk(b"tRNS", b"\0\1")),
        np.tile([0, 255, 170, 255], (32, 8)),
    ),
    "grey of 1 bit, tRNS": (
        lambda: png(np.full((32, 4), 0x55, np.uint8), 1, 0, chunk(b"tRNS", b"\0\0")),
        np.full((32, 32), 255),
    ),
    "RGB of 16 bits": (lambda: png(WORDS.reshape(32, 32, 2).repeat(3, 1).reshape(32, -1), 16, 2), RAMP),
    "RGB of 16 bits, tRNS": (
        lambda: png(WORDS.reshape(32, 32, 2).repeat(3, 1).reshape(32, -1), 16, 2, chunk(b"tRNS", b"\7\7" * 3)),
        CLEAR,
    ),
    "RGB of 8 bits, tRNS": (lambda: png(RAMP.repeat(3, 1), 8, 2, chunk(b"tRNS", b"\0\7" * 3)), CLEAR),
    "grey and alpha of 16 bits": (
        lambda: png(np.dstack((RAMP, RAMP, OPAQUE, OPAQUE)).reshape(32, -1), 16, 4),
        CLEAR,
    ),
    "RGBA of 16 bits": (
        lambda: png(np.dstack((*[RAMP] * 6, OPAQUE, OPAQUE)).reshape(32, -1), 16, 6),
        CLEAR,
    ),
    "palette, tRNS": (
        lambda: png(
            RAMP, 8, 3, chunk(b"PLTE", bytes(np.arange(256).repeat(3).tolist())),
            chunk(b"tRNS", bytes([255] * 7 + [0])),
        ),
        CLEAR,
    ),
    "LA": (lambda: saved(np.dstack((RAMP, OPAQUE)), "PNG"), CLEAR),
    "half transparent": (lambda: saved(np.dstack((RAMP * 0, np.full_like(RAMP, 128))), "PNG"), np.full((32, 32), 127)),
    "TIFF, 8 bits, white is 0": (lambda: tiff(RAMP, photometric=0), 255 - RAMP),
    "TIFF, 16 bits": (lambda: tiff(RAMP.astype(np.uint16) * 257), RAMP),
    "TIFF, 16 bits, big-endian": (lambda: tiff(RAMP.astype(np.uint16) * 257, ">"), RAMP),
    "TIFF, 16 bits, white is 0": (lambda: tiff(RAMP.astype(np.uint16) * 257, photometric=0), 255 - RAMP),
    "TIFF, 16 bits signed": (lambda: tiff((RAMP.astype(np.int32) * 32767 // 255).astype(np.int16)), RAMP),
    "TIFF, float to 1": (lambda: tiff(RAMP.astype(np.float32) / 255), RAMP),
    "TIFF, float to 1, big-endian": (lambda: tiff(RAMP.astype(np.float32) / 255, ">"), RAMP),
    "TIFF, float to 255": (lambda: tiff(RAMP.astype(np.float32)), RAMP),
    "TIFF, float to 65535": (lambda: tiff(RAMP.astype(np.float32) * 257), RAMP),
    "TIFF, 32 bits to 255": (lambda: tiff(RAMP.astype(np.int32)), RAMP),
    "TIFF, 32 bits to 65535": (lambda: tiff(RAMP.astype(np.uint32) * 257), RAMP),
    "TIFF, 32 bits": (lambda: tiff(RAMP.astype(np.uint32) * 0x1010101), RAMP),
    "TIFF, 32 bits signed": (lambda: tiff((RAMP.astype(np.int64) * (2**31 - 1) // 255).astype(np.int32)), RAMP),
    "TIFF, packed": (lambda: saved(RAMP.astype(np.float32) / 255, "TIFF", compression="tiff_deflate"), RAMP),
    "TIFF, 16 bits packed": (lambda: saved(RAMP.astype(np.uint16) * 257, "TIFF", compression="tiff_lzw"), RAMP),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEPTHS)
def test_pixels_of_every_depth_are_scaled_and_put_on_white(kind: str) -> None:
    make, grey = DEPTHS[kind]
    for decoded in (decode_image(make(), InputRule()).pixels, decode([("x", make())], InputRule())[0][0]):
        assert np.abs(decoded.astype(int) - np.asarray(grey)[..., None]).max() <= 1


def test_lab_is_converted() -> None:
    pixels = decode_image(lab(), InputRule()).pixels.astype(int)
    assert np.ptp(pixels, axis=-1).max() <= 2, "no colour"
    assert (np.diff(pixels[:8, :, 1].ravel()) >= 0).all()
    assert pixels[0, 0].max() <= 1
    assert pixels[7, 31].min() >= 254


OUTSIDE = {
    "NaN": np.full((32, 32), np.nan, np.float32),
    "one NaN": np.where(RAMP == 9, np.nan, RAMP / 255).astype(np.float32),
    "infinity": np.where(RAMP == 9, np.inf, RAMP / 255).astype(np.float32),
    "negative floats": RAMP.astype(np.float32) / 255 - 0.5,
    "large floats": RAMP.astype(np.float32) * 1e6,
    "negative integers": RAMP.astype(np.int32) - 5,
    "negative integers of 16 bits": RAMP.astype(np.int16) - 5,
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_pixels_of_no_known_range_are_refused_with_a_sentence(kind: str) -> None:
    with pytest.raises(InputError, match=r"the pixels are outside 0 to .*: send an image of 8 or 16 bits"):
        decode_image(tiff(OUTSIDE[kind]), InputRule())


def scans(count: int, side: int = 64, mode: str = "L", between: bytes = b"") -> bytes:
    """Return a progressive JPEG of `count` scans: the last one is repeated."""
    content = saved(Image.new(mode, (side, side), 128 if mode == "L" else (1, 2, 3)), "JPEG", progressive=True)
    starts = [k for k in range(len(content)) if content[k : k + 2] == b"\xff\xda"]
    last = content[starts[-1] : -2]
    return content[:-2] + (between + last) * (count - len(starts)) + b"\xff\xd9"


def run_length() -> bytes:
    content = bytearray(saved(Image.new("P", (7000, 7000)), "BMP")[:1078])
    content[30] = 1
    return bytes(content)


def strips(count: int) -> bytes:
    fields = {256: 1, 257: count, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    offsets = struct.pack("<HHII", 273, 4, count, 8)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields) + 1) + entries + offsets + bytes(4) + bytes(4 * count)


BUSY: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: scans(900, 7000), "more than 64 scans"),
    "scans of a small image": (lambda: scans(900, 32), "more than 64 scans"),
    "scans of colours": (lambda: scans(200, 64, "RGB"), "more than 64 scans"),
    "scans behind reserved markers": (lambda: scans(200, between=b"\xff\x02\xff\xff"), "more than 64 scans"),
    "scans behind restarts": (lambda: scans(200, between=b"\xff\xd0\xff\xff\xff"), "more than 64 scans"),
    "scans behind comments": (lambda: scans(200, between=b"\xff\xfe\0\5abc"), "more than 64 scans"),
    "segments": (lambda: in_jpeg(*[(0xFE, b"")] * 200_000), "more than 100,000 parts"),
    "chunks": (lambda: in_png(*[chunk(b"tEXt", b"")] * 200_000), "more than 100,000 parts"),
    "run lengths": (run_length, "run-length"),
    "strips": (lambda: strips(100_000), "more than 65,536 strips"),
    "strips behind a header of mixed byte order": (lambda: b"II\0*" + strips(100_000)[4:], "more than 65,536 strips"),
    "strips that are not compressed": (lambda: strips(10_000), "more than 8,192 strips"),
}


@pytest.mark.parametrize("kind", BUSY)
def test_what_would_keep_a_decoder_busy_is_refused_with_a_sentence(kind: str) -> None:
    make, message = BUSY[kind]
    content = make()
    for decoder in (lambda it: decode_image(it, InputRule()), lambda it: decode([("x", it)], InputRule())):
        start = time.process_time()
        with pytest.raises(InputError, match=message):
            decoder(content)
        assert time.process_time() - start < 1


@pytest.mark.parametrize(("form", "together"), [("TIFF", False), ("PNG", True)])
def test_tiffs_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch, form: str, together: bool) -> None:
    met, both = [], threading.Barrier(2)

    def observed(opened: Image.Image) -> Image.Image:
        with suppress(threading.BrokenBarrierError):
            met.append(both.wait(0.3))
        return rgb(opened)

    monkeypatch.setattr(images, "rgb", observed)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: decode_image(saved(NOISE, form), InputRule()), range(2)))
    assert bool(met) == together


@pytest.mark.parametrize("content", [scans(10, 200, "RGB"), scans(60), in_jpeg((0xE1, b"\xff\xda" * 1000))])
def test_scans_are_counted_where_they_are(content: bytes) -> None:
    assert decode_image(content, InputRule()).pixels.shape == (32, 32, 3)


def test_a_plain_jpeg_of_thousands_of_scans_is_not_decoded_at_once() -> None:
    assert decode_plain(saved(NOISE, "JPEG", progressive=True)) is not None
    assert decode_plain(scans(5000, 32, "RGB")) is None
    assert decode_small_image(scans(5000, 32, "RGB"), InputRule()) is None


def test_both_decoders_count_what_was_converted() -> None:
    files = [("a", png(WORDS, 16, 0)), ("b", encoded(NOISE, "PNG")), ("c", saved(Image.new("LA", (32, 32)), "PNG"))]
    assert decode(files, InputRule())[2] == {"I;16": 1, "LA": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(OUTSIDE["NaN"]), "the pixels are outside 0 to 65,535, or are no numbers"),
        (saved(NOISE, "GIF", save_all=True, append_images=[other()]), "the image is animated"),
        (PNG + b"x", "the file is no image that can be read"),
    ],
)
def test_the_data_path_names_the_file_and_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=rf"^a/b\.jpg cannot be used as an image \({reason}\): replace or remove it$"):
        decode([("a/b.jpg", content)], InputRule())


def test_the_rule_from_image_to_input() -> None:
    """Fails where the rule changes: then INPUT_RULES has to change, and docs/external.md to be measured again."""
    assert INPUT_RULES == {1: "resize", 2: "crop"}
    assert (decode_image(saved(NOISE, "PNG"), InputRule()).pixels == NOISE).all(), "of 32×32: as it is"
    photograph = np.asarray(Image.fromarray(NOISE).resize((300, 200), Image.Resampling.BICUBIC))
    small = Image.fromarray(photograph).resize((32, 32), Image.Resampling.BICUBIC, reducing_gap=2)
    expected = np.asarray(Image.open(io.BytesIO(saved(small, "JPEG", quality=75, subsampling="4:2:0"))))
    np.testing.assert_array_equal(decode_image(saved(photograph, "PNG"), InputRule()).pixels, expected)


def test_a_jpeg_of_an_image_has_its_size_and_that_quality() -> None:
    photograph = np.asarray(Image.fromarray(NOISE).resize((60, 40)))
    image = Image.open(io.BytesIO(as_jpeg(saved(photograph, "PNG"), 30)))
    assert (image.format, image.size) == ("JPEG", (60, 40))
    assert image.quantization == Image.open(io.BytesIO(saved(photograph, "JPEG", quality=30))).quantization
