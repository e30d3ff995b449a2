"""Resolve relative paths, and write files and folders atomically."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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

    Raises InputError when the file system refuses a write (full, read-only, over a quota).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise _write_refused(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`, which replaces it when the block ends without an error.

    A temporary folder left by a killed run is removed first. Raises InputError as `atomic_file` does.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    except OSError as error:
        raise _write_refused(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; raise InputError when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run the notebook that writes it first") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error}): delete it and run its notebook again") from None


def _write_refused(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write {path}: {error.strerror or error}; nothing was changed: "
        "free some space or choose another folder for the outputs, then run again"
    )
