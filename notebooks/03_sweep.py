# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Sweep
# Search the parameters of [02_train](02_train.ipynb) for the best validation metric. Each trial is a papermill run.
#
# **Reads** the packed dataset of [01_data](01_data.ipynb) and a sweep specification in W&B's schema.
# **Writes** a folder for each sweep, with a folder a trial; of the last sweep `trials.csv`, and `best.yaml`, which
# `papermill -f` accepts.
# **Takes** half a minute on the sample; on CIFAKE, trials × epochs × images.

# %% tags=["parameters"]
sweep = "parameters/sweep_grid.yaml"  # type: str path of the sweep specification
engine = "local"  # type: str local (Optuna, no account) or wandb (W&B's server and an agent)
jobs = 1  # type: int parallel trials; threads are divided among them (0: one trial a GPU)
storage = ""  # type: str URL of a PostgreSQL database that several machines share ("": a file here)
max_failure_rate = 0.5  # type: float fraction of the trials that may fail
sweep_epochs = 2  # type: int epochs of a trial
max_sweep_samples = 1000  # type: int training images of a trial (0: all)
sweep_seed = 0  # type: int seed of the sampler
wandb = "auto"  # type: str W&B mode of each trial: auto (online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str hash of the modules used, set by the pipeline: an edit in lib makes this step outdated
upstream = {"01_data": {"dataset": "outputs/sample/01_data/dataset/metadata.json"}}  # type: dict
product = {"nb": "outputs/sample/03_sweep/03_sweep.ipynb", "best": "outputs/sample/sweep/best.yaml"}  # type: dict

# %%
from lib.core.parameters import validate_parameters

validate_parameters("03_sweep", globals())

# %%
from lib.core.files import atomic_file, project_path
from lib.core.provenance import lib_hash as hash_of
from lib.data.dataset import open_dataset
from lib.plots import sweep as sweep_plots
from lib.plots.style import use_style
from lib.sweep.engine import run_sweep, sweep_folder
from lib.sweep.results import importances, write_best
from lib.sweep.specification import load_specification

use_style()

# %% [markdown]
# ## Search space

# %%
specification = load_specification(project_path(sweep))
metric, maximise = specification.metric, specification.maximise
specification.content["parameters"]

# %%
dataset = open_dataset(project_path(upstream["01_data"]["dataset"]).parent)
fixed = {"epochs": sweep_epochs, "max_train_samples": max_sweep_samples, "wandb": wandb}
fixed["upstream"] = {"01_data": {"dataset": str(project_path(upstream["01_data"]["dataset"]))}}
fingerprint = {"dataset": dataset.fingerprint(), "lib_hash": hash_of(module="training.train")}

# %% [markdown]
# ## Trials
# Each trial is a notebook of its own, in `<sweep>/<number>/`. An interrupted sweep resumes.

# %%
folder = project_path(product["best"]).parent
name = sweep_folder(folder, specification, fixed, fingerprint, sweep_seed).name
trials = run_sweep(specification, fixed, fingerprint, folder, sweep_seed, jobs, storage, max_failure_rate, engine)
name

# %%
with atomic_file(folder / "trials.csv") as partial:
    trials.to_csv(partial, index=False)
trials.sort_values(metric, ascending=not maximise)

# %% [markdown]
# ## Results

# %%
sweep_plots.progress(trials, metric, maximise)

# %%
sweep_plots.parallel_coordinates(trials, specification.varied, metric, maximise)

# %% [markdown]
# Each line is a trial; the thick line is the best one. Differences below the spread between seeds are not
# significant.

# %%
sweep_plots.trials(trials, specification.varied, metric)

# %%
sweep_plots.importance(importances(trials, specification))

# %% [markdown]
# The fraction of the metric's variance that each parameter explains (functional ANOVA). A parameter of little
# importance can stay fixed in the next sweep.

# %%
best = write_best(folder / "best.yaml", trials, specification, name)
best

# %% [markdown]
# ## Checks

# %%
assert trials["best"].sum() == 1
assert trials.loc[trials["best"], "state"].item() == "complete"

# %% [markdown]
# Next: [04_evaluate](04_evaluate.ipynb) evaluates the network of [02_train](02_train.ipynb) on the test images.
