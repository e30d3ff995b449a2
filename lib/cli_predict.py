"""The command `predict`: judge files and folders of pictures, and print a row of each as soon as it is known."""

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

from lib.errors import InputError
from lib.model import Model
from lib.pictures import Picture, read_picture

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
COLUMNS = ("file", "prediction", "p_fake", "unsure", "warning", "error")
STYLES = ("table", "json", "csv")
_BATCH = 64  # pictures; what a larger batch computes leaves the cache
_AHEAD = 8  # batches that are begun before the first row of theirs is taken, so that memory stays flat

Row = dict[str, Any]


def predict(paths: list[Path], model: Path, style: str) -> int:
    """Print a row a picture as soon as it is judged; return 0, or 1 where one could not be read.

    `style` is "table" (for people), "json" (one object a line) or "csv". Progress goes to standard error where rows go
    to a file or another program. Raises InputError for a path without pictures and a missing or foreign model.
    """
    files = [file for path in paths for file in pictures_in(path)]
    rows = judged(Model(model, threads=1), files)
    hidden = len(files) <= _BATCH or sys.stdout.isatty()
    failed = 0
    with tqdm(total=len(files), unit=" pictures", disable=hidden, mininterval=0.5) as bar:
        for row in write(rows, style, width=max(len(str(file)) for file in files)):
            failed += row["error"] is not None
            bar.update()
    return int(failed > 0)


def pictures_in(path: Path) -> list[Path]:
    """Return `path` itself, or the pictures under it, sorted; raise InputError where there is none."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{path} is no picture and no folder with pictures: check the path")
    return found


def judged(model: Model, files: list[Path]) -> Iterator[Row]:
    """Yield a row a file, in order: `file`, `prediction`, `p_fake` (calibrated), `unsure`, `warning`, `error`.

    A thread a core decodes and judges batches; Pillow and ONNX Runtime leave Python's lock while they work, so give
    the model one thread.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead: deque[Future[list[Row]]] = deque()
        try:
            for start in range(0, len(files), _BATCH):
                ahead.append(pool.submit(_judge, model, files[start : start + _BATCH]))
                if len(ahead) > _AHEAD:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # at Ctrl-C nothing more is begun


def _judge(model: Model, files: list[Path]) -> list[Row]:
    read = [_read(file) for file in files]
    pixels = [picture.pixels for picture in read if isinstance(picture, Picture)]
    verdicts = iter(model.judge(np.stack(pixels)) if pixels else ())
    rows = []
    for file, picture in zip(files, read, strict=True):
        row: Row = dict.fromkeys(COLUMNS) | {"file": str(file)}
        if isinstance(picture, Picture):
            verdict = next(verdicts)
            row |= {"prediction": verdict.prediction, "p_fake": verdict.calibrated["FAKE"], "unsure": verdict.unsure}
            rows.append(row | {"warning": picture.warning})
        else:
            rows.append(row | {"error": picture})
    return rows


def _read(file: Path) -> Picture | str:
    """Decode a picture, or say why it cannot be read."""
    try:
        return read_picture(file.read_bytes())
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"


def write(rows: Iterable[Row], style: str, width: int = 0) -> Iterator[Row]:
    """Print each row in one of STYLES, and hand it on; `width` is that of the first column of a table."""
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    if style == "csv":
        writer.writeheader()
    for row in rows:
        if style == "json":
            print(json.dumps(row, ensure_ascii=False))
        elif style == "csv":
            writer.writerow(row)
        else:
            doubt = " UNSURE" if row["unsure"] else ""
            said = row["error"] or f"{row['prediction']}  P(FAKE) {row['p_fake']:.4f}{doubt}"
            print(f"{row['file']:{width}}  {said}{'  (' + row['warning'] + ')' if row['warning'] else ''}")
        sys.stdout.flush()  # whoever reads sees each row as it comes
        yield row
