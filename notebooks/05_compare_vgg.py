# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Compare with VGG16
# **Is our network better than two baselines, and is that the merit of the network or of the way it was trained?**
#
# They are the CNN of a student project, and VGG16-BN, each by its own recipe; ours also by theirs.
#
# **Reads** the packed dataset of [01_data](01_data.ipynb), the run of [02_train](02_train.ipynb), the predictions and
# metrics of [04_evaluate](04_evaluate.ipynb), and with `baselines` "reference" `outputs/reference/baselines`.
# **Writes** `comparison.json`, and with "train" a run and predictions for each baseline.
# **Takes** two minutes on the sample; on CIFAKE 8 on two cores, mostly for latency.

# %% tags=["parameters"]
baselines = "train"  # type: str reference (read the runs kept in outputs/reference/baselines, on all of CIFAKE) or train
max_baseline_samples = 200  # type: int size of the baselines' random training subset (0: all images)
baseline_batch_size = 128  # type: int images a step
cnn_baseline_epochs = 5  # type: int epochs of the CNN baseline
cnn_baseline_lr = 0.004  # type: float its peak learning rate of AdamW
vgg_epochs = 3  # type: int epochs of VGG16-BN
vgg_lr = 0.001  # type: float its peak learning rate from random weights
vgg_finetune_lr = 0.0003  # type: float its peak learning rate from ImageNet's weights
vgg_weights = ""  # type: str ImageNet's weights: a file of torchvision's vgg16_bn, or download
accelerator = "auto"  # type: str auto, cpu or gpu
threads = 0  # type: int CPU threads (0: one a usable core)
wandb = "auto"  # type: str auto (online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str hash of the modules used, set by the pipeline: an edit in lib makes this step outdated
upstream = {"01_data": {"dataset": "outputs/sample/01_data/dataset/metadata.json"}, "02_train": {"run": "outputs/sample/02_train/run.json", "weights": "outputs/sample/02_train/weights.safetensors"}, "04_evaluate": {"predictions": "outputs/sample/04_evaluate/predictions.csv", "metrics": "outputs/sample/04_evaluate/metrics.json"}}  # type: dict  # fmt: skip
product = {"nb": "outputs/sample/05_compare_vgg/05_compare_vgg.ipynb", "comparison": "outputs/sample/05_compare_vgg/comparison.json"}  # type: dict  # fmt: skip

# %%
from lib.core.parameters import validate_parameters

validate_parameters("05_compare_vgg", globals())

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display

from lib.core.errors import InputError
from lib.core.files import project_path, read_json, write_json
from lib.data.dataset import open_dataset
from lib.evaluation import baseline_runs, compare
from lib.evaluation.predictions import load_predictions, predict, save_predictions
from lib.models.device import set_threads
from lib.models.weights import load_weights

# %%
from lib.plots import comparison as comparison_plots
from lib.plots.style import use_style
from lib.training.baselines import is_small_budget
from lib.training.pretrained import fit_frozen, imagenet_weights
from lib.training.settings import Settings
from lib.training.train import train

use_style()
set_threads(threads)
dataset = open_dataset(project_path(upstream["01_data"]["dataset"]).parent)
num_train = len(dataset.indices("train"))
our_run = read_json(project_path(upstream["02_train"]["run"]))

# %%
kept = {}
if baselines == "reference" and dataset.metadata["data"].startswith("own images"):
    print("The kept runs are of CIFAKE: on images of your own, set baselines to train for a comparison.")
elif baselines == "reference":
    kept = baseline_runs.load_runs(dataset)

# %% [markdown]
# ## Recipes
# A comparison is fair when each network has what it needs to do its best. The kept runs are whole recipes, on one GPU
# with seed 0 (`lib.training.baselines`). The CNN baseline has that of its project: Adam at a constant rate, 70 epochs,
# no augmentation. VGG16-BN has flips, translation and 40 epochs of AdamW under one cycle, the best of four optimisers.
# Ours adds Muon, corruption, Cutout, CutMix, an auxiliary target, and hard examples. With "train", a budget below the
# recipe is marked: it shows the budget, not the network.

# %%
own = {"max_train_samples": max_baseline_samples, "batch_size": baseline_batch_size, "muon_lr": 0.0, "hflip_tta": False}
plain = {"sample_fraction": 1.0, "corruption_prob": 0.0, "cutout_size": 0, "cutmix_prob": 0.0, "aux_loss_weight": 0.0}
common = our_run["parameters"] | own | plain | {"accelerator": accelerator, "threads": threads}
cnn_baseline = {"network": "plain_64_128", "epochs": cnn_baseline_epochs, "lr": cnn_baseline_lr, "dropout": 0.158}
scratch = {"network": "vgg16_bn", "epochs": vgg_epochs, "lr": vgg_lr}
finetuned = {"network": "vgg16_bn", "epochs": vgg_epochs, "lr": vgg_finetune_lr}
small = {name: ", small budget" * is_small_budget(name, epochs, max_baseline_samples, num_train)
         for name, epochs in (("cnn_baseline", cnn_baseline_epochs), ("vgg16_bn", vgg_epochs))}  # fmt: skip

# %% [markdown]
# ## Train, or read what was trained
# The error axis is logarithmic, and starts at 0.3 % where a network memorises its training images. Where our recipe was
# used, the training error is of corrupted and mixed images, and of the hard examples more than of the others.

# %%
folder = project_path(product["comparison"]).parent
folders = {}
if baselines == "train":
    folders["CNN baseline (student project)" + small["cnn_baseline"]] = folder / "cnn_baseline"
    folders["VGG16-BN" + small["vgg16_bn"]] = folder / "vgg"
for run_folder, parameters in zip(folders.values(), (cnn_baseline, scratch), strict=False):
    train(dataset, Settings(**common | parameters), run_folder, wandb)
histories = {name: pd.read_csv(run_folder / "history.csv") for name, run_folder in folders.items()}
histories |= {name: run.history for name, run in kept.items()}
if any(len(history) > 1 for history in histories.values()):
    display(comparison_plots.learning_curves(histories))

# %% [markdown]
# VGG16-BN with ImageNet's weights, where they are available: finetuned, and with frozen convolutions.

# %%
pretrained = {f"VGG16-BN, ImageNet, {name}": folder / name for name in ("finetuned", "frozen")}
unavailable = {}
try:
    init_state_dict = imagenet_weights(vgg_weights)
    settings = Settings(**common | finetuned)
    train(dataset, settings, folder / "finetuned", wandb, init_state_dict=init_state_dict)
    fit_frozen(dataset, init_state_dict, settings, folder / "frozen")
    folders |= pretrained
except InputError as error:
    unavailable = dict.fromkeys(pretrained, str(error))
print(*(f"{name}: {reason}" for name, reason in unavailable.items()), sep="\n")

# %% [markdown]
# ## Predict once

# %%
weights = {"ours": project_path(upstream["02_train"]["weights"])}
tables = {"ours": load_predictions(project_path(upstream["04_evaluate"]["predictions"]), dataset, weights["ours"])}
tables |= {name: run.predictions for name, run in kept.items()}
for name, run_folder in folders.items():
    weights[name], file = run_folder / "weights.safetensors", run_folder / "predictions.csv"
    table, _ = predict(load_weights(weights[name]), dataset, ("val", "test"), accelerator)
    save_predictions(file, table, dataset, weights[name])
    tables[name] = load_predictions(file, dataset, weights[name])

# %% [markdown]
# ## Comparison
# All networks classify the same test images, so accuracies are compared in pairs: McNemar's test looks only at the
# images on which two networks differ, and finds smaller differences than two separate intervals. Each table is of one
# machine. Training time on the kept runs' GPU is images ÷ throughput. Latency is measured here: the median of 100 calls
# with one image, or 5 with 256, in a fresh process; memory is the growth of its peak resident set. Kept runs have no
# weights, so random ones are timed.

# %%
runs = {"ours": our_run} | {name: run.run for name, run in kept.items()}
runs |= {name: read_json(run_folder / "run.json") for name, run_folder in folders.items()}
latency = compare.measure_latencies(runs, weights, torch.get_num_threads())

# %%
corrupted = read_json(project_path(upstream["04_evaluate"]["metrics"])).get("robustness") or {}
robustness = {name: run.result["robustness"] for name, run in kept.items()}
if kept and all(name in corrupted for name in baseline_runs.CORRUPTIONS):
    robustness["ours"] = {name: corrupted[name]["accuracy"] for name in baseline_runs.CORRUPTIONS}

# %% tags=["nbval-ignore-output"]
networks = {
    name: compare.evaluate_network(tables[name], tables["ours"], run)
    | {"training": baseline_runs.training_cost(run, num_train, baseline_runs.FOLDER if kept else None)}
    | {"latency": latency[name], "robustness": robustness.get(name, {})}
    for name, run in runs.items()
}
for title, table in compare.comparison_tables(networks, unavailable).items():
    display(Markdown(f"**{title}**"), table)

# %% [markdown]
# Down is more accurate, left takes fewer MACs; both axes are logarithmic. Beside each network is its training: filled marks
# are whole recipes, open ones small budgets. Grey diamonds are published results; those with ImageNet's weights take
# 224×224 pixels.

# %%
curves = baseline_runs.budget_curves() if kept else {}
points = {
    name: {"macs": entry["run"]["macs"], "accuracy": entry["metrics"]["test"]["accuracy"],
           "budget": compare.budget(entry["run"], entry["training"]), "whole": "small budget" not in name}
    for name, entry in networks.items() if name not in kept or name in curves
}  # fmt: skip
comparison_plots.error_vs_macs(points, published=dataset.metadata["data"] == "CIFAKE")

# %% [markdown]
# At equal training time: networks by their own recipes, with schedules of 1 to 16 epochs of all training images and with
# their whole recipe, the filled mark. Ours is the released run. A band is the confidence interval over test images; each
# point is one run. On the sample there are no such runs, and no figure.

# %%
if curves:
    machine = next(iter(kept.values())).run["gpu"]
    display(comparison_plots.error_vs_seconds(curves, machine))

# %% [markdown]
# ## Answer

# %% tags=["nbval-ignore-output"]
sentences, parts = compare.conclusion(networks, dataset.metadata["data"]), {}
if kept and our_run["parameters"]["network"] == baseline_runs.OURS:
    pairs = ("vgg16_bn-by-vgg16_bn", "texture_net_x2-by-vgg16_bn", "vgg16_bn-by-ours")
    parts, more = compare.merits(tables, networks, *(baseline_runs.NAMES[pair] for pair in pairs))
    sentences += more
sentences += [compare.equal_budget(curves, "ours", name) for name in curves if name != "ours"]
Markdown("\n".join(f"- {sentence}" for sentence in sentences))

# %% [markdown]
# ## Checks

# %%
ours = networks["ours"]["metrics"]["test"]["accuracy"]["value"]
for name, entry in networks.items():
    test, accuracy = entry["mcnemar"], entry["metrics"]["test"]["accuracy"]["value"]
    assert abs(ours - accuracy - test["difference"]) < 1e-9
    assert entry["run"]["data"]["checksums"] == dataset.metadata["checksums"], f"{name} was trained on other data"
    assert (compare.describe_difference(test) == "no significant difference") == (
        test["ci_low"] <= 0 <= test["ci_high"]
    )
for name, run in kept.items():
    assert networks[name]["metrics"]["test"]["accuracy"]["value"] == run.result["test"]["value"], name
if parts:
    assert abs(parts["lead"]["difference"] - parts["recipe"]["difference"] - parts["network"]["difference"]) < 1e-9

# %%
content = {"data": dataset.metadata["data"], "networks": networks, "unavailable": unavailable, "curves": curves}
write_json(project_path(product["comparison"]), content | {"merits": parts, "conclusion": sentences})
differences = {
    name: compare.describe_difference(entry["mcnemar"]) for name, entry in networks.items() if name != "ours"
}
print("; ".join(f"{name}: {difference}" for name, difference in differences.items()))

# %% [markdown]
# ## Two things to try
# 1. Set `cnn_baseline_epochs` to 20. Does the difference that McNemar's test finds survive when the baseline may train longer?
# 2. Run 02_train with `network` "vgg16_bn", then 04 and this notebook: "ours" is now VGG16-BN by our parameters.
#
# Next: [06_export](06_export.ipynb) exports the network as ONNX and selects the variant to serve.
