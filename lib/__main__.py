"""The command line: `python -m lib predict FILES or FOLDERS`."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lib.errors import InputError
from lib.files import ROOT
from lib.model import Model
from lib.pictures import read_picture

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
COLUMNS = ("prediction", "p_fake", "unsure", "warning", "error")
_BATCH = 256


def main(arguments: list[str] | None = None) -> int:
    """Judge pictures; return 0, or 1 when one could not be read or the call makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m lib", description="Tell camera images from AI-generated ones.")
    command = parser.add_subparsers(required=True).add_parser("predict", help="judge pictures")
    command.add_argument("paths", nargs="+", type=Path, help="pictures, or folders of them")
    command.add_argument("--model", type=Path, default=ROOT / "outputs" / "reference" / "model.onnx")
    style = command.add_mutually_exclusive_group()
    style.add_argument("--json", action="store_true", help="one JSON object a line")
    style.add_argument("--csv", action="store_true")
    given = parser.parse_args(arguments)
    try:
        files = [file for path in given.paths for file in pictures_in(path)]
        rows = list(judged(Model(given.model, threads=0), files))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    write(rows, "json" if given.json else "csv" if given.csv else "table")
    return int(any(row["error"] for row in rows))


def pictures_in(path: Path) -> list[Path]:
    """Return `path` itself, or the pictures under it, sorted; raise InputError where there is none."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{path} is no picture and no folder with pictures: check the path")
    return found


def judged(model: Model, files: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield a row a file: `file`, `prediction`, `p_fake` (calibrated), `unsure`, `warning`, `error`."""
    bar = tqdm(total=len(files), unit=" pictures", disable=len(files) <= _BATCH)
    for start in range(0, len(files), _BATCH):
        batch, rows = [], []
        for file in files[start : start + _BATCH]:
            row: dict[str, Any] = {"file": str(file)} | dict.fromkeys(COLUMNS)
            try:
                picture = read_picture(file.read_bytes())
                row["warning"] = picture.warning
                batch.append(picture.pixels)
            except (InputError, OSError) as error:
                row["error"] = str(error)
            rows.append(row)
        verdicts = iter(model.judge(np.stack(batch)) if batch else ())
        for row in rows:
            if row["error"] is None:
                verdict = next(verdicts)
                p_fake = verdict.calibrated["FAKE"]
                row |= {"prediction": verdict.prediction, "p_fake": p_fake, "unsure": verdict.unsure}
            yield row
        bar.update(len(rows))
    bar.close()


def write(rows: list[dict[str, Any]], style: str) -> None:
    """Print rows for people ("table") or machines ("json", one object a line, or "csv")."""
    if style == "json":
        print("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    elif style == "csv":
        writer = csv.DictWriter(sys.stdout, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    else:
        width = max(len(row["file"]) for row in rows)
        for row in rows:
            doubt = " UNSURE" if row["unsure"] else ""
            said = row["error"] or f"{row['prediction']}  P(FAKE) {row['p_fake']:.4f}{doubt}"
            print(f"{row['file']:{width}}  {said}{'  (' + row['warning'] + ')' if row['warning'] else ''}")


if __name__ == "__main__":
    sys.exit(main())
