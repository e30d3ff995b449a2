"""README: its figures are those of the release, it is short, and its commands work."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encoded, ploomber

from lib.core.files import ROOT
from lib.evaluation.metrics import percent
from lib.evaluation.published import ACCURACY
from lib.inference.limits import limits
from lib.reporting.release import REFERENCE

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
LOGS = ("results/index.md", "experiments/released_recipe.md")
TARGETS = [command[1:] for command in COMMANDS if command[0] == "make"]


def read(name: str) -> Any:
    return json.loads((REFERENCE / name).read_text(encoding="utf-8"))


def row(name: str) -> list[str]:
    """Return the cells of the one row of a table that begins with `name`."""
    (line,) = (line for line in README.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_readme_is_short_and_begins_with_limits_and_two_commands() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert f"**{limits(REFERENCE / 'served.onnx')}**" in lines[:6]
    assert [line.split("#")[0].strip() for line in lines[7:9]] == ["make build", "make serve"]


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("baseline: VGG16-BN", "vgg16_bn-by-vgg16_bn"),
        ("baseline: CNN of a student project", "plain_64_128-by-cnn_baseline"),
    ],
)
def test_baselines_are_the_kept_runs(name: str, run: str) -> None:
    result = read(f"baselines/{run}/result.json")
    _, accuracy, parameters, _ = row(name)
    assert accuracy == percent(result["test"])
    assert parameters == f"{result['network_parameters']:,}"


def over_seeds(runs: list[dict[str, Any]], name: str) -> str:
    values = [it[name] for it in runs]
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def test_results_over_seeds_are_those_of_each_seed() -> None:
    """The mean and standard deviation of README, results and log follow from three runs of each recipe.

    The first of the released recipe is the released network, and the first of the hour's made the executed notebooks.
    """
    seeds = json.loads((ROOT / "docs" / "results" / "seeds.json").read_text(encoding="utf-8"))
    released, hour = seeds["released"], seeds["hour"]
    test = read("metrics.json")["test"]
    assert released[0]["test"] == round(100 * test["accuracy"]["value"], 2)
    assert released[0]["roc_auc"] == round(test["roc_auc"]["value"], 5)
    assert hour[0]["test"] == round(100 * read("notebooks/run.json")["test_accuracy"]["value"], 2)

    texts = [README, *((ROOT / "docs" / file).read_text(encoding="utf-8") for file in LOGS)]
    for name in ("test", "not_leaked"):
        assert all(over_seeds(released, name) in text for text in texts), name
    assert row("**ours**")[1] == f"**{over_seeds(released, 'test')} %**"
    assert all(over_seeds(released, "flip_tta") in text for text in texts[1:])
    start = (ROOT / "docs" / "start" / "cifake.md").read_text(encoding="utf-8")
    assert all(f"{over_seeds(hour, 'test')} %" in text for text in (README, start, texts[1]))
    for it in released + hour:
        accuracies = "{val:.2f} | {test:.2f} | {not_leaked:.2f} | {roc_auc:.5f} | {flip_tta:.2f} | {training}"
        assert accuracies.format(**it) in texts[-1], it


def test_published_results_are_those_that_we_compare_with() -> None:
    best = max(ACCURACY, key=lambda entry: entry["accuracy"])
    small = next(entry for entry in ACCURACY if "small" in entry["network"])
    assert row("best published")[1] == f"{best['accuracy']} %; {small['accuracy']} %"


def test_figures_of_the_evaluation_are_those_of_the_release() -> None:
    metrics, export, run = read("metrics.json"), read("export.json"), read("run.json")
    selective = metrics["selective"]
    robustness = [entry["accuracy"]["value"] for name, entry in metrics["robustness"].items() if name != "clean"]
    images_per_second = export["variants"][export["served"]]["latency"]["images_per_second"]
    served = percent(export["test"][export["served"]]["accuracy"])
    speed = f"{images_per_second['mean']:,.0f} ± {images_per_second['sd']:,.0f} images/s"
    external = read("external.json")["as_found"]
    for text in (
        f"{run['network_parameters']:,}", f"{run['train_seconds']:.0f} s on an H100 (seed {run['parameters']['seed']})",
        f"ROC AUC {metrics['test']['roc_auc']['value']:.4f}",
        f"error {percent(metrics['test']['expected_calibration_error'])}",
        f"{100 * selective['target_risk']:g} % of errors allowed it answers {percent(selective['test']['coverage'])}",
        f"{100 * min(robustness):.2f} to {100 * max(robustness):.2f} % under {len(robustness)} corruptions",
        f"(int8) has {served} at {speed} on {export['machine']['threads']} CPU cores".replace("2 CPU", "two CPU"),
        f"(n = {export['machine']['rounds']} rounds)",
        f"{sum(entry['class'] == 'FAKE' for entry in external['sets'])} sets of other generators",
        f"{read('baselines/texture_net_x2-by-vgg16_bn/result.json')['test']['value'] * 100:.2f} %",
    ):  # fmt: skip
        assert text in README.replace("\n", " "), text


def test_readme_links_to_files_of_the_project() -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.skipif(shutil.which("make") is None or sys.platform == "win32", reason="needs make")
@pytest.mark.parametrize("arguments", TARGETS, ids=" ".join)
@pytest.mark.slow
def test_make_commands_are_accepted(arguments: list[str]) -> None:
    """Ask make what it would run, and Ploomber what that would do: neither accepts a parameter that does not exist."""
    asked = ["make", "--dry-run", "--assume-old=.venv/ready", *arguments]
    # The tests may themselves run under make, whose variables would count here too.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))}
    run = subprocess.run(asked, cwd=ROOT, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for line in run.stdout.splitlines():
        if line.startswith("ploomber build"):
            command = shlex.split(
                re.sub(r'"\$\(case .*\)"', "an-archive.zip", line).replace('"$SPEC"', arguments[-1][5:])
            )
            options = [word for word in command[2:] if word not in ("--partially", "03_sweep")]
            profile = next((word[8:] for word in arguments if word.startswith("PROFILE=")), "")
            named = f"env.{profile}.yaml" if profile else "env.yaml"
            assert "02_train" in ploomber("status", *options, PLOOMBER_ENV_FILENAME=named)


@pytest.mark.slow
@pytest.mark.parametrize("command", [words for words in COMMANDS if words[0] == "cifake"], ids=" ".join)
def test_cifake_commands_run(command: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("image.png", "folder/one.png", "labelled/FAKE/one.png", "labelled/REAL/one.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(rng.integers(0, 256, (32, 32, 3), np.uint8), "PNG"))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-m", "lib", *command[1:]], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "FAKE" in run.stdout
