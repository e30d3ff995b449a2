"""Networks as W&B artifacts: logged by 06_export where W&B is online, downloaded by `cifake fetch-model`."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.files import ROOT, atomic_dir, project_path
from lib.core.provenance import git_commit
from lib.core.wandb_mode import wandb_mode
from lib.inference.predictor import Predictor

ARTIFACT = "cifake-model"
_NAME = re.compile(r"[\w.-]+/[\w.-]+/[\w.-]+(:[\w.-]+)?")


def log_model(mode: str, folder: Path, files: list[Path], metadata: dict[str, Any]) -> str:
    """Log `files` as an artifact where W&B is online, and return a sentence that reports what was done.

    `folder` is where W&B keeps its own files; `metadata` are plain JSON values that go with the artifact.
    """
    if wandb_mode(mode) != "online":
        return "W&B is not online: no artifact was logged"
    import wandb

    with wandb.init(
        project="cifake", job_type="export", dir=folder, mode="online",
        settings={"silent": True, "console": "off", "disable_git": git_commit() is None},
    ) as run:  # fmt: skip
        artifact = wandb.Artifact(ARTIFACT, "model", metadata=metadata)
        for file in files:
            artifact.add_file(str(file))
        run.log_artifact(artifact)
    return f"Logged as W&B artifact {ARTIFACT}"


def fetch_model(reference: str, to: Path | None = None) -> list[Path]:
    """Download the artifact `ENTITY/PROJECT/ARTIFACT[:VERSION]` from W&B to the folder `to`; return its ONNX files.

    Without a version it is the latest; without `to` the folder is the project's outputs/models/ARTIFACT. W&B's library
    checks the files against the digests of the artifact's manifest; each ONNX file is opened, with the metrics beside
    it. The folder appears whole or not at all. Raises InputError for another form of reference, a folder that is
    already there, a missing account or connection, and an artifact without a network of this project.
    """
    if not _NAME.fullmatch(reference):
        raise InputError(
            f"{reference!r} names no artifact: write ENTITY/PROJECT/ARTIFACT or ENTITY/PROJECT/ARTIFACT:v0"
        )
    full = reference if ":" in reference else f"{reference}:latest"
    name = full.rpartition("/")[2].partition(":")[0]
    target = (to or project_path(Path("outputs", "models", name))).expanduser().resolve()
    if target.is_relative_to(ROOT / "outputs" / "reference"):
        raise InputError(f"{target} belongs to the released network: choose another folder by --to")
    if target.exists():
        raise InputError(f"{target} is already there: remove it, or choose another folder by --to")
    with atomic_dir(target) as folder:
        with _as_input_error(full):
            artifact = _api().artifact(full)
            artifact.download(root=str(folder))
            artifact.verify(root=str(folder))
        found = sorted(path.relative_to(folder) for path in folder.rglob("*.onnx"))
        if not found:
            raise InputError(f"{full} holds no ONNX file: name an artifact that 06_export logged")
        for path in found:
            try:
                Predictor(folder / path)
            except InputError as error:
                raise InputError(str(error).replace(f"{folder}{os.sep}", f"{full}: ")) from None
    return [target / path for path in found]


def _api() -> Any:
    import wandb  # here, because all other commands must run without it

    if not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise InputError("W&B needs an account: set WANDB_API_KEY, or run `wandb login`")
    return wandb.Api(timeout=15)


@contextlib.contextmanager
def _as_input_error(full: str) -> Iterator[None]:
    """Turn the errors of W&B and of the connection into InputError."""
    try:
        yield
    except ImportError:
        raise InputError("fetch-model needs wandb: install the project with all its packages") from None
    except InputError:
        raise
    except Exception as error:  # W&B raises its own errors, ValueError, and those of requests
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"W&B did not return {full} ({reason}): check name, account and connection") from None
