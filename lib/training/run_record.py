"""The content of a run.json: parameters, data, code version, packages, hardware."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import joblib
import torch

from lib.core.provenance import git_commit, processor

_PACKAGES = ("numpy", "pandas", "pillow", "pytorch-lightning", "scikit-learn", "torch", "torchvision")


def run_record(parameters: dict[str, Any], metadata: dict[str, Any], code: str, **results: Any) -> dict[str, Any]:
    """Return the content of a `run.json`: what is needed to reproduce the run, and its results.

    `metadata` are those of the dataset, `code` is a hash from `lib_hash`; `results` are added unchanged. `cores` are
    those that the process may use.
    """
    return {
        "parameters": parameters,
        "data": {key: metadata[key] for key in ("data", "source", "checksums", "val_fraction", "split_seed")},
        "lib_hash": code,
        "git_commit": git_commit(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": joblib.cpu_count(),
        "threads": torch.get_num_threads(),
        **results,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
