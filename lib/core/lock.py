"""One process at a time in a folder."""

from pathlib import Path

import filelock

from lib.core.errors import InputError

_NAME = ".lock"


def lock_folder(folder: Path, refusal: str) -> filelock.BaseFileLock:
    """Lock `folder`, which is made where it is missing, and return the lock, whose `release` ends it.

    The operating system releases it when the process dies, however that happens. Raises InputError, with the sentence
    `refusal`, when another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(refusal) from None
    return lock
