"""Release a finished run on full CIFAKE: `python -m lib.release outputs/cpu` fills outputs/reference/, and
`python -m lib.release outputs/robust robust` puts the network of another run below it, as outputs/reference/robust/."""

import hashlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Template

from lib.errors import InputError
from lib.export import export_onnx
from lib.figures import figures_of, save_figures, with_smaller_figures
from lib.files import ROOT, project_path, read_json, whole_folder
from lib.metrics import change, percent
from lib.model import open_onnx
from lib.report import NOTEBOOKS
from lib.weights import load_weights

_FILES = (
    "02_train/run.json", "02_train/weights.safetensors", "04_evaluate/metrics.json", "04_evaluate/drift.npz",
    "05_compare_vgg/comparison.json", "06_export/model.onnx", "06_export/served.onnx", "06_export/served.json",
    "06_export/export.json",
)  # fmt: skip

REFERENCE = ROOT / "outputs" / "reference"
_CARD = Path(__file__).with_name("release.md.j2")


def release(outputs: Path, reference: Path = REFERENCE, data: str = "CIFAKE") -> None:
    """Write to `reference` what others need of the run in `outputs`, and nothing that names this machine.

    The files of _FILES, `README.md` (the model card), the executed notebooks and their figures. What lay there is
    replaced, but for second networks. Raises InputError when the run is not finished or not on `data`, or when
    06_export wrote another network.
    """
    run, metrics = _finished(outputs, data)
    export = read_json(outputs / "06_export" / "export.json")
    weights = outputs / "02_train" / "weights.safetensors"
    if export["weights"] != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise InputError(f"{outputs}/06_export is of other weights than {weights}: run 06_export without a checkpoint")
    with whole_folder(reference) as folder:
        for second in reference.glob("*/model.onnx"):
            shutil.copytree(second.parent, folder / second.parent.name)
        for file in _FILES:
            shutil.copy(outputs / file, folder)
        for network in folder.glob("*.onnx"):
            open_onnx(network)
        (folder / "notebooks").mkdir()
        notebooks = {name: _notebook(outputs / name / f"{name}.ipynb") for name in NOTEBOOKS}
        for name, notebook in notebooks.items():
            text = without_paths(nbformat.writes(notebook))
            (folder / "notebooks" / f"{name}.ipynb").write_text(text, encoding="utf-8")
        save_figures(notebooks, folder / "figures")
        _write_card(folder, run, metrics, export)


def release_second(outputs: Path, name: str, reference: Path = REFERENCE, data: str = "CIFAKE") -> None:
    """Write to the folder `name` of `reference` the network of another run, of which 02_train and 04_evaluate are done.

    `model.onnx`, `run.json`, `metrics.json`, `README.md` (its card) and the figure of its robustness: what the service
    needs for it to answer, and what to expect. Raises InputError as `release` does, and for a name that is no word or
    is taken by the release itself.
    """
    taken = (reference / name).exists() and not (reference / name / "model.onnx").is_file()
    if taken or not re.fullmatch(r"\w+", name):
        raise InputError(f"a second network cannot be named {name!r}: take another word")
    run, metrics = _finished(outputs, data)
    figures = figures_of(_notebook(outputs / "04_evaluate" / "04_evaluate.ipynb"))
    with whole_folder(reference / name) as folder:
        export_onnx(load_weights(outputs / "02_train" / "weights.safetensors"), folder / "model.onnx")
        for file in ("02_train/run.json", "04_evaluate/metrics.json"):
            shutil.copy(outputs / file, folder)
        if robustness := figures.get("robustness"):
            (folder / "robustness.png").write_bytes(robustness)
        _write_card(folder, run, metrics)


def _finished(outputs: Path, data: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the run and the metrics of `outputs`, which must both be of all of `data`."""
    run = read_json(outputs / "02_train" / "run.json")
    metrics = read_json(outputs / "04_evaluate" / "metrics.json")
    if run["data"]["data"] != data or metrics["checksums"] != run["data"]["checksums"]:
        raise InputError(f"{outputs} holds a run on {run['data']['data']}: only one on all of {data} is released")
    return run, metrics


def _write_card(
    folder: Path, run: dict[str, Any], metrics: dict[str, Any], export: dict[str, Any] | None = None
) -> None:
    card = Template(_CARD.read_text(encoding="utf-8"), keep_trailing_newline=True)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    text = card.render(run=run, metrics=metrics, export=export, sizes=sizes, percent=percent, change=change)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _notebook(path: Path) -> nbformat.NotebookNode:
    """Read an executed notebook without what it said on its way and papermill noted, its figures in fewer bytes."""
    content = nbformat.read(path, as_version=4)
    content.metadata = {key: content.metadata[key] for key in ("kernelspec",) if key in content.metadata}
    for cell in content.cells:
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return with_smaller_figures(content)


def without_paths(text: str) -> str:
    """Return `text` with paths relative to the project's folder, and other absolute ones cut to their last name."""
    text = text.replace(f"{ROOT.as_posix()}/", "")
    return re.sub(r"""(?<=["'\s(=,])/(?:[\w.@+-]+/)+([\w.@+-]+)""", r"\1", text)


def main(arguments: list[str]) -> Any:
    if len(arguments) not in (1, 2):
        return "usage: python -m lib.release outputs/<profile> [name of a second network]"
    outputs, *names = arguments
    try:
        if names:
            release_second(project_path(outputs), *names)
        else:
            release(project_path(outputs))
    except InputError as error:
        return str(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
