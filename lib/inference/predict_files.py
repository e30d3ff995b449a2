"""The command `predict`: predictions of image files and folders, a row of each as soon as it is computed."""

import csv
import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lib.core.errors import InputError
from lib.inference.images import DecodedImage, decode_image
from lib.inference.predictor import Predictor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
COLUMNS = ("file", "prediction", "p_fake", "unsure", "warning", "error")
_BATCH = 64  # images; what a larger batch computes leaves the cache
_AHEAD = 8  # batches that are begun before the first row of theirs is taken, so that memory stays flat

Row = dict[str, Any]


def predict(paths: list[Path], model: Path, style: str) -> int:
    """Print a row for each image as soon as it is classified; return 0, or 1 where one could not be read.

    `style` is "table" (for people), "json" (one object a line) or "csv". Progress goes to standard error where rows go
    to a file or another program. Raises InputError for a path without images, and for what `Predictor` refuses.
    """
    files = [file for path in paths for file in images_in(path)]
    rows = predicted(Predictor(model, threads=1), files)
    hidden = len(files) <= _BATCH or sys.stdout.isatty()
    failed = 0
    with tqdm(total=len(files), unit=" images", disable=hidden, mininterval=0.5) as bar:
        for row in write(rows, style, width=max(len(str(file)) for file in files)):
            failed += row["error"] is not None
            bar.update()
    return int(failed > 0)


def images_in(path: Path) -> list[Path]:
    """Return `path` itself, or the images under it, sorted; raise InputError where there is none."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{path} is no image and no folder with images: check the path")
    return found


def predicted(model: Predictor, files: list[Path]) -> Iterator[Row]:
    """Yield a row a file, in order: `file`, `prediction`, `p_fake` (calibrated), `unsure`, `warning`, `error`.

    Batches are decoded and classified in one thread a core; Pillow and ONNX Runtime release Python's lock while they
    work, so give the model one thread.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead: deque[Future[list[Row]]] = deque()
        try:
            for start in range(0, len(files), _BATCH):
                ahead.append(pool.submit(_batch_rows, model, files[start : start + _BATCH]))
                if len(ahead) > _AHEAD:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # at Ctrl-C nothing more is begun


def _batch_rows(model: Predictor, files: list[Path]) -> list[Row]:
    read = [_read(file) for file in files]
    pixels = [image.pixels for image in read if isinstance(image, DecodedImage)]
    predictions = iter(model.predict(np.stack(pixels)) if pixels else ())
    rows = []
    for file, image in zip(files, read, strict=True):
        row: Row = dict.fromkeys(COLUMNS) | {"file": str(file)}
        if isinstance(image, DecodedImage):
            prediction = next(predictions)
            row |= {
                "prediction": prediction.prediction,
                "p_fake": prediction.calibrated["FAKE"],
                "unsure": prediction.unsure,
            }
            rows.append(row | {"warning": image.warning})
        else:
            rows.append(row | {"error": image})
    return rows


def _read(file: Path) -> DecodedImage | str:
    """Return the decoded image, or the sentence that tells why there is none."""
    try:
        return decode_image(file.read_bytes())
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"


def write(rows: Iterable[Row], style: str, width: int = 0) -> Iterator[Row]:
    """Print each row in a style of `predict`, then yield it; `width` is that of the first column of a table."""
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    if style == "csv":
        writer.writeheader()
    for row in rows:
        if style == "json":
            print(json.dumps(row, ensure_ascii=False))
        elif style == "csv":
            writer.writerow(row)
        else:
            unsure = " UNSURE" if row["unsure"] else ""
            result = row["error"] or f"{row['prediction']}  P(FAKE) {row['p_fake']:.4f}{unsure}"
            print(f"{row['file']:{width}}  {result}{'  (' + row['warning'] + ')' if row['warning'] else ''}")
        sys.stdout.flush()  # a reader gets each row as it comes
        yield row
