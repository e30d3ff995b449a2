# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Sweep
# Run [02_train](02_train.ipynb) with many parameters, through papermill, and find the best on validation.
#
# **Reads** the pack of [01_data](01_data.ipynb) and a specification in W&B's schema.
# **Writes** a folder a trial, `trials.csv`, and `best.yaml`, which `papermill -f` accepts.
# **Takes** half a minute on the sample; on CIFAKE, trials × epochs × images.

# %% tags=["parameters"]
sweep = "parameters/sweep_grid.yaml"  # type: str the specification
engine = "local"  # type: str local (Optuna, no account) or wandb (W&B's server and an agent)
jobs = 1  # type: int trials at once; threads are divided among them (0: one a GPU)
storage = ""  # type: str URL of a PostgreSQL database that several machines share ("": a file here)
max_failed = 0.5  # type: float the share of trials that may fail
sweep_epochs = 2  # type: int epochs of a trial
sweep_images = 1000  # type: int training images of a trial (0: all)
sweep_seed = 0  # type: int of the sampler, where it draws
wandb = "auto"  # type: str of each trial: auto (online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str set by the pipeline, so that an edit in lib makes this step stale
upstream = {"01_data": {"pack": "outputs/sample/01_data/pack/pack.json"}}  # type: dict
product = {"nb": "outputs/sample/03_sweep/03_sweep.ipynb", "best": "outputs/sample/sweep/best.yaml"}  # type: dict

# %%
from lib.parameters import check

check("03_sweep", globals())

# %%
from lib import plots, plots_sweep
from lib.files import project_path, whole_file
from lib.pack import open_pack
from lib.provenance import lib_hash as hash_of
from lib.sweep import run_sweep
from lib.sweep_spec import load_specification
from lib.sweep_table import importances, write_best

plots.use_style()

# %% [markdown]
# ## What we vary

# %%
specification = load_specification(project_path(sweep))
metric, maximise = specification.metric, specification.maximise
specification.content["parameters"]

# %%
pack = open_pack(project_path(upstream["01_data"]["pack"]).parent)
fixed = {"epochs": sweep_epochs, "train_images": sweep_images, "wandb": wandb}
fixed["upstream"] = {"01_data": {"pack": str(project_path(upstream["01_data"]["pack"]))}}
identity = {"pack": pack.identity(), "lib_hash": hash_of(module="training")}

# %% [markdown]
# ## Trials
# Each is a notebook of its own, in `trials/<number>/`. A killed sweep goes on where it was.

# %%
folder = project_path(product["best"]).parent
trials = run_sweep(specification, fixed, identity, folder / "trials", sweep_seed, jobs, storage, max_failed, engine)

# %%
with whole_file(folder / "trials.csv") as partial:
    trials.to_csv(partial, index=False)
trials.sort_values(metric, ascending=not maximise)

# %% [markdown]
# ## What they show

# %%
plots_sweep.progress(trials, metric, maximise)

# %%
plots_sweep.parallel_coordinates(trials, specification.varied, metric, maximise)

# %% [markdown]
# A line is a trial, the thick one the best. Differences smaller than those between seeds mean nothing.

# %%
plots_sweep.trials(trials, specification.varied, metric)

# %%
plots_sweep.importance(importances(trials, specification))

# %% [markdown]
# The share of the metric's variance over the whole space: what matters little may be left alone next time.

# %%
best = write_best(folder / "best.yaml", trials, specification)
best

# %% [markdown]
# ## Checks

# %%
assert trials["best"].sum() == 1
assert trials.loc[trials["best"], "state"].item() == "complete"

# %% [markdown]
# Next: [04_evaluate](04_evaluate.ipynb) judges the network of [02_train](02_train.ipynb) on the test images.
