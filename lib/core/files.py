"""Resolve relative paths, and write files and folders atomically."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lib.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def project_path(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one is resolved against the project's root.

    Ploomber and papermill run a notebook in the caller's folder, JupyterLab and nbval in the notebook's own: a fixed
    root makes the same defaults work in all of them.
    """
    return ROOT / Path(path).expanduser()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` when the block ends without an error.

    A symlink stays, and the file that it names is written. Raises InputError when the file system refuses a write
    (full, read-only, over a quota).
    """
    target = _target(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        raise _write_refused(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`, which replaces it when the block ends without an error.

    A temporary folder left by a killed run is removed first. A symlink stays, and the folder that it names is replaced.
    Raises InputError as `atomic_file` does.
    """
    target = _target(path)
    partial, previous = (target.with_name(f".{target.name}.{suffix}") for suffix in ("partial", "previous"))
    try:
        if previous.exists() and not target.exists():
            previous.rename(target)  # left by a run that was killed between the two renames below
        for leftover in (partial, previous):
            _remove(leftover)
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            target.rename(previous)
        partial.rename(target)
    except OSError as error:
        if previous.exists() and not target.exists():
            previous.rename(target)
        raise _write_refused(path, error) from error
    finally:
        for leftover in (partial, previous):
            shutil.rmtree(leftover, ignore_errors=True)


def clear_dir(folder: Path) -> None:
    """Remove all that is in `folder`, which stays; so does a symlink to it. A folder that does not exist is empty.

    Symlinks in the folder are removed, not followed. Raises InputError if anything cannot be removed.
    """
    try:
        for path in list(folder.iterdir()) if folder.exists() else ():
            _remove(path)
    except OSError as error:
        raise _removal_refused(folder, error) from error


def remove_file(path: Path) -> None:
    """Remove a file, if it exists; of a symlink, the file that it names. Raises InputError if that is refused."""
    try:
        _target(path).unlink(missing_ok=True)
    except OSError as error:
        raise _removal_refused(path, error) from error


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; raise InputError when it is missing, damaged or cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run the notebook that writes it first") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): run its notebook again") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): delete it and run its notebook again") from None


def _target(path: Path) -> Path:
    """Return the path without symlinks: a file or folder is replaced where it lies, such as on another disk."""
    return Path(os.path.realpath(path))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_refused(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write {path}: {error.strerror or error}; nothing was changed: "
        "free some space or choose another folder for the outputs, then run again"
    )


def _removal_refused(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot clear {path} ({error.strerror or error}: {error.filename or path}), which holds another run's files: "
        "remove them, or choose another folder for the outputs, then run again"
    )
