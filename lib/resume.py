"""Go on after a kill, and only with work that is the same."""

import shutil
from pathlib import Path
from typing import Any

from lib.errors import InputError
from lib.files import read_json, write_json

_LABEL = "belongs_to.json"


def claim(folder: Path, identity: dict[str, Any]) -> bool:
    """Make `folder` ready for the work that `identity` (plain JSON values) describes.

    What the same work left there, unfinished or finished, stays; what any other work left is removed. Tell whether the
    same work was there.
    """
    try:
        same = (folder / _LABEL).is_file() and read_json(folder / _LABEL) == identity
    except InputError:
        same = False  # a damaged label belongs to nobody
    if not same:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / _LABEL, identity)
    return same
