"""The command `predict`: predictions of image files and folders, a row of each as soon as it is computed."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lib.core.errors import InputError
from lib.core.input_rule import InputRule
from lib.core.rows import equal_pixels
from lib.core.terminal import printable, tell
from lib.core.threads import map_batches
from lib.inference.image_files import ImageFile, find_images, skipped_line
from lib.inference.images import DecodedImage, decode_image
from lib.inference.predictor import Predictor, warning

COLUMNS = ("file", "prediction", "p_fake", "unsure", "warning", "error")
_BATCH = 64  # images of 32×32; what a larger batch computes leaves the cache

Row = dict[str, Any]


def predict(paths: Sequence[str], model: Path, style: str) -> int:
    """Print a row for each file that `find_images` finds, once it is classified; return 1 if any has an error, else 0.

    `style` is "table" (for people), "json" (one object a line) or "csv". Progress goes to standard error where rows go
    to a file or another program. Raises InputError as `find_images` and `Predictor` do.
    """
    files, skipped = find_images(paths)
    rows = predicted(Predictor(model, threads=1), files)
    hidden = len(files) <= _BATCH or sys.stdout.isatty()
    failed = 0
    with tqdm(total=len(files), unit=" images", disable=hidden, mininterval=0.5) as bar:
        for row in write(rows, style, width=max(len(printable(file.name)) for file in files)):
            failed += row["error"] is not None
            bar.update()
    if skipped:
        tell(skipped_line(skipped))
    return int(failed > 0)


def predicted(model: Predictor, files: list[ImageFile]) -> Iterator[Row]:
    """Yield a row a file, in order: `file`, `prediction`, `p_fake` (calibrated), `unsure`, `warning`, `error`.

    `file` is the name as text that can be encoded, `error` tells why a file has no prediction. Batches are decoded and
    classified in one thread a usable core; Pillow and ONNX Runtime release Python's lock while they
    work, so give the model one thread.
    """
    return map_batches(partial(_batch_rows, model), files, equal_pixels(_BATCH, model.input_rule.size))


def _batch_rows(model: Predictor, files: Sequence[ImageFile]) -> list[Row]:
    read = [_read(file, model.input_rule) for file in files]
    pixels = [image.pixels for image in read if isinstance(image, DecodedImage)]
    predictions = iter(model.predict(np.stack(pixels)) if pixels else ())
    rows = []
    for file, image in zip(files, read, strict=True):
        row: Row = dict.fromkeys(COLUMNS) | {"file": file.name}
        if isinstance(image, DecodedImage):
            prediction = next(predictions)
            row |= {
                "prediction": prediction.prediction,
                "p_fake": prediction.calibrated["FAKE"],
                "unsure": prediction.unsure,
                "warning": warning(image, prediction),
            }
            rows.append(row)
        else:
            rows.append(row | {"error": image})
    return rows


def _read(file: ImageFile, rule: InputRule) -> DecodedImage | str:
    """Return the decoded image, or the sentence that tells why there is none."""
    try:
        return decode_image(file.read(), rule)
    except InputError as error:
        return str(error)


def write(rows: Iterable[Row], style: str, width: int = 0) -> Iterator[Row]:
    """Print each row in a style of `predict`, then yield it; `width` is that of the first column of a table.

    A row takes one line: control characters in a name are escaped, as JSON does. JSON is ASCII, for any encoding.
    """
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    if style == "csv":
        writer.writeheader()
    for row in rows:
        if style == "json":
            print(json.dumps(row))
        elif style == "csv":
            writer.writerow(row | {"file": printable(row["file"])})
        else:
            unsure = " UNSURE" if row["unsure"] else ""
            result = row["error"] or f"{row['prediction']}  P(FAKE) {row['p_fake']:.4f}{unsure}"
            print(f"{printable(row['file']):{width}}  {result}{'  (' + row['warning'] + ')' if row['warning'] else ''}")
        sys.stdout.flush()  # a reader gets each row as it comes
        yield row
