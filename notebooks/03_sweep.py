# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Sweep
# **Which parameters matter, and which values of them are best on validation images?**
#
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
max_sweep_samples = 600  # type: int training images of a trial (0: all)
sweep_seed = 0  # type: int seed of the sampler
wandb = "auto"  # type: str W&B mode of each trial: auto (online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str hash of the modules used, set by the pipeline: an edit in lib makes this step outdated
upstream = {"01_data": {"dataset": "outputs/sample/01_data/dataset/metadata.json"}}  # type: dict
product = {"nb": "outputs/sample/03_sweep/03_sweep.ipynb", "best": "outputs/sample/sweep/best.yaml"}  # type: dict

# %%
from lib.core.parameters import validate_parameters

validate_parameters("03_sweep", globals())

# %%
from IPython.display import Markdown

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
# The specification names the parameters, the values that each may take, and how to search. A *grid* tries every
# combination, which is thorough and soon too much: its trials are the product of all numbers of values. *Random* search
# covers each parameter with as many values as there are trials, whatever their number. *Bayesian* search (`bayes`) starts
# with random trials, fits a Gaussian process to their results, and proposes where a better result is likely.

# %%
specification = load_specification(project_path(sweep))
metric, maximise = specification.metric, specification.maximise
print(f"{specification.method} search for the {'highest' if maximise else 'lowest'} {metric}")
specification.content["parameters"]

# %%
dataset = open_dataset(project_path(upstream["01_data"]["dataset"]).parent)
fixed = {"epochs": sweep_epochs, "max_train_samples": max_sweep_samples, "wandb": wandb, "figures": False}
fixed["upstream"] = {"01_data": {"dataset": str(project_path(upstream["01_data"]["dataset"]))}}
fingerprint = {"dataset": dataset.fingerprint(), "lib_hash": hash_of(module="training.train")}

# %% [markdown]
# ## Trials
# A trial is short, of few epochs and images, so that many fit into the time. That is a bet: what is best in a short
# training need not be best in a long one. Regularisation pays only later, and a smaller network looks better than it is.
# So search what both share, such as learning rates, and leave the rest to the long runs. Each trial is a notebook of its
# own, in `<sweep>/<number>/`, which one can open. An interrupted sweep resumes.

# %%
folder = project_path(product["best"]).parent
name = sweep_folder(folder, specification, fixed, fingerprint, sweep_seed).name
trials = run_sweep(specification, fixed, fingerprint, folder, sweep_seed, jobs, storage, max_failure_rate, engine)
name

# %%
with atomic_file(folder / "trials.csv") as partial:
    trials.to_csv(partial, index=False)
trials.sort_values(metric, ascending=not maximise).head(10)

# %% [markdown]
# ## Results

# %%
sweep_plots.progress(trials, metric, maximise)

# %% [markdown]
# In the next figure each line is a trial of the table above, from its parameters to its metric on the last axis; the axes
# cover all trials. The thick line is the best one. Look for axes where the lines meet: that parameter has a best range.
# Where they spread, it does not matter.

# %%
sweep_plots.parallel_coordinates(trials, specification.varied, metric, maximise)

# %%
sweep_plots.trials(trials, specification.varied, metric)

# %% [markdown]
# The importance of a parameter is the fraction of the metric's variance that it explains alone (functional ANOVA over a
# random forest, Hutter et al. 2014). It depends on the range that was searched: what varies little in it explains little.
# A parameter of little importance can stay fixed in the next sweep. With few trials the fractions are rough.

# %%
explained = importances(trials, specification)
sweep_plots.importance(explained)

# %%
best = write_best(folder / "best.yaml", trials, specification, name)
best

# %% [markdown]
# ## Checks

# %%
assert trials["best"].sum() == 1
assert trials.loc[trials["best"], "state"].item() == "complete"

# %% [markdown]
# ## Answer

# %%
complete = trials.loc[trials["state"] == "complete", metric]
chosen = ", ".join(f"{key} {best[key]:.3g}" if isinstance(best[key], float) else f"{key} {best[key]}"
                   for key in specification.varied)  # fmt: skip
first = f"{explained.index[0]} explains {100 * explained.iloc[0]:.0f} % of the variance" if len(explained) else ""
Markdown(
    f"On {dataset.metadata['data']}, the best of {len(complete)} complete trials has {metric} "
    f"{complete.max() if maximise else complete.min():.4f}, the median one {complete.median():.4f}: {chosen}. {first}\n\n"
    "It is the best on the images that chose it, so expect a little less. Another seed moves it as well: a difference "
    "smaller than that between seeds is no result."
)

# %% [markdown]
# ## Two things to try
# 1. Search in earnest: `sweep` "parameters/sweep_bayes.yaml", of 50 trials over seven parameters. `run_cap` in that file
#    limits them.
# 2. Run `papermill notebooks/02_train.ipynb out.ipynb -f outputs/sample/sweep/best.yaml` with three values of `seed`. Is
#    the second best trial within that spread?
#
# Next: [04_evaluate](04_evaluate.ipynb) evaluates the network of [02_train](02_train.ipynb) on the test images.
