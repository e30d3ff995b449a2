"""Hooks that the pipeline calls: they refuse a build before any work, and notice products that were changed since."""

import hashlib
import sys
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.files import ROOT, read_json, write_json
from lib.core.lock import lock_folder
from lib.core.parameters import check_values

_READING = {"status", "plot", "report"}  # commands of Ploomber that run nothing
_locks: list[Any] = []  # held until the process ends


def before_build(dag: Any) -> None:
    """Prepare Ploomber's `dag`, whose tasks are rendered, for a build; exit with one sentence where it is refused.

    It is refused while another process builds into the same folder, and for a parameter of a notebook that
    `check_values` refuses. Tasks whose products are not what they wrote, such as after a run by hand, run again.
    """
    try:
        if not _locks and _READING.isdisjoint(sys.orig_argv[1:3]):
            outputs = Path(_products(dag["01_data"])[0]).absolute().parents[1]
            _locks.append(
                lock_folder(outputs, f"another build runs in {outputs}: wait for it, or give this one other outputs")
            )
        if _forget_changed(dag):
            dag.render(show_progress=False)  # calls this function again
            return
        for task in dag.values():
            if not _is_skipped(task) and (ROOT / "notebooks" / f"{task.name}.py").is_file():
                check_values(task.name, task.params.to_json_serializable(params_only=True))
    except InputError as error:
        sys.exit(f"Error: {error}")


def record_products(task: Any) -> None:
    """Record the digests of what Ploomber's `task` has just written."""
    write_json(_record(task), _digests(task))


def _forget_changed(dag: Any) -> bool:
    """Make outdated each task to be skipped whose products have changed, and all that need it; return whether any is.

    Ploomber itself compares code, parameters and time stamps, not products.
    """
    changed: set[str] = set()
    for task in dag.values():  # upstream first
        if _is_skipped(task) and (changed & set(task.upstream) or not _is_unchanged(task)):
            task.product.metadata.delete()
            changed.add(task.name)
    return bool(changed)


def _is_unchanged(task: Any) -> bool:
    try:
        return bool(read_json(_record(task)) == _digests(task))
    except InputError:
        return False


def _is_skipped(task: Any) -> bool:
    return bool(task.exec_status.name == "Skipped")


def _digests(task: Any) -> list[str]:
    digests = []
    for path in _products(task):
        with Path(path).open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests


def _products(task: Any) -> list[str]:
    found = task.product.to_json_serializable()
    return list(found.values()) if isinstance(found, dict) else [str(found)]


def _record(task: Any) -> Path:
    first = Path(_products(task)[0])
    return first.with_name(f".{first.name}.products.json")
