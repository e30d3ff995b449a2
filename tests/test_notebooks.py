"""The notebooks: their form, their parameters, and that the same run gives the same outputs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest
import yaml
from conftest import untraced

from lib.files import ROOT, project_path
from lib.parameters import declared

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]
HERE = Path(__file__).parent


def test_there_are_six() -> None:
    assert NAMES == ["01_data", "02_train", "03_sweep", "04_evaluate", "05_compare_vgg", "06_export"]


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_notebook_and_its_twin_agree(path: Path) -> None:
    cells = [
        [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]
        for notebook in (nbformat.read(path, 4), jupytext.read(path.with_suffix(".py")))
    ]
    assert cells[0] == cells[1], f"run: jupytext --sync notebooks/{path.name}"


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_form(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert code[0].metadata.tags == ["parameters"]
    assert all(re.match(r"\w+ = .+  # type: \w+", line) for line in code[0].source.splitlines())
    assert not re.search(r"^(def|class) ", "\n".join(cell.source for cell in code), re.M)
    assert 15 <= len(notebook.cells) <= 50
    assert max(len(cell.source.splitlines()) for cell in code[1:]) <= 20
    # papermill reads the same declarations.
    assert list(papermill.inspect_notebook(path)) == list(declared(path.stem))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_pipeline_and_of_the_profile(name: str) -> None:
    tasks = yaml.safe_load(project_path("pipeline.yaml").read_text())["tasks"]
    passed = next(task["params"] for task in tasks if task["name"] == name)
    assert set(passed) == set(declared(name)) - {"upstream", "product"}
    profile = yaml.safe_load(project_path("parameters/sample.yaml").read_text())
    defaults = papermill.inspect_notebook(ROOT / "notebooks" / f"{name}.ipynb")
    for parameter in set(passed) - {"lib_hash"}:
        assert passed[parameter] == f"{{{{{parameter}}}}}"
        # Stepping through a notebook does what the default build does.
        assert ast.literal_eval(defaults[parameter]["default"]) == profile[parameter]


def run_papermill(name: str, folder: Path, *options: str) -> str:
    """Run a notebook by papermill's command line; return "" or what it printed when it failed."""
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / f"{name}.ipynb"), str(folder / "out.ipynb")]
    run = subprocess.run([*command, *options], cwd=folder, env=untraced(), capture_output=True, text=True)
    return "" if run.returncode == 0 else run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_misspelt_parameter_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    first = next(iter(declared(name)))
    message = run_papermill(name, tmp_path, "-p", f"{first}x", "1")
    assert f"InputError: {name} has no parameter '{first}x': did you mean '{first}'?" in message
    executed = [cell for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells if cell.get("execution_count")]
    assert len(executed) == 3, "parameters, what papermill injects, the check"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("01_data", ["-p", "val_fraction", "much"], "'val_fraction' must be of type float, not str"),
        ("02_train", ["-p", "epochs", "2.5"], "'epochs' must be of type int, not float"),
        ("02_train", ["-p", "flip", "true"], "must be of type bool, not str ('true'): write True or False"),
        ("02_train", ["-y", "learning_rate: 1e-3"], "not str ('1e-3'): write it as 0.001 or 1.0e-3"),
        ("03_sweep", ["-p", "sweep_epochs", "True"], "'sweep_epochs' must be of type int, not bool"),
    ],
)
def test_ill_typed_parameter_is_refused(name: str, option: list[str], message: str, tmp_path: Path) -> None:
    assert message in run_papermill(name, tmp_path, *option)


@pytest.mark.slow
def test_papermill_with_overrides_and_with_a_file(sample_build: Path, tmp_path: Path) -> None:
    """Run notebooks by bare papermill, from another folder, on what the pipeline made (05 and 06 take too long)."""
    built = {name: str(sample_build / name) for name in NAMES}
    pack = {"01_data": {"pack": f"{built['01_data']}/pack/pack.json"}}
    train = {
        "02_train": {
            key: f"{built['02_train']}/{key}.{end}" for key, end in (("run", "json"), ("weights", "safetensors"))
        }
    }
    files = {"run": "run.json", "pack": "pack/pack.json", "best": "best.yaml", "predictions": "predictions.csv",
             "metrics": "metrics.json", "drift": "drift.npz"}  # fmt: skip
    product = {key: str(tmp_path / file) for key, file in files.items()}
    common = {"product": product, "upstream": pack | train}
    changes = {
        "01_data": (["-p", "val_fraction", "0.2"], {}),
        "02_train": (["-p", "epochs", "1"], {"network": "plain_16_32", "wandb": "disabled"}),
        "03_sweep": (["-p", "sweep_images", "200"], {"sweep": str(small_sweep(tmp_path)), "wandb": "disabled"}),
        "04_evaluate": (["-p", "accelerator", "cpu"], {"battery": False}),
    }
    for name, (flags, content) in changes.items():
        (tmp_path / "parameters.yaml").write_text(yaml.safe_dump(common | content))
        assert run_papermill(name, tmp_path, "-f", "parameters.yaml", *flags) == ""
    assert all((tmp_path / file).is_file() for file in files.values())


def small_sweep(folder: Path) -> Path:
    spec = {"method": "random", "run_cap": 1, "metric": {"name": "val/acc", "goal": "maximize"}}
    spec["parameters"] = {"network": {"value": "plain_16_32"}, "weight_decay": {"min": 0.001, "max": 0.1}}
    (folder / "small.yaml").write_text(yaml.safe_dump(spec))
    return folder / "small.yaml"


@pytest.mark.slow
def test_replaying_the_executed_notebooks_gives_the_same_outputs(sample_build: Path, tmp_path: Path) -> None:
    """Run every step a second time, into another folder, and let nbval compare all outputs with the first."""
    copies = []
    for name in NAMES:
        text = (sample_build / name / f"{name}.ipynb").read_text(encoding="utf-8")
        copies.append(tmp_path / f"{name}.ipynb")
        copies[-1].write_text(text.replace(str(sample_build), str(tmp_path / "outputs")), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-sanitize-with", str(HERE / "nbval.cfg"),
         "--nbval-cell-timeout", "600", "-p", "no:cacheprovider", "-q", "--rootdir", str(tmp_path), *map(str, copies)],
        cwd=tmp_path, env={**untraced(), "PYTEST_ADDOPTS": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:]
    names = ("02_train/weights.safetensors", "04_evaluate/predictions.csv", "04_evaluate/metrics.json",
             "05_compare_vgg/earlier/weights.safetensors", "05_compare_vgg/vgg/weights.safetensors",
             "06_export/model.onnx", "06_export/variants/int8.onnx")  # fmt: skip
    for file in names:
        assert (tmp_path / "outputs" / file).read_bytes() == (sample_build / file).read_bytes(), f"{file} differs"
