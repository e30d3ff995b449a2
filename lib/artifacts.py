"""Networks as W&B artifacts: logged by a run that is online, and brought from there, checked, into place."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.errors import InputError
from lib.files import ROOT, project_path, whole_folder
from lib.model import Model

WANDB_MODES = ("auto", "online", "offline", "disabled")
ARTIFACT = "cifake-model"
_NAME = re.compile(r"[\w.-]+/[\w.-]+/[\w.-]+(:[\w.-]+)?")


def wandb_mode(mode: str) -> str:
    """Return "online", "offline" or "disabled"; "auto" is online where there is a WANDB_API_KEY, else offline.

    Raises InputError for any other word.
    """
    if mode not in WANDB_MODES:
        raise InputError(f"wandb is {mode!r}: choose one of {', '.join(WANDB_MODES)}")
    if mode == "auto":
        return "online" if os.environ.get("WANDB_API_KEY") else "offline"
    return mode


def log_model(mode: str, folder: Path, files: list[Path], about: dict[str, Any]) -> str:
    """Log `files` as an artifact where W&B is online, and say in a sentence what was done.

    `folder` is where W&B keeps its own files; `about` are plain JSON values that go with the artifact.
    """
    if wandb_mode(mode) != "online":
        return "W&B is not online: no artifact was logged"
    import wandb

    with wandb.init(
        project="cifake", job_type="export", dir=folder, settings={"silent": True, "console": "off"}
    ) as run:
        artifact = wandb.Artifact(ARTIFACT, "model", metadata=about)
        for file in files:
            artifact.add_file(str(file))
        run.log_artifact(artifact)
    return f"Logged as W&B artifact {ARTIFACT}"


def fetch_model(reference: str, to: Path | None = None) -> list[Path]:
    """Bring the artifact `ENTITY/PROJECT/ARTIFACT[:VERSION]` from W&B to the folder `to`, and return its ONNX files.

    Without a version it is the latest; without `to` it is outputs/models/ARTIFACT. Files are checked against
    the digests of the artifact's manifest by W&B's library, and each ONNX file, with the figures beside it, by opening
    it; the folder appears whole or not at all. Raises InputError for another form of reference, a folder that is
    already there, an account or a network that is missing, and an artifact that does not hold a network of ours.
    """
    if not _NAME.fullmatch(reference):
        raise InputError(
            f"{reference!r} names no artifact: write ENTITY/PROJECT/ARTIFACT or ENTITY/PROJECT/ARTIFACT:v0"
        )
    full = reference if ":" in reference else f"{reference}:latest"
    name = full.rpartition("/")[2].partition(":")[0]
    target = project_path(to or Path("outputs", "models", name)).resolve()
    if target.is_relative_to(ROOT / "outputs" / "reference"):
        raise InputError(f"{target} belongs to the released network: choose another folder by --to")
    if target.exists():
        raise InputError(f"{target} is already there: remove it, or choose another folder by --to")
    with whole_folder(target) as folder:
        with _wandb_says(full):
            artifact = _api().artifact(full)
            artifact.download(root=str(folder))
            artifact.verify(root=str(folder))
        found = sorted(path.relative_to(folder) for path in folder.rglob("*.onnx"))
        if not found:
            raise InputError(f"{full} holds no ONNX file: name an artifact that 06_export logged")
        for path in found:
            try:
                Model(folder / path)
            except InputError as error:
                raise InputError(str(error).replace(f"{folder}{os.sep}", f"{full}: ")) from None
    return [target / path for path in found]


def _api() -> Any:
    import wandb  # here, because all other commands must run without it

    if not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise InputError("W&B needs an account: set WANDB_API_KEY, or run `wandb login`")
    return wandb.Api(timeout=15)


@contextlib.contextmanager
def _wandb_says(full: str) -> Iterator[None]:
    """Turn what W&B and the network raise into a sentence."""
    try:
        yield
    except ImportError:
        raise InputError("fetch-model needs wandb: install the project with all its packages") from None
    except InputError:
        raise
    except Exception as error:  # W&B raises its own errors, ValueError, and those of requests
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"W&B did not give {full} ({reason}): check name, account and network") from None
