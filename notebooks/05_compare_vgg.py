# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Compare with VGG16
# Train VGG16-BN at 32×32 on the same images and compare it with our network on the same test images.
#
# **Reads** the pack of [01_data](01_data.ipynb), the run of [02_train](02_train.ipynb), the predictions of
# [04_evaluate](04_evaluate.ipynb).
# **Writes** VGG16's run, its predictions, and `comparison.json`.
# **Takes** 40 s on the sample; on CIFAKE ten minutes on two cores, for a ninth of the training images.

# %% tags=["parameters"]
vgg_epochs = 3  # type: int
vgg_train_images = 600  # type: int train on so many images of a fixed random choice (0: all)
vgg_batch_size = 128  # type: int
vgg_learning_rate = 0.001  # type: float
accelerator = "auto"  # type: str auto, cpu or gpu
threads = 0  # type: int on the CPU (0: as many as there are cores)
wandb = "auto"  # type: str auto (online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str set by the pipeline, so that an edit in lib makes this step stale
upstream = {"01_data": {"pack": "outputs/sample/01_data/pack/pack.json"}, "02_train": {"run": "outputs/sample/02_train/run.json"}, "04_evaluate": {"predictions": "outputs/sample/04_evaluate/predictions.csv"}}  # type: dict  # fmt: skip
product = {"nb": "outputs/sample/05_compare_vgg/05_compare_vgg.ipynb", "run": "outputs/sample/05_compare_vgg/run.json", "comparison": "outputs/sample/05_compare_vgg/comparison.json"}  # type: dict  # fmt: skip

# %%
from lib.parameters import check

check("05_compare_vgg", globals())

# %%
import pandas as pd

from lib import plots
from lib.files import project_path, read_json, write_json
from lib.metrics import evaluate_test, is_right, mcnemar, percent
from lib.pack import open_pack
from lib.predictions import load_predictions, predict, save_predictions
from lib.settings import Settings
from lib.training import train

plots.use_style()

# %% [markdown]
# ## Train VGG16-BN
# The same split, augmentation and schedule as ours; the budget, AdamW with its rate, and one view are its own.

# %%
pack = open_pack(project_path(upstream["01_data"]["pack"]).parent)
our_run = read_json(project_path(upstream["02_train"]["run"]))
own = {
    "network": "vgg16_bn",
    "epochs": vgg_epochs,
    "train_images": vgg_train_images,
    "batch_size": vgg_batch_size,
    "muon_rate": 0.0,
    "learning_rate": vgg_learning_rate,
    "mirror": False,
    "accelerator": accelerator,
    "threads": threads,
}
settings = Settings(**{**our_run["parameters"], **own})

# %%
folder = project_path(product["run"]).parent
vgg = train(pack, settings, folder, wandb)
vgg_run = read_json(folder / "run.json")

# %%
plots.history(pd.read_csv(folder / "history.csv"))

# %% [markdown]
# ## Predict once

# %%
save_predictions(folder / "predictions.csv", predict(vgg, pack, ("val", "test"), accelerator))
tables = {
    "ours": load_predictions(project_path(upstream["04_evaluate"]["predictions"]), pack.facts),
    "VGG16-BN": load_predictions(folder / "predictions.csv", pack.facts),
}
figures = {name: evaluate_test(table) for name, table in tables.items()}
runs = {"ours": our_run, "VGG16-BN": vgg_run}

# %% [markdown]
# ## Side by side

# %%
pd.DataFrame(
    {
        name: {
            "network": run["parameters"]["network"],
            "accuracy, all test images": percent(figures[name]["test"]["accuracy"]),
            "accuracy, those not in train": percent(figures[name]["test_not_in_train"]["accuracy"]),
            "area under ROC (%)": percent(figures[name]["test"]["roc_auc"]),
            "parameters": f"{run['network_parameters']:,}",
            "million multiply-accumulates": f"{run['macs'] / 1e6:.1f}",
            "epochs": run["parameters"]["epochs"],
            "training images": f"{run['parameters']['train_images'] or len(pack.rows('train')):,}",
            "training time": f"{run['train_seconds']:.0f} s",
        }
        for name, run in runs.items()
    }
)

# %%
rows = {name: {"macs": runs[name]["macs"], "accuracy": figures[name]["test"]["accuracy"]} for name in runs}
plots.cost_and_accuracy(rows)

# %% [markdown]
# Up is better, left is cheaper.

# %% [markdown]
# ## Is the difference real?
# McNemar's exact test looks only at the images on which the two disagree.

# %%
right = {name: is_right(table[table["split"] == "test"]) for name, table in tables.items()}
difference = mcnemar(right["ours"], right["VGG16-BN"])
low, high = 100 * difference["low"], 100 * difference["high"]
print(f"Only ours right: {difference['only_ours']:,}; only VGG16-BN right: {difference['only_theirs']:,}")
print(f"Difference of accuracy: {100 * difference['difference']:.2f} points [{low:.2f}, {high:.2f}]")
print(f"p = {difference['p_value']:.3g}")

# %%
verdict = "no clear difference" if low <= 0 <= high else "ours is better" if low > 0 else "VGG16-BN is better"
write_json(
    project_path(product["comparison"]),
    {"data": pack.facts["data"], "figures": figures, "runs": runs, "mcnemar": difference, "verdict": verdict},
)
print(f"At these budgets, on {pack.facts['data']}: {verdict}")

# %% [markdown]
# ## Checks

# %%
files = [table.loc[table["split"] == "test", "file"].tolist() for table in tables.values()]
assert files[0] == files[1], "not the same test images"
assert our_run["data"]["checksums"] == vgg_run["data"]["checksums"] == pack.facts["checksums"]

# %% [markdown]
# The pipeline now writes `report.html`, which holds what these five notebooks show.
