"""Where a result comes from: the code, the data, the machine, the parameters."""

import ast
import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lib.errors import InputError
from lib.files import ROOT

_LIB = ROOT / "lib"
_PACKAGES = ("numpy", "pandas", "pillow", "pytorch-lightning", "scikit-learn", "torch", "torchvision")


def lib_hash(notebook: str = "", module: str = "") -> str:
    """Hash the modules of lib that a notebook (by name) or a module uses, directly or through others.

    An edit changes the hash of just those notebooks that it can affect. Returns 16 hexadecimal digits.
    """
    start = ROOT / "notebooks" / f"{notebook}.py" if notebook else _LIB / f"{module}.py"
    if not start.is_file():
        raise InputError(f"{start} is missing: lib_hash needs the name of a notebook or of a module of lib")
    used: set[Path] = set() if notebook else {start}
    queue = [start]
    while queue:
        for path in _imported(queue.pop()) - used:
            used.add(path)
            queue.append(path)
    digest = hashlib.sha256()
    # With a module counts what lies beside it under its name, such as a template.
    for path in sorted(file for module in used for file in _LIB.glob(f"{module.stem}.*")):
        # Line endings differ between checkouts; the code does not.
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def _imported(path: Path) -> set[Path]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lib":
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.split(".")[0] == "lib"}
    files = {_LIB / ("__init__.py" if name == "lib" else f"{name.split('.')[1]}.py") for name in names}
    return {file for file in files if file.is_file()}


def run_record(parameters: dict[str, Any], data: dict[str, Any], code: str, **results: Any) -> dict[str, Any]:
    """Return the content of a `run.json`: all that one needs to know, and to have, to get the figure again.

    `data` are the facts of the pack, `code` is a hash from `lib_hash`; `results` are added as they are.
    """
    import torch  # here, because lib_hash is computed at every start of the pipeline and must not wait for it

    return {
        "parameters": parameters,
        "data": {key: data[key] for key in ("data", "source", "checksums", "val_fraction", "split_seed")},
        "lib_hash": code,
        "git_commit": _git_commit(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **results,
    }


def processor() -> str:
    """Name the CPU as its system does."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        return commit + ("-dirty" if git("status", "--porcelain", "--untracked-files=no").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None  # a tarball, or a machine without git
