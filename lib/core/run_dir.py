"""Resume a run after a kill, but only in the folder of the same run."""

import shutil
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.files import read_json, write_json

_FINGERPRINT = "fingerprint.json"


def prepare_run_dir(folder: Path, fingerprint: dict[str, Any]) -> bool:
    """Prepare `folder` for the run that `fingerprint` (plain JSON values) identifies.

    Files of the same run, unfinished or finished, are kept; those of any other run are removed. Returns whether the
    folder belongs to the same run.
    """
    path = folder / _FINGERPRINT
    try:
        same = path.is_file() and read_json(path) == fingerprint
    except InputError:
        same = False  # a damaged fingerprint matches no run
    if not same:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(path, fingerprint)
    return same
