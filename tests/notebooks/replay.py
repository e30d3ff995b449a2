"""Run an executed notebook a second time, and compare its outputs with the first."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from conftest import untraced

_HERE = Path(__file__).parent


def replay(name: str, first: Path, folder: Path, reused: tuple[str, ...], same: tuple[str, ...]) -> None:
    """Run a notebook of the build in `first` again, into `folder`, and let nbval compare all of its outputs.

    It reads what the first run of the notebooks before it wrote. Of its own products those named in `reused`, finished
    trainings, are there already, as after a kill: they are not trained again, and show no progress bar. The files
    `same` must be equal, byte for byte.
    """
    for product in reused:
        shutil.copytree(first / product, folder / product)
    for earlier in first.iterdir():
        if earlier.is_dir() and earlier.name != name and not (folder / earlier.name).exists():
            (folder / earlier.name).symlink_to(earlier)
    text = (first / name / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(text.replace(str(first), str(folder)), 4)
    for cell in notebook.cells:
        if reused and " train(dataset" in cell.source:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    copy = folder.parent / f"{name}.ipynb"
    nbformat.write(notebook, copy)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-sanitize-with", str(_HERE / "nbval.cfg"),
         "--nbval-cell-timeout", "600", "-p", "no:cacheprovider", "-q", "--rootdir", str(folder.parent), str(copy)],
        cwd=folder.parent, env={**untraced(), "PYTEST_ADDOPTS": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:]
    for file in same:
        assert (folder / file).read_bytes() == (first / file).read_bytes(), f"{file} differs"
