"""The command `predict`: judge files and folders of pictures, row by row, while the next ones are decoded."""

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
_AHEAD = 4  # batches that wait decoded, so that memory stays flat

Row = dict[str, Any]
_Read = list[tuple[Path, Picture | str]]


def predict(paths: list[Path], model: Path, style: str, threads: int = 0) -> int:
    """Print a row a picture as soon as it is judged; return 0, or 1 where one could not be read.

    `style` is "table" (for people), "json" (one object a line) or "csv". Progress goes to standard error where rows go
    to a file or another program. Raises InputError for a path without pictures and a missing or foreign model.
    """
    files = [file for path in paths for file in pictures_in(path)]
    rows = judged(Model(model, threads), files)
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

    A few threads read and decode ahead while ONNX Runtime computes; both leave Python's lock for most of their time.
    """
    batches = (files[start : start + _BATCH] for start in range(0, len(files), _BATCH))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting: deque[Future[_Read]] = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(_read, batch))
                if len(waiting) == _AHEAD:
                    yield from _rows(model, waiting.popleft().result())
            while waiting:
                yield from _rows(model, waiting.popleft().result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # at Ctrl-C nothing more is begun


def _read(files: list[Path]) -> _Read:
    """Decode pictures; of one that cannot be read return why."""
    read: _Read = []
    for file in files:
        try:
            read.append((file, read_picture(file.read_bytes())))
        except InputError as error:
            read.append((file, str(error)))
        except OSError as error:
            read.append((file, f"the file cannot be read: {error.strerror}"))
    return read


def _rows(model: Model, read: _Read) -> Iterator[Row]:
    pixels = [picture.pixels for _, picture in read if isinstance(picture, Picture)]
    verdicts = iter(model.judge(np.stack(pixels)) if pixels else ())
    for file, picture in read:
        row: Row = dict.fromkeys(COLUMNS) | {"file": str(file)}
        if isinstance(picture, str):
            yield row | {"error": picture}
            continue
        verdict = next(verdicts)
        judgement = {"prediction": verdict.prediction, "p_fake": verdict.calibrated["FAKE"], "unsure": verdict.unsure}
        yield row | judgement | {"warning": picture.warning}


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
