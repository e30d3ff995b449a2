"""Resume a run after a kill, but only in the folder of the same run."""

import warnings
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.files import clear_dir, read_json, write_json

_FINGERPRINT = "fingerprint.json"


def prepare_run_dir(folder: Path, fingerprint: dict[str, Any]) -> bool:
    """Prepare `folder` for the run that `fingerprint` (plain JSON values) identifies.

    Files of the same run, unfinished or finished, are kept; those of any other run are removed. Where the folder is a
    symlink, the folder that it names is cleared. Returns whether the folder belongs to the same run. Raises InputError,
    and leaves the folder without the new fingerprint, when it cannot be cleared.
    """
    path = folder / _FINGERPRINT
    try:
        same = path.is_file() and read_json(path) == fingerprint
    except InputError as error:
        warnings.warn(f"{error.args[0].partition(':')[0]}: the run in {folder} starts anew", stacklevel=2)
        same = False
    if not same:
        clear_dir(folder)
        write_json(path, fingerprint)
    return same
