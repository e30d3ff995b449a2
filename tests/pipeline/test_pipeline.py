"""The pipeline, run by Ploomber on the sample."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ploomber, sample_options

from lib.core.errors import InputError
from lib.core.files import ROOT, project_path, read_json
from lib.core.parameters import load_profile
from lib.evaluation.corruptions import ROBUSTNESS
from lib.evaluation.metrics import SCHEMA_VERSION, check_metrics
from lib.inference.predictor import Predictor

pytestmark = pytest.mark.slow


TASKS = ("01_data", "02_train", "03_sweep", "04_evaluate", "05_compare_vgg", "06_export", "report")


def ran(output: str) -> dict[str, bool]:
    """Read from Ploomber's table of a build which tasks ran."""
    return {name: flag == "True" for name, flag in re.findall(r"^(\w+) +(True|False) ", output, re.M)}


def outdated(*arguments: str, cwd: Path = ROOT, **env: str) -> set[str]:
    """Return the tasks that Ploomber's status calls outdated."""
    table = ploomber("status", *arguments, cwd=cwd, COLUMNS="400", **env)
    rows = re.findall(
        r"^(\w+) {2,}(?:[\w ]+?ago[^ ]*|Has not been run)[^\n]*? {2,}(False|[A-Z][^\n]*?) {2,}", table, re.M
    )
    assert {name for name, _ in rows} == set(TASKS), table
    return {name for name, flag in rows if flag != "False"}


def test_sample_passes_85_percent_but_is_not_perfect(sample_build: Path) -> None:
    metrics = read_json(sample_build / "04_evaluate" / "metrics.json")
    assert metrics["data"] == "sample"
    assert 0.85 < metrics["test"]["accuracy"]["value"] < 0.99
    assert metrics["test_without_leaks"]["accuracy"]["n"] == 992


def test_metrics_match_their_schema(sample_build: Path) -> None:
    metrics = read_json(sample_build / "04_evaluate" / "metrics.json")
    assert check_metrics(metrics) is metrics
    assert next(iter(metrics.items())) == ("schema_version", SCHEMA_VERSION)
    assert len(metrics["object_class"]) == 10
    assert set(metrics["robustness"]) == set(ROBUSTNESS)
    assert metrics["robustness"]["clean"]["accuracy"]["n"] == 150
    broken = copy.deepcopy(metrics)
    broken["object_class"]["cat"]["recall"]["FAKE"]["value"] = "much"
    with pytest.raises(InputError, match=r"metrics.json.object_class.cat.recall.FAKE.value must be"):
        check_metrics(broken)
    with pytest.raises(InputError, match=r"must contain .*'calibration'"):
        check_metrics({key: value for key, value in metrics.items() if key != "calibration"})


def test_report_is_one_file_with_every_figure_and_names_the_sample(sample_build: Path) -> None:
    page = (sample_build / "report.html").read_text(encoding="utf-8")
    assert "they are not results on CIFAKE" in page
    figures = {path.stem: path.read_bytes() for path in (sample_build / "figures").iterdir()}
    assert {"02_train-learning_curves", "04_evaluate-confusion", "04_evaluate-robustness"} <= set(figures)
    assert page.count("data:image/png;base64,") == len(figures) >= 12
    assert all(content.startswith(b"\x89PNG") for content in figures.values())
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']+""", page), "the page refers to another file"
    assert "Traceback" not in page
    accuracy = read_json(sample_build / "04_evaluate" / "metrics.json")["test"]["accuracy"]["value"]
    assert f"{100 * accuracy:.2f} %" in page


def test_comparison_has_all_networks_on_the_same_images(sample_build: Path) -> None:
    comparison = read_json(sample_build / "05_compare_vgg" / "comparison.json")
    assert comparison["networks"]["VGG16-BN, small budget"]["run"]["parameters"]["network"] == "vgg16_bn"
    assert set(comparison["networks"]) == {
        "ours", "CNN baseline (student project), small budget", "VGG16-BN, small budget"
    }  # fmt: skip
    accuracy = {name: entry["metrics"]["test"]["accuracy"]["value"] for name, entry in comparison["networks"].items()}
    for name, entry in comparison["networks"].items():
        assert entry["mcnemar"]["n"] == 1000
        assert entry["mcnemar"]["difference"] == pytest.approx(accuracy["ours"] - accuracy[name])
    assert all("set vgg_weights" in reason for reason in comparison["unavailable"].values())


def test_served_variant_keeps_the_accuracy(sample_build: Path) -> None:
    folder = sample_build / "06_export"
    export, own = read_json(folder / "export.json"), read_json(folder / "served.json")
    entry = export["variants"][own["variant"]]
    assert export["served"] == own["variant"]
    assert entry["servable"]
    assert 100 * entry["change"]["ci_low"] >= -export["max_accuracy_drop"]
    assert (folder / "served.onnx").stat().st_size == entry["bytes"]
    assert export["test"][own["variant"]]["accuracy"]["n"] == 1000
    assert {"float32", "int8", "int8, without TTA", "PyTorch, eager"} <= set(export["variants"])
    model = Predictor(folder / "served.onnx")
    assert model.calibration.temperature == own["calibration"]["temperature"]
    assert (model.data, model.calibration.selective_threshold) == ("sample", own["selective"]["selective_threshold"])


def test_second_build_runs_nothing(sample_build: Path) -> None:
    assert ran(ploomber("build", *sample_options(sample_build))) == dict.fromkeys(TASKS, False)


def test_changed_parameter_makes_dependent_tasks_outdated(sample_build: Path) -> None:
    here = sample_options(sample_build)
    assert outdated(*here) == set()
    assert outdated(*here, "--env--vgg_epochs", "9") == {"05_compare_vgg", "report"}
    assert outdated(*here, "--env--max_accuracy_drop", "9") == {"06_export", "report"}
    assert outdated(*here, "--env--split_seed", "9") == set(TASKS)


def test_edit_in_lib_makes_dependent_tasks_outdated(sample_build: Path, tmp_path: Path) -> None:
    for name in ("lib", "notebooks", "parameters"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pipeline.yaml", "env.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    here = {"cwd": tmp_path, "PYTHONPATH": str(tmp_path)}
    assert outdated(*sample_options(sample_build), **here) == set()
    module = tmp_path / "lib" / "sweep" / "engine.py"
    module.write_text(module.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert outdated(*sample_options(sample_build), **here) == {"03_sweep", "report"}


@pytest.mark.parametrize("profile", ["cpu", "long", "gpu"])
def test_full_profiles_differ_from_the_default_one_and_write_elsewhere(profile: str) -> None:
    content = yaml.safe_load(project_path(f"parameters/{profile}.yaml").read_text())
    base = load_profile(content.pop("meta")["import_from"].removesuffix(".yaml"))
    assert set(content) <= set(base), "a profile sets only parameters of the one that it imports"
    assert all(content[key] != base[key] for key in content), "a profile has only values that differ"
    assert load_profile(profile) == {**base, **content}
    listing = ploomber("status", PLOOMBER_ENV_FILENAME=f"env.{profile}.yaml", COLUMNS="400")
    assert f"File('outputs/{profile}/report.html')" in listing


def test_plot_and_report_of_ploomber(tmp_path: Path) -> None:
    for command in ("plot", "report"):
        ploomber(command, "--output", str(tmp_path / f"{command}.html"))
        assert "05_compare_vgg" in (tmp_path / f"{command}.html").read_text(encoding="utf-8")
