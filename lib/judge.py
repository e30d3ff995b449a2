"""From files to verdicts, a batch at a time: decode, judge together, and say of each why it has no verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.errors import InputError
from lib.model import Model
from lib.pictures import Picture, decode_picture, open_picture

SMALL_PICTURE = 256 * 256  # pixels; a larger one would keep what comes with it waiting


@dataclass(frozen=True)
class Judged:
    """Hold what a network says of a picture: `margin`, the logit of FAKE less that of REAL."""

    picture: Picture
    margin: float


class TooLarge(Exception):
    """Say that a picture of few bytes has more pixels than SMALL_PICTURE, so that others should decode it."""


Item = bytes | Picture | InputError
Seen = Judged | InputError | TooLarge


def judge(model: Model, items: Sequence[Item]) -> list[Seen]:
    """Judge files and decoded pictures together; return for each what came out, or why nothing did.

    What is an InputError already stays as it is.
    """
    read = [_read(item) for item in items]
    pictures = [picture for picture in read if isinstance(picture, Picture)]
    margins = iter(model.margins(np.stack([picture.pixels for picture in pictures])) if pictures else ())
    return [Judged(it, next(margins)) if isinstance(it, Picture) else it for it in read]


def _read(item: Item) -> Picture | InputError | TooLarge:
    if not isinstance(item, bytes):
        return item
    try:
        image = open_picture(item)
        return TooLarge() if image.width * image.height > SMALL_PICTURE else decode_picture(image)
    except InputError as error:
        return error
