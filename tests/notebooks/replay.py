"""Run executed notebooks a second time, and compare their outputs with the first."""

import subprocess
import sys
from pathlib import Path

import nbformat
from conftest import untraced

_HERE = Path(__file__).parent


def replay(names: tuple[str, ...], first: Path, folder: Path, finished: tuple[str, ...] = ()) -> None:
    """Run notebooks of the build in `first` again, into `folder`, and let nbval compare all of their outputs.

    A training among them whose outputs are in `folder` is reused, as every finished run is: it shows no progress bar.
    Its cell is that which names one of `finished`.
    """
    copies = []
    for name in names:
        text = (first / name / f"{name}.ipynb").read_text(encoding="utf-8")
        notebook = nbformat.reads(text.replace(str(first), str(folder)), 4)
        for cell in notebook.cells:
            if any(call in cell.source for call in finished):
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        copies.append(folder.parent / f"{name}.ipynb")
        nbformat.write(notebook, copies[-1])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-sanitize-with", str(_HERE / "nbval.cfg"),
         "--nbval-cell-timeout", "600", "-p", "no:cacheprovider", "-q", "--rootdir", str(folder.parent),
         *map(str, copies)],
        cwd=folder.parent, env={**untraced(), "PYTEST_ADDOPTS": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:]


def assert_same_files(files: tuple[str, ...], first: Path, folder: Path) -> None:
    """Check that files of the first run and of the second are equal, byte for byte."""
    for file in files:
        assert (folder / file).read_bytes() == (first / file).read_bytes(), f"{file} differs"
