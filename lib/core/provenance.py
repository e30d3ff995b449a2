"""Record where a result comes from: a hash of the code, the commit, the processor."""

import ast
import hashlib
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from lib.core.errors import InputError
from lib.core.files import ROOT

_LIB = ROOT / "lib"
_GIT_REPOSITORY = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_CONFIG",
)  # fmt: skip


def lib_hash(notebook: str = "", module: str = "") -> str:
    """Hash the modules of lib that a notebook ("02_train") and a module of lib ("training.train") import, transitively.

    An edit changes the hashes of those notebooks only whose imports reach it. Returns 16 hexadecimal digits. Raises
    InputError for an unknown name.
    """
    notebooks = [ROOT / "notebooks" / f"{notebook}.py"] if notebook else []
    modules = [_LIB.joinpath(*module.split(".")).with_suffix(".py")] if module else []
    missing = [str(start) for start in notebooks + modules if not start.is_file()]
    if missing or not notebooks + modules:
        raise InputError(f"{', '.join(missing)} missing: lib_hash needs the name of a notebook or of a module of lib")
    used = _files(f"lib.{module}") if module else set()
    queue = [*notebooks, *used]
    while queue:
        names = _imported_names(queue.pop().read_text(encoding="utf-8"))
        for path in set().union(*map(_files, names)) - used:
            used.add(path)
            queue.append(path)
    digest = hashlib.sha256()
    # A module includes its data files, which lie beside it under its name, such as a template.
    for path in sorted(file for module in used for file in module.parent.glob(f"{module.stem}.*")):
        # Line endings differ between checkouts; the code does not.
        digest.update(path.relative_to(_LIB).as_posix().encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


@cache  # by content: the pipeline hashes all notebooks, which share most modules
def _imported_names(code: str) -> frozenset[str]:
    """Return the dotted names in the import statements of `code`: of modules, and of what comes from them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return frozenset(names)


def _files(name: str) -> set[Path]:
    """Return the files that importing `name` executes: the module and the packages around it; none outside of lib."""
    root, *parts = name.split(".")
    if root != "lib":
        return set()
    folders = [_LIB.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    files = {folder / "__init__.py" for folder in folders} | {folders[-1].with_suffix(".py")}
    return {file for file in files if file.is_file()}


def processor() -> str:
    """Return the name of the CPU as the operating system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """Return the commit of the checkout, followed by "-dirty" if files differ from it.

    None without git, and where the project is not the top level of a repository, as an archive unpacked inside another
    repository is not.
    """
    # These variables, which git sets for hooks and aliases, point it to another repository.
    environment = {name: value for name, value in os.environ.items() if name not in _GIT_REPOSITORY}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # or `git status` writes to the repository

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return os.fsdecode(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True).stdout)

    try:
        if not Path(git("rev-parse", "--show-toplevel").rstrip("\r\n")).samefile(ROOT):
            return None
        commit = git("rev-parse", "HEAD").strip()
        return commit + ("-dirty" if git("status", "--porcelain", "--untracked-files=no").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None  # an archive, or a machine without git
