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

from lib.core.errors import InputError
from lib.core.files import ROOT, project_path
from lib.core.parameters import declared, validate_parameters

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]


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
    assert 15 <= len(notebook.cells) <= 40
    assert max(len(cell.source.splitlines()) for cell in code[1:]) <= 15
    # Nothing comes between the parameters and their check: the import and the call are all of its cell.
    assert code[1].source.split("\n\n") == [
        "from lib.core.parameters import validate_parameters", f'validate_parameters("{path.stem}", globals())'
    ]  # fmt: skip
    # papermill reads the same declarations.
    assert list(papermill.inspect_notebook(path)) == list(declared(path.stem))


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_teaches(path: Path) -> None:
    """A notebook opens with its question, and ends with the answer, from its variables, and with two things to try."""
    cells = nbformat.read(path, 4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    question = re.match(rf"# {path.stem[:2]} · [\w ]+\n\*\*[^*]+\?\*\*\n\n", texts[0])
    assert question, "the first cell is a title, then the question in bold"
    assert max(len(text.partition("\n")[2].split()) for text in texts) <= 90
    (answer,) = (number for number, cell in enumerate(cells) if cell.source == "## Answer")
    calls = [node for node in ast.walk(ast.parse(cells[answer + 1].source)) if isinstance(node, ast.Call)]
    assert "Markdown" in {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    assert not re.search(r"\d\.\d|\d %", texts_of(cells[answer + 1].source)), "numbers come from the run"
    steps = texts[-1].split("\n\n")[0]
    assert steps.startswith("## Two things to try\n")
    assert re.findall(r"^\d\.", steps, re.M) == ["1.", "2."]


def texts_of(code: str) -> str:
    """Return all literal text of `code`, without what f-strings compute or how they format it."""
    nodes = list(ast.walk(ast.parse(code)))
    specs = [node.format_spec for node in nodes if isinstance(node, ast.FormattedValue) and node.format_spec]
    formats = {id(part) for spec in specs for part in ast.walk(spec)}
    constants = (node for node in nodes if isinstance(node, ast.Constant))
    return " ".join(node.value for node in constants if isinstance(node.value, str) and id(node) not in formats)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_pipeline_and_of_the_profile(name: str) -> None:
    tasks = yaml.safe_load(project_path("pipeline.yaml").read_text())["tasks"]
    passed = next(task["params"] for task in tasks if task["name"] == name)
    assert set(passed) == set(declared(name)) - {"upstream", "product"}
    profile = yaml.safe_load(project_path("parameters/sample.yaml").read_text())
    defaults = papermill.inspect_notebook(ROOT / "notebooks" / f"{name}.ipynb")
    computed = {parameter for parameter, value in passed.items() if isinstance(value, dict)}
    assert computed == {"lib_hash"} | ({"source_state"} if name == "01_data" else set())
    for parameter in set(passed) - computed:
        assert passed[parameter] == f"{{{{{parameter}}}}}"
        # Stepping through a notebook does what the default build does.
        assert ast.literal_eval(defaults[parameter]["default"]) == profile[parameter]


def run_papermill(name: str, folder: Path, *options: str) -> str:
    """Run a notebook by papermill's command line; return "" or the output of a failed run."""
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / f"{name}.ipynb"), str(folder / "out.ipynb")]
    run = subprocess.run([*command, *options], cwd=folder, env=untraced(), capture_output=True, text=True)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def namespace(name: str, injected: str) -> dict[str, object]:
    """Return the variables of a notebook after its parameters and `injected`, the cell that papermill inserts."""
    defaults = papermill.inspect_notebook(ROOT / "notebooks" / f"{name}.ipynb")
    variables: dict[str, object] = {key: ast.literal_eval(it["default"]) for key, it in defaults.items()}
    exec(injected, variables)
    return variables | {"In": ["", "zero = 0", f"# Parameters\n{injected}"]}


@pytest.mark.parametrize("name", NAMES)
def test_misspelt_parameter_is_refused(name: str) -> None:
    first = next(iter(declared(name)))
    with pytest.raises(InputError, match=f"{name} has no parameter '{first}x': did you mean '{first}'?"):
        validate_parameters(name, namespace(name, f"{first}x = 1"))


@pytest.mark.parametrize(
    ("name", "injected", "message"),
    [
        ("01_data", "val_fraction = 'much'", "'val_fraction' must be of type float, not str"),
        ("02_train", "epochs = 2.5", "'epochs' must be of type int, not float"),
        ("02_train", "flip = 'true'", "must be of type bool, not str ('true'): write True or False"),
        ("02_train", "lr = '1e-3'", "not str ('1e-3'): write it as 0.001 or 1.0e-3"),
        ("03_sweep", "sweep_epochs = True", "'sweep_epochs' must be of type int, not bool"),
    ],
)
def test_ill_typed_parameter_is_refused(name: str, injected: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        validate_parameters(name, namespace(name, injected))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["-p", "epochx", "1"], "InputError: 02_train has no parameter 'epochx': did you mean 'epochs'?"),
        (["-y", "lr: 1e-3", "-p", "flip", "False"], "not str ('1e-3'): write it as 0.001 or 1.0e-3"),
    ],
)
def test_papermill_is_refused_before_any_work(option: list[str], message: str, tmp_path: Path) -> None:
    assert message in run_papermill("02_train", tmp_path, *option)
    executed = [cell for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells if cell.get("execution_count")]
    assert len(executed) == 3, "parameters, papermill's injected cell, the check"


@pytest.mark.slow
def test_papermill_with_overrides_and_with_a_file(sample_build: Path, tmp_path: Path) -> None:
    """Run notebooks by bare papermill, from another folder, on the pipeline's outputs (05 and 06 take too long)."""
    built = {name: str(sample_build / name) for name in NAMES}
    dataset = {"01_data": {"dataset": f"{built['01_data']}/dataset/metadata.json"}}
    train = {
        "02_train": {
            key: f"{built['02_train']}/{key}.{end}" for key, end in (("run", "json"), ("weights", "safetensors"))
        }
    }
    files = {"run": "run.json", "dataset": "dataset/metadata.json", "best": "best.yaml",
             "predictions": "predictions.csv", "metrics": "metrics.json", "drift": "drift.npz",
             "training_hashes": "training_hashes.npy"}  # fmt: skip
    product = {key: str(tmp_path / file) for key, file in files.items()}
    common = {"product": product, "upstream": dataset | train}
    changes = {
        "01_data": (["-p", "val_fraction", "0.2"], {}),
        "02_train": (["-p", "epochs", "1"], {"network": "plain_16_32", "wandb": "disabled"}),
        "03_sweep": (["-p", "max_sweep_samples", "200"], {"sweep": str(small_sweep(tmp_path)), "wandb": "disabled"}),
        "04_evaluate": (["-p", "accelerator", "cpu"], {"robustness": False}),
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
