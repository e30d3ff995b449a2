"""Sweeps by W&B's server and agents, which need an account; a trial is still a papermill run of 02_train.

An agent runs the specification's `command`, `python -m lib.sweep.wandb_agent PARAMETERS.json`, with all parameters of
one trial in a file. `wandb sweep` and `wandb agent` therefore work on the same specification without 03_sweep too: the
environment variable PROFILE then selects the profile, with its data, epochs and number of images.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lib.core.errors import InputError
from lib.core.files import ROOT, project_path, read_json
from lib.core.parameters import declared, load_profile
from lib.sweep.distributions import NOTEBOOK
from lib.sweep.kernels import Kernels
from lib.sweep.results import ranked
from lib.sweep.specification import METRICS, Specification
from lib.sweep.trial import TrialFailed, run_trial

COMMAND = ["${interpreter}", "-m", "lib.sweep.wandb_agent", "${args_json_file}"]


def for_server(specification: Specification, fixed: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the specification for W&B's server, with the fixed parameters and the folder of the trials."""
    content = specification.content
    constants = {
        name: {"value": value} for name, value in fixed.items() if name not in (*specification.parameters, "wandb")
    }
    return {
        "program": f"notebooks/{NOTEBOOK}.ipynb",
        "project": "cifake",
        **content,
        "command": [*COMMAND, "--folder", str(folder)],
        "parameters": {**content["parameters"], **constants},
    }


def run_agent(specification: Specification, fixed: dict[str, Any], folder: Path) -> pd.DataFrame:
    """Create the sweep on W&B's server, run one agent until it ends, and return the table of its trials.

    Raises InputError when W&B refuses the sweep, as it does without an account.
    """
    import wandb  # here, because the local engine works without it

    try:
        sweep_id = wandb.sweep(for_server(specification, fixed, folder))
    except (wandb.errors.Error, ValueError) as error:
        raise InputError(f"W&B refuses the sweep ({error}): log in with `wandb login`, or use engine local") from None
    path = f"{wandb.Api().default_entity}/cifake/{sweep_id}"
    subprocess.run([sys.executable, "-m", "wandb", "agent", path], cwd=ROOT, check=True)
    return table_of_folders(folder, specification)


def table_of_folders(folder: Path, specification: Specification) -> pd.DataFrame:
    """Return one row a trial, as `lib.sweep.results.results_table` does, from the folders that local agents wrote."""
    rows = []
    for path in sorted(folder.glob("*/rerun.yaml")):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        history, run = path.with_name("history.csv"), path.with_name("run.json")
        epochs = pd.read_csv(history) if history.is_file() else pd.DataFrame()
        value = read_json(run)[METRICS[specification.metric]] if run.is_file() else None
        rows.append(
            {
                "trial": path.parent.name,
                "state": "complete" if run.is_file() else "fail" if epochs.empty else "pruned",
                **{name: values[name] for name in specification.varied},
                "epochs": len(epochs),
                specification.metric: epochs[specification.metric].iloc[-1] if value is None and len(epochs) else value,
                "error": None,
            }
        )
    return ranked(pd.DataFrame(rows), specification)


def of_profile(name: str) -> tuple[dict[str, Any], Path]:
    """Return the parameters that a profile fixes for each trial, and the folder of its sweeps."""
    content = load_profile(name)
    outputs = content["outputs"]
    fixed = {"epochs": content["sweep_epochs"], "max_train_samples": content["max_sweep_samples"], "figures": False}
    fixed["upstream"] = {"01_data": {"dataset": f"{outputs}/01_data/dataset/metadata.json"}}
    return fixed, project_path(f"{outputs}/sweep")


def main(arguments: list[str] | None = None) -> int:
    """Run one trial for an agent; return 0, or 1 when it failed."""
    parser = argparse.ArgumentParser(prog="python -m lib.sweep.wandb_agent", description=__doc__)
    parser.add_argument("parameters", type=Path, help="a JSON file, as W&B's ${args_json_file}")
    parser.add_argument("--folder", type=Path, help="the folder of the trials (default: one for each sweep)")
    given = parser.parse_args(arguments)
    # The agent sends this signal to a run that hyperband prunes: the kernel must end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        fixed, folder = of_profile(os.environ.get("PROFILE", "sample"))
        # Metrics reach the server only online; W&B's variables override this, as everywhere.
        mode = {"wandb": "auto" if {"WANDB_MODE", "WANDB_DISABLED"} & set(os.environ) else "online"}
        parameters = {**fixed, **mode, **_parameters(read_json(given.parameters))}
        run = os.environ.get("WANDB_RUN_ID", given.parameters.stem)
        folder = given.folder or folder / f"wandb-{os.environ.get('WANDB_SWEEP_ID', 'trials')}"
        run_trial(parameters, folder / run, Kernels(), lambda _: False)
    except (InputError, TrialFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of 02_train as one dictionary: W&B nests the values of a group under its name."""
    known = declared(NOTEBOOK)
    return {
        inner: value
        for name, values in given.items()
        for inner, value in (_parameters(values) if name not in known else {name: values}).items()
    }


if __name__ == "__main__":
    sys.exit(main())
