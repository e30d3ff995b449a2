"""An image file without its metadata, and with no more parts than a decoder should be given.

Pillow refuses an image for an odd text, profile or EXIF tag, and expands compressed texts. So what is no pixel is left
out before: the metadata that turns an image comes back beside it. Only structure is read here, and no pixel decoded.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from lib.core.errors import InputError

MAX_SCANS = 64  # of a JPEG: progressive ones of the usual encoders have 10 to 18; each takes a pass over the image
MAX_STRIPS = 65_536  # strips or tiles of a TIFF: each takes microseconds, however small it is
MAX_PARTS = 100_000  # chunks of a PNG, segments of a JPEG, extensions of a GIF
_MAX_TEXT = 2**16  # bytes of a text that may turn the image
_PNG, _JPEG, _GIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", (b"GIF87a", b"GIF89a")
_TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")  # as Pillow has them
# A marker with a segment, or the end. As in libjpeg, 0xFF00 (data), a second 0xFF, restarts and reserved ones are none.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
_GIF_BLOCK = re.compile(rb"\0*(!.|,(?=.{9}))", re.DOTALL)  # an extension and its kind, or a frame
_SOS, _EOI, _APP0, _APP1, _ADOBE, _APP15, _COMMENT = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_TURNING_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_ANIMATED = "the image is animated: send one of a single frame"
# Tags that describe pixels: size, depth, compression, colours, strips, orientation, tiles, alpha, JPEG, YCbCr, LERC.
_PIXEL_TAGS = {
    256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339,
    347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, 48129, 50674,
}  # fmt: skip
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324

Metadata = dict[str, bytes | str]


def essentials(content: bytes) -> tuple[bytes, Metadata]:
    """Return a PNG, JPEG, GIF or TIFF without metadata and without images but the first; any other file as it is.

    The metadata that may turn the image (EXIF, XMP) is returned beside it, under the names of Pillow's `info`. Raises
    InputError for an animated PNG or GIF and for more than MAX_PARTS parts, MAX_SCANS scans of a JPEG,
    MAX_STRIPS strips or tiles of a TIFF; struct.error, IndexError or ValueError for damage.
    """
    if content.startswith(_PNG):
        return _png(content)
    if content.startswith(_JPEG):
        return _jpeg(content)
    if content.startswith(_GIF):
        return _gif(content), {}
    return (_tiff(content) if content.startswith(_TIFF) else content), {}


def _parts() -> Iterator[int]:
    yield from range(MAX_PARTS)
    raise InputError(f"the file has more than {MAX_PARTS:,} parts: save it again, with fewer")


def _png(content: bytes) -> tuple[bytes, Metadata]:
    metadata: Metadata = {}
    head, data, texts = [], [], []
    for name, start, end in _png_chunks(content):
        if name == b"IDAT":
            data.append(content[start:end])
        elif name in (b"IHDR", b"PLTE") and not data:
            head.append(content[start - 8 : end + 4])
        elif name == b"tRNS" and not data and head:
            head.append(_png_chunk(name, _transparency(content[start:end], *head[0][16:18])))
        elif name == b"acTL" and not data and end - start == 8:
            if int.from_bytes(content[start : start + 4], "big") > 1:
                raise InputError(_ANIMATED)
        elif name == b"eXIf":
            metadata["exif"] = content[start:end]
        elif content.startswith(_TURNING_TEXTS, start) and end - start <= _MAX_TEXT:
            texts.append((name, content[start:end]))
    for name, text in texts[:2]:  # one of each; more would be expanded for nothing
        metadata |= _text(name, text)
    return b"".join((_PNG, *head, _png_chunk(b"IDAT", b"".join(data)), _png_chunk(b"IEND", b""))), metadata


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk, and where its data start and end."""
    start = len(_PNG) + 8
    for _ in _parts():
        if start > len(content):
            return
        name, end = content[start - 4 : start], start + int.from_bytes(content[start - 8 : start - 4], "big")
        if name == b"IEND":
            return
        yield name, start, end
        start = end + 12


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _transparency(data: bytes, depth: int, colour: int) -> bytes:
    """Return the transparent colour of a grey or RGB image in the depth to which Pillow decodes its pixels."""
    if colour == 2 and depth == 16:
        return bytes(value for high in data[:6:2] for value in (0, high))
    if colour == 0 and depth in (2, 4) and len(data) >= 2:
        return bytes((0, data[1] * 255 // (2**depth - 1) & 255))
    return data


def _text(name: bytes, text: bytes) -> Metadata:
    """Return the key and the text of a chunk, expanded no further than _MAX_TEXT, or nothing where it is damaged."""
    key, _, value = text.partition(b"\0")
    packed = name == b"zTXt"
    if name == b"iTXt":
        packed, value = value[:1] == b"\1", value[2:].split(b"\0", 2)[-1]
    elif packed:
        value = value[1:]
    try:
        plain = zlib.decompressobj().decompress(value, _MAX_TEXT) if packed else value
    except zlib.error:
        return {}
    return {key.decode(): plain.decode("latin-1")}


def _jpeg(content: bytes) -> tuple[bytes, Metadata]:
    metadata: Metadata = {}
    kept, exif = [content[:2]], []
    position, scans, image = 2, 0, len(content)
    for _ in _parts():
        marker = _MARKER.search(content, position)
        if marker is None or marker[1][0] == _EOI:
            break
        code, start = marker[1][0], marker.end() + 2
        position = marker.end() + max(2, int.from_bytes(content[marker.end() : start], "big"))
        if code == _SOS:
            image, scans = min(image, marker.start()), scans + 1
            if scans > MAX_SCANS:
                raise InputError(f"the image has more than {MAX_SCANS} scans: save it again, with fewer")
        elif scans:
            continue
        elif code == _APP1 and content.startswith(_EXIF, start):
            exif.append(content[start + len(_EXIF) : position])
        elif code == _APP1 and content.startswith(_XMP, start):
            metadata["xmp"] = content[start + len(_XMP) : position]
        elif not (_APP0 <= code <= _APP15 or code == _COMMENT) or _tells_colours(code, content[start:position]):
            kept.append(content[marker.start() : position])
    if exif:
        metadata["exif"] = b"".join(exif)
    return b"".join((*kept, content[image:])), metadata


def _tells_colours(code: int, segment: bytes) -> bool:
    if code == _APP0:
        return segment.startswith(b"JFIF\0") and len(segment) >= 14
    return code == _ADOBE and segment.startswith(b"Adobe") and len(segment) >= 12


def _gif(content: bytes) -> bytes:
    """Return the GIF without comments and other extensions but the one that tells what is transparent."""
    start = 13 + _palette(content[10])
    kept, frame = [content[:start]], False
    for _ in _parts():
        if not (block := _GIF_BLOCK.match(content, start)):
            break
        start, is_frame = block.start(1), block[1] == b","
        if is_frame and frame:
            raise InputError(_ANIMATED)
        end = start + 11 + _palette(content[start + 9]) if is_frame else start + 2
        while end < len(content) and content[end]:
            end += content[end] + 1
        if is_frame or (block[1] == b"!\xf9" and not frame):
            kept.append(content[start : end + 1])
        start, frame = end + 1, frame or is_frame
    return b"".join((*kept, b";"))


def _palette(flags: int) -> int:
    """Return the bytes of the palette that the flags of a GIF announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _tiff(content: bytes) -> bytes:
    """Return the TIFF with its first directory in place, of tags that describe pixels, and without a next one."""
    order, big = "<" if content.startswith(b"I") else ">", b"+" in content[2:4]
    number, counter, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    (start,) = struct.unpack_from(order + number, content, 8 if big else 4)
    (count,) = struct.unpack_from(order + counter, content, start)
    first = start + struct.calcsize(counter)
    entries = content[first : first + count * size]
    if len(entries) < count * size:
        raise ValueError("the directory is truncated")
    kept = []
    for place in range(0, len(entries), size):
        entry = entries[place : place + size]
        tag, _, values = struct.unpack_from(f"{order}HH{number}", entry)
        if tag in (_STRIP_OFFSETS, _TILE_OFFSETS) and values > MAX_STRIPS:
            raise InputError(f"the image has more than {MAX_STRIPS:,} strips or tiles: save it again, with fewer")
        if tag in _PIXEL_TAGS:
            kept.append(entry)
    directory = struct.pack(order + counter, len(kept)) + b"".join(kept) + struct.pack(order + number, 0)
    return content[:start] + directory + content[start + len(directory) :]
