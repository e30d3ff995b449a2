# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Compare with VGG16
# Train two baselines on the same images, the small CNN of a student project and VGG16-BN, and compare our network
# with them on the same test images.
#
# **Reads** the packed dataset of [01_data](01_data.ipynb), the run of [02_train](02_train.ipynb), the predictions of
# [04_evaluate](04_evaluate.ipynb).
# **Writes** a run and predictions for each baseline, and `comparison.json`.
# **Takes** a minute on the sample; on CIFAKE three quarters of an hour on two cores.

# %% tags=["parameters"]
max_baseline_samples = 300  # type: int size of the baselines' random training subset (0: all images)
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
upstream = {"01_data": {"dataset": "outputs/sample/01_data/dataset/metadata.json"}, "02_train": {"run": "outputs/sample/02_train/run.json", "weights": "outputs/sample/02_train/weights.safetensors"}, "04_evaluate": {"predictions": "outputs/sample/04_evaluate/predictions.csv"}}  # type: dict  # fmt: skip
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
from lib.evaluation.compare import comparison_table, conclusion, describe_difference, evaluate_network
from lib.evaluation.predictions import load_predictions, predict, save_predictions
from lib.models.device import set_threads
from lib.models.weights import load_weights
from lib.plots import robustness as robustness_plots
from lib.plots import training as training_plots
from lib.plots.style import use_style
from lib.training.pretrained import fit_frozen, imagenet_weights
from lib.training.settings import Settings
from lib.training.train import train

use_style()
set_threads(threads)

# %% [markdown]
# ## One protocol
# Split, images, flip, translation and schedule are ours. The budget, and AdamW with its learning rate, are the
# baselines' own. They train on whole epochs of images without corruption, Cutout or CutMix, on the label alone, and
# predict without test-time augmentation.

# %%
dataset = open_dataset(project_path(upstream["01_data"]["dataset"]).parent)
our_run = read_json(project_path(upstream["02_train"]["run"]))
own = {"max_train_samples": max_baseline_samples, "batch_size": baseline_batch_size, "muon_lr": 0.0, "hflip_tta": False}
plain = {"sample_fraction": 1.0, "corruption_prob": 0.0, "cutout_size": 0, "cutmix_prob": 0.0, "aux_loss_weight": 0.0}
common = our_run["parameters"] | own | plain | {"accelerator": accelerator, "threads": threads}
cnn_baseline = {"network": "plain_64_128", "epochs": cnn_baseline_epochs, "lr": cnn_baseline_lr, "dropout": 0.158}
scratch = {"network": "vgg16_bn", "epochs": vgg_epochs, "lr": vgg_lr}
finetuned = {"network": "vgg16_bn", "epochs": vgg_epochs, "lr": vgg_finetune_lr}

# %% [markdown]
# ## Train
# The CNN baseline has two convolutions, of 64 and 128 channels, and the dropout of its project.

# %%
folder = project_path(product["comparison"]).parent
folders = {"CNN baseline (student project)": folder / "cnn_baseline", "VGG16-BN": folder / "vgg"}
for run_folder, parameters in zip(folders.values(), (cnn_baseline, scratch), strict=True):
    train(dataset, Settings(**common | parameters), run_folder, wandb)
    display(training_plots.history(pd.read_csv(run_folder / "history.csv")))

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
weights |= {name: run_folder / "weights.safetensors" for name, run_folder in folders.items()}
tables = {"ours": load_predictions(project_path(upstream["04_evaluate"]["predictions"]), dataset, weights["ours"])}
for name, run_folder in folders.items():
    file = run_folder / "predictions.csv"
    table, _ = predict(load_weights(weights[name]), dataset, ("val", "test"), accelerator)
    save_predictions(file, table, dataset, weights[name])
    tables[name] = load_predictions(file, dataset, weights[name])

# %% [markdown]
# ## Comparison
# Latency is the median of 100 calls with one image, or 5 with 256, of eager PyTorch in a fresh process on the CPU;
# memory is the growth of that process's peak resident set. McNemar's test compares accuracies over the discordant
# images, which only one of the two networks classifies correctly.

# %% tags=["nbval-ignore-output"]
networks = {
    name: evaluate_network(table, tables["ours"], weights[name], torch.get_num_threads())
    for name, table in tables.items()
}
comparison_table(networks, unavailable, len(dataset.indices("train")))

# %%
points = {name: {"macs": entry["run"]["macs"], "accuracy": entry["metrics"]["test"]["accuracy"]}
          for name, entry in networks.items()}  # fmt: skip
robustness_plots.accuracy_vs_macs(points, published=dataset.metadata["data"] == "CIFAKE")

# %% [markdown]
# Up is more accurate, left takes fewer MACs. Open marks are published results; those with ImageNet's weights take
# 224×224 pixels.

# %% [markdown]
# ## Conclusion

# %% tags=["nbval-ignore-output"]
Markdown("\n".join(f"- {sentence}" for sentence in conclusion(networks, dataset.metadata["data"])))

# %% [markdown]
# ## Checks

# %%
for name, entry in networks.items():
    test, accuracy = entry["mcnemar"], entry["metrics"]["test"]["accuracy"]["value"]
    assert abs(networks["ours"]["metrics"]["test"]["accuracy"]["value"] - accuracy - test["difference"]) < 1e-9
    assert entry["run"]["data"]["checksums"] == dataset.metadata["checksums"], f"{name} was trained on other data"
    assert (describe_difference(test) == "no significant difference") == (test["ci_low"] <= 0 <= test["ci_high"])
content = {"data": dataset.metadata["data"], "networks": networks, "unavailable": unavailable}
write_json(project_path(product["comparison"]), content)
differences = {name: describe_difference(entry["mcnemar"]) for name, entry in networks.items() if name != "ours"}
print("; ".join(f"{name}: {difference}" for name, difference in differences.items()))

# %% [markdown]
# Next: [06_export](06_export.ipynb) exports the network as ONNX and selects the variant to serve.
