"""Release of a finished run on full CIFAKE: `cifake release outputs/cpu` fills outputs/reference/."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Template

from lib.core.errors import InputError
from lib.core.files import ROOT, atomic_dir, atomic_file, read_json, write_json
from lib.evaluation.external import evaluate_path
from lib.evaluation.metrics import change, percent
from lib.inference.limits import EXTERNAL, limits
from lib.inference.predictor import open_onnx
from lib.reporting.figures import with_optimised_figures
from lib.reporting.report import NOTEBOOKS

_FILES = (
    "02_train/run.json", "02_train/weights.safetensors", "04_evaluate/metrics.json", "04_evaluate/drift.npz",
    "04_evaluate/training_hashes.npy", "05_compare_vgg/comparison.json", "06_export/model.onnx",
    "06_export/served.onnx", "06_export/served.json", "06_export/export.json",
)  # fmt: skip

_KEPT = "baselines"  # runs of another machine, which no run of the pipeline renews
_NOTEBOOKS = "notebooks"
REFERENCE = ROOT / "outputs" / "reference"
_CARD = Path(__file__).with_name("release.md.j2")


def release(
    outputs: Path,
    external: Path | None = None,
    against: str | None = None,
    reference: Path = REFERENCE,
    data: str = "CIFAKE",
) -> None:
    """Write the release of the run in `outputs` to `reference`, without this machine's paths.

    It holds the files of _FILES, `README.md` (the model card) and the executed notebooks, and replaces what `reference`
    held but the kept runs of the baselines; with `external`, labelled images that are not of its training data's kind,
    also what the served network makes of them (`evaluate_external`). Raises InputError when the run is not finished or
    not on `data`, or when 06_export wrote another network.
    """
    described = _describe_run(outputs, data)
    export = read_json(outputs / "06_export" / "export.json")
    weights = outputs / "02_train" / "weights.safetensors"
    if export["weights"] != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise InputError(f"{outputs}/06_export is of other weights than {weights}: run 06_export without checkpoint")
    with atomic_dir(reference) as folder:
        if (reference / _KEPT).is_dir():
            shutil.copytree(reference / _KEPT, folder / _KEPT)
        for file in _FILES:
            shutil.copy(outputs / file, folder)
        for network in folder.glob("*.onnx"):
            open_onnx(network)
        _save_notebooks(outputs, folder, described)
        if external:
            write_json(folder / EXTERNAL, evaluate_external(folder / "served.onnx", external, against))
        (folder / "README.md").write_text(model_card(folder), encoding="utf-8")


def release_notebooks(outputs: Path, reference: Path = REFERENCE, data: str = "CIFAKE") -> None:
    """Replace the executed notebooks of the release in `reference` by those of the run in `outputs`.

    It may be another run than the released one, such as a shorter one that readers can repeat: the model card says of
    which run they are. Raises InputError when it is not finished or not on `data`.
    """
    _save_notebooks(outputs, reference, _describe_run(outputs, data))
    with atomic_file(reference / "README.md") as partial:
        partial.write_text(model_card(reference), encoding="utf-8")


def _describe_run(outputs: Path, data: str) -> dict[str, Any]:
    """Return the record of a finished run on `data`, with its test accuracy."""
    run = read_json(outputs / "02_train" / "run.json")
    metrics = read_json(outputs / "04_evaluate" / "metrics.json")
    if run["data"]["data"] != data or metrics["checksums"] != run["data"]["checksums"]:
        raise InputError(f"{outputs} holds a run on {run['data']['data']}: only one on all of {data} is released")
    return {"run": run, "test_accuracy": metrics["test"]["accuracy"]}


def _save_notebooks(outputs: Path, reference: Path, described: dict[str, Any]) -> None:
    with atomic_dir(reference / _NOTEBOOKS) as folder:
        for name in NOTEBOOKS:
            text = without_paths(nbformat.writes(_notebook(outputs / name / f"{name}.ipynb")))
            (folder / f"{name}.ipynb").write_text(text, encoding="utf-8")
        write_json(folder / "run.json", described)


def evaluate_external(model: Path, path: Path, against: str | None) -> dict[str, Any]:
    """Return the figures of a network on the sets in a folder or a zip, as found and as JPEG of quality 75.

    They are those of `lib.evaluation.external.evaluate_path`, without the place of either.
    """
    forms = {"as_found": None, "jpeg_75": 75}
    results = {name: evaluate_path(path, model, against, jpeg) for name, jpeg in forms.items()}
    return {name: result | {"location": path.name, "model": model.name} for name, result in results.items()}


def model_card(folder: Path) -> str:
    """Return the model card, as Markdown, of a folder that holds the files of a release."""
    content = {name: read_json(folder / f"{name}.json") for name in ("run", "metrics", "export")}
    content["executed"] = read_json(folder / _NOTEBOOKS / "run.json")
    known_limits = limits(folder / "served.onnx")
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    template = Template(_CARD.read_text(encoding="utf-8"), keep_trailing_newline=True)
    return template.render(**content, limits=known_limits, sizes=sizes, percent=percent, change=change)


def _notebook(path: Path) -> nbformat.NotebookNode:
    """Read an executed notebook without progress bars, papermill's metadata, and redundant bytes of figures."""
    content = nbformat.read(path, as_version=4)
    content.metadata = {key: content.metadata[key] for key in ("kernelspec",) if key in content.metadata}
    for cell in content.cells:
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return with_optimised_figures(content)


def without_paths(text: str) -> str:
    """Return `text` with paths relative to the project's folder, and other absolute ones cut to their last name."""
    text = text.replace(f"{ROOT.as_posix()}/", "")
    return re.sub(r"""(?<=["'\s(=,])/(?:[\w.@+-]+/)+([\w.@+-]+)""", r"\1", text)
